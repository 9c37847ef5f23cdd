"""How large figures are in print, for who asks before matplotlib is imported."""

from __future__ import annotations

from jaxtl.errors import JaxtlError

# Widths of a figure in print, in millimetres: Nature's, and near those of IEEE (89, 181), PNAS (87, 178) and
# Elsevier (90, 190).
WIDTHS = {"one": 89.0, "two": 183.0}
_LEAST_WIDTH, _MOST_WIDTH = 40.0, 1000.0
_MM_PER_INCH = 25.4
DPI = 300  # what journals ask for of pictures with text


def inches(width: str | float) -> float:
    """Of a figure's width: "one" or "two" columns of a journal, or millimetres, 40 to 1000.

    Raises JaxtlError for another word or number.
    """
    known = WIDTHS.get(str(width))
    try:
        millimetres = float(width) if known is None else known
    except ValueError:
        millimetres = float("nan")
    if not _LEAST_WIDTH <= millimetres <= _MOST_WIDTH:
        columns = " or ".join(f"{word} ({mm:g} mm)" for word, mm in WIDTHS.items())
        raise JaxtlError(f"width: must be {columns}, or {_LEAST_WIDTH:g} to {_MOST_WIDTH:g} mm, got {width}")
    return millimetres / _MM_PER_INCH
