"""Claims of any set of classes: thresholds follow from chance, and no word is said of what is not there."""

import numpy as np
import pytest

from jaxtl.evaluation import catalogue, chance
from jaxtl.evaluation.claims import are_digits, decide
from jaxtl.evaluation.evidence import Evidence
from jaxtl.evaluation.scoring import combine, measure_change, measure_embeddings, measure_features
from jaxtl.metrics.estimates import Estimate, mean_estimate
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Embedding, Features

SPACES = [(stage, method) for stage in ("before", "after") for method in ("tsne", "pca", "lle")]
DIGITS = tuple("0123456789")


def balanced(classes, n=2000):
    return np.arange(n) % classes


def evidence(labels, share, names=None, matched=0.5, **more):
    """Embeddings in which such a share of points is right."""
    rng = np.random.default_rng(0)
    correct = {space: rng.random(len(labels)) < share for space in SPACES}
    scores = {(*space, catalogue.LEAVE_ONE_OUT): mean_estimate(right) for space, right in correct.items()}
    scores["before", "tsne", catalogue.SILHOUETTE] = Estimate(0.0, -0.01, 0.01)
    scores["before", "tsne", catalogue.TRUSTWORTHINESS] = Estimate(0.95, 0.94, 0.96)
    scores["after", "tsne", catalogue.CLUSTERS_MATCHED] = Estimate(matched, matched - 0.01, matched + 0.01)
    names = names or tuple(f"class {k}" for k in range(labels.max() + 1))
    return Evidence(correct, labels, names, scores, **more)


def verdict(given, claim):
    return next(decided for decided in decide(given) if decided.id == claim)


@pytest.mark.parametrize(
    ("classes", "share", "expected"),
    [
        (2, 0.5, "holds"),  # pure noise
        (2, 0.8, "holds"),
        (2, 0.95, "does not hold"),
        (10, 0.4, "holds"),
        (10, 0.6, "does not hold"),
        (100, 0.4, "does not hold"),
        (100, 0.02, "holds"),
        (1000, 0.1, "does not hold"),
    ],
)
def test_what_is_poor_depends_on_chance(classes, share, expected):
    assert verdict(evidence(balanced(classes), share), "pca-before-poor").verdict == expected


@pytest.mark.parametrize("largest", [0.5, 0.8, 0.95, 0.99])
def test_naming_the_largest_class_always_is_poor_however_large_it_is(largest):
    labels = (np.arange(2000) >= 2000 * largest).astype(int)
    given = evidence(labels, 0.0)
    right = labels == 0
    given.correct["before", "pca"][:] = right
    given.scores["before", "pca", catalogue.LEAVE_ONE_OUT] = mean_estimate(right)
    assert verdict(given, "pca-before-poor").verdict == "holds"


def test_ten_equal_classes_ask_for_one_half_as_the_founding_experiment_did():
    assert chance.separates(balanced(10)) == pytest.approx(0.5)
    assert chance.accuracy(balanced(10)) == pytest.approx(0.1)


def test_the_threshold_stands_in_the_verdict_with_its_reason():
    told = verdict(evidence(balanced(2), 0.5), "lle-before-poor")
    assert told.threshold == 0.9
    assert "below 0.9." in told.words
    assert "Guessing is right in 50 % of cases. We call less than 90 % poor" in told.words


@pytest.mark.parametrize("sizes", [(50, 50), (90, 10), (70, 20, 10), (10,) * 10])
def test_what_pairs_by_chance_is_what_unrelated_clusters_of_these_sizes_do(sizes):
    labels, rng = np.repeat(np.arange(len(sizes)), np.array(sizes) * 50), np.random.default_rng(1)
    shuffled = rng.permutation(labels)
    pairs = [
        2 * np.sum((labels == c) & (shuffled == d)) > np.sum((labels == c) | (shuffled == d))
        for c in range(len(sizes))
        for d in range(len(sizes))
    ]
    assert chance.one_cluster_each_by_chance(labels) == sum(pairs) / len(sizes)


def test_a_class_that_is_nearly_all_raises_what_is_asked_of_clusters():
    labels = (np.arange(2000) >= 1800).astype(int)
    told = verdict(evidence(labels, 0.1, matched=0.7), "tsne-after-clusters")
    assert (told.verdict, told.threshold) == ("does not hold", 0.9)
    assert "what chance gives, 0.500" in told.threshold_from
    assert verdict(evidence(balanced(10), 0.1, matched=0.85), "tsne-after-clusters").verdict == "holds"


def test_digits_are_spoken_of_only_where_classes_are_digits():
    words = [claim.text + claim.statistic for claim in decide(evidence(balanced(10), 0.5))]
    assert not any("digit" in text or "‘1’" in text for text in words)
    numbers = decide(evidence(balanced(10), 0.5, DIGITS, digits=False))
    assert "pca-before-one" not in {pair.id for pair in numbers}
    assert verdict(evidence(balanced(10), 0.5, DIGITS), "pca-before-one")


@pytest.mark.parametrize(
    ("names", "dataset", "expected"),
    [
        (DIGITS, "mnist", True),
        (list(DIGITS), "infinite:5000", True),
        (DIGITS, "idx:fashion", False),
        (None, None, False),
        (tuple("123"), "folder:x", False),
    ],
)
def test_what_counts_as_digits(names, dataset, expected):
    assert are_digits(names, dataset) is expected


def test_digits_without_a_one_have_no_claim_about_it():
    labels = balanced(10)
    labels[labels == 1] = 2
    assert "pca-before-one" not in {claim.id for claim in decide(evidence(labels, 0.5, DIGITS))}


def test_nothing_is_said_of_fine_tuning_where_it_is_not_known():
    texts = [claim.text for claim in decide(evidence(balanced(3), 0.5, tuned=False))]
    assert "After, PCA separates the classes better" in texts
    assert not any("tuning" in text for text in texts)
    assert "After fine-tuning, PCA separates the classes better" in [
        e.text for e in decide(evidence(balanced(3), 0.5))
    ]


# Sets that have little to tell apart.


def scored(labels, training=None):
    """All that is measured of random features, and the claims."""
    rng, n = np.random.default_rng(0), 60
    index = np.arange(n, dtype=np.int32)
    labels = None if labels is None else np.asarray(labels, np.int32)
    features = {s: Features(rng.normal(size=(n, 8)).astype("f4"), labels, index) for s in ("before", "after")}
    stages = {}
    for stage, own in features.items():
        maps = {
            m: Embedding(own.values[:, k : k + 2], labels, index, m, "x", {})
            for m, k in (("pca", 0), ("tsne", 2))
        }
        near = exact_neighbors(own.values, 30)
        stages[stage] = (measure_features(stage, own, near, training), measure_embeddings(stage, own, maps))
    whole = combine(stages, measure_change(features), features["before"])
    return whole, [line for parts in stages.values() for part in parts for line in part.left_out]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (None, "what needs labels is left out"),
        (np.zeros(60), "all 60 images are of one class"),
        (np.arange(60), "each of the 60 images is a class of its own"),
    ],
)
def test_without_classes_to_tell_apart_the_rest_is_measured_and_it_is_said_once(labels, told):
    whole, left_out = scored(labels)
    assert len(left_out) == 2  # of each stage
    assert all(told in line for line in left_out)
    metrics = {score.metric for score in whole.scores}
    assert {"effective rank", "intrinsic dimension", "trustworthiness", "linear CKA"} <= metrics
    assert not metrics & {*catalogue.PER_CLASS, *catalogue.KNN_ACCURACIES, catalogue.NMI, catalogue.LOG_ME}
    assert not whole.class_scores
    assert [claim.id for claim in whole.verdicts] == ["tsne-before-local"]
    assert whole.arrays["neighbors_after"].shape == (60, 10)


def test_a_class_of_one_image_is_scored_and_what_cannot_be_is_left_out():
    whole, left_out = scored([0] * 30 + [1] * 29 + [2])
    of_one = [
        row for row in whole.class_scores if row["class"] == "2" and row["metric"] == catalogue.LEAVE_ONE_OUT
    ]
    assert [row["value"] for row in of_one] == [0.0] * 6
    assert all("left out" in line for line in left_out)
    assert {claim.id for claim in whole.verdicts} >= {"pca-before-poor", "pca-improves"}


def test_many_classes_of_few_images_have_the_headline_numbers():
    """Fewer of each than folds: what is in folds is left out, the votes of all others are not."""
    whole, left_out = scored(np.repeat(np.arange(20), 3))
    measured = {score.metric for score in whole.scores}
    assert {catalogue.LEAVE_ONE_OUT, catalogue.NEIGHBORHOOD_HIT, catalogue.SILHOUETTE} <= measured
    assert not measured & {catalogue.FIVE_FOLDS, catalogue.RIDGE_PROBE_FOLDS}
    assert {claim.id for claim in whole.verdicts} >= {"pca-before-poor", "pca-improves"}
    told = [line for line in left_out if "what needs 5 images of a class" in line]
    assert len(told) == 2  # of each stage
    assert not any("take fewer folds" in line for line in left_out)


def test_training_images_of_one_class_leave_their_classifiers_out():
    rng = np.random.default_rng(0)
    training = Features(
        rng.normal(size=(40, 8)).astype("f4"), np.zeros(40, np.int32), np.arange(40, dtype=np.int32)
    )
    whole, left_out = scored(np.arange(60) % 2, training)
    assert any(line.startswith("logistic probe accuracy") for line in left_out)
    assert catalogue.LEAVE_ONE_OUT in {score.metric for score in whole.scores}
