"""All numbers of a before/after experiment, each space looked at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from jaxtl import metrics
from jaxtl.claims import Evidence, Verdict, decide
from jaxtl.errors import JaxtlError
from jaxtl.metrics.estimates import Estimate
from jaxtl.metrics.separability import KNN_CANDIDATES
from jaxtl.neighbors import exact_neighbors
from jaxtl.records import Embedding, Features, Neighbors, Score
from jaxtl.runtime import cpu_count

N_NEIGHBORS = 10
KNN_METRIC = "10-NN accuracy"
LEAVE_ONE_OUT = "10-NN accuracy, leave one out"
TRAIN_TO_TEST = "10-NN accuracy, training to test"
# Each class's share, of the numbers that have one.
PER_CLASS = (LEAVE_ONE_OUT, "neighbourhood hit", "silhouette")


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

    def take(self, others: Measures) -> None:
        """Add what others hold."""
        self.scores += others.scores
        self.class_scores += others.class_scores
        self.arrays |= others.arrays


def measure(
    features: dict[str, Features],
    maps: dict[str, dict[str, Embedding]],
    neighbors: dict[str, Neighbors],
    references: dict[str, Features],
    head: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> Measures:
    """Separability, faithfulness, change and transferability of a run, and what becomes of the claims.

    Args:
        features: "before" and "after", of the same images in the same order.
        maps: of each stage, by method.
        neighbors: of each stage's features, exact, at least 10 of each.
        references: of each stage, features of training images, by which these images are classified.
        head: kernel [d, C] and bias [C] of the tuned network's softmax head.
        seed: of resampling, anchors and k-means.
        progress: called with the fraction done, 0 to 1.
        notice: called with one line for a number that these images do not allow.

    Raises:
        JaxtlError: features that are not finite, or fewer than two classes.
    """
    first = features["before"]
    works = {stage: _Work(first.labels, first.class_names, seed, notice) for stage in (*features, "both")}
    lanes = [
        list(_looking_at(works[stage], stage, each, maps[stage], neighbors[stage], references[stage]))
        for stage, each in features.items()
    ]
    compared = list(_comparing(works, features, head))
    count, done = sum(map(len, lanes)) + len(compared), 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done / count)

    # Each stage in a thread: most steps are one core's work.
    _in_lanes(lanes, tick)
    _in_lanes([[step] for step in compared], tick)
    found = Measures()
    for work in works.values():
        found.take(work.found)
    correct = {key: each for work in works.values() for key, each in work.correct.items()}
    scores = {(s.stage, s.space, s.metric): Estimate(s.value, s.low, s.high) for s in found.scores}
    found.verdicts = decide(Evidence(correct, first.labels, first.class_names, scores))
    return found


def _looking_at(
    work: _Work,
    stage: str,
    features: Features,
    maps: dict[str, Embedding],
    near: Neighbors,
    references: Features,
) -> Iterator[Callable[[], None]]:
    """What is to be done of one stage."""
    values = features.values
    yield lambda: work.space(stage, "features", values, near)
    yield lambda: work.classify(stage, values, references)
    yield lambda: work.representation(stage, values)
    yield lambda: work.anchor(values)
    for method, embedding in maps.items():
        yield lambda method=method, coords=embedding.coords: work.map(stage, method, coords)


def _comparing(
    works: dict[str, _Work], features: dict[str, Features], head: tuple[np.ndarray, np.ndarray] | None
) -> Iterator[Callable[[], None]]:
    """What is to be done when all stages have been looked at."""
    before = features["before"].values
    yield lambda: works["before"].transferability(before)
    if "after" in features:
        yield lambda: works["both"].change(before, features["after"].values)
        if head is not None:
            yield lambda: works["both"].head(features["after"].values, *head)


def _in_lanes(lanes: list[list[Callable[[], None]]], tick: Callable[[], None]) -> None:
    """Steps of a lane one after another, lanes at the same time."""

    def work(steps: list[Callable[[], None]]) -> None:
        for step in steps:
            if stopped.is_set():
                return
            step()
            tick()

    stopped = threading.Event()
    workers = min(cpu_count(), len(lanes))
    with threadpool_limits(max(1, cpu_count() // workers)), ThreadPoolExecutor(workers) as pool:
        try:
            for each in [pool.submit(work, steps) for steps in lanes]:
                each.result()
        except BaseException:
            stopped.set()
            raise


class _Work:
    """The numbers so far, and what several of them share."""

    def __init__(
        self,
        labels: np.ndarray,
        class_names: tuple[str, ...],
        seed: int,
        notice: Callable[[str], None] | None,
    ) -> None:
        self.found, self.labels, self.class_names, self.seed = Measures(), labels, class_names, seed
        self.correct: dict[tuple[str, str], np.ndarray] = {}
        self._notice = notice or (lambda text: None)
        self._anchored: Any = None
        self._basis: Any = None
        self._near: Any = None

    def space(self, stage: str, space: str, values: np.ndarray, found: Neighbors) -> None:
        """How well a space keeps the classes apart."""
        labels, seed = self.labels, self.seed
        folds = metrics.knn_cross_validated(values, labels, found, N_NEIGHBORS, seed=seed)
        self._add(stage, space, KNN_METRIC, folds.accuracy)
        near = Neighbors(found.indices[:, :N_NEIGHBORS], found.distances[:, :N_NEIGHBORS])
        voted = metrics.leave_one_out_knn(near, labels, seed=seed)
        self.correct[stage, space] = voted.correct
        hit = metrics.neighborhood_hit(near, labels, seed=seed)
        silhouette = metrics.silhouette(values, labels, seed=seed)
        for metric, whole, per_class in (
            (LEAVE_ONE_OUT, voted.accuracy, voted.per_class),
            ("neighbourhood hit", hit.mean, hit.per_class),
            ("silhouette", silhouette.mean, silhouette.per_class),
        ):
            self._add(stage, space, metric, whole)
            self._add_classes(stage, space, metric, per_class, voted.classes)
        self._add(stage, space, "Davies-Bouldin", metrics.davies_bouldin(values, labels))
        self._add(stage, space, "Calinski-Harabasz", metrics.calinski_harabasz(values, labels))
        clusters = metrics.kmeans_agreement(values, labels, seed=seed)
        self._add(stage, space, "k-means NMI", clusters.nmi)
        self._add(stage, space, "k-means ARI", clusters.ari)
        confusion = metrics.neighbor_confusion(near, labels, len(self.class_names), resamples=1)
        self.found.arrays[f"confusion_{stage}_{space}"] = confusion.value.astype(np.float32)
        if space == "features":
            self._keep_points(stage, near, voted.predicted)

    def classify(self, stage: str, values: np.ndarray, references: Features) -> None:
        """What classifiers that know the training images' classes make of these images."""
        given = (references.values, references.labels, values, self.labels)
        for metric, classifier in (
            (TRAIN_TO_TEST, partial(metrics.train_to_test_knn, n_neighbors=N_NEIGHBORS)),
            ("ridge probe accuracy", metrics.ridge_probe),
            ("logistic probe accuracy", metrics.logistic_probe),
        ):
            self._try(stage, "features", metric, lambda c=classifier: c(*given, seed=self.seed).accuracy)

    def representation(self, stage: str, values: np.ndarray) -> None:
        """What the features are like."""
        seed = self.seed
        self._basis = basis = metrics.spectrum(values)
        sizes = metrics.dimensions(values, basis)
        self._add(stage, "features", "effective rank", sizes.effective_rank)
        self._add(stage, "features", "participation ratio", sizes.participation_ratio)
        self._try(stage, "features", "intrinsic dimension", lambda: metrics.two_nn(self._near, seed=seed))
        sparsity = metrics.sparsity(values, seed=seed)
        self._add(stage, "features", "share of zeros", sparsity.zeros)
        self._add(stage, "features", "Hoyer sparsity", sparsity.hoyer)

    def anchor(self, values: np.ndarray) -> None:
        self._anchored = metrics.anchored(values, seed=self.seed)

    def map(self, stage: str, method: str, coords: np.ndarray) -> None:
        """How well a map keeps the classes apart, and how true it is to the features."""
        self.space(stage, method, coords, exact_neighbors(coords, min(KNN_CANDIDATES, len(coords) - 1)))
        # A map holds no training images, so its probes are tried on folds of the test images.
        for metric, probe in (
            ("ridge probe accuracy, 5 folds", metrics.ridge_probe_cross_validated),
            ("logistic probe accuracy, 5 folds", metrics.logistic_probe_cross_validated),
        ):
            self._try(
                stage,
                method,
                metric,
                lambda probe=probe: probe(coords, self.labels, seed=self.seed).accuracy,
            )
        k = min(N_NEIGHBORS, (len(coords) - 1) // 2)
        true = metrics.faithfulness(self._anchored, coords, k, seed=self.seed)
        self._add(stage, method, "trustworthiness", true.trustworthiness)
        self._add(stage, method, "continuity", true.continuity)
        self._add(stage, method, "Shepard correlation", true.shepard)
        self._add(stage, method, "Q_NX AUC", true.co_ranking.auc)
        self.found.arrays["qnx_k"] = true.co_ranking.sizes.astype(np.int32)
        self.found.arrays[f"qnx_{stage}_{method}"] = np.asarray(true.co_ranking.q.value, np.float32)

    def transferability(self, before: np.ndarray) -> None:
        """What is said of fine-tuning before it."""
        basis = self._basis
        self._try("before", "features", "LogME", lambda: metrics.log_me(before, self.labels))
        self._try(
            "before",
            "features",
            "H-score, shrunk",
            lambda: metrics.h_score(before, self.labels, basis).shrunk,
        )

    def change(self, before: np.ndarray, after: np.ndarray) -> None:
        """What fine-tuning did to the features as a whole."""
        self._try("both", "features", "linear CKA", lambda: metrics.linear_cka(before, after).debiased)
        seed = self.seed
        self._try(
            "both", "features", "Procrustes disparity", lambda: metrics.procrustes(before, after, seed=seed)
        )

    def head(self, values: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> None:
        logits = values.astype(np.float64) @ kernel + bias
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        self.found.arrays["head_after"] = shares.argmax(axis=1).astype(np.int32)
        self.found.arrays["head_probability"] = shares.max(axis=1).astype(np.float32)

    def _keep_points(self, stage: str, near: Neighbors, predicted: np.ndarray) -> None:
        self._near = near
        self.found.arrays[f"knn_{stage}"] = predicted.astype(np.int32)
        self.found.arrays[f"neighbors_{stage}"] = near.indices

    def _add(self, stage: str, space: str, metric: str, found: Estimate) -> None:
        self.found.scores.append(Score(stage, space, metric, *map(float, found)))

    def _try(self, stage: str, space: str, metric: str, compute: Callable[[], Estimate]) -> None:
        # One number that some images do not allow, such as a probe with a class of one, costs no other.
        try:
            self._add(stage, space, metric, compute())
        except JaxtlError as error:
            self._notice(f"{metric}, {space} {stage}: left out ({error})")

    def _add_classes(
        self, stage: str, space: str, metric: str, found: tuple[Estimate, ...], classes: np.ndarray
    ) -> None:
        for label, each in zip(classes, found, strict=True):
            row = {"stage": stage, "space": space, "metric": metric, "class": self.class_names[label]}
            self.found.class_scores.append(row | each._asdict())
