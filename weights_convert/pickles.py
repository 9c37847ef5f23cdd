"""PyTorch's checkpoints (`torch.save`, both of its forms) without PyTorch, and without running any of them.

A pickle is a program. Here it can make dictionaries, lists, tuples, text, numbers and tensors; every other
class or function that it names becomes an inert `Unread`, which takes what it is given and does nothing. So
it is at least as strict as `torch.load(weights_only=True)`, and reads what that refuses: checkpoints that
hold, say, an `argparse.Namespace` beside their tensors. torch's forms: `torch/serialization.py`.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from weights_convert.nesting import check_nesting
from weights_convert.sources import MAX_BYTES, check_packing, opened_zip
from weights_convert.tensors import DTYPES, Tensor

_MOST_PICKLE = 2**26
# A class takes a kilobyte, and its name a few bytes of the file.
_MOST_CLASSES = 1000
# What begins torch's form before 1.6: a pickled number.
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
# Opcodes that nothing torch writes has: calls by other ways, extensions, buffers out of band.
_FOREIGN = {"INST", "OBJ", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"}


_UNDER_WAY = object()


class _Firm:
    """What a pickle may have and not change: of anything else the opcode BUILD sets attributes."""

    def _take(self, *args: Any) -> None:
        pass

    __setstate__ = _take


class Unread(_Firm):
    """Stands for an object of a class that is not read; `source` is the class's own name."""

    source = "?"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    append = extend = __setitem__ = update = add = _Firm._take


class _Storage(_Firm):
    """Values of one type; `data` is filled in at once in a zip, and after the pickle in the older form."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype, self.count, self.data = dtype, count, memoryview(b"")


class _Pending(_Firm):
    """A tensor whose storage may still be empty."""

    def __init__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> None:
        numbers = (offset, *shape, *stride)
        if not isinstance(storage, _Storage) or not all(type(number) is int for number in numbers):
            raise pickle.UnpicklingError("a tensor without storage or shape")
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def settled(self, big_endian: bool) -> Tensor:
        return Tensor(self.storage.dtype, self.shape, self.stride, self.offset, self.storage.data, big_endian)


class _Function(_Firm):
    """A function of torch's, which a pickle calls."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work

    def __call__(self, *args: Any) -> Any:
        return self._work(*args)


_TENSOR, _SAME = _Function(_Pending), _Function(lambda data, *_: data)
_READ: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _TENSOR,
    ("torch._utils", "_rebuild_tensor"): _TENSOR,
    ("torch._utils", "_rebuild_parameter"): _SAME,
    ("torch._utils", "_rebuild_parameter_with_state"): _SAME,
    ("torch", "Size"): tuple,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, storage_of: Callable[[str, str, int], _Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage_of = storage_of
        self._classes: dict[tuple[str, str], Any] = dict(_READ)

    def find_class(self, module: str, name: str) -> Any:
        place = module, name
        if place not in self._classes:
            if len(self._classes) > _MOST_CLASSES:
                raise pickle.UnpicklingError(f"it names more than {_MOST_CLASSES:,} classes")
            self._classes[place] = type("Unread", (Unread,), {"source": f"{module}.{name}"})
        return self._classes[place]

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _, count, *_ = pid
        if kind != "storage" or not isinstance(dtype, str) or type(count) is not int or count < 0:
            raise pickle.UnpicklingError(f"storage of a kind that is not read ({dtype})")
        return self._storage_of(str(key), dtype, count)


def is_checkpoint(data: bytes) -> bool:
    """Whether a file begins as one of torch's two forms, or as any pickle of their protocol."""
    return data.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"))


def read_checkpoint(data: bytes, where: str) -> Any:
    """What `torch.save` was given: dictionaries and lists, tensors as `Tensor`, other objects as `Unread`.

    Raises JaxtlError where the file is broken or no checkpoint of PyTorch.
    """
    try:
        contents, big_endian = _read_zip(data, where) if data.startswith(b"PK") else _read_legacy(data, where)
        return _settled(contents, big_endian, {})
    except JaxtlError:
        raise
    except RecursionError:
        raise JaxtlError(f"{where}: nested too deep for a checkpoint; save its state_dict alone") from None
    # What unpickling raises for damage of any kind.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JaxtlError(
            f"{where}: a broken checkpoint of PyTorch ({reason}); download or save it again"
        ) from None


def _settled(item: Any, big_endian: bool, known: dict[int, Any]) -> Any:
    """What a pickle made, without what stands for something; `known`, by id, is what has been settled."""
    if isinstance(item, _Pending):
        return item.settled(big_endian)
    if not isinstance(item, dict | list | tuple):
        return item
    if id(item) not in known:
        known[id(item)] = _UNDER_WAY
        known[id(item)] = (
            {key: _settled(value, big_endian, known) for key, value in item.items()}
            if isinstance(item, dict)
            else [_settled(value, big_endian, known) for value in item]
        )
    if known[id(item)] is _UNDER_WAY:
        raise RecursionError  # it holds itself
    return known[id(item)]


def _unpickle(stream: io.BytesIO, storage_of: Callable[[str, str, int], _Storage]) -> Any:
    """The next pickle of a stream, once its opcodes are known to be harmless."""
    start = stream.tell()
    check_nesting(_harmless(stream))
    stream.seek(start)
    return _Reader(stream, storage_of).load()


def _harmless(stream: io.BytesIO) -> Iterator[tuple[Any, Any, Any]]:
    """A pickle's opcodes. Raises UnpicklingError for those that a checkpoint has no need of."""
    start = stream.tell()
    for opcode in pickletools.genops(stream):
        name, argument = opcode[0].name, opcode[1]
        if name in _FOREIGN:
            raise pickle.UnpicklingError(f"opcode {name}, which torch.save does not write")
        if name in ("LONG_BINPUT", "PUT") and argument > _MOST_PICKLE // 64:
            raise pickle.UnpicklingError("a memo too large")
        yield opcode
    if stream.tell() - start > _MOST_PICKLE:
        raise pickle.UnpicklingError("a pickle too large for weights")


def _read_zip(data: bytes, where: str) -> tuple[Any, bool]:
    storages: dict[str, _Storage] = {}
    with opened_zip(data, where) as archive:
        members = _Members(archive, where, len(data))
        pickled = members.read("data.pkl", _MOST_PICKLE)
        big_endian = members.has("byteorder") and members.read("byteorder", 16) == b"big"
    contents = _unpickle(
        io.BytesIO(pickled), lambda key, dtype, count: storages.setdefault(key, _Storage(dtype, count))
    )
    with opened_zip(data, where) as archive:
        members = _Members(archive, where, len(data))
        for key, storage in storages.items():
            storage.data = memoryview(members.read(f"data/{key}", MAX_BYTES))
    return contents, big_endian


class _Members:
    """Members of an archive of `size` bytes, by their names in its one folder.

    torch does not compress, so that all of them together are no larger than the file.
    """

    def __init__(self, archive: zipfile.ZipFile, where: str, size: int) -> None:
        self._archive, self._where, self._left = archive, where, size
        self._known = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in self._known if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise JaxtlError(f"{where}: a zip archive with {len(pickles)} members data.pkl; save it again")
        self._folder = pickles[0].removesuffix("data.pkl")

    def has(self, name: str) -> bool:
        return self._folder + name in self._known

    def read(self, name: str, most: int) -> bytes:
        """One that has up to `most` bytes. Raises JaxtlError for another, or one that is not there."""
        if not self.has(name):
            raise JaxtlError(f"{self._where}: has no member {name}; download or save it again")
        info = self._known[self._folder + name]
        check_packing(self._where, info)
        if info.file_size > min(most, self._left):
            raise JaxtlError(f"{self._where}: member {name} declares {info.file_size:,} bytes; save it again")
        self._left -= info.file_size
        return self._archive.read(info)


def _read_legacy(data: bytes, where: str) -> tuple[Any, bool]:
    if not data.startswith(LEGACY):
        raise JaxtlError(
            f"{where}: a Python pickle, but not of torch.save; save the state_dict with torch.save"
        )
    stream, storages = io.BytesIO(data), {}

    def storage_of(key: str, dtype: str, count: int) -> _Storage:
        return storages.setdefault(key, _Storage(dtype, count))

    stream.seek(len(LEGACY))
    _protocol = _unpickle(stream, storage_of)
    system = _unpickle(stream, storage_of)
    contents = _unpickle(stream, storage_of)
    keys = _unpickle(stream, storage_of)
    _fill(storages, keys, memoryview(data)[stream.tell() :])
    return contents, isinstance(system, dict) and system.get("little_endian") is False


def _fill(storages: dict[str, _Storage], keys: Any, rest: memoryview) -> None:
    """Each storage's number of elements, 8 bytes, and its values, in the order of the keys."""
    for key in keys:
        storage = storages[str(key)]
        size = int.from_bytes(rest[:8], "little") * np.dtype(DTYPES[storage.dtype]).itemsize
        if size > len(rest) - 8:
            raise pickle.UnpicklingError("it ends within its values")
        storage.data, rest = rest[8 : 8 + size], rest[8 + size :]
