"""All numbers of a before/after experiment, as a graph of tasks over all cores.

A task computes what the tasks that it names do not, and its result is kept under its name. Rows are put
together at the end, in one fixed order: nothing depends on which task ended first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.claims import Evidence, Verdict, decide
from jaxtl.machine import cores
from jaxtl.metrics.estimates import Estimate
from jaxtl.metrics.separability import KNN_CANDIDATES
from jaxtl.neighbors import exact_neighbors
from jaxtl.progress import Notify, Progress
from jaxtl.records.arrays import Embedding, Features, Neighbors, Pathlike
from jaxtl.records.files import read_npz, write_npz
from jaxtl.records.tables import Score

N_NEIGHBORS = 10
KNN_METRIC = "10-NN accuracy"
LEAVE_ONE_OUT = "10-NN accuracy, leave one out"
TRAIN_TO_TEST = "10-NN accuracy, training to test"
# What is said of fine-tuning before it.
_PROMISES = ("LogME", "H-score, shrunk")
# Each class's share, of the numbers that have one.
PER_CLASS = (LEAVE_ONE_OUT, "neighbourhood hit", "silhouette")
# Tasks that take longest, and those that others wait for, so that no core is left with one at the end.
_FIRST = (
    "ridge probe accuracy",
    "logistic probe accuracy",
    "Procrustes disparity",
    "anchored",
    "spectrum",
    "neighbors",
    TRAIN_TO_TEST,
    "LogME",
    "linear CKA",
    "k-means",
    "faithfulness",
)


@dataclass
class StageMeasures:
    """The numbers of one stage's features, of its maps, or a part of them.

    Attributes:
        scores, class_scores, arrays: as of `Measures`.
        correct: by space, bool [n]: whether each point is of the class that most of its 10 nearest others in
            that space are of.
        left_out: one line for each number that these images do not allow.
    """

    scores: list[Score] = field(default_factory=list)
    class_scores: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    correct: dict[str, np.ndarray] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def take(self, other: StageMeasures) -> None:
        """Add what another part holds."""
        self.scores += other.scores
        self.class_scores += other.class_scores
        self.arrays |= other.arrays
        self.correct |= other.correct
        self.left_out += other.left_out

    def save(self, path: Pathlike) -> None:
        """Write an npz file from which `load` reads the same bits."""
        names = [[each.stage, each.space, each.metric] for each in self.scores]
        of_classes = [[row[name] for name in _CLASS_KEYS] for row in self.class_scores]
        arrays = {
            "scores": _numbers([[each.value, each.low, each.high] for each in self.scores]),
            "class_scores": _numbers([[row[name] for name in Estimate._fields] for row in self.class_scores]),
            **{f"correct_{space}": each for space, each in self.correct.items()},
            **{f"array_{name}": each for name, each in self.arrays.items()},
        }
        write_npz(path, arrays, {"scores": names, "class_scores": of_classes, "left_out": self.left_out})

    @classmethod
    def load(cls, path: Pathlike) -> StageMeasures:
        """Read what `save` wrote. Raises JaxtlError where the file is missing, damaged or another one."""
        arrays, meta = read_npz(path, ("scores", "class_scores"))
        try:
            names = zip(meta["scores"], arrays.pop("scores").tolist(), strict=True)
            classes = zip(meta["class_scores"], arrays.pop("class_scores").tolist(), strict=True)
            return cls(
                [Score(*key, *numbers) for key, numbers in names],
                [dict(zip((*_CLASS_KEYS, *Estimate._fields), (*k, *v), strict=True)) for k, v in classes],
                _stripped(arrays, "array_"),
                _stripped(arrays, "correct_"),
                list(meta["left_out"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise JaxtlError(
                f"{path}: not the numbers of a stage ({error!r}); delete it and make it again"
            ) from None


_CLASS_KEYS = ("stage", "space", "metric", "class")


def _numbers(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float64).reshape(-1, len(Estimate._fields))


def _stripped(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): each for name, each in arrays.items() if name.startswith(prefix)}


@dataclass
class Measures:
    """What `measure` finds.

    Attributes:
        scores: of the whole, long-form; each with its 95 % interval.
        class_scores: rows stage, space, metric, class, value, low, high.
        arrays: what a page shows point by point: knn_STAGE int32 [n] (the class that most of a point's 10
            nearest others in the features are of), neighbors_STAGE int32 [n, 10], head_after int32 [n] and
            head_probability float32 [n] (the tuned head's class, and how sure it is),
            confusion_STAGE_SPACE float32 [C, C], qnx_k int32 [K] and qnx_STAGE_METHOD float32 [K].
        verdicts: on the claims.
    """

    scores: list[Score] = field(default_factory=list)
    class_scores: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)


def measure(
    features: dict[str, Features],
    maps: dict[str, dict[str, Embedding]],
    neighbors: dict[str, Neighbors],
    training_features: dict[str, Features],
    head: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Measures:
    """Separability, faithfulness, change and transferability of a run, and what becomes of the claims.

    `measure_features` and `measure_maps` of each stage, `measure_change` and `combine`, at the same time.

    Args:
        features: "before" and "after", of the same images in the same order.
        maps: of each stage, by method.
        neighbors: of each stage's features, exact, at least 10 of each.
        training_features: of each stage, of training images, by which these images are classified.
        head: kernel [d, C] and bias [C] of the tuned network's softmax head.
        seed: of resampling, anchors and k-means.
        progress: called with the fraction done, 0 to 1.
        notify: called with one line for a number that these images do not allow.

    Raises:
        JaxtlError: features that are not finite, or fewer than two classes.
    """
    plans = {
        stage: (
            _plan_features(stage, each, neighbors[stage], training_features[stage], seed),
            _plan_maps(stage, each, maps[stage], seed),
        )
        for stage, each in features.items()
    }
    compared = _plan_comparison(features, head, seed)
    _run([*chain(*plans.values()), compared], progress, notify)
    stages = {stage: [plan.rows() for plan in each] for stage, each in plans.items()}
    return combine(stages, compared.rows(), next(iter(features.values())))


def measure_features(
    stage: str,
    features: Features,
    neighbors: Neighbors,
    training_features: Features,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> StageMeasures:
    """The numbers of one stage's features, which need no maps; arguments and errors as of `measure`."""
    plan = _plan_features(stage, features, neighbors, training_features, seed)
    _run([plan], progress, notify)
    return plan.rows()


def measure_maps(
    stage: str,
    features: Features,
    maps: dict[str, Embedding],
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> StageMeasures:
    """The numbers of one stage's maps; arguments and errors as of `measure`."""
    plan = _plan_maps(stage, features, maps, seed)
    _run([plan], progress, notify)
    return plan.rows()


def measure_change(
    features: dict[str, Features],
    head: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> StageMeasures:
    """The numbers that compare both stages' features; arguments and errors as of `measure`."""
    plan = _plan_comparison(features, head, seed)
    _run([plan], progress, notify)
    return plan.rows()


def combine(stages: dict[str, Sequence[StageMeasures]], change: StageMeasures, first: Features) -> Measures:
    """What `measure` finds, from the numbers of each stage's features and of its maps, and of the change.

    Args:
        first: the features of any stage, whose labels and names of classes are those of all.
    """
    found, correct = StageMeasures(), {}
    for stage, parts in stages.items():
        whole = StageMeasures()
        for part in parts:
            whole.take(part)
        # What fine-tuning will bring is said last.
        whole.scores.sort(key=lambda score: score.metric in _PROMISES)
        correct |= {(stage, space): each for space, each in whole.correct.items()}
        found.take(whole)
    found.take(change)
    scores = {(s.stage, s.space, s.metric): Estimate(s.value, s.low, s.high) for s in found.scores}
    verdicts = decide(Evidence(correct, first.labels, first.class_names, scores))
    return Measures(found.scores, found.class_scores, found.arrays, verdicts)


class _Plan:
    """Tasks of one stage, and their results by name: rows, or what other tasks need."""

    def __init__(self, stage: str) -> None:
        self.stage, self.tasks = stage, []
        self._found: dict[str, Any] = {}

    def add(self, kind: str, space: str, compute: Callable[..., Any], *needs: str) -> str:
        """A task that hands the results of those that it needs to `compute`. Returns its name."""
        name = f"{kind}, {space} {self.stage}"

        def work() -> None:
            self._found[name] = compute(*(self._found[need] for need in needs))

        self.tasks.append(cores.Task(name, work, needs))
        return name

    def attempt(self, metric: str, space: str, compute: Callable[..., Estimate], *needs: str) -> None:
        """A task of one number that some images do not allow, such as a probe with a class of one."""

        def rows(*found: Any) -> StageMeasures:
            try:
                return StageMeasures([_score(self.stage, space, metric, compute(*found))])
            except JaxtlError as error:
                return StageMeasures(left_out=[f"{metric}, {space} {self.stage}: left out ({error})"])

        self.add(metric, space, rows, *needs)

    def rows(self) -> StageMeasures:
        """All rows that the tasks found, in the order in which they were added."""
        whole = StageMeasures()
        for task in self.tasks:
            if isinstance(found := self._found[task.name], StageMeasures):
                whole.take(found)
        return whole


def _run(plans: list[_Plan], progress: Progress | None, notify: Notify | None) -> None:
    """Work off plans together, and tell what had to be left out."""
    tasks = sorted((task for plan in plans for task in plan.tasks), key=_rank)
    done = 0

    def tick(name: str) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done / len(tasks))

    cores.run(tasks, tick)
    for text in (text for plan in plans for text in plan.rows().left_out):
        if notify:
            notify(text)


def _rank(task: cores.Task) -> int:
    kind = task.name.rpartition(", ")[0]
    return _FIRST.index(kind) if kind in _FIRST else len(_FIRST)


def _plan_features(
    stage: str, features: Features, neighbors: Neighbors, training_features: Features, seed: int
) -> _Plan:
    plan, values = _Plan(stage), features.values
    near = plan.add("neighbors", "features", lambda: neighbors)
    _plan_space(plan, "features", values, features, near, seed)
    _plan_classifiers(plan, features, training_features, seed)
    spectrum = plan.add("spectrum", "features", lambda: metrics.spectrum(values))
    _plan_description(plan, values, near, spectrum, seed)
    if stage == "before":
        _plan_promise(plan, features, spectrum)
    return plan


def _plan_maps(stage: str, features: Features, maps: dict[str, Embedding], seed: int) -> _Plan:
    plan = _Plan(stage)
    anchored = plan.add("anchored", "features", lambda: metrics.anchored(features.values, seed=seed))
    for method, embedding in maps.items():
        _plan_map(plan, method, embedding.coords, features, anchored, seed)
    return plan


def _plan_space(plan: _Plan, space: str, values: np.ndarray, of: Features, near: str, seed: int) -> None:
    """How well a space keeps the classes apart."""
    stage, labels = plan.stage, of.labels
    plan.add("votes", space, lambda near: _votes(stage, space, values, of, near, seed), near)
    plan.add("silhouette", space, lambda: _silhouette(stage, space, values, of, seed))
    for metric, compute in (
        ("Davies-Bouldin", metrics.davies_bouldin),
        ("Calinski-Harabasz", metrics.calinski_harabasz),
    ):
        plan.add(
            metric,
            space,
            lambda metric=metric, compute=compute: StageMeasures(
                [_score(stage, space, metric, compute(values, labels))]
            ),
        )
    plan.add("k-means", space, lambda: _clusters(stage, space, values, labels, seed))


def _plan_classifiers(plan: _Plan, features: Features, training_features: Features, seed: int) -> None:
    """What classifiers that know the training images' classes make of these images."""
    given = (training_features.values, training_features.labels, features.values, features.labels)
    for metric, classifier in (
        (TRAIN_TO_TEST, partial(metrics.train_to_test_knn, n_neighbors=N_NEIGHBORS)),
        ("ridge probe accuracy", metrics.ridge_probe),
        ("logistic probe accuracy", metrics.logistic_probe),
    ):
        plan.attempt(metric, "features", lambda c=classifier: c(*given, seed=seed).accuracy)


def _plan_description(plan: _Plan, values: np.ndarray, near: str, spectrum: str, seed: int) -> None:
    """What the features are like."""
    stage, space = plan.stage, "features"

    def sizes(basis: metrics.Spectrum) -> StageMeasures:
        found = metrics.dimensions(values, basis)
        return StageMeasures(
            [
                _score(stage, space, "effective rank", found.effective_rank),
                _score(stage, space, "participation ratio", found.participation_ratio),
            ]
        )

    def zeros() -> StageMeasures:
        found = metrics.sparsity(values, seed=seed)
        return StageMeasures(
            [
                _score(stage, space, "share of zeros", found.zeros),
                _score(stage, space, "Hoyer sparsity", found.hoyer),
            ]
        )

    plan.add("dimensions", space, sizes, spectrum)
    plan.attempt("intrinsic dimension", space, lambda near: metrics.two_nn(_nearest(near), seed=seed), near)
    plan.add("sparsity", space, zeros)


def _plan_map(plan: _Plan, method: str, coords: np.ndarray, of: Features, anchored: str, seed: int) -> None:
    """How well a map keeps the classes apart, and how true it is to the features."""
    count = min(KNN_CANDIDATES, len(coords) - 1)
    near = plan.add("neighbors", method, lambda: exact_neighbors(coords, count))
    _plan_space(plan, method, coords, of, near, seed)
    # A map holds no training images, so its probes are tried on folds of the test images.
    for metric, probe in (
        ("ridge probe accuracy, 5 folds", metrics.ridge_probe_cross_validated),
        ("logistic probe accuracy, 5 folds", metrics.logistic_probe_cross_validated),
    ):
        plan.attempt(metric, method, lambda probe=probe: probe(coords, of.labels, seed=seed).accuracy)
    plan.add(
        "faithfulness", method, lambda outside: _truth(plan.stage, method, outside, coords, seed), anchored
    )


def _plan_promise(plan: _Plan, before: Features, spectrum: str) -> None:
    """What is said of fine-tuning before it."""
    values, labels = before.values, before.labels
    log_me, h_score = _PROMISES
    plan.attempt(log_me, "features", lambda: metrics.log_me(values, labels))
    plan.attempt(h_score, "features", lambda basis: metrics.h_score(values, labels, basis).shrunk, spectrum)


def _plan_comparison(
    features: dict[str, Features], head: tuple[np.ndarray, np.ndarray] | None, seed: int
) -> _Plan:
    """What fine-tuning did to the features as a whole."""
    plan = _Plan("both")
    if "after" not in features:
        return plan
    before, after = features["before"].values, features["after"].values
    plan.attempt("linear CKA", "features", lambda: metrics.linear_cka(before, after).debiased)
    plan.attempt("Procrustes disparity", "features", lambda: metrics.procrustes(before, after, seed=seed))
    if head is not None:
        plan.add("head", "features", lambda: _head(after, *head))
    return plan


def _votes(
    stage: str, space: str, values: np.ndarray, of: Features, found: Neighbors, seed: int
) -> StageMeasures:
    """What neighbours say of classes."""
    labels, near = of.labels, _nearest(found)
    folds = metrics.knn_cross_validated(values, labels, found, N_NEIGHBORS, seed=seed)
    voted = metrics.leave_one_out_knn(near, labels, seed=seed)
    hit = metrics.neighborhood_hit(near, labels, seed=seed)
    confusion = metrics.neighbor_confusion(near, labels, len(of.class_names), resamples=1)
    rows = StageMeasures(
        [
            _score(stage, space, KNN_METRIC, folds.accuracy),
            _score(stage, space, LEAVE_ONE_OUT, voted.accuracy),
            _score(stage, space, "neighbourhood hit", hit.mean),
        ],
        [
            *_class_scores(stage, space, LEAVE_ONE_OUT, voted, of),
            *_class_scores(stage, space, "neighbourhood hit", hit, of),
        ],
        {f"confusion_{stage}_{space}": confusion.value.astype(np.float32)},
        {space: voted.correct},
    )
    if space == "features":
        rows.arrays[f"knn_{stage}"] = voted.predicted.astype(np.int32)
        rows.arrays[f"neighbors_{stage}"] = near.indices
    return rows


def _silhouette(stage: str, space: str, values: np.ndarray, of: Features, seed: int) -> StageMeasures:
    found = metrics.silhouette(values, of.labels, seed=seed)
    return StageMeasures(
        [_score(stage, space, "silhouette", found.mean)], _class_scores(stage, space, "silhouette", found, of)
    )


def _clusters(stage: str, space: str, values: np.ndarray, labels: np.ndarray, seed: int) -> StageMeasures:
    found = metrics.kmeans_agreement(values, labels, seed=seed)
    return StageMeasures(
        [_score(stage, space, "k-means NMI", found.nmi), _score(stage, space, "k-means ARI", found.ari)]
    )


def _truth(
    stage: str, method: str, outside: metrics.Anchored, coords: np.ndarray, seed: int
) -> StageMeasures:
    k = min(N_NEIGHBORS, (len(coords) - 1) // 2)
    true = metrics.faithfulness(outside, coords, k, seed=seed)
    return StageMeasures(
        [
            _score(stage, method, "trustworthiness", true.trustworthiness),
            _score(stage, method, "continuity", true.continuity),
            _score(stage, method, "Shepard correlation", true.shepard),
            _score(stage, method, "Q_NX AUC", true.co_ranking.auc),
        ],
        arrays={
            "qnx_k": true.co_ranking.sizes.astype(np.int32),
            f"qnx_{stage}_{method}": np.asarray(true.co_ranking.q.value, np.float32),
        },
    )


def _head(values: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> StageMeasures:
    logits = values.astype(np.float64) @ kernel + bias
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return StageMeasures(
        arrays={
            "head_after": shares.argmax(axis=1).astype(np.int32),
            "head_probability": shares.max(axis=1).astype(np.float32),
        }
    )


def _nearest(found: Neighbors) -> Neighbors:
    return Neighbors(found.indices[:, :N_NEIGHBORS], found.distances[:, :N_NEIGHBORS])


def _score(stage: str, space: str, metric: str, found: Estimate) -> Score:
    return Score(stage, space, metric, *map(float, found))


def _class_scores(
    stage: str, space: str, metric: str, found: metrics.Classified | metrics.Silhouette, of: Features
) -> list[dict[str, Any]]:
    row = {"stage": stage, "space": space, "metric": metric}
    return [
        row | {"class": of.class_names[label]} | each._asdict()
        for label, each in zip(found.classes, found.per_class, strict=True)
    ]
