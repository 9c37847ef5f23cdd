"""Numbers at the edges: every public function of arrays answers with meaning or refuses in one line."""

import inspect

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxtl
from jaxtl import metrics
from jaxtl.neighbors import exact_neighbors, nearest_rows
from tests.faults import exact, odd
from tests.faults.answers import COUNTS, Told, answer, table
from tests.faults.calls import CALLS, SLOW
from tests.faults.spaces import infinite, made, ordinary, spaces

QUIET = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
SHORT = settings(max_examples=3, derandomize=True, **QUIET)
LONG = settings(max_examples=200, derandomize=True, **QUIET)
# What has classes is compared with other sizes only.
EXACT_ROWS = (11, 12, 21, 24, 40)


def try_call(name, tried):
    """`tried` cases of one call, drawn by hypothesis."""

    @tried
    @given(spaces())
    def cases(space):
        answer(name, CALLS[name], space)

    cases()


def compare(tried):
    """Answers against float64 from differences, whatever the magnitude and however far some points lie."""

    @tried
    @given(spaces(rows=EXACT_ROWS, labels=("few", "names", "rare")), st.integers(0, 99))
    def cases(space, seed):
        values, labels, _ = space
        coords = np.random.default_rng(seed).normal(size=(len(values), 2))
        for name, got, wanted in (
            ("silhouette", lambda: metrics.silhouette(values, labels).scores, exact.silhouettes),
            ("movement", lambda: moved(coords, values), exact.moved),
            (
                "trustworthiness",
                lambda: metrics.trustworthiness(values, coords, 3).value,
                exact.trustworthiness,
            ),
            ("continuity", lambda: metrics.continuity(coords, values, 3).value, exact.trustworthiness),
            ("kept", lambda: metrics.faithfulness(values, coords, 3, resamples=2).kept.value, exact.kept),
        ):
            if name != "silhouette" and exact.has_ties(values):
                continue
            value = answer(f"{name}, exact", got)
            if value is not None:
                arguments = {"silhouette": (values, labels), "movement": (coords, values, 3)}
                right = wanted(*arguments.get(name, (values, coords, 3)))
                np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-5)

    cases()


def moved(coords, values):
    return metrics.moved_from_neighbors(exact_neighbors(coords, 5), values, 3, halves=2).mean.value


def compare_neighbors(tried):
    @tried
    @given(spaces(rows=EXACT_ROWS), st.sampled_from((1, 3, 10)))
    def cases(space, k):
        neighbors = answer("neighbours, exact", exact_neighbors, space.values, k)
        if neighbors is None:
            return
        squared = exact.distances(space.values)
        np.fill_diagonal(squared, np.inf)
        right = np.sqrt(np.sort(squared, axis=1)[:, :k])
        own = np.sqrt(np.take_along_axis(squared, neighbors.indices.astype(int), axis=1))
        np.testing.assert_allclose(own, right, rtol=1e-9)
        np.testing.assert_allclose(neighbors.distances, right, rtol=1e-6, atol=1e-44)
        assert all(len(set(row)) == k for row in neighbors.indices.tolist())

    cases()


@pytest.mark.parametrize("name", [name for name in CALLS if name not in SLOW])
def test_a_space_gets_an_answer_or_one_line(name):
    try_call(name, SHORT)


# What keeps values as they are, or asks of them only whether they are above 0.
TAKES_INFINITE = ("Features", "paired_outcomes")


@pytest.mark.parametrize("name", [name for name in CALLS if name not in TAKES_INFINITE])
def test_infinite_values_are_refused_in_one_line(name):
    for seed, (dtype, exponent) in enumerate([(np.float32, 0), (np.float64, 28), (np.float32, -20)]):
        space = made(seed, 24, 7, infinite, exponent, dtype, "few")
        assert answer(f"{name}, infinite", CALLS[name], space) is None


def test_answers_are_those_of_exact_distances():
    compare(settings(SHORT, max_examples=8))
    compare_neighbors(settings(SHORT, max_examples=15))


@pytest.mark.parametrize("kind", odd.SAME)
@pytest.mark.parametrize(
    "name", ["silhouette", "davies_bouldin", "trustworthiness", "linear_cka", "h_score", "exact_neighbors"]
)
def test_the_same_numbers_in_other_clothes(name, kind):
    def call(values):
        if name == "exact_neighbors":
            return exact_neighbors(values, 3).distances
        if name in ("trustworthiness", "linear_cka"):
            result = getattr(metrics, name)(values, odd.PLAIN[:, :2])
        else:
            result = getattr(metrics, name)(values, odd.LABELS)
        return getattr(result, "scores", None) if name == "silhouette" else np.ravel(result[0])

    got = answer(f"{name}, {kind}", call, odd.SAME[kind]())
    if kind in ("sparse", "object"):
        assert got is None
    else:
        np.testing.assert_array_equal(got, call(odd.PLAIN))


# Functions of `odd_calls` in which labels play a part.
OF_LABELS = {
    "silhouette",
    "calinski_harabasz",
    "davies_bouldin",
    "kmeans_agreement",
    "density_clusters",
    "log_me",
    "h_score",
    "knn_accuracy",
    "ridge_probe_cross_validated",
    "ridge_probe",
    "train_to_test_knn",
    "leave_one_out_knn",
    "neighborhood_hit",
    "neighbor_confusion",
    "knn_cross_validated",
    "neighbors_kept",
    "moved_from_neighbors",
    "paired_outcomes",
}


def odd_calls():
    """Functions of values and labels, and of values alone, by name."""
    both = (
        "silhouette",
        "calinski_harabasz",
        "davies_bouldin",
        "log_me",
        "h_score",
        "knn_accuracy",
        "ridge_probe_cross_validated",
    )
    alone = ("anchored", "dimensions", "sparsity", "spectrum")
    near = exact_neighbors(odd.PLAIN, 5)
    yield from ((name, lambda v, _, name=name: getattr(metrics, name)(v)) for name in alone)
    yield from ((name, lambda v, labels, name=name: getattr(metrics, name)(v, labels)) for name in both)
    yield "kmeans_agreement", lambda v, labels: metrics.kmeans_agreement(v, labels, n_init=1, halves=2)
    yield "density_clusters", lambda v, labels: metrics.density_clusters(v, labels, halves=2)
    yield "exact_neighbors", lambda v, _: exact_neighbors(v, 2)
    yield "nearest_rows", lambda v, _: nearest_rows(odd.PLAIN, v, 2)
    yield "trustworthiness", lambda v, _: metrics.trustworthiness(odd.PLAIN, v, 2, resamples=2)
    yield "linear_cka", lambda v, _: metrics.linear_cka(v, odd.PLAIN)
    yield "procrustes", lambda v, _: metrics.procrustes(v, odd.PLAIN)
    yield "shepard_correlation", lambda v, _: metrics.shepard_correlation(v, odd.PLAIN)
    yield "ridge_probe", lambda v, labels: metrics.ridge_probe(v, labels, odd.PLAIN, odd.LABELS)
    yield "train_to_test_knn", lambda v, labels: metrics.train_to_test_knn(odd.PLAIN, odd.LABELS, v, labels)
    yield "leave_one_out_knn", lambda v, labels: metrics.leave_one_out_knn(near, labels)
    yield "neighborhood_hit", lambda v, labels: metrics.neighborhood_hit(near, labels)
    yield "neighbor_confusion", lambda v, labels: metrics.neighbor_confusion(near, labels, 3)
    yield "knn_cross_validated", lambda v, labels: metrics.knn_cross_validated(v, labels, near, 2)
    yield "neighbors_kept", lambda v, labels: metrics.neighbors_kept(near, near, 2, labels)
    yield "moved_from_neighbors", lambda v, labels: metrics.moved_from_neighbors(near, v, 2, labels)
    yield "paired_outcomes", lambda v, labels: metrics.paired_outcomes(labels, labels)
    yield "two_nn", lambda v, _: metrics.two_nn(v)
    yield "reduce", lambda v, _: jaxtl.reduce(v, "pca")
    yield "lle", lambda v, _: jaxtl.LocallyLinearEmbedding(n_neighbors=3).fit_transform(v)


@pytest.mark.parametrize(("name", "call"), list(odd_calls()), ids=[name for name, _ in odd_calls()])
def test_values_and_labels_of_every_kind(name, call):
    for kind, values in (odd.SAME | odd.OTHERS).items():
        answer(f"{name}, odd values", Told(call, kind), values(), odd.LABELS)
    if name in OF_LABELS:
        for kind, labels in odd.ODD_LABELS.items():
            answer(f"{name}, odd labels", Told(call, f"labels {kind}"), odd.PLAIN, labels())


def try_settings(name, values):
    """Every setting of a function with values of every kind, one at a time."""
    function, given_first = SET[name]
    for setting in inspect.signature(function).parameters.values():
        if setting.default is setting.empty or setting.name in ("labels", "basis", "progress"):
            continue
        for value in values:
            call = Told(function, f"{setting.name} {value!r}")
            answer(f"{name}, settings", call, *given_first, **{setting.name: value})


NEAR = exact_neighbors(odd.PLAIN, 9)
BOTH = (odd.PLAIN, odd.LABELS)
SET = {
    "silhouette": (metrics.silhouette, BOTH),
    "kmeans_agreement": (metrics.kmeans_agreement, BOTH),
    "density_clusters": (metrics.density_clusters, BOTH),
    "faithfulness": (metrics.faithfulness, (odd.PLAIN, odd.PLAIN[:, :2])),
    "shepard_correlation": (metrics.shepard_correlation, (odd.PLAIN, odd.PLAIN[:, :2])),
    "anchored": (metrics.anchored, (odd.PLAIN,)),
    "knn_accuracy": (metrics.knn_accuracy, BOTH),
    "knn_cross_validated": (metrics.knn_cross_validated, (*BOTH, NEAR)),
    "leave_one_out_knn": (metrics.leave_one_out_knn, (NEAR, odd.LABELS)),
    "neighborhood_hit": (metrics.neighborhood_hit, (NEAR, odd.LABELS)),
    "neighbor_confusion": (metrics.neighbor_confusion, (NEAR, odd.LABELS, 3)),
    "train_to_test_knn": (metrics.train_to_test_knn, (*BOTH, *BOTH)),
    "ridge_probe": (metrics.ridge_probe, (*BOTH, *BOTH)),
    "ridge_probe_cross_validated": (metrics.ridge_probe_cross_validated, BOTH),
    "procrustes": (metrics.procrustes, (odd.PLAIN, odd.PLAIN[:, :2])),
    "sparsity": (metrics.sparsity, (odd.PLAIN,)),
    "two_nn": (metrics.two_nn, (NEAR,)),
    "neighbors_kept": (metrics.neighbors_kept, (NEAR, NEAR)),
    "moved_from_neighbors": (metrics.moved_from_neighbors, (NEAR, odd.PLAIN)),
    "exact_neighbors": (exact_neighbors, (odd.PLAIN, 3)),
    "nearest_rows": (nearest_rows, (odd.PLAIN, odd.PLAIN, 3)),
}
# Much work, and none that is odd.
LARGE = (10**9, 10**30)


@pytest.mark.parametrize("name", SET)
def test_settings_of_every_kind(name):
    try_settings(name, (None, "a", 2.5, -1, np.nan))


def test_one_point_far_away_leaves_the_others_where_they_are():
    space = made(1, 40, 16, ordinary, 0, np.float64, "few")
    coords = np.random.default_rng(0).normal(size=(40, 2))
    far = space.values.copy()
    far[7] += 1e10
    trust = metrics.trustworthiness(far, coords, 5).value
    assert trust == pytest.approx(exact.trustworthiness(far, coords, 5), abs=1e-12)
    scores = metrics.silhouette(far, space.labels).scores
    np.testing.assert_allclose(scores, exact.silhouettes(far, space.labels), atol=1e-6)


@pytest.mark.parametrize("copies", [2, 10, 30])
def test_divergences_among_copies_are_exact_and_not_negative(copies, monkeypatch):
    from jaxtl.reduction import divergence, tsne

    measured = []
    kept = divergence.measure_divergence
    monkeypatch.setattr(
        tsne,
        "measure_divergence",
        lambda embedding, **fixed: (kept(embedding, **fixed), measured.append(embedding)),
    )
    values = np.random.default_rng(0).normal(size=(copies, 20))[np.arange(120) % copies]
    embedding = jaxtl.reduce(values, "tsne", perplexity=12, early_exaggeration_iter=20, n_iter=60)
    told = embedding.diagnostics["kl_divergence"]
    right = exact.divergence(measured[0].affinities.P, np.asarray(measured[0]))
    assert told >= 0
    assert told == pytest.approx(right, abs=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_spaces_and_settings(capsys):
    failures = []

    def attempt(what, *given):
        try:
            what(*given)
        except Exception as error:
            notes = getattr(error, "__notes__", [])
            failures.append("\n".join([f"{given}: {type(error).__name__}: {error}", *notes[:3]]))

    for name in CALLS:
        few = name in SLOW or "tsne" in name
        attempt(try_call, name, settings(LONG, max_examples=40) if few else LONG)
    attempt(compare, settings(LONG, max_examples=400))
    attempt(compare_neighbors, settings(LONG, max_examples=400))
    for name in SET:
        attempt(try_settings, name, [value for value in odd.SETTINGS if value not in LARGE])
    with capsys.disabled():
        print("", *table(), *failures, sep="\n")
    assert not failures
    assert sum(count for (_, kind), count in COUNTS.items() if kind == "tried") >= 10_000
