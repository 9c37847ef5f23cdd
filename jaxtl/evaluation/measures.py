"""What scoring finds: rows of scores, and arrays shown point by point. Parts are kept in files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.evaluation.claims import Verdict
from jaxtl.metrics.estimates import Estimate
from jaxtl.records.arrays import Pathlike
from jaxtl.records.documents import list_of, record_of, text
from jaxtl.records.files import read_npz, write_npz
from jaxtl.records.tables import Score

_CLASS_KEYS = ("stage", "space", "metric", "class")
# What a part's file says of its numbers.
_NAMES = record_of(
    {"scores": list_of(list_of(text)), "class_scores": list_of(list_of(text)), "left_out": list_of(text)}
)
# Arrays that are shown point by point, by how their names begin: kinds of elements, and axes.
SHOWN = {
    **dict.fromkeys(("knn", "probe", "head_after", "outcome", "qnx_k"), ("iu", 1)),
    **dict.fromkeys(("kept", "moved", "trust", "head_probability", "qnx"), ("f", 1)),
    "neighbors": ("iu", 2),
    "confusion": ("f", 2),
}


def shown_as(name: str) -> tuple[str, int] | None:
    """The kinds of elements and the number of axes of an array that is shown; None of any other."""
    return next(
        (SHOWN[start] for start in sorted(SHOWN, key=len, reverse=True) if name.startswith(start)), None
    )


@dataclass
class StageMeasures:
    """The numbers of one stage's features, of its embeddings, or a part of them.

    Attributes:
        scores, class_scores, arrays: as of `Measures`, in any order.
        correct: by space, bool [n]: whether each point is of the class that most of its 10 nearest others in
            that space are of.
        halves: by space, the same of halves of the points: int [2, r, C], as of `Classified`.
        left_out: one line for each number that these images do not allow.
    """

    scores: list[Score] = field(default_factory=list)
    class_scores: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    correct: dict[str, np.ndarray] = field(default_factory=dict)
    halves: dict[str, np.ndarray] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def take(self, other: StageMeasures) -> None:
        """Add what another part holds."""
        self.scores += other.scores
        self.class_scores += other.class_scores
        self.arrays |= other.arrays
        self.correct |= other.correct
        self.halves |= other.halves
        self.left_out += other.left_out

    def save(self, path: Pathlike) -> None:
        """Write an npz file from which `load` reads the same bits."""
        names = [[score.stage, score.space, score.metric] for score in self.scores]
        of_classes = [[row[name] for name in _CLASS_KEYS] for row in self.class_scores]
        arrays = {
            "scores": _numbers([[score.value, score.low, score.high] for score in self.scores]),
            "class_scores": _numbers([[row[name] for name in Estimate._fields] for row in self.class_scores]),
            **{f"correct_{space}": correct for space, correct in self.correct.items()},
            **{f"halves_{space}": counts for space, counts in self.halves.items()},
            **{f"array_{name}": array for name, array in self.arrays.items()},
        }
        write_npz(path, arrays, {"scores": names, "class_scores": of_classes, "left_out": self.left_out})

    @classmethod
    def load(cls, path: Pathlike) -> StageMeasures:
        """Read what `save` wrote. Raises JaxtlError where the file is missing, damaged or another one."""
        arrays, meta = read_npz(path, ("scores", "class_scores"), _is_part)
        if fault := _NAMES(meta) or _fault_of_numbers(arrays):
            raise JaxtlError(f"{path}: not the numbers of a stage (it {fault}); delete it and make it again")
        try:
            names = zip(meta["scores"], arrays.pop("scores").tolist(), strict=True)
            classes = zip(meta["class_scores"], arrays.pop("class_scores").tolist(), strict=True)
            return cls(
                [Score(*key, *map(_known, numbers)) for key, numbers in names],
                [
                    dict(zip((*_CLASS_KEYS, *Estimate._fields), (*key, *map(_known, numbers)), strict=True))
                    for key, numbers in classes
                ],
                _stripped(arrays, "array_"),
                _stripped(arrays, "correct_"),
                _stripped(arrays, "halves_"),
                list(meta["left_out"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise JaxtlError(
                f"{path}: not the numbers of a stage ({error!r}); delete it and make it again"
            ) from None


@dataclass
class Measures:
    """All numbers of a run.

    Attributes:
        scores: long-form, each with its 95 % interval: by stage, then space, then as in the catalogue.
        class_scores: rows stage, space, metric, class, value, low, high, in the same order.
        arrays: what a page shows point by point: knn_STAGE int32 [n] (the class that most of a point's 10
            nearest others in the features are of), knn_training_STAGE and probe_STAGE int32 [n] (the classes
            that the 10 nearest training images and the logistic probe name), neighbors_STAGE int32 [n, 10],
            head_after int32 [n] and head_probability float32 [n] (the tuned head's class, and how sure it
            is), outcome_knn and outcome_probe uint8 [n] (places in `jaxtl.metrics.change.OUTCOMES`), kept,
            moved, kept_METHOD and trust_STAGE_METHOD float32 [n], confusion_STAGE_SPACE float32 [C, C], qnx_k
            int32 [K] and qnx_STAGE_METHOD float32 [K].
        verdicts: on the claims.
    """

    scores: list[Score] = field(default_factory=list)
    class_scores: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)


def _is_part(name: str) -> bool:
    return name.startswith(("array_", "correct_", "halves_"))


def _fault_of_numbers(arrays: dict[str, np.ndarray]) -> str:
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            return f"has {name} of {array.dtype}"
    for name in ("scores", "class_scores"):
        if arrays[name].ndim != 2 or arrays[name].shape[1] != len(Estimate._fields):
            return f"has {name} {list(arrays[name].shape)}"
    return ""


def _numbers(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, len(Estimate._fields))


def _known(number: float) -> float | None:
    """A bound that nobody knows is None, and not a number in the file."""
    return None if np.isnan(number) else number


def _stripped(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
