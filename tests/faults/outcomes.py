"""What became of each try: answered, refused in one line, or failed; with the memory that it took."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
import time
import traceback
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxtl.errors import JaxtlError

# Letters that a terminal obeys, or that change the order in which others are shown.
_UNSHOWN = {"Cc", "Cs", "Zl", "Zp"}
_BIDIRECTIONAL = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# For one try, on a busy machine: what takes longer waits for something.
_SECONDS = 120


class Failed(Exception):
    """What a user should not have met."""


@contextlib.contextmanager
def no_longer_than(seconds: float) -> Iterator[None]:
    """Ends with Failed what waits for something; in the main thread, whose system calls a signal ends."""

    def stop(number: int, frame: object) -> None:
        raise Failed(f"still waiting after {seconds:g} s")

    before, began = signal.signal(signal.SIGALRM, stop), time.monotonic()
    # Of pytest's limit on a test, which waits for the same signal.
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - began)))


def check_line(text: str) -> None:
    """Raises Failed unless a text is one line that a terminal shows as it is, of a length to be read."""
    if not text.strip():
        raise Failed("an empty message")
    if hostile := sorted({letter for letter in text if is_hostile(letter)}):
        raise Failed(f"a message with {hostile!r}")
    if len(text) > 8_100:
        raise Failed("a message of thousands of letters")


def is_hostile(letter: str) -> bool:
    return unicodedata.category(letter) in _UNSHOWN or letter in _BIDIRECTIONAL


def command(*arguments: object) -> str:
    """What `jaxtl ARGUMENTS` prints. Raises JaxtlError with its line where it refuses them."""
    from jaxtl.cli.main import main

    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["jaxtl", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        if end.code:
            lines = err.getvalue().splitlines()
            told = lines[-1] if lines else ""
            if end.code != 2 or not told.startswith("jaxtl: "):
                raise Failed(f"exit {end.code} with {told!r}") from None
            raise JaxtlError(told) from None
    finally:
        sys.argv = before
    said = out.getvalue() + err.getvalue()
    if hostile := {letter for letter in said if is_hostile(letter)} - {"\n"}:
        raise Failed(f"output with {sorted(hostile)!r}")
    return out.getvalue()


class Tally:
    """Counts by kind of outcome, and for each kind of failure the first that was seen."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: dict[str, str] = {}
        self.kinds: Counter[str] = Counter()
        self.most_memory = 0, ""

    def attempt(self, work: Callable[[], object], told: str) -> None:
        """Do it; `told`: how the try is made again."""
        self.counts["tried"] += 1
        before = _restart_peak()
        try:
            with warnings.catch_warnings(action="error"), no_longer_than(_SECONDS):
                work()
            self.counts["answered"] += 1
        except JaxtlError as error:
            try:
                check_line(str(error))
                self.counts["refused"] += 1
            except Failed as fault:
                self._fail(fault, f"{fault} ({error!r:.200})", told)
        except BaseException as error:  # a MemoryError, an exit and a RecursionError too
            if isinstance(error, KeyboardInterrupt):
                raise
            self._fail(error, f"{type(error).__name__}: {error!s:.150}", told)
        used = _peak() - before
        if used > self.most_memory[0]:
            self.most_memory = used, told

    def _fail(self, error: BaseException, said: str, told: str) -> None:
        self.counts["failed"] += 1
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/jaxtl/" in frame.filename]
        at = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
        kind = f"{type(error).__name__} at {at}"
        self.kinds[kind] += 1
        self.failures.setdefault(kind, f"{said} | {told}")

    def died(self, status: int, told: str) -> None:
        """The process was ended by what it read."""
        kind = f"the process died of signal {status & 127}"
        self.counts.update(("tried", "failed"))
        self.kinds[kind] += 1
        self.failures.setdefault(kind, told)

    def take(self, other: Tally) -> Tally:
        """This, with what another counted added."""
        self.counts += other.counts
        self.kinds += other.kinds
        self.failures = other.failures | self.failures
        self.most_memory = max(self.most_memory, other.most_memory)
        return self

    def __str__(self) -> str:
        counts = ", ".join(
            f"{name} {self.counts[name]:,}" for name in ("tried", "answered", "refused", "failed")
        )
        lines = [f"  {count:5} {kind}: {self.failures[kind]}" for kind, count in self.kinds.most_common()]
        memory, told = self.most_memory
        return "\n".join([f"{counts}; most memory {memory / 2**20:.0f} MiB ({told})", *lines])


def _restart_peak() -> int:
    """Bytes in use now, from which the kernel's peak starts again; 0 where there is no such kernel."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0
