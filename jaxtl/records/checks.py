"""What records ask of the arrays that say something of each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxtl.errors import JaxtlError
from jaxtl.records import given


def checked_rows(
    where: str,
    n: int,
    labels: ArrayLike | None,
    index: ArrayLike | None,
    meta: Mapping[str, object] | None,
    ids: ArrayLike | None,
) -> dict[str, Any]:
    """`labels`, `index`, `meta` and `ids` of n rows in the form that records have.

    Raises JaxtlError for other kinds or lengths, or labels beyond the class names in `meta`.
    """
    if n == 0:
        raise JaxtlError(f"{where}: holds no rows")
    known = dict(meta or {})
    if labels is not None:
        labels, names = given.numbered(where, labels, known.get("class_names"))
        known |= {"class_names": list(names)} if names else {}
        check_labels(where, labels, n)
        classes = len(names_of(known, labels))
        if labels.max() >= classes:
            raise JaxtlError(f"{where}: label {labels.max()} is out of range for {classes} class names")
    texts = given.as_texts(ids)
    check_ids(where, texts, n)
    rows = np.arange(n, dtype=np.int32) if index is None else given.as_int32(index)
    if rows.shape != (n,) or rows.dtype != np.int32:
        raise JaxtlError(f"{where}: index must be int32 [{n}], got {rows.dtype} {list(rows.shape)}")
    return {"labels": labels, "index": rows, "meta": known, "ids": texts}


def check_labels(where: str, labels: np.ndarray, n: int) -> None:
    """Raises JaxtlError unless they are int32 [n] and none is negative."""
    if labels.shape != (n,) or labels.dtype != np.int32:
        raise JaxtlError(f"{where}: labels must be int32 [{n}], got {labels.dtype} {list(labels.shape)}")
    if n and labels.min() < 0:
        raise JaxtlError(f"{where}: labels must not be negative, found {labels.min()}")


def check_ids(where: str, ids: np.ndarray | None, n: int) -> None:
    """Raises JaxtlError unless they are texts [n], or None."""
    if ids is not None and (ids.shape != (n,) or ids.dtype.kind != "U"):
        raise JaxtlError(f"{where}: ids must be texts [{n}], got {ids.dtype} {list(ids.shape)}")


def names_of(meta: Mapping[str, object], labels: np.ndarray | None) -> tuple[str, ...]:
    """Class names by number: those in meta, else the numbers; none without labels."""
    if labels is None:
        return ()
    names = meta.get("class_names")
    if names is not None and not (
        isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    ):
        raise JaxtlError(f"class_names in meta must be texts, got {names!r}")
    return tuple(names) if names else tuple(str(k) for k in range(int(labels.max()) + 1))


def of_meta(meta: Mapping[str, Any], name: str, otherwise: Any) -> Any:
    """What a file says of itself by a name. Raises JaxtlError unless it is of the type of `otherwise`."""
    value = meta.get(name, otherwise)
    if not isinstance(value, type(otherwise)):
        raise JaxtlError(f"{name} in meta must be a {type(otherwise).__name__}, got {value!r}")
    return value
