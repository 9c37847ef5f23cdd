"""The steps of the GPU benchmark that a suite does not have: checks against CPUs, and where time goes.

They are in the order in which they matter, since time may run out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.gpu_results import Result, at_most, differences
from benchmarks.workers import run_process
from jaxtl.runtime import PRECISIONS

if TYPE_CHECKING:
    from benchmarks.gpu import Bench

_FORMS = ("xla", "matmul", "mixed")
# 50 steps of training multiply rounding: two forms of the convolutions on one CPU end 0.8 % apart.
_LOSS_BOUND = 0.03


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        checked: images whose features are compared.
        epoch: training images of the epoch whose loss is compared.
        compared: points of the maps that CPU peers make too; the smallest also for scikit-learn's LLE.
        mapped: points of the times of maps in parts.
        neighbors: k of the neighbours that are checked.
        forward: images of the variants.
        batch_size: of the roofline and the variants; jaxtl's own is 1024 on a GPU.
        batch_sizes: of more variants.
        test: test images of the epoch.
        effects: test images, training images and epochs of the precisions' effects.
        run: options of `jaxtl run`.
        product, mebibytes: sizes of the ceilings' matrices and array.
        repeats: of every time, after the first.
    """

    checked: int = 256
    epoch: int = 1600
    compared: tuple[int, ...] = (2000, 10_000)
    mapped: tuple[int, ...] = (10_000, 60_000)
    neighbors: int = 12
    forward: int = 10_000
    batch_size: int = 1024
    batch_sizes: tuple[int, ...] = (256, 4096)
    test: int = 10_000
    effects: tuple[int, int, int] = (2000, 6000, 1)
    run: tuple[str, ...] = ("--samples", "all")
    product: int = 8192
    mebibytes: int = 2048
    repeats: int = 3
    quick: bool = False


FULL = Sizes()
QUICK = Sizes(
    checked=64, epoch=160, compared=(300, 500), mapped=(300,), forward=96, batch_size=64, batch_sizes=(32,),
    test=200, effects=(128, 320, 0), product=512, mebibytes=32, repeats=2, quick=True,
    run=("--samples", "200", "--train-samples", "320", "--epochs", "1"),
)  # fmt: skip


class Step(NamedTuple):
    """A piece of a case; `needs` is "cuml", "gpu" or nothing."""

    name: str
    work: Callable[[], Result]
    needs: str = ""


def device(bench: Bench) -> Iterator[Step]:
    """Where JAX computes."""
    platform = "gpu" if bench.on_gpu else "cpu"
    yield Step("machine", partial(bench.call, "gpu_network.describe", platform=platform))


def network(bench: Bench) -> Iterator[Step]:
    """Features, forms and a first epoch against the CPU; the same bytes twice."""
    n = bench.sizes.checked
    yield Step(f"features of {n:,}, CPU and device", partial(_features_agree, bench, n))
    yield Step("a first epoch's loss, CPU and device", partial(_losses_agree, bench))
    yield Step("forms of the convolutions", partial(bench.call, "gpu_network.forms", n=n))


def _features_agree(bench: Bench, n: int) -> Result:
    ours = bench.call("gpu_network.features", n=n)
    theirs = bench.call_apart("gpu_network.features", on_cpu=True, n=n)
    return {"checks": differences("features, device against CPU", ours, theirs)}


def _losses_agree(bench: Bench) -> Result:
    arguments = {"train": bench.sizes.epoch, "test": bench.sizes.test}
    ours = bench.call("gpu_network.history", **arguments)
    theirs = bench.call_apart("gpu_network.history", on_cpu=True, **arguments)
    apart = abs(ours["loss"] / theirs["loss"] - 1)
    numbers = {
        f"{name}, {where}": row[name]
        for name in ("loss", "test_accuracy")
        for where, row in (("device", ours), ("CPU", theirs))
    }
    return {"checks": [at_most("loss of an epoch, relative", apart, _LOSS_BOUND)], "numbers": numbers}


def roofline(bench: Bench) -> Iterator[Step]:
    """The forward pass beside the card's own rates."""
    sizes = bench.sizes
    arguments = {
        "batch": sizes.batch_size, "repeats": 5 * sizes.repeats,
        "size": sizes.product, "mebibytes": sizes.mebibytes,
    }  # fmt: skip
    yield Step("forward pass", partial(bench.call, "gpu_network.roofline", **arguments))


def maps(bench: Bench) -> Iterator[Step]:
    """Every map and the neighbours against CPU peers."""
    sizes = bench.sizes
    smallest, largest = min(sizes.compared), max(sizes.compared)
    yield Step("features for the maps", bench.collect)
    yield _on_features(bench, f"PCA, {largest:,}", "pca_agrees", "cuml", n=largest)
    for n in sizes.compared:
        peers = ("cpu", "sklearn") if n == smallest else ("cpu",)
        yield _on_features(bench, f"LLE, {n:,}", "lle_agrees", n=n, peers=peers)
        yield _on_features(bench, f"neighbours, {n:,}", "neighbors_agree", n=n, k=sizes.neighbors)
        yield _on_features(bench, f"t-SNE, {n:,}", "tsne_agrees", "cuml", n=n)


def processes(bench: Bench) -> Iterator[Step]:
    """JAX beside cuML in one process, and the maps' own process."""
    yield Step("imports", partial(bench.call, "gpu_maps.imports_in_both_orders"), "cuml")
    backend = "cuml" if bench.on_gpu and not bench.lacking("cuml") else "sklearn"
    n = min(bench.sizes.compared)
    yield _on_features(bench, f"killed, {backend}", "reducer_survives", n=n, backend=backend)


def parts(bench: Bench) -> Iterator[Step]:
    """Where the time of the maps goes."""
    for n in bench.sizes.mapped:
        for method, backend in {"tsne": "cuml", "lle": "jaxtl"}.items():
            needs = "cuml" if backend == "cuml" else ""
            arguments = {"method": method, "backend": backend, "repeats": bench.sizes.repeats}
            yield _on_features(bench, f"{method}, {n:,}", "reduced", needs, n=n, **arguments)


def _on_features(bench: Bench, name: str, function: str, needs: str = "", **arguments: Any) -> Step:
    return Step(name, lambda: bench.call(f"gpu_maps.{function}", path=bench.features(), **arguments), needs)


def cache(bench: Bench) -> Iterator[Step]:
    """`jaxtl run` as a process: cold, filling a compilation cache, and with it."""
    cache = ("--compilation-cache", str(bench.folder / "cache"))
    for name, options in {"cold": (), "filling a cache": cache, "warm, from the cache": cache}.items():
        yield Step(name, partial(_run, bench, name, options))


def _run(bench: Bench, name: str, options: tuple[str, ...]) -> Result:
    bench.dismiss()
    folder = bench.folder / name.replace(" ", "-").replace(",", "")
    folder.mkdir()
    start = "from jaxtl.cli import main; main()"
    command = [sys.executable, "-c", start, "run", "--out", "run", *bench.sizes.run, *options]
    done = run_process(command, folder, bench.deadline, bench.environment)
    stages = json.loads((folder / "run" / "timings.json").read_text())
    parts = {stage: seconds for stage, seconds in stages.items() if stage != "peak_memory_gib"}
    what = f"jaxtl run {' '.join(bench.sizes.run)}, {name}"
    time = {"what": what, "count": None, "first_seconds": done.seconds, "seconds": [], "parts": parts}
    numbers = {f"{name}, peak of host memory, GiB": done.peak_bytes / 2**30}
    return {"times": [time], "numbers": numbers}


def variants(bench: Bench) -> Iterator[Step]:
    """Forms, precisions and batch sizes of the extraction; each compiles anew."""
    sizes = bench.sizes
    fixed = {"n": sizes.forward, "repeats": sizes.repeats}
    chosen = [(form, precision, sizes.batch_size) for precision in PRECISIONS for form in _FORMS]
    chosen += [(_FORMS[0], precision, size) for precision in PRECISIONS for size in sizes.batch_sizes]
    for form, precision, size in chosen:
        arguments = {**fixed, "form": form, "precision": precision, "batch_size": size}
        name = f"{form}, {precision}, batch {size}"
        yield Step(name, partial(bench.call, "gpu_network.variant", **arguments))


def determinism(bench: Bench) -> Iterator[Step]:
    """Whether two processes give the same bytes; reported, not checked."""
    for deterministic in (False, True):
        name = f"two processes, {'with' if deterministic else 'without'} --deterministic"
        yield Step(name, partial(_same_bytes, bench, deterministic))


def _same_bytes(bench: Bench, deterministic: bool) -> Result:
    arguments = {"n": bench.sizes.checked, "deterministic": deterministic}
    found = [bench.call_apart("gpu_network.digest", **arguments) for _ in range(2)]
    same = all(a == b for a, b in pairwise(found))
    return {"numbers": {f"same bytes, {'' if deterministic else 'not '}deterministic": same}}


def precision(bench: Bench) -> Iterator[Step]:
    """What the reduced precisions do to features and to fine-tuning."""
    samples, train_samples, epochs = bench.sizes.effects
    yield Step("effects", partial(_effects, bench, samples, train_samples, epochs))


def _effects(bench: Bench, samples: int, train_samples: int, epochs: int) -> Result:
    rows = bench.call("precision.effects", samples=samples, train_samples=train_samples, epochs=epochs)
    return {
        "numbers": {
            f"{row['precision']}, {name.replace('_', ' ')}": value
            for row in rows
            for name, value in row.items()
            if name != "precision"
        }
    }


CASES: dict[str, Callable[[Bench], Iterator[Step]]] = {
    each.__name__: each
    for each in (
        device, network, maps, processes, determinism, roofline, parts, cache, variants, precision,
    )
}  # fmt: skip
