"""jaxtl on a GPU: checks in steps, then the suite of manifests/gpu.toml; each recorded when it has ended.

A step that fails, hangs or takes its process with it costs itself only. The parent imports no JAX.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from benchmarks import gpu_tables, suite, tables
from benchmarks.gpu_cases import CASES, Sizes, Step
from benchmarks.manifest import Manifest, load_manifest, shipped
from benchmarks.workers import ENVIRONMENT, GPU_ENVIRONMENT, Deadline, Worker
from jaxtl import cuda
from jaxtl.errors import JaxtlError
from jaxtl.files import check_writable, write_json, write_text

# A hang must not take the time of all the rest.
_STEP_SECONDS = 240.0
_PEERS = (
    "torch",
    "triton",
    "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12",
    "jax-cuda13-plugin",
    "jax-cuda12-plugin",
)


class Bench:
    """The processes at work: one at a time, so that none holds memory of the card beside another.

    Attributes:
        sizes: how much is measured.
        on_gpu: else everything computes on the CPU.
        deadline: of the step under way.
        folder: for files of a run.
    """

    def __init__(self, sizes: Sizes, on_gpu: bool, limit: float, folder: Path) -> None:
        self.sizes, self.on_gpu, self.folder = sizes, on_gpu, folder
        self.whole, self.deadline = Deadline(limit), Deadline(limit)
        self._module, self._worker, self._workers = "", None, ExitStack()

    @property
    def environment(self) -> dict[str, str]:
        return GPU_ENVIRONMENT if self.on_gpu else ENVIRONMENT

    def begin_step(self) -> None:
        self.deadline = Deadline(min(_STEP_SECONDS, self.whole.left))

    def call(self, function: str, **arguments: Any) -> Any:
        """What `module.function` of the benchmarks gives, in the process that the last call used too."""
        module, _, name = function.rpartition(".")
        if module != self._module:
            self.dismiss()
            worker = Worker(f"benchmarks.{module}", self.deadline, self.environment)
            self._module, self._worker = module, self._workers.enter_context(worker)
        self._worker.deadline = self.deadline
        return self._worker.call(name, **arguments)

    def call_apart(self, function: str, *, on_cpu: bool = False, **arguments: Any) -> Any:
        """The same in a process of its own, beside the other."""
        module, _, name = function.rpartition(".")
        environment = ENVIRONMENT if on_cpu else self.environment
        with Worker(f"benchmarks.{module}", self.deadline, environment) as worker:
            return worker.call(name, **arguments)

    def dismiss(self) -> None:
        """End the process; the next call starts another."""
        self._workers.close()
        self._module = ""

    def collect(self) -> dict[str, Any]:
        """Extract all features that maps need."""
        path = self.folder / "features.npz"
        return self.call("gpu_network.collect", n=max(self.sizes.mapped), path=str(path))

    def features(self) -> str:
        """Their file; where the maps' own step has not run, this makes it."""
        path = self.folder / "features.npz"
        if not path.exists():
            self.collect()
        return str(path)

    def lacking(self, needs: str) -> str | None:
        """Why a step cannot run here."""
        if needs == "cuml" and (fault := cuda.cuml_fault()):
            return f"{fault.what}; {fault.remedy}"
        if needs in ("cuml", "gpu") and not self.on_gpu:
            return "needs the GPU; leave out --cpu"
        return None


def run(
    out: Path, sizes: Sizes, cases: tuple[str, ...] | None, limit: float, on_gpu: bool
) -> tuple[list[Path], list[str]]:
    """Run checks and cases; returns the two files, written after every step and round, and what failed.

    Args:
        out: the folder of gpu.json and gpu.md.
        sizes: how much is checked; the quick ones come with the cases of the suite `smoke`.
        cases: names of CASES and of the manifest's cases, None for all; the checks come first.
        limit: seconds; what has not begun by then is recorded as not run.
        on_gpu: False computes on the CPU, without what needs a GPU.

    Raises:
        JaxtlError: an unknown case; no GPU that JAX can use.
        OSError: a folder that cannot be written to.
    """
    manifest = _manifest(sizes.quick, on_gpu)
    checks, manifest = _chosen(cases, manifest)
    if on_gpu:
        check_gpu()
    paths = [out / "gpu.json", out / "gpu.md"]
    for path in paths:
        check_writable(path)
    deadline = Deadline(limit)

    def save(record: dict[str, Any]) -> None:
        record["minutes"] = round(deadline.elapsed / 60, 2)
        write_json(paths[0], record)
        write_text(paths[1], render(record))

    record = _header(manifest, sizes, deadline, on_gpu)
    with tempfile.TemporaryDirectory(prefix="jaxtl-gpu-") as folder:
        bench = Bench(sizes, on_gpu, limit, Path(folder))
        try:
            for name in checks:
                for step in CASES[name](bench):
                    record["steps"].append({"case": name, **_done(bench, name, step)})
                    _take_environment(record)
                    save(record)
        finally:
            bench.dismiss()
    if manifest.entries:
        suite.run(manifest, record, deadline, save)
    return paths, failures(record)


def check_gpu() -> None:
    """Raises JaxtlError where JAX has no GPU here."""
    if fault := cuda.gpu_fault() or cuda.jax_gpu_fault():
        raise JaxtlError(f"no GPU to measure: {fault.what}; {fault.remedy}; or --cpu, to try the steps out")


def _manifest(quick: bool, on_gpu: bool) -> Manifest:
    found = load_manifest(shipped("smoke" if quick else "gpu"))
    return replace(found, name="gpu", device="gpu" if on_gpu else "cpu")


def _chosen(cases: tuple[str, ...] | None, manifest: Manifest) -> tuple[list[str], Manifest]:
    """Names of checks, and the manifest with the cases among the names."""
    if cases is None:
        return list(CASES), manifest
    known = (*CASES, *dict.fromkeys(entry.name for entry in manifest.entries))
    unknown = [name for name in cases if name not in known]
    if unknown or not cases:
        raise JaxtlError(f"--only: got {', '.join(unknown) or 'nothing'}; the cases are {', '.join(known)}")
    entries = tuple(entry for entry in manifest.entries if entry.name in cases)
    return [name for name in CASES if name in cases], replace(manifest, entries=entries)


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
    found += [
        f"{row['case']}, {row['peer']}: {row['reason']}" for row in record["rows"] if row["state"] == "failed"
    ]
    return found


def _done(bench: Bench, case: str, step: Step) -> dict[str, Any]:
    reason = bench.lacking(step.needs)
    if reason:
        return {"step": step.name, "state": "skipped", "reason": reason}
    if not bench.whole.left:
        return {"step": step.name, "state": "not run", "reason": "out of time"}
    click.echo(f"[{bench.whole.elapsed:7.1f} s] {case}: {step.name}", err=True)
    began = bench.whole.elapsed
    bench.begin_step()
    try:
        # NumPy's scalars become Python's here, where an error is the step's own.
        result = json.loads(json.dumps(step.work(), default=lambda value: value.item()))
    except Exception as error:  # whatever it is, the other steps go on
        bench.dismiss()  # a CUDA error spoils its process for good
        result = _failure(bench, error)
    taken = {"wall_seconds": round(bench.whole.elapsed - began, 2)}
    return {"step": step.name, "state": "done", "reason": "", **taken, **result}


def _failure(bench: Bench, error: Exception) -> dict[str, Any]:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if not bench.whole.left:
        return {"state": "not done", "reason": "out of time"}
    if not bench.deadline.left:
        return {"state": "failed", "reason": f"not done within {bench.deadline.seconds:.0f} s"}
    return {"state": "failed", "reason": lines[-1][:500], "traceback": str(error)[-4000:]}


def _header(manifest: Manifest, sizes: Sizes, deadline: Deadline, on_gpu: bool) -> dict[str, Any]:
    driver = cuda.driver()
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
