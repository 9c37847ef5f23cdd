"""The steps of the GPU benchmark that say how long things take, and how good t-SNE's maps are.

They are in the order in which they matter, since time may run out.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.cases import STEP_SECONDS, Step
from benchmarks.gpu.results import Result
from benchmarks.machine import ROOT
from benchmarks.workers import run_process
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import FIVE_FOLDS
from jaxtl.machine.devices import PRECISIONS

if TYPE_CHECKING:
    from benchmarks.gpu.run import Bench

# Forms of the convolutions and XLA's options: what is proposed, what XLA does by itself, then the rest.
_COMBINATIONS = (
    ("matmul", "untuned, graphs"), ("xla", "none"), ("matmul", "none"), ("xla", "untuned, graphs"),
    ("mixed", "untuned, graphs"), ("matmul", "untuned"), ("mixed", "none"), ("xla", "untuned"),
    ("mixed", "untuned"),
)  # fmt: skip
_PROPOSED = _COMBINATIONS[0]
_RUN_SECONDS = 100.0
_LONG_SECONDS = 75.0


def whole(bench: Bench) -> Iterator[Step]:
    """`jaxtl run` as a process, with empty caches and then with what the first one has left there."""
    cache = bench.folder / "whole-cache"
    for name in ("cold", "warm"):
        yield Step(name, partial(run_whole, bench, name, cache), seconds=_RUN_SECONDS)


def run_whole(bench: Bench, name: str, cache: Path, options: tuple[str, ...] = ()) -> Result:
    """Seconds of a run as its user waits for them, those of its steps, and what it found."""
    bench.dismiss()
    folder = bench.folder / name.replace(" ", "-").replace(",", "")
    folder.mkdir()
    start = "from jaxtl.cli.main import main; main()"
    command = [sys.executable, "-c", start, "run", "--out", "run", *bench.sizes.run, *options]
    try:
        done = run_process(command, folder, bench.deadline, {**bench.environment, **_apart(cache)})
    except (JaxtlError, RuntimeError) as error:
        return {"state": "failed", "reason": str(error)[-2000:], "timings": _timings(folder / "run")}
    what = f"jaxtl run {' '.join((*bench.sizes.run, *options))}, {name}"
    timings = _timings(folder / "run")
    time = {"what": what, "count": None, "first_seconds": done.seconds, "seconds": []}
    numbers = {
        f"{name}, peak of host memory, GiB": done.peak_bytes / 2**30,
        f"{name}, seconds of processor time": done.cpu_seconds,
        f"{name}, MiB in the caches afterwards": _size(cache) / 2**20,
        **{f"{name}, {what}": value for what, value in _found(folder / "run").items()},
    }
    return {
        "times": [time], "numbers": numbers, "timings": timings,
        "headline": f"{done.seconds:.1f} s; " + "; ".join(f"{k} {v}" for k, v in _flat(timings).items()),
    }  # fmt: skip


def _apart(cache: Path) -> dict[str, str]:
    """Nothing of the user's own caches helps, whichever library keeps one."""
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {
        "XDG_CACHE_HOME": str(cache), "CUDA_CACHE_PATH": str(cache / "cuda"), "PYTHONPATH": paths,
    }  # fmt: skip


def _timings(folder: Path) -> dict[str, Any]:
    """The run's own seconds, or those of the runs in it, as they are."""
    found = sorted(folder.rglob("timings.json"))
    records = {str(each.parent.relative_to(folder)): json.loads(each.read_text()) for each in found}
    return records.get(".", records)


def _flat(timings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in timings.items() if isinstance(value, int | float)}


def _found(folder: Path) -> dict[str, float]:
    """Test accuracy after the last epoch, and the 10-NN accuracies."""
    found: dict[str, float] = {}
    if (folder / "history.csv").exists():
        with (folder / "history.csv").open(newline="") as stream:
            found["test accuracy"] = float(list(csv.DictReader(stream))[-1]["test_accuracy"])
    if (folder / "scores.csv").exists():
        with (folder / "scores.csv").open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["metric"] == FIVE_FOLDS]
        for row in rows:
            found[f"10-NN accuracy {row['stage']}, {row['space']}"] = float(row["value"])
    return found


def _size(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())


def programs(bench: Bench) -> Iterator[Step]:
    """Training and frozen layers in every form under every choice of XLA's options.

    Each combination has a process of its own, since some crash: loops in CUDA graphs did, at the second
    execution.
    """
    sizes = bench.sizes
    for form, options in _COMBINATIONS[: sizes.combinations]:
        chosen = {"form": form, "options": options}
        yield Step(
            f"training, {form}, {options}",
            partial(_afresh, bench, "gpu.programs.training", kept=sizes.kept, steps=sizes.steps,
                    repeats=sizes.repeats - 1, **chosen),
        )  # fmt: skip
        for batch in sizes.trunk_batches:
            yield Step(
                f"frozen layers, {form}, {options}, batch {batch}",
                partial(bench.call, "gpu.programs.trunk", n=sizes.trunk, batch=batch, **chosen),
            )


def _afresh(bench: Bench, function: str, **arguments: Any) -> Result:
    bench.dismiss()
    return bench.call(function, **arguments)


def maps(bench: Bench) -> Iterator[Step]:
    """LLE, neighbours, t-SNE and PCA, from host memory to host memory, with their parts."""
    sizes, most = bench.sizes, max(bench.sizes.mapped)
    yield Step("features for the maps", partial(bench.collect, most), seconds=_LONG_SECONDS)
    for n in sizes.mapped:
        small = n == min(sizes.mapped)
        fixed = {"n": n, "repeats": sizes.repeats if small else 1, "seconds": _LONG_SECONDS}
        yield on_features(bench, f"LLE, {n:,}", "reduced", method="lle", backend="jaxtl", **fixed)
        for k in (sizes.neighbors, 90):
            yield on_features(bench, f"{k} neighbours, {n:,}", "neighbors", k=k, **fixed)
        yield on_features(bench, f"t-SNE, {n:,}", "reduced", "cuml", method="tsne", backend="cuml", **fixed)
        yield on_features(bench, f"PCA, {n:,}", "reduced", "cuml", method="pca", backend="cuml", **fixed)


def on_features(
    bench: Bench, name: str, function: str, needs: str = "", *, n: int, seconds: float = STEP_SECONDS,
    apart: bool = False, **arguments: Any,
) -> Step:  # fmt: skip
    """A step of the maps' process, or of one of its own, on the first n features."""
    call = bench.call_apart if apart else bench.call
    work = lambda: call(f"gpu.maps.{function}", path=bench.features(n), n=n, **arguments)  # noqa: E731
    return Step(name, work, needs, seconds)


# What t-SNE is given beyond the defaults; rates are of the first phase, in points, and the second phase's is
# twice that; "fixed" goes past jaxtl. In openTSNE, with cells as coarse as cuML's, 10,000 digits come to a
# divergence of 2.17, with its own to 2.03; rates alone to 2.07: exact forces have to show it.
_VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "rate n/4": {"rate": 1 / 4},
    "n_iter 1000": {"n_iter": 1000},
    "rate n/2": {"rate": 1 / 2},
    "rate n/6": {"rate": 1 / 6},
    "n_iter 750": {"n_iter": 750},
    "n_iter 1500": {"n_iter": 1500},
    "rate n/4, n_iter 1000": {"rate": 1 / 4, "n_iter": 1000},
    "rate n/2, n_iter 1000": {"rate": 1 / 2, "n_iter": 1000},
    "early 500": {"early_exaggeration_iter": 500},
    "momentum 0.5 first": {"fixed": {"pre_momentum": 0.5}},
    "random start": {"initialization": "random"},
}
_FIRST = ("rate n/4", "n_iter 1000")
# Forces without cells: each by a process of its own, since Barnes-Hut has been seen to hang. The gradient of
# "exact" has a factor of 4 that the others' has not.
_UNCUT: dict[str, dict[str, Any]] = {
    "exact": {"rate": 1 / 48, "fixed": {"method": "exact"}},
    "exact, rate n/16": {"rate": 1 / 16, "fixed": {"method": "exact"}},
    "Barnes-Hut": {"fixed": {"method": "barnes_hut"}},
    "Barnes-Hut, rate n/4": {"rate": 1 / 4, "fixed": {"method": "barnes_hut"}},
}


def tsne(bench: Bench) -> Iterator[Step]:
    """t-SNE's divergence and 10-NN accuracy beside openTSNE's, and what makes it worse where it is."""
    n, large, small = bench.sizes.varied, max(bench.sizes.mapped), min(bench.sizes.compared)
    for name, given in _UNCUT.items():
        if name.startswith("exact"):
            yield _variant(bench, name, n, seconds=25, apart=True, **given)
    for name in _FIRST:
        yield _variant(bench, name, n, **_VARIANTS[name])
    yield _variant(bench, "openTSNE", n, "opentsne", seconds=_LONG_SECONDS)
    if small < n:
        yield _variant(bench, "openTSNE", small, "opentsne")
        yield _variant(bench, "default", small)
    if large > n:
        yield _variant(bench, "rate n/4", large, **_VARIANTS["rate n/4"])


def variants_of_tsne(bench: Bench) -> Iterator[Step]:
    """The rest of them."""
    n, large = bench.sizes.varied, max(bench.sizes.mapped)
    for name, given in _VARIANTS.items():
        if name not in ("default", *_FIRST):
            yield _variant(bench, name, n, **given)
    if large > n:
        yield _variant(bench, "n_iter 1000", large, **_VARIANTS["n_iter 1000"])
        yield _variant(bench, "exact", large, seconds=40, apart=True, **_UNCUT["exact"])
    for name, given in _UNCUT.items():
        if not name.startswith("exact"):
            yield _variant(bench, name, n, seconds=20, apart=True, **given)
    if bench.thorough:
        yield _variant(bench, "openTSNE", large, "opentsne", seconds=600)


def _variant(
    bench: Bench, name: str, n: int, backend: str = "cuml", seconds: float = STEP_SECONDS,
    apart: bool = False, **given: Any,
) -> Step:  # fmt: skip
    needs = "cuml" if backend == "cuml" else ""
    return on_features(
        bench, f"{name}, {n:,}", "tsne_variant", needs, n=n, seconds=seconds, apart=apart,
        variant=name, backend=backend, given=given,
    )  # fmt: skip


def roofline(bench: Bench) -> Iterator[Step]:
    """The network and a training step beside the card's own rates."""
    sizes, ceilings = bench.sizes, {}
    form, options = _PROPOSED

    def measure() -> Result:
        result = bench.call(
            "gpu.programs.ceilings", size=sizes.product, mebibytes=sizes.mebibytes, repeats=5 * sizes.repeats
        )
        ceilings.update(result["ceilings"])
        return result

    def forward(form: str, options: str, precision: str) -> Result:
        return bench.call(
            "gpu.programs.forward", form=form, options=options, precision=precision,
            batch=sizes.trunk_batches[0], repeats=5 * sizes.repeats, ceilings=ceilings,
        )  # fmt: skip

    yield Step("the card's own rates", measure)
    for chosen in _COMBINATIONS[:2]:
        for precision in PRECISIONS[:1] if sizes.quick else PRECISIONS:
            name = f"network, {chosen[0]}, {chosen[1]}, {precision}"
            yield Step(name, partial(forward, *chosen, precision))
    yield Step(
        "training step",
        partial(bench.call, "gpu.programs.training", form=form, options=options, kept=sizes.kept,
                steps=sizes.steps, repeats=sizes.repeats),
    )  # fmt: skip


def torch(bench: Bench) -> Iterator[Step]:
    """PyTorch on the same network, compiled and in CUDA graphs."""
    sizes = bench.sizes
    fixed = {"batch": sizes.trunk_batches[0], "repeats": 5 * sizes.repeats}
    learn = {"kept": sizes.kept, "repeats": sizes.repeats}
    call = partial(partial, bench.call)
    module = "peers.torch_graphs"
    long = {"needs": "torch", "seconds": _LONG_SECONDS}
    yield Step(
        "network, highest, compiled", call(f"{module}.forward", tf32=False, compiled=True, **fixed), **long
    )
    yield Step("training, compiled", call(f"{module}.training", compiled=True, **learn), **long)
    yield Step(
        "network, tf32, compiled", call(f"{module}.forward", tf32=True, compiled=True, **fixed), **long
    )
    yield Step("training, as it is", call(f"{module}.training", compiled=False, **learn), **long)
    yield Step(
        "network, highest, as it is", call(f"{module}.forward", tf32=False, compiled=False, **fixed), **long
    )
