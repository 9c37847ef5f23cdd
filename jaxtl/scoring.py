"""All numbers of a before/after experiment, each space looked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxtl import metrics
from jaxtl.claims import Evidence, Verdict, decide
from jaxtl.errors import JaxtlError
from jaxtl.metrics.estimates import Estimate
from jaxtl.neighbors import exact_neighbors
from jaxtl.records import Embedding, Features, Neighbors, Score

N_NEIGHBORS = 10
KNN_METRIC = "10-NN accuracy"
LEAVE_ONE_OUT = "10-NN accuracy, leave one out"
# Each class's share, of the numbers that have one.
PER_CLASS = (LEAVE_ONE_OUT, "neighbourhood hit", "silhouette")


@dataclass
class Measures:
    """What `measure` finds.

    Attributes:
        scores: of the whole, long-form; each with its 95 % interval but for the cross-validated accuracy.
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
        head: kernel [d, C] and bias [C] of the tuned network's softmax head.
        seed: of resampling, anchors and k-means.
        progress: called with the fraction done, 0 to 1.
        notice: called with one line for a number that these images do not allow.

    Raises:
        JaxtlError: features that are not finite, or fewer than two classes.
    """
    work = _Work(Measures(), features["before"].labels, features["before"].class_names, seed, notice)
    steps = list(_steps(work, features, maps, head))
    for number, step in enumerate(steps):
        step()
        if progress:
            progress((number + 1) / len(steps))
    return work.found


def _steps(
    work: _Work,
    features: dict[str, Features],
    maps: dict[str, dict[str, Embedding]],
    head: tuple[np.ndarray, np.ndarray] | None,
) -> Iterator[Callable[[], None]]:
    for stage, each in features.items():
        yield lambda stage=stage, each=each: work.space(stage, "features", each.values)
        yield lambda stage=stage, each=each: work.representation(stage, each.values)
        yield lambda stage=stage, each=each: work.anchor(each.values)
        for method, embedding in maps[stage].items():
            yield lambda stage=stage, method=method, e=embedding: work.map(stage, method, e.coords)
    yield lambda: work.transferability(features["before"].values)
    if "after" in features:
        yield lambda: work.change(features["before"].values, features["after"].values)
        if head is not None:
            yield lambda: work.head(features["after"].values, *head)
    yield work.claims


class _Work:
    """The numbers so far, and what several of them share."""

    def __init__(
        self,
        found: Measures,
        labels: np.ndarray,
        class_names: tuple[str, ...],
        seed: int,
        notice: Callable[[str], None] | None,
    ) -> None:
        self.found, self.labels, self.class_names, self.seed = found, labels, class_names, seed
        self._notice = notice or (lambda text: None)
        self._anchored: Any = None
        self._basis: dict[str, Any] = {}
        self._near: dict[str, Neighbors] = {}
        self._correct: dict[tuple[str, str], np.ndarray] = {}

    def space(self, stage: str, space: str, values: np.ndarray) -> None:
        """How well a space keeps the classes apart."""
        labels, seed = self.labels, self.seed
        near = exact_neighbors(values, min(N_NEIGHBORS, len(values) - 1))
        accuracy, _ = metrics.knn_accuracy(values, labels)
        self.found.scores.append(Score(stage, space, KNN_METRIC, accuracy))
        voted = metrics.leave_one_out_knn(near, labels, seed=seed)
        self._correct[stage, space] = voted.correct
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

    def representation(self, stage: str, values: np.ndarray) -> None:
        """What the features are like, and what a linear classifier makes of them."""
        labels, seed = self.labels, self.seed
        for metric, probe in (
            ("ridge probe accuracy", metrics.ridge_probe_cross_validated),
            ("logistic probe accuracy", metrics.logistic_probe_cross_validated),
        ):
            self._try(stage, "features", metric, lambda p=probe: p(values, labels, seed=seed).accuracy)
        self._basis[stage] = basis = metrics.spectrum(values)
        sizes = metrics.dimensions(values, basis)
        self._add(stage, "features", "effective rank", sizes.effective_rank)
        self._add(stage, "features", "participation ratio", sizes.participation_ratio)
        self._try(
            stage, "features", "intrinsic dimension", lambda: metrics.two_nn(self._near[stage], seed=seed)
        )
        sparsity = metrics.sparsity(values, seed=seed)
        self._add(stage, "features", "share of zeros", sparsity.zeros)
        self._add(stage, "features", "Hoyer sparsity", sparsity.hoyer)

    def anchor(self, values: np.ndarray) -> None:
        self._anchored = metrics.anchored(values, seed=self.seed)

    def map(self, stage: str, method: str, coords: np.ndarray) -> None:
        """How well a map keeps the classes apart, and how true it is to the features."""
        self.space(stage, method, coords)
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
        basis = self._basis["before"]
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

    def claims(self) -> None:
        scores = {
            (each.stage, each.space, each.metric): Estimate(each.value, each.low, each.high)
            for each in self.found.scores
        }
        self.found.verdicts = decide(Evidence(self._correct, self.labels, self.class_names, scores))

    def _keep_points(self, stage: str, near: Neighbors, predicted: np.ndarray) -> None:
        self._near[stage] = near
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
