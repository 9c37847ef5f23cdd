"""What stands at a path before it is read or another takes its place: a file, or what has only its name.

A named pipe is waited for, for ever where nobody writes to it; a device may never end, and it is lost where a
file takes its name.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from jaxtl.errors import JaxtlError

_FOLDER, _PIPE = "a folder", "a named pipe"
_KINDS = (
    (stat.S_ISDIR, _FOLDER),
    (stat.S_ISFIFO, _PIPE),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Letters of a name that is too long, in an error.
_SHOWN = 60
# Where links lie to files that processes have open: /dev/stdout is one into it.
_OPEN_FILES = "/proc/"


def kind_at(path: str | os.PathLike[str]) -> str:
    """What it is if no file, such as "a named pipe", through links; else nothing.

    Raises OSError where nothing is there, ValueError for what is no path.
    """
    mode = os.stat(path).st_mode
    return next((kind for is_one, kind in _KINDS if is_one(mode)), "")


def check_file(path: str | os.PathLike[str], wanted: str = "give a file", pipes: bool = False) -> None:
    """Raises JaxtlError for what is no file, and ends with what is `wanted`; nothing where none is there.

    `pipes`: whether one that a shell opened will do, such as <(COMMAND) or what comes before "|".
    """
    try:
        kind = kind_at(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # which opening it says better
    except OSError as error:
        raise JaxtlError(f"{path}: {error.strerror}; {wanted}") from None
    except ValueError:
        raise JaxtlError(f"{path}: no path has a NUL in it; {wanted}") from None
    # Behind such a name somebody writes; behind others perhaps nobody.
    is_open = pipes and kind == _PIPE and os.path.abspath(path).startswith("/dev/")
    if kind and not is_open:
        raise JaxtlError(f"{path}: {kind}; {wanted}")


def check_folder(path: str | os.PathLike[str]) -> None:
    """Raises JaxtlError for what is there and no folder, or for a name that no folder can have."""
    try:
        kind = kind_at(path) or "a file"
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
            return  # which opening it says better
        raise JaxtlError(
            f"{str(path)[:_SHOWN]}...: is no name that a folder can have; give another"
        ) from None
    if kind != _FOLDER:
        raise JaxtlError(f"{path}: is {kind}, and no folder; give a folder")


def check_target(path: Path) -> None:
    """Raises OSError where a file may not take the place of what is there."""
    if path.is_symlink() and os.readlink(path).startswith(_OPEN_FILES):
        raise _refused(path, errno.EEXIST, "Leads to the open file of a process")
    try:
        kind = kind_at(path)
    except OSError as error:
        # Temporary names are shorter, so that nothing else would tell before all is done.
        if error.errno == errno.ENAMETOOLONG:
            raise
        return
    except ValueError:
        raise _refused(path, errno.EINVAL, "No path has a NUL in it") from None
    if kind == _FOLDER:
        raise _refused(path, errno.EISDIR, os.strerror(errno.EISDIR))
    if kind:
        raise _refused(path, errno.EEXIST, f"Is {kind}, which is no place for a file")


def _refused(path: Path, code: int, words: str) -> OSError:
    return OSError(code, words, str(path))


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with "~" at its beginning as the shell has it.

    Not by `Path.expanduser`, which raises RuntimeError where ~NAME is nobody, or whoever this is has no home.
    """
    return Path(os.path.expanduser(path))
