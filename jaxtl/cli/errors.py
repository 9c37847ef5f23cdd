"""What ends a command before its time, as one line that says what to do."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from jaxtl.errors import JaxtlError
from jaxtl.machine import signals

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on file sizes",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    # How the kernel says that a process or a thread more is not allowed.
    errno.EAGAIN: "raise the limit on processes (ulimit -u)",
    errno.ENOMEM: "free some memory",
    **dict.fromkeys(
        (
            *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
            *(errno.ENOENT, errno.ENAMETOOLONG),
        ),
        "give another path",
    ),
}
# Python's words.
_NO_THREAD = "can't start new thread"
# Letters of a path as systems take them, and those that are shown of a longer one.
_LONGEST, _SHOWN = 4096, 60


class Stopped(Exception):
    """Ctrl-C, with what to tell, where no `jaxtl.machine.signals.hear` is in the way."""


@contextlib.contextmanager
def resumable(go_on: str, kept: str = "") -> Iterator[None]:
    """Work that can go on where it was: what ends it is told together with `go_on`, how to.

    Args:
        kept: said of what was interrupted.

    Raises:
        Stopped: for a Ctrl-C.
        JaxtlError: for a file that cannot be read or written.
    """
    signals.tell(lambda: f"{kept}; {go_on}")
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(f"{signals.called()}{kept}; {go_on}") from None
    except OSError as error:
        raise JaxtlError(f"{explain(error)}; {go_on}") from None


def explain(error: OSError) -> str:
    """Where, what, and what to do about it where that is known."""
    if _is_nowhere():
        return "the folder that this was started in is gone; go to another one"
    where = f"{_shown(str(error.filename))}: " if error.filename else ""
    advice = _ADVICE.get(error.errno or 0)
    return f"{where}{error.strerror or error}{f'; {advice}' if advice else ''}"


def _shown(path: str) -> str:
    """A path in one piece, to be copied; the beginning of one that no system takes."""
    return path if len(path) <= _LONGEST else f"{path[:_SHOWN]}..."


def _is_nowhere() -> bool:
    try:
        os.getcwd()
    except OSError:
        return True
    return False


def advise(error: MemoryError | RuntimeError) -> str:
    """What to do where memory is used up or JAX finds no device. Raises any other error again."""
    # JAX raises RuntimeErrors for what its devices refuse; another one is a fault of jaxtl's.
    text = str(error)
    if isinstance(error, MemoryError) or text.startswith("RESOURCE_EXHAUSTED"):
        return "out of memory; take fewer --samples or --train-samples, or a smaller --image-size"
    if text == _NO_THREAD:
        return f"no thread can be started; {_ADVICE[errno.EAGAIN]}"
    if "Unable to initialize backend" in text:
        return f"JAX cannot compute: {text}; change JAX_PLATFORMS"
    raise error


def unloaded(error: ImportError) -> str:
    """Which library cannot be loaded, in the system's words. Raises the error again where it is jaxtl's."""
    if (error.name or "").startswith("jaxtl"):
        raise error
    first: BaseException = error
    while first.__cause__:
        first = first.__cause__
    return f"a library cannot be loaded: {first}; free some memory, or install jaxtl anew"
