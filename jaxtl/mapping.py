"""The maps of a run: which library makes each, in which process, and which of them side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from jaxtl import costs
from jaxtl.errors import JaxtlError
from jaxtl.extraction import Progress
from jaxtl.memory import available_memory
from jaxtl.plots import NAMES
from jaxtl.records import Embedding, Features, Neighbors
from jaxtl.reduction import LIBRARIES, Choice, choose, preferred, reduce
from jaxtl.reduction.process import Reducer
from jaxtl.reduction.tsne import FFT_FROM
from jaxtl.runtime import cpu_count

# What a process for maps imports before it is asked for one.
_PRELOAD = {
    "cuml": ("cuml.decomposition", "cuml.manifold", "cuml.neighbors"),
    "jaxtl": ("jaxtl.lle.device", "jaxtl.lle.estimator"),
    "opentsne": ("openTSNE", "sklearn.decomposition"),
}


@dataclass(frozen=True)
class Means:
    """What maps are computed with, which a resumed run may change; every map records its own.

    Attributes:
        backend: libraries with commas between: a method is computed by the first that has it, else by what
            `jaxtl.reduction.choose` finds.
        time_limit: seconds for one map on a GPU, > 0.
    """

    backend: str = "auto"
    time_limit: float = 900.0


class Job(NamedTuple):
    """One map to make: the files of its features, of their exact neighbours, and where it goes."""

    method: str
    stage: str
    features: Path
    neighbors: Path
    target: Path
    params: dict[str, Any]


class Mapper:
    """Makes maps.

    Args:
        methods: some of "pca", "tsne", "lle".
        means: what with.
        points: of one map.

    Raises JaxtlError where a library that is asked for cannot work.
    """

    def __init__(self, methods: Sequence[str], means: Means, points: int) -> None:
        if not means.time_limit > 0:
            raise JaxtlError(f"time_limit: must be above 0 seconds, got {means.time_limit}")
        self._means, self._points = means, points
        self._processes = contextlib.ExitStack()
        self.choices = {method: choose(method, preferred(method, means.backend)) for method in methods}

    def get_ready(self, methods: Iterable[str]) -> None:
        """Start the process for these methods' maps on a GPU, if any, while something else works."""
        if any(self.choices[method].on_gpu for method in methods):
            _ = self._on_gpu

    def close(self) -> None:
        self._processes.close()
        self.__dict__.pop("_on_gpu", None)

    def title(self, method: str, stages: Sequence[str]) -> str:
        """Such as "t-SNE before and after, openTSNE"."""
        return f"{NAMES[method]} {' and '.join(stages)}, {LIBRARIES[self.choices[method].name]}"

    def together(self, method: str) -> bool:
        """Whether several maps of a method are quicker made side by side than one after another.

        openTSNE's interpolation is one thread's work for the most part: on two cores two maps of 10,000
        points take 36 s side by side, and 72 s one after the other.
        """
        choice = self.choices[method]
        return choice.name == "opentsne" and self._points >= FFT_FROM and cpu_count() > 1

    def check_memory(
        self, left: Mapping[str, int], notice: Callable[[str], None], resumed: bool = False
    ) -> None:
        """Refuse maps that would not fit into the memory that is available, as far as costs are known.

        Args:
            left: how many maps by each method.
            notice: told of one that may not fit.
            resumed: whether the run has begun, so that other settings are no remedy.

        Raises JaxtlError with what would fit.
        """
        known, available = costs.reference(), available_memory()
        for method, count in left.items():
            choice = self.choices[method]
            maps = count if self.together(method) else 1
            if not choice.on_gpu and (
                doubt := costs.check_memory(
                    known, method, choice.name, self._points, available, maps, resumed
                )
            ):
                notice(doubt)

    def expected(self, left: Mapping[str, int], known: costs.Costs) -> list[tuple[str, float | None]]:
        """Name and seconds of so many maps of each method on a CPU, None where nothing is known."""
        found = []
        for method, count in left.items():
            choice = self.choices[method]
            cost = None if choice.on_gpu else known.of(method, choice.name)
            rounds = 1 if self.together(method) else count
            found.append((NAMES[method], cost and rounds * cost.seconds_at(self._points).value))
        return found

    def make(self, jobs: Sequence[Job], progress: Progress, notice: Callable[[str], None]) -> None:
        """Make maps of one method, to their files.

        Raises:
            JaxtlError: as `jaxtl.reduce`; a process that died or took too long.
        """
        choice = self.choices[jobs[0].method]
        if choice.fault:
            made_by = f"{NAMES[jobs[0].method]} by {LIBRARIES[choice.name]}"
            notice(f"{made_by}: {choice.fault.what}; {choice.fault.remedy}")
        if self.together(jobs[0].method):
            made = self._side_by_side(jobs, progress)
        else:
            made = [self._one(job, choice, _share(progress, k, len(jobs))) for k, job in enumerate(jobs)]
        for job, embedding in zip(jobs, made, strict=True):
            for name in ("warning", "retried_after_nan"):
                if found := embedding.diagnostics.get(name):
                    notice(f"{NAMES[job.method]} {job.stage}: {found if found is not True else name}")

    def _one(self, job: Job, choice: Choice, progress: Progress) -> Embedding:
        if choice.on_gpu:
            return self._on_gpu.reduce(
                job.features, job.target, job.method, choice.name, job.params,
                neighbors_path=job.neighbors, progress=progress,
            )  # fmt: skip
        embedding = reduce(
            Features.load(job.features), job.method, choice.name, near=Neighbors.load(job.neighbors),
            progress=progress, **job.params,
        )  # fmt: skip
        embedding.save(job.target)
        return embedding

    def _side_by_side(self, jobs: Sequence[Job], progress: Progress) -> list[Embedding]:
        # Threads would wait for one another: most of openTSNE holds the interpreter's lock.
        fractions = [0.0] * len(jobs)
        workers = max(1, cpu_count() // 2)

        def make(k: int) -> Embedding:
            def tell(fraction: float) -> None:
                fractions[k] = fraction
                progress(sum(fractions) / len(fractions))

            job = jobs[k]
            return reducers[k].reduce(
                job.features, job.target, job.method, self.choices[job.method].name,
                {**job.params, "n_jobs": workers}, neighbors_path=job.neighbors, progress=tell,
            )  # fmt: skip

        with contextlib.ExitStack() as stack:
            preload = _PRELOAD[self.choices[jobs[0].method].name]
            reducers = [stack.enter_context(Reducer(float("inf"), preload)) for _ in jobs]
            pool = stack.enter_context(ThreadPoolExecutor(len(jobs)))
            try:
                return [each.result() for each in [pool.submit(make, k) for k in range(len(jobs))]]
            except BaseException:
                for reducer in reducers:
                    reducer.interrupt()
                raise

    @cached_property
    def _on_gpu(self) -> Reducer:
        # A CUDA error spoils its process for good, and some calls hang: maps on a GPU get one of their own.
        names = {choice.name for choice in self.choices.values() if choice.on_gpu}
        modules = {module for name in names for module in _PRELOAD.get(name, ())}
        return self._processes.enter_context(Reducer(self._means.time_limit, tuple(sorted(modules))))


def _share(progress: Progress, number: int, count: int) -> Progress:
    return lambda fraction: progress((number + fraction) / count)
