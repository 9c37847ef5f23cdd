"""The memory that the numbers of a run or a comparison take on a CPU, from shapes alone."""

from __future__ import annotations

from jaxtl.errors import JaxtlError
from jaxtl.machine.host import cpu_count
from jaxtl.machine.memory import available_memory, largest_count, spoken_bytes
from jaxtl.metrics.spectra import BLOCK

_DOUBLE, _FLOAT = 8, 4
# The processes' libraries, and blocks of distances.
_FIXED = 250 * 2**20
# Most tasks of one part that hold rows in float64 at a time, as they come and about their mean.
_TASKS = 4
# Blocks of results that wait for their turn, for each thread.
_AHEAD = 2


def needed(
    n: int, dimensions: tuple[int, int], training: int = 0, classes: int = 0, cores: int | None = None
) -> int:
    """Bytes that the numbers of n rows take at the peak.

    Args:
        dimensions: of the features, before and after.
        training: rows of training features of either.
        classes: how many there are; 0 where nobody knows them.
        cores: that work; None takes those of this machine.
    """
    cores = cores or cpu_count()
    # Each stage in a process of its own, at one time where there are cores for it, which they share.
    spectra = [_spectrum(n, d) for d in dimensions]
    rows = sum(_FLOAT * (n + training) * d for d in dimensions)
    beside = _DOUBLE * max(min(cores, _TASKS) * 2 * n, 2 * training) * max(dimensions)
    sums = _AHEAD * cores * _DOUBLE * n * classes
    stages = rows + (sum(spectra) if cores > 1 else max(spectra)) + beside + sums
    return _FIXED + max(stages, _of_change(n, *dimensions))


def check(n: int, dimensions: tuple[int, int], training: int, classes: int, fewer: str) -> None:
    """Raises JaxtlError, with the rows that fit, where the numbers would take more than is free.

    `fewer`: how a user takes fewer rows.
    """
    need, free = needed(n, dimensions, training, classes), available_memory()
    if need <= free:
        return
    fit = largest_count(lambda rows: needed(rows, dimensions, training, classes), n, free)
    would = f"about {fit:,} rows fit, {fewer}" if fit else "take features of fewer columns"
    shape = " and ".join(f"[{n}, {d}]" for d in dict.fromkeys(dimensions))
    raise JaxtlError(
        f"memory: the scores of features {shape} would take {spoken_bytes(need)}, and {spoken_bytes(free)} "
        f"are free: {would}"
    )


def _spectrum(n: int, d: int) -> int:
    """Of the products of rows or of columns, whichever are fewer, with the vectors of both sides."""
    return _DOUBLE * (4 * n * d + 6 * n * n if n < d else 5 * d * d + 2 * BLOCK)


def _of_change(n: int, d: int, e: int) -> int:
    rows = (_FLOAT + _DOUBLE) * n * (d + e)
    if n <= min(d, e):
        # Kernels of either, and bases of the rows' space.
        return rows + _DOUBLE * (2 * n * n + 2 * n * (d + e))
    wide = 2 * _DOUBLE * n * max(d, e) if n < max(d, e) else 0
    # The three products of CKA, each with blocks of its own.
    return rows + wide + 3 * _DOUBLE * d * e + 3 * 2 * _DOUBLE * BLOCK
