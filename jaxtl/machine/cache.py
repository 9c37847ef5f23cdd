"""Where compiled programs are kept for later processes: JAX's compilation cache, by default on a GPU only.

JAX takes these settings from the environment as it is imported, and so do the processes of embeddings.
"""

from __future__ import annotations

import os
import stat
import sys
from importlib import metadata
from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.machine import cuda
from jaxtl.progress import Notify

AUTO, NONE = "auto", "none"
_FOLDER_SETTING = "JAX_COMPILATION_CACHE_DIR"
# By itself JAX keeps only what took a second to compile; the network's parts take less each.
_KEEP_ALL = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0,
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": -1,
}
# Of the 1 GiB that the folder may hold, what may be there as a process begins: the rest is for what it adds.
_MOST_AT_START = 7 * 2**27


def set_up(where: str | os.PathLike[str], notify: Notify | None = None) -> None:
    """Keep compiled programs in a folder, or nowhere.

    Args:
        where: a folder, made where needed; "auto" for `default_folder`; "none" for no cache, whatever the
            environment says.
        notify: called with one line where the default folder cannot be used.

    Raises:
        JaxtlError: a given folder that cannot be written to.
    """
    if str(where) == NONE:
        _set({"JAX_ENABLE_COMPILATION_CACHE": False})
    elif str(where) != AUTO:
        _keep_in_given(Path(where))
    elif (folder := default_folder()) and not given_folder():
        _keep_in_default(folder, notify)


def given_folder() -> Path | None:
    """The cache that the environment asks for."""
    return Path(given) if (given := os.environ.get(_FOLDER_SETTING)) else None


def default_folder() -> Path | None:
    """$XDG_CACHE_HOME/jaxtl/xla/VERSIONS; None without a GPU, whose programs alone take long to compile."""
    if cuda.jax_gpu_fault():
        return None
    versions = "_".join(f"{name}-{metadata.version(name)}" for name in ("jax", "jaxlib"))
    return _root() / versions


def size(folder: Path) -> int:
    """Bytes of the files in a folder, all levels; 0 where it is not there."""
    return sum(size for _, size, _ in _files(folder))


def _root() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    # By the specification a relative path is as none.
    base = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~/.cache"))
    return base / "jaxtl" / "xla"


def _keep_in_given(folder: Path) -> None:
    from jaxtl.records.files import check_writable

    try:
        check_writable(folder / "probe")
    except OSError as error:
        raise JaxtlError(
            f"compilation cache {folder}: {error.strerror or error}; give a folder that can be written to"
        ) from None
    _keep_in(folder)


def _keep_in_default(folder: Path, notify: Notify | None) -> None:
    from jaxtl.records.files import check_writable

    try:
        root = folder.parent
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What lies there is run: it is nobody else's to write. Raises where the folder is another user's.
        root.chmod(0o700)
        _prune(root)
        check_writable(folder / "probe")
    except OSError as error:
        if notify is not None:
            notify(f"compiled programs are not kept: {folder}: {error.strerror or error}")
        return
    _keep_in(folder)


def _prune(root: Path) -> None:
    """Delete files, those that were used longest ago first, until there is room."""
    total = 0
    for _, length, path in sorted(_files(root), reverse=True):
        total += length
        if total > _MOST_AT_START:
            path.unlink(missing_ok=True)


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Last use, bytes and path of every file."""
    files = []
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except OSError:
            continue  # another process deleted it
        if not stat.S_ISDIR(status.st_mode):
            files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    return files


def _keep_in(folder: Path) -> None:
    _set({_FOLDER_SETTING: str(folder.absolute()), **_KEEP_ALL})


def _set(settings: dict[str, str | int | bool]) -> None:
    """In the environment, and in JAX where it is imported already."""
    for name, value in settings.items():
        os.environ[name] = "false" if value is False else str(value)
    if "jax" not in sys.modules:
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    compilation_cache.reset_cache()  # JAX would stay with the folder of its first compilation
    for name, value in settings.items():
        jax.config.update(name.lower(), value)
