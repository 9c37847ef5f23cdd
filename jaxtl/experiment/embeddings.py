"""The embeddings of a run: which library makes each, and in which process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxtl.costs import table as costs
from jaxtl.errors import JaxtlError
from jaxtl.machine.host import cpu_count
from jaxtl.machine.memory import available_memory
from jaxtl.methods import EXTRAS, library_label, method_label
from jaxtl.progress import Notify, Progress
from jaxtl.ranges import settle
from jaxtl.records.arrays import Embedding, Features, Neighbors
from jaxtl.reduction import reduce, starts_from_coords
from jaxtl.reduction.choice import Choice, choose, on_cpu, parse_libraries, preferred
from jaxtl.reduction.cuml import RETRIED
from jaxtl.reduction.process import Reducer, Reducers
from jaxtl.reduction.tsne import FFT_FROM
from jaxtl.settings import TIME_LIMIT

_CUML = "cuml"
# What a process for embeddings imports before it is asked for one.
_PRELOAD = {
    _CUML: ("cuml.decomposition", "cuml.manifold", "cuml.neighbors", "openTSNE"),
    "opentsne": ("openTSNE", "sklearn.decomposition"),
    "intelex": ("daal4py", "openTSNE", "sklearn.decomposition"),
    "sklearn": ("sklearn.decomposition",),
    "jaxtl": ("jaxtl.lle.estimator",),
}
_ON_CPU = "cpu"
# Points up to which the embedding is made too that a method would make if it were not to begin with another's
# coordinates: as long as that is a matter of seconds.
FREE_UP_TO = 5000


@dataclass(frozen=True)
class EmbeddingOptions:
    """What embeddings are computed with, which a resumed run may change; each records its own.

    Attributes:
        backend: libraries with commas between: a method is computed by the first that has it, else by what
            `jaxtl.reduction.choice.choose` finds.
        time_limit: seconds for one embedding by cuML, > 0.

    Raises JaxtlError for another time, and for a backend that is unknown.
    """

    backend: str = "auto"
    time_limit: float = TIME_LIMIT

    def __post_init__(self) -> None:
        settle(self)
        parse_libraries(self.backend)


class Job(NamedTuple):
    """One embedding to make.

    Attributes:
        features, neighbors, onto: files of what it is made of: the features, their exact neighbours, and the
            embedding that it is turned onto, if any.
        target: where it goes.
    """

    method: str
    stage: str
    features: Path
    neighbors: Path
    target: Path
    params: dict[str, Any]
    onto: Path | None = None


def begin(methods: Sequence[str], options: EmbeddingOptions, reducers: Reducers) -> None:
    """Start the process of cuML where that makes any of these methods' embeddings.

    Its import takes longer than all that comes before it is needed. What is wrong with methods or libraries,
    an `Embedder` of them says.
    """
    with contextlib.suppress(JaxtlError):
        if any(choose(method, preferred(method, options.backend)).name == _CUML for method in methods):
            process = reducers.take(_CUML, options.time_limit, _PRELOAD[_CUML])
            reducers.give_back(_CUML, process)


class Embedder:
    """Makes embeddings.

    Args:
        methods: some of "pca", "tsne", "lle".
        options: what with.
        points: of one embedding; an attribute, too.
        align: whether embeddings after are turned onto those before.
        made: by method, the library that others of these embeddings are by, which are there already.
        reducers: the processes that make them; by default this one's own.

    Raises JaxtlError where a library that is asked for cannot work.
    """

    def __init__(
        self,
        methods: Sequence[str],
        options: EmbeddingOptions,
        points: int,
        align: bool = False,
        made: Mapping[str, str] = MappingProxyType({}),
        reducers: Reducers | None = None,
    ) -> None:
        self._options, self.points, self._align = options, points, align
        self._reducers = reducers or Reducers()
        self.choices = {
            method: _choice(method, options.backend, points, made.get(method)) for method in methods
        }

    @property
    def notes(self) -> list[str]:
        """What "auto" took because it is installed, and how that is left out, a line each."""
        told = []
        for method, choice in self.choices.items():
            if choice.name in EXTRAS and preferred(method, self._options.backend) == "auto":
                other = next(name for name in on_cpu(method) if name not in EXTRAS)
                taken = f"{method_label(method)} by {library_label(choice.name)}, which is installed"
                told.append(f"{taken}; --backend {other} takes {library_label(other)}")
        return told

    def get_ready(self, methods: Iterable[str]) -> None:
        """Start the processes for these methods' embeddings, if any, while something else works."""
        for kept_for in {self._process(method) for method in methods} - {None}:
            self._reducers.give_back(kept_for, self._take(kept_for))

    def close(self) -> None:
        """End processes as `Reducers.stop` does."""
        self._reducers.stop()

    def title(self, method: str, stage: str) -> str:
        """Such as "t-SNE before, openTSNE"."""
        return f"{method_label(method)} {stage}, {library_label(self.choices[method].name)}"

    def lane(self, method: str) -> str:
        """What a method's embeddings take turns in, if anything: one process imports cuML, slowly."""
        return _CUML if self._process(method) == _CUML else ""

    def makes_free(self, method: str) -> bool:
        """Whether the embedding after is made a second time, from the start that the method has by itself.

        One that is turned alone has the same scores as before it was, and needs none to be compared with.
        """
        begins = starts_from_coords(method, self.choices[method].name)
        return self._align and begins and self.points <= FREE_UP_TO

    def check_memory(self, left: Mapping[str, int], notify: Notify, resumed: bool = False) -> None:
        """Refuse embeddings that would not fit into the memory that is available, as far as costs are known.

        Args:
            left: how many embeddings by each method.
            notify: told of one that may not fit.
            resumed: whether the run has begun, so that other settings are no remedy.

        Raises JaxtlError with what would fit.
        """
        known, available = costs.reference(), available_memory()
        for method, count in left.items():
            choice = self.choices[method]
            at_once = count if self._by_interpolation(method) else 1
            if not choice.on_gpu and (
                doubt := costs.check_memory(
                    known, method, choice.name, self.points, available, at_once, resumed
                )
            ):
                notify(doubt)

    def expected(self, left: Mapping[str, int], known: costs.Costs) -> list[tuple[str, float | None]]:
        """Name and seconds of so many embeddings of each method on a CPU, None where nothing is known."""
        known_seconds = []
        for method, count in left.items():
            choice = self.choices[method]
            cost = None if choice.on_gpu else known.of(method, choice.name)
            # One that is turned onto another waits for it.
            rounds = 1 if self._by_interpolation(method) and not self._align else count
            rounds += self.makes_free(method)
            known_seconds.append((method_label(method), cost and rounds * cost.seconds_at(self.points).value))
        return known_seconds

    def make(self, job: Job, progress: Progress, notify: Notify) -> None:
        """Make one embedding, to its file.

        Raises:
            JaxtlError: as `jaxtl.reduce`; a process that died or took too long.
        """
        choice, kept_for = self.choices[job.method], self._process(job.method)
        if choice.fault:
            made_by = f"{method_label(job.method)} by {library_label(choice.name)}"
            notify(f"{made_by}: {choice.fault.what}; {choice.fault.remedy}")
        embedding = self._here(job, progress) if kept_for is None else self._apart(job, kept_for, progress)
        for name, words in (("warning", ""), ("retried_after_nan", RETRIED)):
            if told := embedding.diagnostics.get(name):
                notify(f"{method_label(job.method)} {job.stage}: {words or told}")

    def _process(self, method: str) -> str | None:
        """What the processes that make a method's embeddings are kept for; None where this one makes them.

        A CUDA error spoils its process for good, and some of cuML's calls hang. On a CPU, other steps hold
        BLAS to one thread while embeddings take what they need, and openTSNE holds the interpreter's lock
        most of the time, so that all else in its process would wait for it; on one core none of this matters.
        """
        choice = self.choices[method]
        if choice.on_gpu:
            return None if choice.name == "jaxtl" else choice.name
        return _ON_CPU if cpu_count() > 1 else None

    def _preload(self, kept_for: str) -> tuple[str, ...]:
        names = {choice.name for choice in self.choices.values() if not choice.on_gpu}
        libraries = sorted(names) if kept_for == _ON_CPU else [kept_for]
        return tuple(dict.fromkeys(chain(*(_PRELOAD.get(name, ()) for name in libraries))))

    def _by_interpolation(self, method: str) -> bool:
        """Whether openTSNE's interpolation makes them, one thread's work for the most part: on two cores
        two embeddings of 10,000 points take 36 s side by side, and 72 s one after the other.
        """
        choice = self.choices[method]
        return choice.name == "opentsne" and self.points >= FFT_FROM and cpu_count() > 1

    def _here(self, job: Job, progress: Progress) -> Embedding:
        embedding = reduce(
            Features.load(job.features),
            job.method,
            self.choices[job.method].name,
            known_neighbors=Neighbors.load(job.neighbors),
            onto=Embedding.load(job.onto) if job.onto else None,
            progress=progress,
            **job.params,
        )
        embedding.save(job.target)
        return embedding

    def _apart(self, job: Job, kept_for: str, progress: Progress) -> Embedding:
        workers = {"n_jobs": max(1, cpu_count() // 2)} if self._by_interpolation(job.method) else {}
        reducer = self._take(kept_for)
        try:
            return reducer.reduce(
                job.features,
                job.target,
                job.method,
                self.choices[job.method].name,
                {**job.params, **workers},
                neighbors_path=job.neighbors,
                progress=progress,
                threads=max(1, cpu_count() // 2),
                onto_path=job.onto,
            )
        finally:
            self._reducers.give_back(kept_for, reducer)

    def _take(self, kept_for: str) -> Reducer:
        """A process that has nothing to do, or a new one."""
        limit = float("inf") if kept_for == _ON_CPU else self._options.time_limit
        return self._reducers.take(kept_for, limit, self._preload(kept_for))


def _choice(method: str, backend: str, points: int, made: str | None) -> Choice:
    """The library of a method; on a CPU "auto" is the one that made the others, where that can work."""
    library = preferred(method, backend)
    choice = choose(method, library, points)
    if library == "auto" and not choice.on_gpu and made in on_cpu(method):
        return choice._replace(name=made, why="as the others of this run")
    return choice
