"""What damages a file of a run, and what may come of it."""

import collections
import shutil
import sys

from tests.run_files import stamps


def flip(path, other):
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path, other):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path, other):
    path.write_bytes(b"")


def delete(path, other):
    path.unlink()


def exchange(path, other):
    """The same file of another run."""
    shutil.copy(other, path)


DAMAGES = {change.__name__: change for change in (flip, cut, empty, delete, exchange)}
# What a resumed run may write differently: what tells of times and of itself.
OF_TIMES = {"timings.json", "report.html", "manifest.json"}


def files_of(run):
    return sorted(name for name in stamps(run))


class Tally:
    """Counts by kind, and what failed."""

    def __init__(self):
        self.counts, self.failures = collections.Counter(), []

    def note(self, kind, what=""):
        self.counts["tried"] += 1
        self.counts[kind] += 1
        if kind == "failed":
            self.failures.append(what)
            _say(f"\nfailed: {what}")
        if not self.counts["tried"] % 50:
            _say(dict(self.counts))

    def close(self, title):
        _say(f"\n{title}: {', '.join(f'{count} {kind}' for kind, count in self.counts.items())}")
        assert not self.failures, "\n".join(self.failures)


def _say(what):
    """Beside what a test catches of a command's output."""
    print(what, file=sys.__stdout__, flush=True)


def is_one_line(said, folder):
    """Whether an error is one line that names a file of the folder, or it."""
    lines = [line for line in said.strip().splitlines() if line.startswith("jaxtl: ")]
    return len(lines) == 1 and str(folder) in lines[0] and "Traceback" not in said
