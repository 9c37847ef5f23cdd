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
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from weights_convert.nesting import check_nesting
from weights_convert.sources import MAX_BYTES
from weights_convert.tensors import DTYPES, Tensor

_MOST_PICKLE = 2**26
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


class Unread:
    """Stands for an object of a class that is not read; `source` is the class's own name."""

    source = "?"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def _take(self, *args: Any) -> None:
        pass

    __setstate__ = append = extend = __setitem__ = update = add = _take


class _Storage:
    """Values of one type; `data` is filled in at once in a zip, and after the pickle in the older form."""

    def __init__(self, dtype: str, count: int) -> None:
        self.dtype, self.count, self.data = dtype, count, memoryview(b"")


class _Pending:
    """A tensor whose storage may still be empty."""

    def __init__(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> None:
        numbers = (offset, *shape, *stride)
        if not isinstance(storage, _Storage) or not all(type(number) is int for number in numbers):
            raise pickle.UnpicklingError("a tensor without storage or shape")
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def settled(self, big_endian: bool) -> Tensor:
        return Tensor(self.storage.dtype, self.shape, self.stride, self.offset, self.storage.data, big_endian)


def _same(data: Any, *_: Any) -> Any:
    return data


_READ: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Pending,
    ("torch._utils", "_rebuild_tensor"): _Pending,
    ("torch._utils", "_rebuild_parameter"): _same,
    ("torch", "Size"): tuple,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, storage_of: Callable[[str, str, int], _Storage]) -> None:
        super().__init__(file, encoding="utf-8")
        self._storage_of = storage_of

    def find_class(self, module: str, name: str) -> Any:
        known = _READ.get((module, name))
        return known or type("Unread", (Unread,), {"source": f"{module}.{name}"})

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
        return _settled(contents, big_endian)
    except JaxtlError:
        raise
    except RecursionError:
        raise JaxtlError(f"{where}: nested too deep for a checkpoint; save its state_dict alone") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise JaxtlError(f"{where}: a broken zip archive ({error}); download or save it again") from None
    # What unpickling raises for damage of any kind.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JaxtlError(
            f"{where}: a broken checkpoint of PyTorch ({reason}); download or save it again"
        ) from None


def _settled(item: Any, big_endian: bool) -> Any:
    if isinstance(item, _Pending):
        return item.settled(big_endian)
    if isinstance(item, dict):
        return {key: _settled(value, big_endian) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_settled(value, big_endian) for value in item]
    return item


def _unpickle(stream: io.BytesIO, storage_of: Callable[[str, str, int], _Storage]) -> Any:
    """The next pickle of a stream, once its opcodes are known to be harmless."""
    start = stream.tell()
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in _FOREIGN:
            raise pickle.UnpicklingError(f"opcode {opcode.name}, which torch.save does not write")
        if opcode.name in ("LONG_BINPUT", "PUT") and argument > _MOST_PICKLE // 64:
            raise pickle.UnpicklingError("a memo too large")
    if stream.tell() - start > _MOST_PICKLE:
        raise pickle.UnpicklingError("a pickle too large for weights")
    stream.seek(start)
    check_nesting(pickletools.genops(stream))
    stream.seek(start)
    return _Reader(stream, storage_of).load()


def _read_zip(data: bytes, where: str) -> tuple[Any, bool]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise JaxtlError(f"{where}: a zip archive with {len(pickles)} members data.pkl; save it again")
        folder = pickles[0].removesuffix("data.pkl")

        def member(name: str, most: int) -> bytes:
            size = members[folder + name].file_size
            if size > most or size > len(data):
                # torch does not compress, so that none is larger than the file.
                raise JaxtlError(f"{where}: member {name} declares {size:,} bytes; save it again")
            return archive.read(folder + name)

        storages: dict[str, _Storage] = {}

        def storage_of(key: str, dtype: str, count: int) -> _Storage:
            if key not in storages:
                storages[key] = _Storage(dtype, count)
                storages[key].data = memoryview(member(f"data/{key}", MAX_BYTES))
            return storages[key]

        contents = _unpickle(io.BytesIO(member("data.pkl", _MOST_PICKLE)), storage_of)
        big_endian = folder + "byteorder" in members and member("byteorder", 16) == b"big"
    return contents, big_endian


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
