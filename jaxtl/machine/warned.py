"""What libraries say that tells a user nothing: warnings, ignored while several threads work, and lines."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator

_lock = threading.Lock()
# The filters to put back, held by all threads that are within `ignoring`; and how many these are.
_held: list[warnings.catch_warnings[None]] = []
_inside = 0


@contextlib.contextmanager
def ignoring(message: str = "", category: type[Warning] = Warning) -> Iterator[None]:
    """Ignore warnings of a category whose text begins as the regular expression `message` says.

    Filters are the whole process's: of two threads in `warnings.catch_warnings`, the one that leaves first
    puts back filters under which the other does not ignore what it must. Here the last to leave does so.
    """
    global _inside
    with _lock:
        if not _inside:
            _held.append(warnings.catch_warnings())
            _held[0].__enter__()
        _inside += 1
        warnings.filterwarnings("ignore", message, category)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _held.pop().__exit__(None, None, None)


@contextlib.contextmanager
def unsaid(line: bytes) -> Iterator[None]:
    """Leave out a line that a library writes past Python to standard error.

    What else is written there meanwhile follows at the end. For moments: a process that is started within
    has no standard error to speak on, unless it is given one.
    """
    try:
        seen = os.dup(2)
    except OSError:  # closed, as some daemons have it
        yield
        return
    with open(seen, "wb", buffering=0) as errors, tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(errors.fileno(), 2)
            said.seek(0)
            for other in said:
                if other.strip() != line:
                    errors.write(other)
