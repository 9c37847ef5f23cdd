"""The steps of the GPU benchmark that check: against CPUs, against itself, and what several seeds take.

They are in the order in which they matter, since time may run out.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from benchmarks.gpu.cases import Step
from benchmarks.gpu.results import Result, at_most, differences
from benchmarks.gpu.times import on_features, run_whole
from jaxtl.machine.devices import PRECISIONS

if TYPE_CHECKING:
    from benchmarks.gpu.run import Bench

_LONG_SECONDS = 75.0
_RUN_SECONDS = 100.0
_FORMS = ("xla", "matmul", "mixed")
# 50 steps of training multiply rounding: two forms of the convolutions on one CPU end 0.8 % apart.
_LOSS_BOUND = 0.03


def device(bench: Bench) -> Iterator[Step]:
    """Where JAX computes."""
    platform = "gpu" if bench.on_gpu else "cpu"
    yield Step("machine", partial(bench.call, "gpu.network.describe", platform=platform))


def network(bench: Bench) -> Iterator[Step]:
    """Features, forms and a first epoch against the CPU; the same bytes twice."""
    n = bench.sizes.checked
    yield Step(
        f"features of {n:,}, CPU and device", partial(_features_agree, bench, n), seconds=_LONG_SECONDS
    )
    yield Step("a first epoch's loss, CPU and device", partial(_losses_agree, bench), seconds=_LONG_SECONDS)
    yield Step("forms of the convolutions", partial(bench.call, "gpu.network.forms", n=n))


def _features_agree(bench: Bench, n: int) -> Result:
    ours = bench.call("gpu.network.features", n=n)
    theirs = bench.call_apart("gpu.network.features", on_cpu=True, n=n)
    return {"checks": differences("features, device against CPU", ours, theirs)}


def _losses_agree(bench: Bench) -> Result:
    arguments = {"train": bench.sizes.epoch, "test": bench.sizes.test}
    ours = bench.call("gpu.network.history", **arguments)
    theirs = bench.call_apart("gpu.network.history", on_cpu=True, **arguments)
    apart = abs(ours["loss"] / theirs["loss"] - 1)
    numbers = {
        f"{name}, {where}": row[name]
        for name in ("loss", "test_accuracy")
        for where, row in (("device", ours), ("CPU", theirs))
    }
    return {"checks": [at_most("loss of an epoch, relative", apart, _LOSS_BOUND)], "numbers": numbers}


def agreement(bench: Bench) -> Iterator[Step]:
    """Every map and the neighbours against CPU peers."""
    sizes = bench.sizes
    smallest, largest = min(sizes.compared), max(sizes.compared)
    yield Step("features for the maps", partial(bench.collect, largest), seconds=_LONG_SECONDS)
    yield on_features(bench, f"PCA, {largest:,}", "pca_agrees", "cuml", n=largest)
    for n in sizes.compared:
        peers = ("cpu", "sklearn") if n == smallest else ("cpu",)
        yield on_features(bench, f"LLE, {n:,}", "lle_agrees", n=n, peers=peers)
        yield on_features(bench, f"neighbours, {n:,}", "neighbors_agree", n=n, k=sizes.neighbors)
        yield on_features(bench, f"t-SNE, {n:,}", "tsne_agrees", "cuml", n=n)


def processes(bench: Bench) -> Iterator[Step]:
    """JAX beside cuML in one process, and the maps' own process."""
    yield Step("imports", partial(bench.call, "gpu.maps.imports_in_both_orders"), "cuml")
    backend = "cuml" if bench.on_gpu and not bench.lacking("cuml") else "sklearn"
    n = min(bench.sizes.compared)
    yield on_features(bench, f"killed, {backend}", "reducer_survives", n=n, backend=backend)


def seeds(bench: Bench) -> Iterator[Step]:
    """What several seeds take, beside one: each a process with what the first left in its caches."""
    cache, count = bench.folder / "seeds-cache", bench.sizes.seeds
    many = ("--seeds", str(count))
    for name, options in {"one seed, cold": (), "one seed, warm": (), f"{count} seeds, warm": many}.items():
        yield Step(name, partial(run_whole, bench, name, cache, options), seconds=_RUN_SECONDS)


def variants(bench: Bench) -> Iterator[Step]:
    """Forms and precisions of the extraction; each compiles anew."""
    sizes = bench.sizes
    fixed = {"n": sizes.test, "repeats": sizes.repeats, "batch_size": sizes.trunk_batches[0]}
    for precision in PRECISIONS:
        for form in _FORMS:
            arguments = {**fixed, "form": form, "precision": precision}
            name = f"{form}, {precision}"
            yield Step(name, partial(bench.call, "gpu.network.variant", **arguments))


def determinism(bench: Bench) -> Iterator[Step]:
    """Whether two processes give the same bytes; reported, not checked."""
    for deterministic in (False, True):
        name = f"two processes, {'with' if deterministic else 'without'} --deterministic"
        yield Step(name, partial(_same_bytes, bench, deterministic))


def _same_bytes(bench: Bench, deterministic: bool) -> Result:
    arguments = {"n": bench.sizes.checked, "deterministic": deterministic}
    found = [bench.call_apart("gpu.network.digest", **arguments) for _ in range(2)]
    same = all(a == b for a, b in pairwise(found))
    return {"numbers": {f"same bytes, {'' if deterministic else 'not '}deterministic": same}}


def precision(bench: Bench) -> Iterator[Step]:
    """What the reduced precisions do to features and to fine-tuning."""
    samples, train_samples, epochs = bench.sizes.effects
    work = partial(_effects, bench, samples, train_samples, epochs)
    yield Step("effects", work, seconds=_LONG_SECONDS)


def _effects(bench: Bench, samples: int, train_samples: int, epochs: int) -> Result:
    rows = bench.call("gpu.precision.effects", samples=samples, train_samples=train_samples, epochs=epochs)
    return {
        "numbers": {
            f"{row['precision']}, {name.replace('_', ' ')}": value
            for row in rows
            for name, value in row.items()
            if name != "precision"
        }
    }
