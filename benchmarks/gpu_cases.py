"""The steps of the GPU benchmark, in the order in which they matter: time may run out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

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
        extracted, mapped: images and points of each time that is taken; the mapped are some of the extracted.
        searched, neighbors: points and k of neighbour searches.
        forward: images of the variants and of PyTorch.
        batch_size: of PyTorch, the roofline and the variants; jaxtl's own is 1024 on a GPU.
        batch_sizes: of more variants.
        train, test, epochs: of the fine-tuning.
        torch_images, torch_steps: of PyTorch's.
        effects: test images, training images and epochs of the precisions' effects.
        run: options of `jaxtl run`.
        product, mebibytes: sizes of the ceilings' matrices and array.
        repeats: of every time, after the first.
    """

    checked: int = 256
    epoch: int = 1600
    compared: tuple[int, ...] = (2000, 10_000)
    extracted: tuple[int, ...] = (2000, 10_000, 60_000, 70_000)
    mapped: tuple[int, ...] = (2000, 10_000, 60_000, 70_000)
    searched: tuple[int, ...] = (10_000, 60_000)
    neighbors: tuple[int, ...] = (12, 90)
    forward: int = 10_000
    batch_size: int = 1024
    batch_sizes: tuple[int, ...] = (256, 4096)
    train: int = 60_000
    test: int = 10_000
    epochs: int = 5
    torch_images: int = 6400
    torch_steps: int = 500
    effects: tuple[int, int, int] = (2000, 6000, 1)
    run: tuple[str, ...] = ("--samples", "all")
    product: int = 8192
    mebibytes: int = 2048
    repeats: int = 3
    quick: bool = False


FULL = Sizes()
QUICK = Sizes(
    checked=64, epoch=160, compared=(300, 500), extracted=(300, 500), mapped=(300, 500), searched=(500,),
    neighbors=(12, 40), forward=96, batch_size=64, batch_sizes=(32,), train=320, test=200, epochs=2,
    torch_images=256, torch_steps=4, effects=(128, 320, 0), product=512, mebibytes=32, repeats=2, quick=True,
    run=("--samples", "200", "--train-samples", "320", "--epochs", "1"),
)  # fmt: skip


class Step(NamedTuple):
    """A piece of a case; `needs` is "cuml", "torch", "gpu" or nothing."""

    name: str
    work: Callable[[], Result]
    needs: str = ""


def device(bench: Bench) -> Iterator[Step]:
    """The machine, and what its device reaches."""
    sizes = bench.sizes
    platform = "gpu" if bench.on_gpu else "cpu"
    yield Step("machine", partial(bench.call, "gpu_network.describe", platform=platform))
    arguments = {"size": sizes.product, "mebibytes": sizes.mebibytes, "products": 5}
    yield Step("ceilings", partial(bench.call, "gpu_network.ceilings", **arguments))


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


def extraction(bench: Bench) -> Iterator[Step]:
    """`jaxtl.extract` and the trunk."""
    for n in bench.sizes.extracted:
        work = partial(bench.call, "gpu_network.extraction", n=n, repeats=bench.sizes.repeats)
        yield Step(f"extract, {n:,}", work)
    n = max(bench.sizes.extracted)
    yield Step(f"trunk, {n:,}", partial(bench.call, "gpu_network.trunk", n=n, repeats=bench.sizes.repeats))


def finetune(bench: Bench) -> Iterator[Step]:
    """The default fine-tuning."""
    arguments = {"train": bench.sizes.train, "test": bench.sizes.test, "epochs": bench.sizes.epochs}
    yield Step("fine-tuning", partial(bench.call, "gpu_network.finetune", **arguments))


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
        yield _on_features(bench, f"neighbours, {n:,}", "neighbors_agree", n=n, k=sizes.neighbors[0])
        yield _on_features(bench, f"t-SNE, {n:,}", "tsne_agrees", "cuml", n=n)


def processes(bench: Bench) -> Iterator[Step]:
    """JAX beside cuML in one process, and the maps' own process."""
    yield Step("imports", partial(bench.call, "gpu_maps.imports_in_both_orders"), "cuml")
    backend = "cuml" if bench.on_gpu and not bench.lacking("cuml") else "sklearn"
    n = min(bench.sizes.compared)
    yield _on_features(bench, f"killed, {backend}", "reducer_survives", n=n, backend=backend)


def reductions(bench: Bench) -> Iterator[Step]:
    """Times of the maps, in parts, and of neighbours beside cuML's."""
    sizes = bench.sizes
    backends = {"pca": "cuml", "tsne": "cuml", "lle": "jaxtl"}
    for n in sizes.mapped:
        for method, backend in backends.items():
            needs = "cuml" if backend == "cuml" else ""
            arguments = {"method": method, "backend": backend, "repeats": sizes.repeats}
            yield _on_features(bench, f"{method}, {n:,}", "reduced", needs, n=n, **arguments)
    for n in sizes.searched:
        for k in sizes.neighbors:
            for backend, needs in (("jaxtl", ""), ("cuml", "cuml")):
                arguments = {"n": n, "k": k, "backend": backend, "repeats": sizes.repeats}
                yield _on_features(
                    bench, f"{k} neighbours of {n:,}, {backend}", "searched", needs, **arguments
                )


def _on_features(bench: Bench, name: str, function: str, needs: str = "", **arguments: Any) -> Step:
    return Step(name, lambda: bench.call(f"gpu_maps.{function}", path=bench.features(), **arguments), needs)


def whole(bench: Bench) -> Iterator[Step]:
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


def torch(bench: Bench) -> Iterator[Step]:
    """The same network in PyTorch on the same device."""
    sizes = bench.sizes
    yield Step("PyTorch", partial(bench.call, "peer_torch.describe"), "torch")
    yield Step("features, PyTorch and jaxtl", partial(_torch_agrees, bench), "torch")
    work = {"n": sizes.forward, "batch_size": sizes.batch_size, "repeats": sizes.repeats}
    for compiled in (True, False):
        for tf32 in (False, True):
            name = f"forward, {_mode(compiled)}, TF32 {'on' if tf32 else 'off'}"
            arguments = {**work, "tf32": tf32, "compiled": compiled}
            yield Step(name, partial(bench.call, "peer_torch.forward", **arguments), "torch")
    training = {"n": sizes.torch_images, "steps": sizes.torch_steps, "repeats": sizes.repeats}
    for function in ("train_tail", "train_whole"):
        for compiled in (True, False):
            name = f"{function.replace('_', ' ')}, {_mode(compiled)}"
            arguments = {**training, "compiled": compiled}
            yield Step(name, partial(bench.call, f"peer_torch.{function}", **arguments), "torch")


def _mode(compiled: bool) -> str:
    return "compiled" if compiled else "eager"


def _torch_agrees(bench: Bench) -> Result:
    n = bench.sizes.checked
    theirs = bench.call("peer_torch.features", n=n)
    ours = bench.call_apart("gpu_network.features", n=n)
    return {"checks": [at_most("features, largest difference", np.abs(ours - theirs).max(), 1e-3)]}


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
        device, network, extraction, finetune, roofline, maps, processes, reductions, torch, whole, variants,
        precision, determinism,
    )
}  # fmt: skip
