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
_AHEAD = 4


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
    stages = [_of_stage(n, d, training, classes, cores) for d in dimensions]
    # Each in a process of its own, at one time where there are cores for it.
    both = sum(stages) if cores > 1 else max(stages)
    return _FIXED + max(both, _of_change(n, *dimensions))


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


def _of_stage(n: int, d: int, training: int, classes: int, cores: int) -> int:
    rows = _FLOAT * (n + training) * d
    # Of the products of rows or of columns, whichever are fewer, with both sides' vectors.
    wide = _DOUBLE * (4 * n * d + 6 * n * n)
    spectrum = wide if n < d else _DOUBLE * (5 * d * d + 2 * BLOCK)
    beside = min(cores, _TASKS) * 2 * _DOUBLE * n * d
    known = 2 * _DOUBLE * training * d
    sums = _AHEAD * cores * _DOUBLE * n * classes
    return rows + spectrum + max(beside, known) + sums


def _of_change(n: int, d: int, e: int) -> int:
    rows = (_FLOAT + _DOUBLE) * n * (d + e)
    if n <= min(d, e):
        # Kernels of either, and bases of the rows' space.
        return rows + _DOUBLE * (2 * n * n + 2 * n * (d + e))
    wide = 2 * _DOUBLE * n * max(d, e) if n < max(d, e) else 0
    return rows + wide + 3 * _DOUBLE * d * e + 2 * _DOUBLE * BLOCK
