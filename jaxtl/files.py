"""Files that are either whole or absent, and the same bytes for the same contents."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    On any exception, Ctrl-C included, the temporary file is removed and an earlier `path` stays as it was.
    The temporary name keeps the suffix, since matplotlib and NumPy choose formats by it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    # os has no way to read the mask without setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | os.PathLike[str], text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Raises JaxtlError where the file is absent or is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise JaxtlError(f"{path}: not JSON ({error}); delete it or restore it from a copy") from None


def write_npz(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]
) -> None:
    """Write arrays and a JSON record named `meta` to an uncompressed npz without pickles.

    NumPy stamps members with a constant date, so equal contents give equal bytes.
    """
    record = np.array(json.dumps(dict(meta), sort_keys=True, ensure_ascii=False))
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays, meta=record)


def read_npz(
    path: str | os.PathLike[str], required: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read an npz and its `meta` record (empty where it has none).

    Raises JaxtlError where the file is absent, is not an npz, is truncated, holds pickles or lacks a
    required array.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise JaxtlError(f"{path}: a single .npy array; expected an .npz with {', '.join(required)}")
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise JaxtlError(f"{path}: a folder; expected an .npz file") from None
    except JaxtlError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JaxtlError(f"{path}: not a readable .npz file ({reason}); make it again") from None
    missing = [name for name in required if name not in arrays]
    if missing:
        raise JaxtlError(f"{path}: has no array {', '.join(missing)} (it has {', '.join(arrays) or 'none'})")
    meta = arrays.pop("meta", None)
    return arrays, json.loads(str(meta)) if meta is not None else {}
