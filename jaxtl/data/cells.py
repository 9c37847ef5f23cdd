"""Cells of tables and elements of arrays as numbers or text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxtl.records.names import readable

# What stands in a table's cell where a number is missing.
_MISSING = ("", "NA", "N/A", "null", "None", "<NA>")


def is_number(text: str) -> bool:
    return _numbers([text]) is not None


def as_column(cells: Sequence[str]) -> np.ndarray:
    """A column as numbers where all of it are, else as text."""
    numbers = _numbers(cells)
    return np.array(cells) if numbers is None else numbers


def _numbers(cells: Sequence[str]) -> np.ndarray | None:
    """As whole numbers where all are, else as numbers, a missing one as NaN; None where one is no number, or
    all are missing."""
    if all(cell in _MISSING for cell in cells):
        return None
    for kind in (np.int64, np.float64):
        try:
            texts = ["nan" if c in _MISSING else c for c in cells] if kind is np.float64 else cells
            return np.array(texts, kind)
        except (ValueError, OverflowError):
            continue
    return None


def texts(values: np.ndarray) -> np.ndarray:
    """As text, that of any script in one spelling."""
    if values.dtype.kind == "S":
        values = np.array([text.decode("utf-8", "backslashreplace") for text in values.tolist()], dtype=str)
    if values.dtype.kind not in "UOT":
        return values.astype(str)
    return np.array([readable(str(text)).strip() for text in values.tolist()], dtype=str)
