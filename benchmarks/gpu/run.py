"""jaxtl on a GPU, in three parts of a few minutes each, for a card that is lent for minutes.

Each part is a list of steps, the most valuable first, and each step is recorded when it has ended: a cut
loses nothing. A step that fails, hangs or takes its process with it costs itself only. The parent imports no
JAX.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from benchmarks import suite, tables
from benchmarks.gpu import checks as gpu_checks
from benchmarks.gpu import tables as gpu_tables
from benchmarks.gpu import times as gpu_times
from benchmarks.gpu.cases import Sizes, Step
from benchmarks.gpu.results import headline
from benchmarks.manifest import Manifest
from benchmarks.workers import ENVIRONMENT, GPU_ENVIRONMENT, Deadline, Worker
from jaxtl.errors import JaxtlError
from jaxtl.machine import cuda
from jaxtl.records.files import check_writable, write_json, write_text

# A lent card is had for some minutes at a time, its start included.
LIMIT_SECONDS = 225.0
_PEERS = (
    "torch",
    "triton",
    "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12",
    "jax-cuda13-plugin",
    "jax-cuda12-plugin",
)

PARTS: dict[int, tuple[Callable[[Bench], Iterator[Step]], ...]] = {
    1: (gpu_checks.device, gpu_times.whole, gpu_times.programs),
    2: (
        gpu_checks.device, gpu_times.maps, gpu_times.tsne, gpu_times.torch, gpu_times.roofline,
        gpu_times.variants_of_tsne,
    ),
    3: (
        gpu_checks.device, gpu_checks.network, gpu_checks.agreement, gpu_checks.processes,
        gpu_checks.determinism, gpu_checks.seeds, gpu_checks.precision, gpu_checks.variants,
    ),
}  # fmt: skip
CASES = {case.__name__: case for cases in PARTS.values() for case in cases}


class Bench:
    """The processes at work: one at a time, so that none holds memory of the card beside another.

    Attributes:
        sizes: how much is measured.
        on_gpu: else everything computes on the CPU.
        deadline: of the step under way.
        folder: for files of a run.
        thorough: with what takes minutes.
    """

    def __init__(
        self, sizes: Sizes, on_gpu: bool, limit: float, folder: Path, thorough: bool = False
    ) -> None:
        self.sizes, self.on_gpu, self.folder, self.thorough = sizes, on_gpu, folder, thorough
        self.whole, self.deadline = Deadline(limit), Deadline(limit)
        self._module, self._worker, self._workers = "", None, ExitStack()
        self._collected = 0

    @property
    def environment(self) -> dict[str, str]:
        return GPU_ENVIRONMENT if self.on_gpu else ENVIRONMENT

    def begin_step(self, seconds: float) -> None:
        # Without a card, where steps are only tried out, a busy machine may take its time.
        self.deadline = Deadline(min(seconds if self.on_gpu else 8 * seconds, self.whole.left))

    def call(self, function: str, **arguments: Any) -> Any:
        """What `module.function` of the benchmarks gives, in the process that the last call used too."""
        module, _, name = function.rpartition(".")
        if module != self._module:
            self.dismiss()
            worker = Worker(f"benchmarks.{module}", self.deadline, self._environment(module))
            self._module, self._worker = module, self._workers.enter_context(worker)
        self._worker.deadline = self.deadline
        return self._worker.call(name, **arguments)

    def call_apart(self, function: str, *, on_cpu: bool = False, **arguments: Any) -> Any:
        """The same in a process of its own, beside the other."""
        module, _, name = function.rpartition(".")
        environment = ENVIRONMENT if on_cpu else self._environment(module)
        with Worker(f"benchmarks.{module}", self.deadline, environment) as worker:
            return worker.call(name, **arguments)

    def dismiss(self) -> None:
        """End the process; the next call starts another."""
        self._workers.close()
        self._module = ""

    def _environment(self, module: str) -> dict[str, str]:
        # Another library's own process: what jaxtl does there takes no part of the card.
        return self.environment | ({"JAX_PLATFORMS": "cpu"} if module.startswith("peers.torch") else {})

    def collect(self, n: int) -> dict[str, Any]:
        """Extract the first n images' features, which maps need."""
        path = self.folder / "features.npz"
        result = self.call("gpu.network.collect", n=n, path=str(path))
        self._collected = n
        return result

    def features(self, n: int) -> str:
        """Their file; where it is not there or too small, this makes it."""
        if n > self._collected:
            self.collect(n)
        return str(self.folder / "features.npz")

    def lacking(self, needs: str) -> str | None:
        """Why a step cannot run here."""
        if needs == "cuml" and (fault := cuda.cuml_fault()):
            return f"{fault.what}; {fault.remedy}"
        if needs == "torch" and (absent := [name for name in ("torch", "timm") if not find_spec(name)]):
            return f"{' and '.join(absent)} not installed"
        if needs and not self.on_gpu:
            return "needs the GPU; leave out --cpu"
        return None


def run(
    out: Path,
    sizes: Sizes,
    part: int | None,
    only: tuple[str, ...] | None,
    limit: float,
    on_gpu: bool,
    thorough: bool = False,
) -> tuple[list[Path], list[str]]:
    """Run a part, or some cases; returns the two files, written after every step, and what failed.

    Args:
        out: the folder of part-N.json and part-N.md; without a part they are gpu.json and gpu.md.
        sizes: how much is measured.
        part: of PARTS; None takes the cases of all.
        only: names of the part's cases, None for all.
        limit: seconds; what is under way then is ended, what has not begun is recorded as not run.
        on_gpu: False computes on the CPU, without what needs a GPU.
        thorough: with openTSNE at the largest size, which takes minutes.

    Raises:
        JaxtlError: an unknown case; no GPU that JAX can use.
        OSError: a folder that cannot be written to.
    """
    cases = _chosen(part, only)
    if on_gpu:
        check_gpu()
    name = f"part-{part}" if part else "gpu"
    paths = [out / f"{name}.json", out / f"{name}.md"]
    for path in paths:
        check_writable(path)
    deadline = Deadline(limit)

    def save(record: dict[str, Any]) -> None:
        record["minutes"] = round(deadline.elapsed / 60, 2)
        write_json(paths[0], record)
        write_text(paths[1], render(record))

    record = _header(name, sizes, deadline, on_gpu)
    with tempfile.TemporaryDirectory(prefix="jaxtl-gpu-") as folder:
        bench = Bench(sizes, on_gpu, limit, Path(folder), thorough)
        try:
            for case in cases:
                for step in CASES[case](bench):
                    record["steps"].append({"case": case, **_done(bench, case, step)})
                    _take_environment(record)
                    save(record)
        finally:
            bench.dismiss()
    return paths, failures(record)


def check_gpu() -> None:
    """Raises JaxtlError where JAX has no GPU here."""
    if fault := cuda.gpu_fault() or cuda.jax_gpu_fault():
        raise JaxtlError(f"no GPU to measure: {fault.what}; {fault.remedy}; or --cpu, to try the steps out")


def _chosen(part: int | None, only: tuple[str, ...] | None) -> list[str]:
    """Names of CASES, in their order."""
    known = [case.__name__ for case in PARTS[part]] if part else list(CASES)
    if only is None:
        return known
    unknown = [name for name in only if name not in known]
    if unknown or not only:
        raise JaxtlError(f"--only: got {', '.join(unknown) or 'nothing'}; the cases are {', '.join(known)}")
    return [name for name in known if name in only]


def render(record: dict[str, Any]) -> str:
    """Markdown: the suite's tables, then the steps'."""
    return tables.render(record) + gpu_tables.render(record)


def failures(record: dict[str, Any]) -> list[str]:
    """Steps that failed and checks that did not pass, a line each."""
    found = []
    for step in record["steps"]:
        where = f"{step['case']}, {step['step']}"
        if step["state"] == "failed":
            found.append(f"{where}: {step['reason']}")
        found += [
            f"{where}: {check['check']} is {check['value']:.4g}, must be {check['bound']}"
            for check in step.get("checks", ())
            if not check["passed"]
        ]
    return found


def _done(bench: Bench, case: str, step: Step) -> dict[str, Any]:
    """The step's record, once it has ended; its main figures go to standard error."""
    began = bench.whole.elapsed
    if reason := bench.lacking(step.needs):
        found = {"state": "skipped", "reason": reason}
    elif not bench.whole.left:
        found = {"state": "not run", "reason": "out of time"}
    else:
        found = {"state": "done", "reason": "", **_tried(bench, step)}
        found["wall_seconds"] = round(bench.whole.elapsed - began, 2)
    said = headline(found) if found["state"] == "done" else f"{found['state'].upper()}: {found['reason']}"
    click.echo(f"[{bench.whole.elapsed:6.1f} s] {case}: {step.name}: {said}", err=True)
    return {"step": step.name, **found}


def _tried(bench: Bench, step: Step) -> dict[str, Any]:
    bench.begin_step(step.seconds)
    try:
        # NumPy's scalars become Python's here, where an error is the step's own.
        return json.loads(json.dumps(step.work(), default=lambda value: value.item()))
    except Exception as error:  # whatever it is, the other steps go on
        bench.dismiss()  # a CUDA error spoils its process for good
        return _failure(bench, error)


def _failure(bench: Bench, error: Exception) -> dict[str, Any]:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if not bench.whole.left:
        return {"state": "not done", "reason": "out of time"}
    if not bench.deadline.left:
        return {"state": "failed", "reason": f"not done within {bench.deadline.seconds:.0f} s"}
    return {"state": "failed", "reason": lines[-1][:500], "traceback": str(error)[-4000:]}


def _header(name: str, sizes: Sizes, deadline: Deadline, on_gpu: bool) -> dict[str, Any]:
    driver = cuda.driver()
    manifest = Manifest(name, (), deadline.seconds / 60, "gpu" if on_gpu else "cpu", 0, "case", (), 0)
    return {
        **suite.begin(manifest, deadline),
        "driver": driver and {"cuda": driver.cuda, "gpus": [gpu._asdict() for gpu in driver.gpus]},
        "versions": {name: version for name in _PEERS if (version := _version(name))},
        "sizes": asdict(sizes),
        "steps": [],
    }


def _version(name: str) -> str | None:
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _take_environment(record: dict[str, Any]) -> None:
    """What the first step finds of the machine belongs to the whole."""
    environment = record["steps"][-1].pop("environment", None)
    if environment:
        record["versions"] = {**environment["versions"], **record["versions"]}
        record["devices"] = environment["devices"]
