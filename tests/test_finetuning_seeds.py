"""Several seeds trained together end where each ends alone."""

import jax
import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.models.network import Carry
from jaxtl.models.weights import arrays_of
from jaxtl.network import finetuning
from jaxtl.network.finetuning import train_tail, train_tails
from jaxtl.network.head import with_head
from jaxtl.network.training import Trainer
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.settings import FinetuneConfig, Images
from tests.tuning import BATCH

SEEDS = (1, 2, 5)


@pytest.fixture(scope="module")
def tail(pretrained, train, test):
    """A trunk, and what it makes of 70 training images (the last batch is smaller) and of the tests."""
    trunk = Trunk(pretrained, trainable_boundary(pretrained.config, "10"), Images(32))
    few = train.take(70)
    return trunk, few, trunk.source(few.images, True), test, trunk.source(test.images, True)


@pytest.mark.slow
def test_seeds_together_have_the_loss_and_gradients_of_each_alone(pretrained, tail):
    """What lies between is float32 rounding, since products of all seeds at once add in another order."""
    trunk, train, source, *_ = tail
    trainers = [Trainer(trunk, with_head(pretrained, 10, seed), FinetuneConfig(seed=seed)) for seed in SEEDS]
    rows = [trainer.order(len(train), 0)[:BATCH] for trainer in trainers]
    batches = [Carry(source.x[index]) for index in rows]
    alone = [
        trainer.gradients(trainer.initial(), batch, train.labels[index])
        for trainer, batch, index in zip(trainers, batches, rows, strict=True)
    ]
    inputs = [
        (trainer.initial(), batch, train.labels[index])
        for trainer, batch, index in zip(trainers, batches, rows, strict=True)
    ]
    together = jax.jit(jax.vmap(trainers[0].gradients))(*stacked(inputs))
    for k, (own_gradients, (own_statistics, own_sums)) in enumerate(alone):
        gradients, (statistics, sums) = jax.tree.map(lambda a, k=k: a[k], together)
        np.testing.assert_allclose(sums, own_sums, rtol=1e-5)
        largest = max(np.abs(g).max() for g in jax.tree.leaves(own_gradients))
        for ours, wanted in zip(
            jax.tree.leaves((gradients, statistics)),
            jax.tree.leaves((own_gradients, own_statistics)),
            strict=True,
        ):
            # Gradients that are zero but for rounding are held to the scale of the others.
            scale = max(np.abs(wanted).max(), 1e-2 * largest)
            assert np.abs(ours - wanted).max() <= 1e-5 * scale


def stacked(trees):
    return jax.tree.map(lambda *arrays: np.stack(arrays), *trees)


@pytest.mark.slow
def test_a_diverging_training_stops_with_advice(tail):
    with pytest.raises(JaxtlError, match="lower learning_rate"):
        train_tail(*tail, FinetuneConfig(epochs=3, learning_rate=1e30))


@pytest.fixture(scope="module")
def checkpoints():
    """Of the seeds of `apart` after their first epoch, by number."""
    return {}


@pytest.fixture(scope="module")
def apart(tail, checkpoints):
    """Seeds one after the other; slowly, so that Adam's first steps do not blow rounding up."""
    return train_tails(*tail, slow_configs(), together=1, on_epoch=checkpoints.__setitem__)


@pytest.mark.slow
def test_the_last_smaller_batch_counts(apart):
    for _, history in apart:
        assert 0 <= history[0]["accuracy"] * 70 == pytest.approx(round(history[0]["accuracy"] * 70))


def slow_configs():
    return [FinetuneConfig(seed=seed, epochs=2, learning_rate=1e-6) for seed in SEEDS]


@pytest.mark.slow
def test_seeds_together_end_where_each_ends_alone(tail, apart):
    kept, fractions = [], []
    together = train_tails(
        *tail,
        slow_configs(),
        together=3,
        on_epoch=lambda *state: kept.append(state),
        progress=fractions.append,
    )
    assert [k for k, _ in kept] == [0, 1, 2]
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1)
    for (model, history), (alone, wanted) in zip(together, apart, strict=True):
        for row, expected in zip(history, wanted, strict=True):
            assert row == pytest.approx(expected, rel=1e-4)
        arrays = arrays_of(model)
        for name, array in arrays_of(alone).items():
            assert np.abs(arrays[name] - array).max() <= 1e-5 * max(np.abs(array).max(), 1e-2), name
    losses = [history[0]["loss"] for _, history in together]
    assert len(set(losses)) == 3


@pytest.mark.slow
def test_seeds_that_were_stopped_at_different_epochs_go_on_to_the_same_bits(tail, apart, checkpoints):
    configs = slow_configs()
    alone = train_tail(*tail, configs[1], start=checkpoints[1])
    assert alone[1] == apart[1][1]
    again = train_tails(*tail, configs, starts=[checkpoints[0], None, checkpoints[2]], together=1)
    for (model, history), (wanted, expected) in zip(again, apart, strict=True):
        assert history == expected
        for name, array in arrays_of(wanted).items():
            np.testing.assert_array_equal(array, arrays_of(model)[name], err_msg=name)


def test_configs_that_differ_in_more_than_the_seed_do_not_train_together(tail):
    with pytest.raises(JaxtlError, match="seed alone"):
        train_tails(*tail, [FinetuneConfig(seed=1), FinetuneConfig(seed=2, epochs=3)])


@pytest.mark.parametrize(
    ("epochs", "most", "expected"),
    [
        ([0, 0, 0, 0, 0], 8, [[0, 1, 2, 3, 4]]),
        ([0, 0, 0, 0, 0], 3, [[0, 1, 2], [3, 4]]),
        ([2, 0, 2, 1], 2, [[1], [3], [0, 2]]),
        ([0, 0], 1, [[0], [1]]),
    ],
)
def test_seeds_with_as_many_epochs_behind_them_train_together(epochs, most, expected):
    assert finetuning.grouped_by_epochs(epochs, most) == expected


def test_seeds_train_together_where_memory_allows(tail, monkeypatch):
    trunk, _, source, *_ = tail
    config = FinetuneConfig()
    assert finetuning.seeds_at_a_time(trunk, 10, config, source) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    numbers = []
    for gib in (80, 8, 0.1):
        monkeypatch.setattr(finetuning, "device_memory", lambda gib=gib: int(gib * 2**30))
        numbers.append(finetuning.seeds_at_a_time(trunk, 10, config, source))
    assert numbers[0] > 5 * numbers[1] > 25
    assert numbers[2] == 1
