"""Linear classifiers of features: what a softmax head could read off without changing them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.machine.cores import one_blas_thread, share
from jaxtl.machine.engines import engine_for
from jaxtl.metrics.checks import check_count, check_draws, check_labels, check_values
from jaxtl.metrics.estimates import one_hot
from jaxtl.metrics.spectra import spectrum
from jaxtl.metrics.voting import Classified, check_split, classified

# Ridge penalties, relative to the mean variance of a feature.
_RIDGE = tuple(10.0 ** np.arange(-6, 4))
# scikit-learn's C, from the strongest penalty to the weakest, each fit starting from the one before.
_LOGISTIC = (1e-3, 1e-2, 1e-1, 1.0)
# C is chosen on so many rows at most, a fifth of them held out: more would cost time and settle nothing.
_CHOOSING = 4000
_HELD_OUT = 5
# A fit ends where a step lowers the mean loss by less. On 8,000 ImageNet features of digits the loss is then
# 3e-4 above its minimum, and of 2,000 predictions one or two differ.
_PATH_TOLERANCE, _TOLERANCE = 1e-4, 1e-5
_STEPS = 300
# Up to so many weights, as of two dimensions and ten classes, Newton's few steps beat L-BFGS's many.
_FEW_WEIGHTS = 40


@dataclass(frozen=True)
class Probe(Classified):
    """A `Classified` by a linear probe, and the penalty that it took.

    Attributes:
        penalties: of each fit: ridge's, relative to the mean variance of a feature, or logistic
            regression's inverse, scikit-learn's C; one, or one per fold.
    """

    penalties: tuple[float, ...] = ()


_Product = Callable[[np.ndarray], np.ndarray]
# Fits training rows of known places in C classes, and predicts the places of others.
_Fit = Callable[[np.ndarray, np.ndarray, int, np.ndarray], tuple[np.ndarray, float]]


def ridge_probe(
    train_values: np.ndarray,
    train_labels: np.ndarray,
    test_values: np.ndarray,
    test_labels: np.ndarray,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Probe:
    """Ridge regression on one-hot targets, the largest output winning: scikit-learn's `RidgeClassifier`.

    In closed form, with an intercept that is not penalised. One eigendecomposition serves all penalties; the
    one is taken whose exact leave-one-out squared error (PRESS, Allen 1974) on the training rows is least.
    The result does not change if features are shifted, rotated or scaled by one factor.

    Args:
        train_values, test_values: [n, d] and [m, d], finite.
        train_labels, test_labels: int [n] and [m].
        resamples, seed: of the bootstrap over test points; the probe is taken as given.

    Raises:
        JaxtlError: fewer than two training classes, other shapes, features that do not vary, or values that
            are not finite.
    """
    given = (train_values, train_labels, test_values, test_labels)
    return _train_to_test("ridge probe", _ridge, given, resamples, seed)


def logistic_probe(
    train_values: np.ndarray,
    train_labels: np.ndarray,
    test_values: np.ndarray,
    test_labels: np.ndarray,
    *,
    engine: str = "auto",
    resamples: int = 1000,
    seed: int = 0,
) -> Probe:
    """Logistic regression of the classes on standardised features: a softmax head, trained alone.

    Near the minimum of scikit-learn's `LogisticRegression(C)` objective, by L-BFGS with float32 products, or
    by Newton's method where there are few weights. C,
    of 1e-3 to 1, is chosen by the log-loss on a held-out fifth of the training rows, of 4,000 of them where
    there are more; then all are fitted.

    Args, errors: as of `ridge_probe`, and:
        engine: of the products: "cpu"; "jax" for JAX's default device; "auto", "jax" where that is a GPU.
    """
    given = (train_values, train_labels, test_values, test_labels)
    return _train_to_test("logistic probe", partial(_logistic, engine=engine), given, resamples, seed)


def ridge_probe_cross_validated(
    values: np.ndarray, labels: np.ndarray, *, folds: int = 5, resamples: int = 1000, seed: int = 0
) -> Probe:
    """`ridge_probe` in stratified folds: each row is predicted by the fit that did without its fold.

    Penalties are chosen in each fold's training rows. Folds are taken in the order of the rows, without
    shuffling, as in `knn_accuracy`.

    Args:
        values: [n, d], finite.
        labels: int [n], the largest class with at least `folds` members.
        resamples, seed: of the bootstrap over points.

    Raises:
        JaxtlError: fewer than two classes, too few rows, or values that are not finite.
    """
    return _cross_validated("ridge probe", _ridge, values, labels, folds, resamples, seed)


def logistic_probe_cross_validated(
    values: np.ndarray, labels: np.ndarray, *, folds: int = 5, resamples: int = 1000, seed: int = 0
) -> Probe:
    """`logistic_probe` in stratified folds. Args, errors: as of `ridge_probe_cross_validated`."""
    return _cross_validated("logistic probe", _logistic, values, labels, folds, resamples, seed)


def _train_to_test(where: str, fit: _Fit, given: tuple[np.ndarray, ...], resamples: int, seed: int) -> Probe:
    check_draws(where, seed, resamples)
    train_values, test_values, classes, train, test = check_split(where, *given)
    predicted, penalty = fit(train_values, train, len(classes), test_values)
    return _probe(predicted, test, classes, (penalty,), resamples, seed)


def _cross_validated(
    where: str, fit: _Fit, values: np.ndarray, labels: np.ndarray, folds: int, resamples: int, seed: int
) -> Probe:
    check_draws(where, seed, resamples)
    check_count(where, "folds", folds, 2)
    values = check_values(where, values)
    classes, members = check_labels(where, labels, len(values))
    largest = np.bincount(members).max()
    if folds > largest:
        raise JaxtlError(
            f"{where}: {folds} folds, but the largest class has {largest} members; take at least 2 folds and "
            "no more than that, or give more images"
        )
    fold_of = stratified_folds(members, folds)
    for fold in range(folds):
        held = fold_of == fold
        check_labels(f"{where}, all but fold {fold + 1}", members[~held], int(np.sum(~held)))

    def predict(fold: int) -> tuple[np.ndarray, float]:
        held = fold_of == fold
        return fit(values[~held], members[~held], len(classes), values[held])

    predicted, penalties = np.empty(len(values), int), []
    for fold, (named, penalty) in enumerate(share(predict, range(folds))):
        predicted[fold_of == fold] = named
        penalties.append(penalty)
    return _probe(predicted, members, classes, tuple(penalties), resamples, seed)


def _probe(
    predicted: np.ndarray,
    members: np.ndarray,
    classes: np.ndarray,
    penalties: tuple[float, ...],
    resamples: int,
    seed: int,
) -> Probe:
    scored = classified(predicted, members, classes, resamples, seed)
    return Probe(**vars(scored), penalties=penalties)


def stratified_folds(members: np.ndarray, folds: int) -> np.ndarray:
    """The fold of each row: rows of a class in order, its folds equal but for one row."""
    # Classes in the order in which they turn up, so that folds do not depend on how they are numbered.
    _, first, members = np.unique(members, return_index=True, return_inverse=True)
    members = first.argsort().argsort()[members]
    sizes = np.bincount(members)
    order, starts = np.argsort(members, kind="stable"), np.cumsum(sizes) - sizes
    within = np.arange(len(members)) - np.repeat(starts, sizes)
    fold_of = np.empty(len(members), int)
    # Small classes would all fill the first folds, so each class starts where the one before ended.
    fold_of[order] = (within * folds // np.repeat(sizes, sizes) + np.repeat(starts, sizes)) % folds
    return fold_of


def _ridge(
    values: np.ndarray, members: np.ndarray, n_classes: int, others: np.ndarray
) -> tuple[np.ndarray, float]:
    n, basis = len(values), spectrum(values)
    if not len(basis.variances):
        raise JaxtlError("ridge probe: the features are the same in all rows; give features that vary")
    targets = one_hot(members, n_classes)
    centre = targets.mean(axis=0)
    penalties = np.array(_RIDGE) * basis.variances.sum() / values.shape[1]
    scales = np.sqrt(n * basis.variances)
    left = np.concatenate([rows for _, rows in basis.coordinates(values)]) / scales
    projected = left.T @ (targets - centre)
    shrinkage = basis.variances[:, None] / (basis.variances[:, None] + penalties)
    leverages = 1 / n + left**2 @ shrinkage
    errors = []
    for shrunk, leverage in zip(shrinkage.T, leverages.T, strict=True):
        residuals = targets - centre - left @ (shrunk[:, None] * projected)
        # A leverage of 1 is a row fitted exactly: nothing is known of it when it is left out.
        errors.append(np.mean((residuals / np.maximum(1 - leverage, 1e-9)[:, None]) ** 2))
    best = int(np.argmin(errors))
    weights = basis.vectors @ (shrinkage[:, best, None] * projected / scales[:, None])
    outputs = (others - basis.mean) @ weights + centre
    return outputs.argmax(axis=1), float(_RIDGE[best])


def _logistic(
    values: np.ndarray, members: np.ndarray, n_classes: int, others: np.ndarray, engine: str = "cpu"
) -> tuple[np.ndarray, float]:
    values, others = _standardised(values, others)
    some = stratified_folds(members, max(1, -(-len(members) // _CHOOSING))) == 0
    strength, start = _choose(values[some], members[some], n_classes, engine)
    weights = fit_logistic(values, members, n_classes, strength, start, engine=engine)
    return _logits(others, weights).argmax(axis=1), strength


def _choose(
    values: np.ndarray, members: np.ndarray, n_classes: int, engine: str
) -> tuple[float, np.ndarray | None]:
    held = stratified_folds(members, _HELD_OUT) == 0
    if not 0 < np.sum(held) < len(held):
        return _LOGISTIC[len(_LOGISTIC) // 2], None
    rows, wanted = values[held], (np.arange(np.sum(held)), members[held])
    best, weights = (np.inf, 0.0, None), None
    for strength in _LOGISTIC:
        weights = fit_logistic(
            values[~held], members[~held], n_classes, strength, weights, _PATH_TOLERANCE, engine
        )
        loss = -_log_softmax(_logits(rows, weights))[wanted].mean()
        if loss > best[0]:
            break  # along the path the loss falls, then rises
        best = (loss, strength, weights)
    return best[1:]


def fit_logistic(
    values: np.ndarray,
    members: np.ndarray,
    n_classes: int,
    strength: float,
    start: np.ndarray | None = None,
    tolerance: float = _TOLERANCE,
    engine: str = "cpu",
) -> np.ndarray:
    """Weights and, in the last row, intercepts [d + 1, C] that minimise scikit-learn's objective over C n.

    Mean log-loss plus |weights|^2 / (2 C n), intercepts free, `strength` being C and values float32 [n, d].
    """
    from scipy.optimize import minimize

    n, d = values.shape
    shape, targets = (d + 1, n_classes), one_hot(members, n_classes)
    if shape[0] * shape[1] <= _FEW_WEIGHTS:
        return _newton(values, targets, strength, np.zeros(shape) if start is None else start, tolerance)
    times, transposed_times = _products(values, engine)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        logs = _log_softmax(times(weights[:-1].astype(np.float32)).astype(np.float64) + weights[-1])
        gradient = np.empty(shape)
        errors = (np.exp(logs) - targets) / n
        gradient[:d] = transposed_times(errors.astype(np.float32)) + weights[:d] / (strength * n)
        gradient[d] = errors.sum(axis=0)
        penalty = np.sum(weights[:d] ** 2) / (2 * strength * n)
        return penalty - np.sum(logs * targets) / n, gradient.ravel()

    start = np.zeros(shape) if start is None else start
    options = {"maxiter": _STEPS, "gtol": 0, "ftol": tolerance}
    # Products with as few columns as there are classes lose more to a threaded BLAS than they gain.
    with one_blas_thread():
        minimum = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return minimum.x.reshape(shape)


def _products(values: np.ndarray, engine: str) -> tuple[_Product, _Product]:
    """Products of float32 rows [n, d], and of their transpose, with matrices of few columns."""
    if engine_for(engine, values.size, 2 * values.nbytes) == "cpu":
        return values.__matmul__, values.T.__matmul__
    from jaxtl.metrics import device

    return device.products(values)


def _newton(
    values: np.ndarray, targets: np.ndarray, strength: float, weights: np.ndarray, tolerance: float
) -> np.ndarray:
    """`fit_logistic` by Newton's steps, each shortened until the objective falls enough; float64."""
    n, shape = len(values), weights.shape
    rows = np.column_stack([values.astype(np.float64), np.ones(n)])
    moments = np.einsum("na,nb->nab", rows, rows).reshape(n, -1)
    penalty = np.full(shape, 1 / (strength * n))
    penalty[-1] = 0

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        logs = _log_softmax(rows @ weights)
        return np.sum(penalty * weights**2) / 2 - np.sum(logs * targets) / n, logs

    with one_blas_thread():
        value, logs = objective(weights)
        for _ in range(_STEPS):
            shares = np.exp(logs)
            gradient = rows.T @ (shares - targets) / n + penalty * weights
            step = _newton_step(moments, shares, penalty, gradient)
            size, slope = 1.0, float(np.sum(gradient * step))
            while (tried := objective(weights - size * step))[
                0
            ] > value - 1e-4 * size * slope and size > 1e-6:
                size /= 2
            gained = value - tried[0]
            if gained <= 0:
                break
            weights, (value, logs) = weights - size * step, tried
            if gained <= tolerance * max(1.0, abs(value)):
                break
    return weights


def _newton_step(
    moments: np.ndarray, shares: np.ndarray, penalty: np.ndarray, gradient: np.ndarray
) -> np.ndarray:
    """The inverse of the objective's second derivatives times its first ones [d + 1, C].

    `moments` [n, (d + 1)^2] are the products of each row with itself, `shares` [n, C] the softmax.
    """
    n, (width, n_classes) = len(shares), gradient.shape
    pairs = np.einsum("nc,ne->nce", shares, shares).reshape(n, -1)
    second = -(moments.T @ pairs).reshape(width, width, n_classes, n_classes)
    classes = np.arange(n_classes)
    second[:, :, classes, classes] += (moments.T @ shares).reshape(width, width, n_classes)
    second = second.transpose(0, 2, 1, 3).reshape(gradient.size, gradient.size) / n
    second[np.diag_indices(gradient.size)] += penalty.ravel()
    # One constant added to all intercepts changes nothing: of all solutions the shortest.
    return np.linalg.lstsq(second, gradient.ravel(), rcond=1e-12)[0].reshape(gradient.shape)


def _logits(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (values @ weights[:-1].astype(np.float32)).astype(np.float64) + weights[-1]


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _standardised(values: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, scale = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    scale[scale <= np.finfo(np.float32).eps * np.abs(mean)] = 1
    mean, scale = mean.astype(values.dtype), scale.astype(values.dtype)
    return tuple(((rows - mean) / scale).astype(np.float32, copy=False) for rows in (values, others))
