"""What the report page needs of a run, and how it is read from the run's folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxtl.data import load
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import TEST_ACCURACY
from jaxtl.evaluation.overview import accuracies_of, score_table, verdicts
from jaxtl.methods import METHODS, method_label
from jaxtl.metrics.change import OUTCOMES
from jaxtl.progress import counted
from jaxtl.records import summaries
from jaxtl.records.arrays import Embedding
from jaxtl.records.dataset import Dataset
from jaxtl.records.rows import first_rows
from jaxtl.records.tables import Score
from jaxtl.runs.dataset import are_shown
from jaxtl.runs.folder import RunFolder
from jaxtl.runs.formats import COMPARISON
from jaxtl.settings import FORMER_PIXELS, selection_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class RunData(summaries.Told):
    """One run, as the page shows it. Sections whose data are empty are left out.

    Attributes:
        name: of the run's folder.
        labels: int32 [n]; None where nobody knows the classes.
        index: int32 [n], row of each image in the dataset's test split.
        class_names: in label order.
        embeddings: by stage ("before", "after") and method, each of the same n images in the same order.
        config: the run's settings, as in config.json.
        environment: versions and hardware; timings: seconds by step, and `peak_memory_gib`.
        scores: every number of the run; history: one row an epoch.
        features: `dimensions` before and `dimensions_after`, and what `meta` says of the network.
        images: uint8 [n, height, width, 1 or 3], or None.
        images_fault: why there are no images.
        claims: with text, statistic, value, low, high, threshold, direction, verdict, words.
        class_scores: rows stage, space, metric, class, value, low, high.
        image_rows: one for each image, in order, as `jaxtl.records.tables.load_images` reads them: classes
            named before and after, what became of the image, neighbours kept; none in runs of before there
            were such rows.
        layers: rows stage, layer, metric, value, low, high, in the network's order.
        measures: arrays by name, as of `jaxtl.evaluation.measures.Measures`: of each image, and of classes
            and sizes of neighbourhoods.
        ids: text [n], what each image is called in its source, or None.
        path: the run's folder, or None.
    """

    name: str
    labels: np.ndarray | None
    index: np.ndarray
    class_names: tuple[str, ...]
    embeddings: dict[tuple[str, str], Embedding]
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
    image_rows: list[dict[str, Any]] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    measures: dict[str, np.ndarray] = field(default_factory=dict)
    ids: np.ndarray | None = None
    path: Path | None = None

    def __post_init__(self) -> None:
        if not self.embeddings:
            raise JaxtlError(f"{self.name}: holds no maps; finish the run first")
        for (stage, method), embedding in self.embeddings.items():
            if not np.array_equal(embedding.index, self.index):
                raise JaxtlError(
                    f"{self.name}: map {stage}_{method} is of other images than the first one; "
                    "delete it and resume the run"
                )
        if fault := _fault_of_measures(self.measures, len(self), len(self.class_names)):
            raise JaxtlError(f"{self.name}: {fault}; delete measures.npz and resume the run")

    def __len__(self) -> int:
        return len(self.index)

    @property
    def is_comparison(self) -> bool:
        """Whether features were compared that somebody else computed."""
        return self.config.get("kind") == COMPARISON

    @property
    def methods(self) -> list[str]:
        """The methods of which there is an embedding, in the usual order."""
        embedded = {method for _, method in self.embeddings}
        return [m for m in METHODS if m in embedded] + sorted(embedded - set(METHODS))

    @property
    def model(self) -> str:
        """The network, by its name in `jaxtl.settings.MODELS` where it is one of those."""
        return str(self.features.get("model") or self.config.get("model") or "").partition(" ")[0]

    def summary(self) -> summaries.Summary:
        """What is shown of it instead of its arrays: what it is of, and its accuracies."""
        epochs = []
        if self.history:
            told = f"{TEST_ACCURACY.label} {self.history[-1][TEST_ACCURACY]:.4f}"
            epochs = [f"{counted(len(self.history), 'epoch')}, {told}"]
        rows = [
            ("images", f"{len(self):,}"),
            *summaries.of_rows(self.class_names, self.ids),
            *([("model", self.model)] if self.model else []),
            ("embeddings", ", ".join(method_label(method) for method in self.methods)),
            *(("training", line) for line in epochs),
            *([("claims", verdicts(self.claims))] if self.claims else []),
            *([("folder", str(self.path))] if self.path else []),
        ]
        return summaries.Summary(f"Run {self.name!r}", rows, score_table(self.scores))

    def plot(self, width: str | float | None = None) -> Figure:
        """Its embeddings before over after, a column for each method; `width` as of `jaxtl.plot`."""
        from jaxtl.plots.shown import plot_stages

        accuracies = accuracies_of(self.scores)
        return plot_stages(self.name, self.embeddings, accuracies, tuned=not self.is_comparison, width=width)

    def score(self, stage: str, space: str, metric: str) -> Score | None:
        """One number, such as that of "after", "features" and "silhouette"; None where it was not made."""
        wanted = (stage, space, metric)
        return next((s for s in self.scores if (s.stage, s.space, s.metric) == wanted), None)


def load_run(folder: str | os.PathLike[str] | RunFolder) -> RunData:
    """Read a run folder; what is not there yet, but for the settings and the embeddings, stays empty.

    Images come from the run's own dataset. Where it cannot be read any more the page has none.

    Raises:
        JaxtlError: no run folder, no embeddings, or files that are damaged or not what the run wrote.
    """
    run = folder if isinstance(folder, RunFolder) else RunFolder(folder)
    run.check()
    settings = run.settings.read()
    embeddings = _embeddings(run)
    first = next(iter(embeddings.values()))
    n = len(first.coords)
    class_names = max((e.class_names for e in embeddings.values()), key=len)
    measures = run.measures.read_or({})
    if fault := _fault_of_measures(measures, n, len(class_names)):
        raise run.measures.mended(JaxtlError(f"{run.measures}: {fault}"))
    images, fault = None, "a comparison of features holds none"
    if settings.get("kind") != COMPARISON:
        images, fault = _images(run, settings, first)
    return RunData(
        name=run.path.resolve().name,
        labels=first.labels,
        index=first.index,
        class_names=class_names,
        embeddings=embeddings,
        config=settings,
        environment=run.environment.read_or({}),
        timings=run.timings.read_or({}),
        scores=run.scores.read_or([]),
        history=run.history.read_or([]),
        features=_described(run, first.meta),
        images=images,
        images_fault=fault,
        claims=run.claims.read_or([]),
        class_scores=run.class_scores.read_or([]),
        image_rows=_image_rows(run, first),
        layers=[row._asdict() for row in run.layers.read_or([])],
        measures=measures,
        ids=first.ids,
        path=run.path,
    )


def _image_rows(run: RunFolder, first: Embedding) -> list[dict[str, Any]]:
    rows = run.image_rows.read_or([])
    if rows and [row["index"] for row in rows] != first.index.tolist():
        raise run.image_rows.mended(JaxtlError(f"{run.image_rows}: is of other images than the maps"))
    return rows


def _embeddings(run: RunFolder) -> dict[tuple[str, str], Embedding]:
    """Those that are there, of the same images."""
    embeddings = {key: file.read() for key, file in run.embeddings.items() if file.is_expected}
    for key, embedding in embeddings.items():
        embedding.check_plane(f"{run.embeddings[key]}: a run")
    if not embeddings:
        raise JaxtlError(f"{run}: holds no maps; {run.go_on}")
    first = next(iter(embeddings.values()))
    for key, embedding in embeddings.items():
        if not np.array_equal(embedding.index, first.index):
            file = run.embeddings[key]
            raise file.mended(JaxtlError(f"{file}: is of other images than the first map"))
    return embeddings


def _fault_of_measures(measures: dict[str, np.ndarray], n: int, classes: int) -> str:
    """What keeps arrays from being those of n images; nothing where they are."""
    ends = {"knn": classes, "probe": classes, "head": classes, "neighbors": n, "outcome": len(OUTCOMES)}
    ends |= dict.fromkeys(("kept", "moved", "trust"), 2)  # shares
    sizes = measures.get("qnx_k")
    for name, array in measures.items():
        kind = name.partition("_")[0]
        if kind == "confusion" and array.shape != (classes, classes):
            return f"array {name} is {list(array.shape)} for {classes} classes"
        if kind == "qnx" and (sizes is None or not len(sizes) or array.shape != sizes.shape):
            return f"array {name} is {list(array.shape)}, not as long as qnx_k"
        if kind not in ends:
            continue
        if not array.ndim or len(array) != n:
            return f"array {name} has {len(array) if array.ndim else 'no'} rows for {n} images"
        if array.size and not 0 <= array.min() <= array.max() < ends[kind]:
            return f"array {name} holds {array.min()} to {array.max()}, not 0 to {ends[kind] - 1}"
    return ""


def features_of(
    run: RunFolder, data: RunData, stages: Iterable[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The features of each stage, float32 [n, d], and a line for each stage whose file is not there.

    Raises JaxtlError where they are of other images than the embeddings.
    """
    values, notes = {}, []
    for stage in stages:
        file = run.features[stage]
        if not file.is_expected:
            notes.append(f"without the features of stage {stage}: {file} is not there")
            continue
        features = file.read()
        if not np.array_equal(features.index, data.index):
            raise file.mended(JaxtlError(f"{file}: is of other images than the maps"))
        values[stage] = features.values
    return values, notes


def distances_to(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """float32 [n, k], Euclidean, from every row to the rows `ids` [n, k]; one column of them at a time."""
    return np.stack([np.linalg.norm(values - values[column], axis=1) for column in ids.T], axis=1)


def _described(run: RunFolder, meta: dict[str, Any]) -> dict[str, Any]:
    names = {"before": "dimensions", "after": "dimensions_after"}
    there = {names[stage]: file for stage, file in run.features.items() if file.is_expected}
    return {**meta, **{name: file.read().values.shape[1] for name, file in there.items()}}


def _images(run: RunFolder, settings: dict[str, Any], first: Embedding) -> tuple[np.ndarray | None, str]:
    """The images of the embeddings, or why there are none."""
    name = settings["dataset"]
    if run.images.is_expected:
        images = run.images.read()
        return (
            (images, "") if len(images) == len(first.index) else (None, f"{run.images}: is of other images")
        )
    # Where that is damaged, it is no matter of the images.
    record = run.dataset.read_or({})
    try:
        pixels = {part: settings.get(part, former) for part, former in FORMER_PIXELS.items()}
        how = {"image_size": settings.get("image_size"), **pixels, **asdict(selection_of(settings))}
        dataset = load(name, "test", samples=int(first.index.max()) + 1, **how)
        if not (_are_those(dataset, first) and _are_recorded(record, dataset, first)):
            return None, f"dataset {name} holds other images now than when the run was made"
        # The first ones, as of every run: what is read when it is asked for stays so.
        n = len(first.index)
        are_first = np.array_equal(first.index, np.arange(n))
        return first_rows(dataset.images, n) if are_first else dataset.images[first.index], ""
    except (JaxtlError, OSError) as error:
        return None, str(error)


def _are_recorded(record: dict[str, Any], dataset: Dataset, first: Embedding) -> bool:
    """Whether a set's first images are those that the run read; where it does not tell, they may be."""
    n = len(first.index)
    in_order = len(dataset) == n and np.array_equal(first.index, np.arange(n))
    return not in_order or are_shown(record, dataset)


def _are_those(dataset: Dataset, first: Embedding) -> bool:
    """Whether a set's rows are the images of an embedding, by their classes' names and by their own."""
    if first.index.max() >= len(dataset):
        return False
    classes = [
        np.array(record.class_names)[labels]
        for record, labels in ((dataset, dataset.labels[first.index]), (first, first.labels))
    ]
    ids = None if dataset.ids is None else dataset.ids[first.index]
    named = ids is not None and first.ids is not None
    return np.array_equal(*classes) and not (named and not np.array_equal(ids, first.ids))
