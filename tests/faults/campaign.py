"""`python -m tests.faults.campaign TRIES RUN STUDY [WAY ...]`: what becomes of changed files, with counts."""

from __future__ import annotations

import os
import pickle
import resource
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from tests.faults.kept_files import KEPT, signed_ways
from tests.faults.outcomes import Tally
from tests.faults.run_folders import run_ways, study_ways
from tests.faults.strangers import WAYS, Way, attack

# Bytes of a process that tries.
_MOST_MEMORY = 8 * 2**30


def survived(way: Way, scratch: Path, tries: int, seed: int = 0) -> Tally:
    """The counts of so many tries, made in processes: one that dies is a failure, and another goes on."""
    whole, number = Tally(), 0
    while number < tries:
        tally, number, status = _in_child(way, scratch, range(number, tries), seed)
        if status:
            tally.died(status, f"{way.name} {seed} {number - 1}")
        whole.take(tally)
    return whole


def _in_child(way: Way, scratch: Path, numbers: range, seed: int) -> tuple[Tally, int, int]:
    """Counts as far as a process came, the number to go on with, and the signal that ended it or 0."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        # What takes memory without end is a failure, and not the end of others.
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
        with os.fdopen(writer, "wb") as stream:
            for done, tally in enumerate(attack(way, scratch, numbers, seed)):
                # All that is known before a try, since it may be the last.
                pickle.dump((tally, numbers.start + done), stream)
                stream.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        tally, last = deque(_records(stream), maxlen=1)[0]
    status = os.waitpid(child, 0)[1]
    return tally, last + 1 if status else numbers.stop, status


def _records(stream) -> Iterator[tuple[Tally, int]]:
    while True:
        try:
            yield pickle.load(stream)
        except (EOFError, pickle.UnpicklingError):
            return


if __name__ == "__main__":
    tries, run, study, *names = sys.argv[1:]
    for way in (*WAYS, *KEPT, *signed_ways(Path(run)), *run_ways(Path(run)), *study_ways(Path(study))):
        if names and way.name not in names:
            continue
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            tally = survived(way, Path(scratch), int(tries))
        print(f"{way.name}: {tally} [{time.monotonic() - began:.1f} s]", flush=True)
