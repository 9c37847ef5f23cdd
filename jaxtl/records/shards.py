"""Features in many files that are read as one array: many processes extract a set, each some of the files.

`NAME.shards/` holds `plan.json`, what of which images it is to hold; `00000.f32`, `00001.f32`, ...: rows of
float32, little-endian, one file after the other and without headers, so that all of them in a row are the
whole array; and `rows.npz` with labels, index and ids, the last that is written: with it the store is whole.
Every file is whole or absent, so that who was stopped goes on with those that are missing.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.records.arrays import OF_ROWS, Features, Pathlike
from jaxtl.records.documents import anything, brief, record_of, text, within
from jaxtl.records.files import (
    MAKE_AGAIN,
    read_json_object,
    read_npz,
    remove_leftovers,
    replacing,
    write_json,
    write_npz,
)

SUFFIX = ".shards"
_PLAN, _ROWS, _FILES = "plan.json", "rows.npz", ".f32"
# Bytes of every file but the last are a multiple of this, as large as pages are anywhere, so that the files
# can be mapped into memory one behind the other.
_ALIGNED = 2**16
# Rows of a file, at most: 80 MiB of 1280 features.
_MOST = 2**14
_MAP_FIXED = 0x10
# Between two looks at what other processes have done.
_SECONDS = 0.2
_LARGEST = 2**53
_RECORD = record_of(
    {"n": within(1, _LARGEST), "d": within(1, 2**31), "rows": within(1, _MOST), "meta": anything},
    {"images": text},
)


@dataclass(frozen=True)
class Plan:
    """What a store is to hold: n rows of d features, so many `rows` a file, and `meta` as of `Features`.

    `images`: what tells those that it is made of from others; empty where nobody said.
    """

    n: int
    d: int
    rows: int
    meta: Mapping[str, Any]
    images: str = ""

    @property
    def count(self) -> int:
        """Of files."""
        return -(-self.n // self.rows)

    def bounds(self, number: int) -> tuple[int, int]:
        """The first row of a file, and the first that is no longer in it."""
        return number * self.rows, min((number + 1) * self.rows, self.n)

    def nbytes(self, number: int) -> int:
        start, stop = self.bounds(number)
        return 4 * self.d * (stop - start)


def planned(n: int, d: int, processes: int, meta: Mapping[str, Any], images: str = "") -> Plan:
    """A store of which each process writes at least one file, where there are rows enough."""
    unit = _ALIGNED // math.gcd(_ALIGNED, 4 * d)
    return Plan(n, d, min(_MOST, -(-n // (processes * unit)) * unit), meta, images)


def begin(path: Pathlike, plan: Plan, first: bool) -> Plan:
    """The plan by which a store is written: that of its folder, where one was begun there, else this.

    Args:
        first: whether this process writes it down; others wait until it is there.

    Raises:
        JaxtlError: the folder holds the features of something else, or other files.
        OSError: it cannot be written.
    """
    folder, file = Path(path), Path(path) / _PLAN
    if first and not file.exists():
        if folder.exists() and any(folder.iterdir()):
            raise JaxtlError(f"{folder}: holds other files; give another path")
        write_json(file, asdict(plan))
    while not file.exists():
        time.sleep(_SECONDS)
    there = _read_plan(folder)
    if (there.n, there.d, there.meta) != (plan.n, plan.d, plan.meta):
        told = {"rows": (there.n, plan.n), "features": (there.d, plan.d)}
        told |= {name: (there.meta.get(name), plan.meta.get(name)) for name in {**there.meta, **plan.meta}}
        name, pair = next((name, pair) for name, pair in told.items() if pair[0] != pair[1])
        old, new = ("none" if value is None else value for value in pair)
        raise JaxtlError(f"{folder}: was begun with {name} {old}, not {new}; delete it or give another path")
    if there.images and plan.images not in ("", there.images):
        raise JaxtlError(
            f"{folder}: was begun with other images; restore them, delete it or give another path"
        )
    return there


def left(path: Pathlike, plan: Plan) -> list[int]:
    """Numbers of the files that are still to be written."""
    return [number for number in range(plan.count) if not _is_there(path, plan, number)]


def write(path: Pathlike, plan: Plan, number: int, pieces: Iterator[np.ndarray]) -> None:
    """Write one file from float32 [some, d], one after another. Raises OSError where it cannot be written."""
    target = _file(path, number)
    remove_leftovers(target)
    with replacing(target) as temporary, temporary.open("wb") as stream:
        for piece in pieces:
            stream.write(np.ascontiguousarray(piece, "<f4").data)


def complete(path: Pathlike, plan: Plan, rows: Mapping[str, np.ndarray | None]) -> None:
    """Wait until all files are there, and write labels, index and, where there are, ids [n]."""
    while left(path, plan):
        time.sleep(_SECONDS)
    there = {name: array for name, array in rows.items() if array is not None}
    write_npz(Path(path) / _ROWS, there, dict(plan.meta))


def load(path: Pathlike) -> Features:
    """A store as Features whose values are memory-mapped, all files as one array.

    Raises JaxtlError where the store is not whole, or is damaged.
    """
    folder = Path(path)
    plan = _read_plan(folder)
    # Their names first: a plan that somebody made may ask for more files than anybody could look for.
    there = len(list(folder.glob(f"*{_FILES}")))
    if there >= plan.count:
        there = plan.count - len(left(folder, plan))
    if there < plan.count or not (folder / _ROWS).exists():
        raise JaxtlError(
            f"{folder}: is not whole, {there:,} of {plan.count:,} files are there; give the "
            "same jaxtl extract again"
        )
    arrays, meta = read_npz(folder / _ROWS, ("labels", "index"), OF_ROWS.__contains__, OF_ROWS)
    if any(array.shape != (plan.n,) for array in arrays.values()):
        raise JaxtlError(f"{folder / _ROWS}: is not of {plan.n:,} rows; delete {folder} and extract again")
    values = _mapped([_file(folder, number) for number in range(plan.count)], (plan.n, plan.d))
    return Features(values, arrays["labels"], arrays["index"], meta, arrays.get("ids"))


def _read_plan(folder: Path) -> Plan:
    record = read_json_object(folder / _PLAN)
    fault = _RECORD(record)
    if not fault:
        unit = _ALIGNED // math.gcd(_ALIGNED, 4 * record["d"])
        fits = not record["rows"] % unit or record["rows"] >= record["n"]
        others = record.keys() - {part.name for part in fields(Plan)}
        fault = f"has {brief(min(others))}" if others else "" if fits else "rows do not fit"
    if fault:
        raise JaxtlError(f"{folder / _PLAN}: no plan of a store ({fault}); {MAKE_AGAIN}")
    return Plan(**record)


def _file(path: Pathlike, number: int) -> Path:
    return Path(path) / f"{number:05d}{_FILES}"


def _is_there(path: Pathlike, plan: Plan, number: int) -> bool:
    file = _file(path, number)
    return file.is_file() and file.stat().st_size == plan.nbytes(number)


def _mapped(files: list[Path], shape: tuple[int, int]) -> np.ndarray:
    """Files as one array, read-only; what is not looked at is not read.

    Python's mmap puts each file where there is room. Here room for all is taken first, and then each has its
    place in it: mmap(2) with MAP_FIXED.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    kinds = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_longlong)
    libc.mmap.argtypes = kinds
    libc.munmap.argtypes = kinds[:2]

    def taken(*how: Any) -> int:
        if (place := libc.mmap(*how)) in (None, ctypes.c_void_p(-1).value):
            raise OSError(code := ctypes.get_errno(), os.strerror(code), str(files[0].parent))
        return place

    total = 4 * math.prod(shape)
    start = place = taken(None, total, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
    memory = (ctypes.c_char * total).from_address(start)
    weakref.finalize(memory, libc.munmap, start, total)
    for file in files:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            taken(place, size, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, stream.fileno(), 0)
            place += size
    values = np.frombuffer(memory, "<f4").reshape(shape)
    values.setflags(write=False)
    return values
