"""Claims are decided by their intervals, and nothing is worded as found that was not found."""

import numpy as np
import pytest

from jaxtl.evaluation import catalogue
from jaxtl.evaluation.claims import decide
from jaxtl.evaluation.evidence import Evidence
from jaxtl.metrics.estimates import Estimate, mean_estimate

DIGITS = tuple("0123456789")


def evidence(n=2000, names=DIGITS, scores=None, **accuracies):
    """Maps in which about so many points are right, independently of each other."""
    rng = np.random.default_rng(0)
    given = {f"{stage}_{space}": 0.5 for stage in ("before", "after") for space in ("pca", "tsne", "lle")}
    correct = {tuple(name.split("_")): rng.random(n) < share for name, share in (given | accuracies).items()}
    sure = {
        ("before", "tsne", catalogue.TRUSTWORTHINESS): Estimate(0.97, 0.96, 0.98),
        ("before", "tsne", catalogue.SILHOUETTE): Estimate(0.02, 0.01, 0.03),
        ("before", "tsne", catalogue.FEATURES_KEPT): Estimate(0.42, 0.41, 0.43),
        ("after", "tsne", catalogue.CLUSTERS): Estimate(11, 9.5, 12.5),
        ("after", "tsne", catalogue.CLUSTERS_MATCHED): Estimate(20 / 21, 0.9, 1.0),
    }
    own = {(*space, catalogue.LEAVE_ONE_OUT): mean_estimate(right) for space, right in correct.items()}
    return Evidence(correct, np.arange(n) % len(names), names, own | sure | (scores or {}))


def verdicts(given):
    return {claim.id: claim for claim in decide(given)}


FOUNDING = {
    "before_pca": 0.40,
    "before_tsne": 0.73,
    "before_lle": 0.42,
    "after_pca": 0.54,
    "after_tsne": 0.96,
    "after_lle": 0.52,
}


def test_what_the_founding_experiment_saw_holds():
    verdict_of = verdicts(evidence(**FOUNDING))
    holds = {name for name, item in verdict_of.items() if item.verdict == "holds"}
    assert holds >= {
        "pca-before-poor",
        "lle-before-poor",
        "tsne-before-local",
        "tsne-before-global",
        "pca-improves",
        "lle-improves",
        "tsne-improves-most",
        "tsne-after-clusters",
        "tsne-best-before",
        "tsne-best-after",
    }


@pytest.mark.parametrize(
    ("changed", "claim", "verdict"),
    [
        ({"before_pca": 0.8}, "pca-before-poor", "does not hold"),
        ({"before_pca": 0.5}, "pca-before-poor", "undecided"),
        ({"after_pca": 0.40}, "pca-improves", "undecided"),
        ({"after_pca": 0.2}, "pca-improves", "does not hold"),
        ({"after_lle": 0.9}, "tsne-improves-most", "does not hold"),
        ({"after_lle": 0.99}, "tsne-best-after", "does not hold"),
        ({"after_lle": 0.7}, "tsne-improves-most", "does not hold"),
        ({"after_lle": 0.5, "after_pca": 0.4}, "tsne-improves-most", "holds"),
    ],
)
def test_other_numbers_are_judged_otherwise(changed, claim, verdict):
    decided = verdicts(evidence(**(FOUNDING | changed)))[claim]
    assert decided.verdict == verdict
    lead = {"holds": "Supported", "does not hold": "Not supported", "undecided": "Undecided"}[verdict]
    assert decided.words.startswith(lead)
    assert f"{decided.value:.3f}" in decided.words


def test_what_a_lead_is_made_of_is_told():
    given = evidence(**(FOUNDING | {"after_lle": 0.9}))
    gains = {
        m: given.correct["after", m].mean() - given.correct["before", m].mean()
        for m in ("tsne", "pca", "lle")
    }
    told = f"Gains: t-SNE {gains['tsne']:.3f}, PCA {gains['pca']:.3f}, LLE {gains['lle']:.3f}."
    assert told in verdicts(given)["tsne-improves-most"].beside
    assert told in verdicts(given)["tsne-improves-most"].words


def test_a_difference_is_judged_on_the_same_points():
    # Two maps that are right on the same points differ in none of them, however few points there are.
    given = evidence(n=50, **FOUNDING)
    given.correct["after", "pca"] = given.correct["before", "pca"].copy()
    verdict = verdicts(given)["pca-improves"]
    assert (verdict.value, verdict.low, verdict.high, verdict.verdict) == (0, 0, 0, "does not hold")


def test_the_interval_is_that_of_a_binomial_share():
    verdict = verdicts(evidence(n=2000, **FOUNDING))["pca-before-poor"]
    half = 1.96 * np.sqrt(verdict.value * (1 - verdict.value) / 2000)
    assert verdict.high - verdict.low == pytest.approx(2 * half, rel=0.1)


@pytest.mark.parametrize(("share", "verdict"), [(0.95, "holds"), (0.44, "undecided"), (0.1, "does not hold")])
def test_ones_are_compared_with_the_next_best_digit(share, verdict):
    given = evidence(n=4000, **FOUNDING)
    ones = given.labels == 1
    given.correct["before", "pca"][ones] = np.random.default_rng(1).random(ones.sum()) < share
    assert verdicts(given)["pca-before-one"].verdict == verdict


def test_claims_about_what_a_run_does_not_have_are_left_out():
    letters = verdicts(evidence(names=("a", "b", "c")))
    assert "pca-before-one" not in letters
    given = evidence()
    correct = {space: right for space, right in given.correct.items() if space[1] == "pca"}
    scores = {of: score for of, score in given.scores.items() if of[1] == "pca"}
    without = Evidence(correct, given.labels, DIGITS, scores)
    assert set(verdicts(without)) == {"pca-before-poor", "pca-before-one", "pca-improves"}


def test_where_t_sne_improves_most_its_lead_grows():
    # One claim stands for both: the gain of the next best map is at most the largest gain of the others.
    rng = np.random.default_rng(5)
    for _ in range(200):
        before, after = rng.random((2, 3))
        gains = after - before
        if gains[0] > gains[1:].max():
            assert after[0] - after[1:].max() > before[0] - before[1:].max()


def test_clusters_are_told_with_their_number_and_classes_that_have_one():
    told = verdicts(evidence(**FOUNDING))["tsne-after-clusters"]
    assert (told.verdict, told.threshold) == ("holds", 0.8)
    assert "11 clusters were found (95 % interval 9.5 to 12.5)" in told.beside
    assert "10 of 10 classes have one of their own" in told.beside


def test_trustworthiness_stands_beside_the_share_of_neighbours_kept():
    told = verdicts(evidence(**FOUNDING))["tsne-before-local"]
    assert "42 % are among its 10 nearest on the map" in told.beside
    assert "local structure" in told.claimed
    assert "local structure" not in told.text


@pytest.mark.parametrize("claim", decide(evidence(**FOUNDING)), ids=lambda claim: claim.id)
def test_a_claim_says_whose_it_is_and_where_its_threshold_comes_from(claim):
    assert "founding experiment, on MobileNetV2 and MNIST" in claim.source
    assert claim.threshold_from.endswith(".")
    assert claim.threshold_from in claim.words
    assert f"{claim.value:.3f}" in claim.words


def test_halves_that_points_classify_anew_make_the_interval():
    given = evidence(**FOUNDING)
    labels = given.labels
    every = np.tile(np.bincount(labels) // 2, (40, 1))
    apart = np.where(np.arange(40)[:, None] % 2, 40, 60)
    halves = {space: np.array([np.broadcast_to(apart, every.shape), every]) for space in given.correct}
    halves["after", "pca"] = np.array([np.broadcast_to(60, every.shape), every])
    told = verdicts(Evidence(given.correct, labels, DIGITS, given.scores, halves=halves))["pca-improves"]
    # Halves 0.2 apart: an error of 0.1, and Student's t of 20 differences.
    assert told.high - told.value == pytest.approx(2.086 * 0.1, abs=0.001)
