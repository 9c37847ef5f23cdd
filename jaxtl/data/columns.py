"""Which column of a table holds what: by name, or by the names that such columns usually have."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtl.errors import JaxtlError

IMAGE = (
    "path",
    "image",
    "img",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image_path",
    "image_file",
)
LABEL = ("label", "class", "target", "category", "class_name", "label_name", "labels", "y", "fine_label")
SPLIT = ("split", "set", "subset", "partition", "fold_name")
ID = ("id", "image_id", "name", "uid")


def pick(where: str, columns: Sequence[str], wanted: str | None, usual: Sequence[str], what: str) -> str:
    """The column that holds something. Raises JaxtlError where there is none, with what to do."""
    name = pick_or_none(where, columns, wanted, usual, what)
    if name is None:
        raise JaxtlError(
            f"{where}: no column is called {', '.join(usual[:3])} or the like; it has "
            f"{', '.join(filter(None, columns))}: name the one with the {what} by --{what}-column"
        )
    return name


def pick_or_none(
    where: str, columns: Sequence[str], wanted: str | None, usual: Sequence[str], what: str
) -> str | None:
    """Likewise, None where no column has a usual name; the first of the usual names goes first."""
    if wanted is not None:
        if wanted not in columns:
            raise JaxtlError(
                f"{where}: has no column {wanted} (--{what}-column); it has {', '.join(columns)}"
            )
        return wanted
    by_name = {
        column.strip().lower().replace(" ", "_").replace("-", "_"): column for column in reversed(columns)
    }
    return next((by_name[name] for name in usual if name in by_name), None)
