"""HDF5 files from strangers: everything is checked from the file's own records before any array is read.

HDF5 can point at other files (external links, external storage, virtual data sets), loop (soft and
repeated hard links), declare sizes that it does not hold, and run filters; Keras uses none of these,
so a file that does is refused as a whole.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError, install
from weights_convert.sources import MAX_BYTES

_MAX_OBJECTS = 100_000
_MAX_DEPTH = 32
_MAX_NAME = 256
_MAX_TEXT = 2**26


@dataclass(frozen=True)
class Tensor:
    """A data set that passed every check, not read yet.

    `label` is the `name` attribute of its group: Keras 3 notes the layer's own name there.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    label: str | None
    dataset: Any

    @property
    def is_float(self) -> bool:
        return self.dtype.kind == "f" and self.dtype.itemsize in (2, 4, 8)

    def read(self, where: str) -> np.ndarray:
        """Values as float32, float64 rounded. Raises JaxtlError where the file is broken at this place."""
        with _broken_file(f"{where}: data set {self.path}"):
            return np.asarray(self.dataset[()]).astype(np.float32)


@dataclass(frozen=True)
class Contents:
    """Every data set of a file by path, and the text attributes of its root that are wanted."""

    tensors: dict[str, Tensor]
    attributes: dict[str, str]


@contextlib.contextmanager
def opened(data: bytes, where: str, attributes: tuple[str, ...] = ()) -> Iterator[Contents]:
    """Check a whole HDF5 file and yield what it holds; tensors can be read until the context ends.

    Raises JaxtlError where h5py is absent, the file is broken, or it uses a feature or a size that
    weights have no need of.
    """
    try:
        import h5py
    except ImportError:
        raise JaxtlError(f"Keras files are read with h5py: {install('convert')}") from None
    with contextlib.ExitStack() as stack:
        with _broken_file(where):
            file = stack.enter_context(h5py.File(io.BytesIO(data), "r"))
            texts = {name: _text(file.attrs, name) for name in attributes}
            tensors = _survey(file, where)
        yield Contents(tensors, {name: text for name, text in texts.items() if text is not None})


@contextlib.contextmanager
def _broken_file(where: str) -> Iterator[None]:
    try:
        yield
    except JaxtlError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        # h5py has no exception of its own: these are what it raises for damage of any kind.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JaxtlError(f"{where}: a broken HDF5 file ({reason}); download or save it again") from None


def _survey(file: Any, where: str) -> dict[str, Tensor]:
    datasets = list(_walk(file, where))
    sizes = {path: _declared_bytes(dataset, f"{where}: data set {path}") for path, _, dataset in datasets}
    total = sum(sizes.values())
    if total > MAX_BYTES:
        raise JaxtlError(f"{where}: its data sets declare {total:,} bytes, over the limit of {MAX_BYTES:,}")
    for path, _, dataset in datasets:
        stored = dataset.id.get_storage_size()
        if stored < sizes[path]:
            raise JaxtlError(
                f"{where}: data set {path} declares {sizes[path]:,} bytes but holds {stored:,}; "
                "download or save it again"
            )
    return {
        path: Tensor(path, dataset.shape, dataset.dtype, _text(group.attrs, "name"), dataset)
        for path, group, dataset in datasets
    }


def _walk(file: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """Path, group and data set for every data set, each object met once and by a plain link."""
    import h5py

    pending, seen = [("", file)], set()
    while pending:
        prefix, group = pending.pop()
        for name in group:
            # h5py gives bytes for what is not UTF-8.
            if not isinstance(name, str) or not name.isprintable() or len(name) > _MAX_NAME:
                raise JaxtlError(f"{where}: a name in /{prefix} is not plain text; download or save it again")
            path = f"{prefix}{name}"
            _check_link(group, name, f"{where}: {path}")
            item = group[name]
            seen_before = len(seen)
            seen.add(h5py.h5o.get_info(item.id).addr)
            if len(seen) == seen_before:
                raise JaxtlError(f"{where}: {path} is a second link to the same object; save the model again")
            if len(seen) > _MAX_OBJECTS or path.count("/") > _MAX_DEPTH:
                raise JaxtlError(f"{where}: {path}: too many or too deep groups for a network's weights")
            if isinstance(item, h5py.Group):
                pending.append((f"{path}/", item))
            elif isinstance(item, h5py.Dataset):
                yield path, group, item
            else:
                raise JaxtlError(f"{where}: {path} is neither a group nor a data set; save the model again")


def _check_link(group: Any, name: str, what: str) -> None:
    import h5py

    kind = group.id.links.get_info(name.encode()).type
    if kind == h5py.h5l.TYPE_EXTERNAL:
        raise JaxtlError(f"{what} is an external link into another file; save the weights into one file")
    if kind != h5py.h5l.TYPE_HARD:
        raise JaxtlError(f"{what} is a soft link; save the weights again without links")


def _declared_bytes(dataset: Any, what: str) -> int:
    """Size in memory, once it is certain that reading takes no other file, filter or memory than that."""
    if dataset.is_virtual:
        raise JaxtlError(f"{what} is virtual, its values lie elsewhere; save the weights into one file")
    if dataset.external:
        raise JaxtlError(
            f"{what} has external storage, its values lie elsewhere; save the weights into one file"
        )
    if dataset.id.get_create_plist().get_nfilters():
        # A filter can expand without bound or load a plug-in.
        raise JaxtlError(f"{what} is compressed or filtered, which Keras never does; save the weights again")
    if dataset.shape is None:
        raise JaxtlError(f"{what} has no values at all; download or save it again")
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize if dataset.chunks else 0
    if max(size, chunk) > MAX_BYTES:
        raise JaxtlError(f"{what} declares {max(size, chunk):,} bytes, over the limit of {MAX_BYTES:,}")
    return size


def _text(attributes: Any, name: str) -> str | None:
    """A scalar text attribute; anything else under that name counts as absent."""
    # Arrays of text are not read: their elements may all share one long string of the file.
    if name not in attributes or attributes.get_id(name).shape != ():
        return None
    if attributes.get_id(name).dtype.itemsize > _MAX_TEXT:
        return None
    value = attributes[name]
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return value if isinstance(value, str) else None
