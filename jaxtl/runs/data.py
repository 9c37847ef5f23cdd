"""What the report page needs of a run, and how it is read from the run's folder."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import FORMER_LAYERS, FORMER_SCORES, current
from jaxtl.records.arrays import Embedding, Features, Score, load_history, load_scores
from jaxtl.records.files import read_json_object, read_npz

STAGES = ("before", "after")
METHODS = ("pca", "tsne", "lle")
CLASS_COLUMNS = ("stage", "space", "metric", "class", "value")
LAYER_COLUMNS = ("stage", "layer", "metric", "value")
_CLAIM_FIELDS = {"text", "value", "verdict"}


@dataclass(frozen=True)
class RunData:
    """One run, as the page shows it. Sections whose data are empty are left out.

    Attributes:
        name: of the run's folder.
        labels: int32 [n].
        index: int32 [n], row of each image in the dataset's test split.
        class_names: in label order.
        maps: by stage ("before", "after") and method, each of the same n images in the same order.
        config: the run's settings, as in config.json.
        environment: versions and hardware; timings: seconds by stage, and `peak_memory_gib`.
        scores: every number of the run; history: one row an epoch.
        features: stage -> dimensions of the features, and what `meta` says of the network.
        images: uint8 [n, height, width, 1 or 3], or None.
        images_fault: why there are no images.
        claims: with text, statistic, value, low, high, threshold, direction, verdict, words.
        class_scores: rows stage, space, metric, class, value, low, high.
        layers: rows stage, layer, metric, value, low, high, in the network's order.
        measures: arrays by name: knn_before and head_after int [n], head_probability float [n],
            neighbors_before and neighbors_after int [n, k] (rows of the map), confusion_STAGE_SPACE float
            [classes, classes], qnx_k int [K] with qnx_STAGE_METHOD float [K].
    """

    name: str
    labels: np.ndarray
    index: np.ndarray
    class_names: tuple[str, ...]
    maps: dict[tuple[str, str], Embedding]
    config: dict[str, Any]
    environment: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    scores: list[Score] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    features: dict[str, Any] = field(default_factory=dict)
    images: np.ndarray | None = None
    images_fault: str = ""
    claims: list[dict[str, Any]] = field(default_factory=list)
    class_scores: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    measures: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.maps:
            raise JaxtlError(f"{self.name}: holds no maps; finish the run first")
        for (stage, method), embedding in self.maps.items():
            if not np.array_equal(embedding.index, self.index):
                raise JaxtlError(
                    f"{self.name}: map {stage}_{method} is of other images than the first one; "
                    "delete it and resume the run"
                )
        for name, array in self.measures.items():
            if array.ndim and name.startswith(("knn", "head", "neighbors")) and len(array) != len(self):
                raise JaxtlError(
                    f"{self.name}: array {name} of measures.npz has {len(array)} rows for {len(self)} "
                    "images; delete that file and resume the run"
                )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def methods(self) -> list[str]:
        """The methods of which there is a map, in the usual order."""
        found = {method for _, method in self.maps}
        return [m for m in METHODS if m in found] + sorted(found - set(METHODS))

    def score(self, stage: str, space: str, metric: str) -> Score | None:
        wanted = (stage, space, metric)
        return next((s for s in self.scores if (s.stage, s.space, s.metric) == wanted), None)


def load_run(folder: str | os.PathLike[str]) -> RunData:
    """Read a run folder; what is not there yet, but for the settings and the maps, stays empty.

    Images come from the run's own dataset. Where it cannot be read any more the page has none.

    Raises:
        JaxtlError: no run folder, no maps, or files that are damaged.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise JaxtlError(f"{folder}: no run folder (it has no config.json); give one that jaxtl run made")
    config = read_json_object(folder / "config.json")
    maps = {
        (stage, method): Embedding.load(path)
        for stage in STAGES
        for method in METHODS
        if (path := folder / "embeddings" / f"{stage}_{method}.npz").is_file()
    }
    if not maps:
        raise JaxtlError(f"{folder}: holds no maps; finish it with: jaxtl run --resume {folder}")
    first = next(iter(maps.values()))
    images, fault = _images(config, first.index, first.labels)
    return RunData(
        name=folder.resolve().name,
        labels=first.labels,
        index=first.index,
        class_names=max((e.class_names for e in maps.values()), key=len),
        maps=maps,
        config=config,
        environment=_optional(folder / "environment.json", read_json_object, {}),
        timings=_optional(folder / "timings.json", read_json_object, {}),
        scores=[
            replace(score, metric=current(score.metric, FORMER_SCORES))
            for score in _optional(folder / "scores.csv", load_scores, [])
        ],
        history=_optional(folder / "history.csv", load_history, []),
        features=_features(folder / "features" / "before.npz", first.meta),
        images=images,
        images_fault=fault,
        claims=_optional(folder / "claims.json", _claims, []),
        class_scores=_optional(folder / "classes.csv", _class_rows, []),
        layers=[
            {**row, "metric": current(row["metric"], FORMER_LAYERS)}
            for row in _optional(folder / "layers.csv", _layer_rows, [])
        ],
        measures=_optional(folder / "measures.npz", lambda path: read_npz(path, ())[0], {}),
    )


def _optional(path: Path, read: Any, otherwise: Any) -> Any:
    return read(path) if path.is_file() else otherwise


def _features(path: Path, meta: dict[str, Any]) -> dict[str, Any]:
    return {**meta, "dimensions": Features.load(path).values.shape[1]} if path.is_file() else dict(meta)


def _images(config: dict[str, Any], index: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray | None, str]:
    """The images of the maps, or why there are none."""
    name = str(config.get("dataset", ""))
    try:
        dataset = load(name, "test", image_size=config.get("image_size"))
    except (JaxtlError, OSError) as error:
        return None, str(error)
    if index.max() >= len(dataset) or not np.array_equal(dataset.labels[index], labels):
        return None, f"dataset {name} holds other images now than when the run was made"
    return dataset.images[index], ""


def _claims(path: Path) -> list[dict[str, Any]]:
    claims = read_json_object(path).get("claims")
    if not isinstance(claims, list) or not all(
        isinstance(c, dict) and c.keys() >= _CLAIM_FIELDS for c in claims
    ):
        raise JaxtlError(f"{path}: not a list of claims with text, value and verdict; make it again")
    return claims


def _class_rows(path: Path) -> list[dict[str, Any]]:
    return _rows(path, CLASS_COLUMNS)


def _layer_rows(path: Path) -> list[dict[str, Any]]:
    return _rows(path, LAYER_COLUMNS)


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """A long-form table: `value`, `low` and `high` as floats (None where empty), the rest as text."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        numbers = ("value", "low", "high")
        return [
            {name: row[name] for name in columns if name != "value"}
            | {name: float(row[name]) if row.get(name) else None for name in numbers}
            for row in rows
        ]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise JaxtlError(
            f"{path}: not a table with columns {', '.join(columns)} ({error}); delete it and make it again"
        ) from None
