"""Two sets of features of the same images: rows put in one order, classes numbered alike, faults named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxtl.data.cells import texts
from jaxtl.data.feature_files import Given
from jaxtl.errors import JaxtlError
from jaxtl.progress import counted
from jaxtl.records.arrays import Features
from jaxtl.records.given import missing
from jaxtl.records.names import in_order, readable

# 10 nearest neighbours in each of 5 folds, and t-SNE's smallest perplexity, ask for so many.
LEAST_ROWS = 13
# Kinds of elements, NumPy's letters, that images are called by.
_NAMES = "iufbUSMOT"


class Pair(NamedTuple):
    """Features before and after of the same images in the same order; `notes` say what was done for that."""

    before: Features
    after: Features
    notes: tuple[str, ...]

    @property
    def classes(self) -> int:
        """How many occur; 0 where nobody knows them."""
        return 0 if self.before.labels is None else len(np.unique(self.before.labels))


def paired(before: Given, after: Given, name: str, common: bool = False) -> Pair:
    """Two sets of features of the same images.

    Rows are matched by ids where both have some, else by their index where both have one, else by their
    order, for which their labels must agree.

    Args:
        name: of what the features are of.
        common: whether rows that only one has are left out, and not refused.

    Raises:
        JaxtlError: ids or labels that disagree, rows that cannot be matched, values that are not finite, or
            too few.
    """
    return _Matched(before, after, common).pair(name, ())


def training_pair(
    before: Given, after: Given, tested: Pair, name: str, common: bool = False
) -> tuple[Pair, Pair]:
    """`tested` and features of training images, whose classes are numbered alike.

    Raises JaxtlError as `paired`, for features of other dimensions, and for training images without labels.
    """
    matched = _Matched(before, after, common, least=1)
    for which, file, own in (("before", before, tested.before), ("after", after, tested.after)):
        d = file.values.shape[1]
        if d != own.values.shape[1]:
            raise JaxtlError(
                f"{file.where}: {d} dimensions, but the features {which} have {own.values.shape[1]}; give "
                "training features of the same network and layer"
            )
    if tested.before.labels is not None and matched.labels is None:
        raise JaxtlError(f"{before.where}: training features need labels; give them in either file")
    known = np.array(tested.before.class_names)
    labels = None if tested.before.labels is None else known[tested.before.labels]
    names = _in_order(
        [*known, *([] if matched.labels is None else matched.labels)], matched.class_names or tuple(known)
    )
    again = Pair(*(_numbered(own, labels, names) for own in tested[:2]), tested.notes)
    return again, matched.pair(name, names)


class _Matched:
    """Rows of two files in one order; labels as text [n] or None, and class names where a file has some."""

    def __init__(self, before: Given, after: Given, common: bool, least: int = LEAST_ROWS) -> None:
        self.files, self.notes = (before, after), [*before.notes, *after.notes]
        for given in self.files:
            _check_values(given, least)
        self.rows, self.keys = self._match(common)
        if len(self.rows[0]) < least:
            shared = counted(len(self.rows[0]), "row")
            raise JaxtlError(f"{before.where} and {after.where}: {shared} in common; it takes {least}")
        self.class_names = self._names()
        self.labels = self._labels()

    def pair(self, name: str, names: Sequence[str]) -> Pair:
        """Both as records; `names` of classes in label order, by default those that occur."""
        names = names or ([] if self.labels is None else _in_order(self.labels, self.class_names))
        known = zip(map(_ids, self.files), self.rows, strict=True)
        ids = next((own[rows] for own, rows in known if own is not None), None)
        records = []
        for given, rows in zip(self.files, self.rows, strict=True):
            values = np.ascontiguousarray(_float32(given)[rows])
            meta = {**given.meta, "dataset": name, "source": given.where}
            record = Features(values, None, np.arange(len(rows), dtype=np.int32), meta, ids)
            records.append(_numbered(record, self.labels, names, not self._are_named))
        return Pair(records[0], records[1], tuple(self.notes))

    @property
    def _are_named(self) -> bool:
        """Whether classes have names: numbers for want of names are not some."""
        labels = [given.labels for given in self.files if given.labels is not None]
        kinds = {np.array(own[:1].tolist()).dtype.kind for own in labels}
        return bool(self.class_names) or "U" in kinds or "S" in kinds

    def _match(self, common: bool) -> tuple[tuple[np.ndarray, np.ndarray], str]:
        before, after = self.files
        for what, keys in (
            ("ids", [_ids(given) for given in self.files]),
            ("row numbers (index)", [given.index for given in self.files]),
        ):
            if keys[0] is not None and keys[1] is not None:
                return self._by_keys(keys[0], keys[1], what, common), what
        n, m = len(before.values), len(after.values)
        if n != m:
            raise JaxtlError(
                f"{before.where} has {n:,} rows and {after.where} {m:,}: which belong together? Give ids in "
                "both files"
            )
        return (np.arange(n), np.arange(n)), ""

    def _by_keys(
        self, one: np.ndarray, other: np.ndarray, what: str, common: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        for given, keys in zip(self.files, (one, other), strict=True):
            _check_keys(given, keys, what)
        shared, rows, others = np.intersect1d(one, other, assume_unique=True, return_indices=True)
        alone = [keys[~np.isin(keys, shared)] for keys in (one, other)]
        if any(map(len, alone)):
            told = "; ".join(
                f"{given.where} has {len(keys):,} that the other lacks, such as {keys[0]}"
                for given, keys in zip(self.files, alone, strict=True)
                if len(keys)
            )
            if not common or not len(shared):
                raise JaxtlError(
                    f"the {what} disagree: {told}; give features of the same images"
                    + (", or --common to compare those that both have" if len(shared) else "")
                )
            self.notes.append(f"compared: {counted(len(shared), 'row')} that both files have; {told}")
        order = np.argsort(rows)
        rows, others = rows[order], others[order]
        if not np.array_equal(others, np.sort(others)):
            self.notes.append(f"rows are matched by their {what}: the files have them in different orders")
        return rows, others

    def _names(self) -> tuple[str, ...]:
        names = [
            tuple(readable(n).strip() for n in given.class_names) for given in self.files if given.class_names
        ]
        if len(names) == 2 and names[0] != names[1]:
            before, after = self.files
            raise JaxtlError(
                f"{before.where} and {after.where}: class names differ, such as "
                f"{_first_difference(*names)}; give the same ones, in the same order"
            )
        return names[0] if names else ()

    def _labels(self) -> np.ndarray | None:
        of_files = [
            None if given.labels is None else _as_text(given, self.class_names)[rows]
            for given, rows in zip(self.files, self.rows, strict=True)
        ]
        known = [labels for labels in of_files if labels is not None]
        if len(known) == 2:
            self._check_agreement(*known)
        elif known:
            with_, without = self.files if of_files[0] is not None else self.files[::-1]
            how = f"matched by {self.keys}" if self.keys else "in the same order"
            self.notes.append(f"labels are those of {with_.where}; rows of {without.where} are {how}")
        return known[0] if known else None

    def _check_agreement(self, one: np.ndarray, other: np.ndarray) -> None:
        wrong = np.flatnonzero(one != other)
        if not len(wrong):
            return
        before, after = self.files
        row = wrong[0]
        remedy = (
            "mend the labels"
            if self.keys == "ids"
            else "put the rows in the same order, or give ids in both files"
        )
        raise JaxtlError(
            f"labels disagree in {len(wrong):,} of {len(one):,} rows, the first in row {self.rows[0][row]}: "
            f"{str(one[row])!r} in {before.where}, {str(other[row])!r} in {after.where}; {remedy}"
        )


def _check_values(given: Given, least: int) -> None:
    values, where = given.values, given.where
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        shape = "pool or flatten each image's to one vector" if values.ndim > 2 else "give numbers [n, d]"
        raise JaxtlError(f"{where}: features are {values.dtype} {list(values.shape)}, not [n, d]; {shape}")
    n, d = values.shape
    if n < least or d < 2:
        raise JaxtlError(f"{where}: features are [{n}, {d}]; it takes at least {least} rows and 2 columns")
    if not np.isfinite(values).all():
        wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
        named = "" if given.ids is None or len(given.ids) != n else f" ({given.ids[wrong[0]]})"
        raise JaxtlError(
            f"{where}: NaN or infinite values in {len(wrong):,} of {n:,} rows, the first in row "
            f"{wrong[0]}{named}; drop these rows or compute the features again"
        )
    if (values == values[0]).all() and n > 1:
        raise JaxtlError(f"{where}: all {n:,} rows are equal; give features that vary")
    for what, array in (("labels", given.labels), ("ids", given.ids), ("index", given.index)):
        if array is not None and (array.ndim != 1 or len(array) != n):
            raise JaxtlError(f"{where}: {what} are {list(array.shape)} for {n:,} rows; give one for each row")


def _float32(given: Given) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = given.values.astype(np.float32)
    if not np.isfinite(values).all():
        raise JaxtlError(f"{given.where}: values exceed what float32 holds; divide them by a constant")
    return values


def _check_keys(given: Given, keys: np.ndarray, what: str) -> None:
    different, counts = np.unique(keys, return_counts=True)
    if len(different) < len(keys):
        often = different[counts > 1]
        raise JaxtlError(
            f"{given.where}: {len(often):,} {what} stand there more than once, such as {often[0]}; give each "
            "row one of its own, or leave them out where rows are in the same order"
        )


def _as_text(given: Given, names: tuple[str, ...]) -> np.ndarray:
    """Each row's class as text [n]: its name, or its number where it has none."""
    assert given.labels is not None
    labels, where = _plain(given.labels, given.where), given.where
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all():
            raise JaxtlError(f"{where}: {int((~np.isfinite(labels)).sum())} labels are missing; fill them in")
        if (labels != np.round(labels)).any():
            raise JaxtlError(
                f"{where}: labels such as {labels[labels != np.round(labels)][0]:g} are no classes"
            )
        labels = labels.astype(np.int64)
    if labels.dtype.kind in "iu" and names:
        if not 0 <= labels.min() <= labels.max() < len(names):
            raise JaxtlError(
                f"{where}: labels are {labels.min()} to {labels.max()} for {len(names)} class names"
            )
        return np.array(names)[labels]
    if labels.dtype.kind not in "iubUS":
        raise JaxtlError(f"{where}: labels are {labels.dtype}; give whole numbers or text")
    classes = texts(labels)
    if (classes == "").any():
        raise JaxtlError(f"{where}: {int((classes == '').sum())} labels are missing; fill them in")
    if unknown := sorted(set(classes) - set(names)) if names and labels.dtype.kind in "US" else []:
        raise JaxtlError(f"{where}: label {str(unknown[0])!r} is not among the class names")
    return classes


def _ids(given: Given) -> np.ndarray | None:
    if given.ids is not None and given.ids.dtype.kind not in _NAMES:
        raise JaxtlError(f"{given.where}: ids are {given.ids.dtype}; give text or whole numbers")
    return None if given.ids is None else texts(given.ids)


def _plain(labels: np.ndarray, where: str) -> np.ndarray:
    """Labels that came as Python's objects, as of pandas, as an array of numbers or text."""
    if labels.dtype.kind not in "OT":
        return labels
    if count := missing(labels):
        raise JaxtlError(f"{where}: {count} labels are missing; fill them in")
    return np.array(labels.tolist())


def _in_order(classes: Sequence[str] | np.ndarray, names: Sequence[str]) -> list[str]:
    """Those that occur: in the order of the names, or by number where all are numbers, or by alphabet."""
    occurring = set(np.unique(np.array(classes, dtype=str)).tolist()) if len(classes) else set()
    if occurring <= set(names):
        return [name for name in names if name in occurring]
    return list(in_order(occurring))


def _numbered(
    record: Features, labels: np.ndarray | None, names: Sequence[str], numbers: bool | None = None
) -> Features:
    """A record with its classes, given as text, numbered as they stand in `names`."""
    if labels is None:
        return record
    place = {name: k for k, name in enumerate(names)}
    dense = np.fromiter((place[label] for label in labels.tolist()), np.int32, len(labels))
    meta = {**record.meta, "class_names": list(names)}
    if numbers is not None:
        meta["classes_are_numbers"] = numbers
    return Features(record.values, dense, record.index, meta, record.ids)


def _first_difference(one: Sequence[str], other: Sequence[str]) -> str:
    for k, (name, another) in enumerate(zip(one, other, strict=False)):
        if name != another:
            return f"{name!r} against {another!r} for class {k}"
    return f"{len(one)} against {len(other)} of them"
