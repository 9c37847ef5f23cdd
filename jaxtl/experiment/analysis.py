"""The steps that runs and comparisons share: what is made of two stages' features, up to the page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import KEEPING, RESEED_KEPT
from jaxtl.experiment import scores
from jaxtl.experiment.embeddings import Embedder, Job
from jaxtl.experiment.schedule import Step
from jaxtl.machine.child import Pool
from jaxtl.machine.devices import environment
from jaxtl.machine.engines import default_engine
from jaxtl.machine.process import Silence
from jaxtl.methods import Parameter
from jaxtl.metrics.separability import KNN_CANDIDATES
from jaxtl.neighbors import exact_neighbors
from jaxtl.progress import Notify, Progress
from jaxtl.records.arrays import Embedding
from jaxtl.reduction.tsne import FROM_COORDS
from jaxtl.report.document import write_report
from jaxtl.runs.figures import Drawer
from jaxtl.runs.folder import PARTS, RunFile, RunFolder, figure_names
from jaxtl.settings import STAGES, ComparisonConfig, RunConfig

# The method whose embeddings depend on the seed.
_SEEDED = "tsne"
# Beyond, one more t-SNE map would take a good part of the run's time; below, it is made to see what it keeps.
RESEEDED_UP_TO = 5000


class Analysis:
    """What the steps do that follow from features. Each reads and writes files of the run folder.

    Attributes:
        under_way: names of the steps that are worked off together now.
    """

    def __init__(
        self,
        config: RunConfig | ComparisonConfig,
        run: RunFolder,
        embedder: Embedder,
        drawer: Drawer,
        elsewhere: Pool,
        notify: Notify,
    ) -> None:
        self._settings, self.run = config, run
        self.embedder, self.drawer, self.elsewhere, self.notify = embedder, drawer, elsewhere, notify
        self.under_way: Collection[str] = ()

    def close(self) -> None:
        """End all processes, in the middle of their work too, but for idle ones that outlast a run."""
        for processes in (self.embedder, self.drawer, self.elsewhere):
            processes.close()

    def here(self, then: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What numbers hang on beside the configuration, as it is now.

        Args:
            then: as it was, where no step that is left passes images through the network: what follows from
                these alone is taken from it.
        """
        return environment()

    def environment(self) -> Step:
        return Step("environment", "Environment", (self.run.environment,), (), self._environment)

    def neighbors_and_embeddings(self, stage: str) -> Iterator[Step]:
        run, neighbors = self.run, f"neighbors_{stage}"
        yield Step(
            neighbors,
            f"Nearest neighbours {stage}",
            (run.neighbors[stage],),
            (stage,),
            partial(self._find, stage),
        )
        for method in self._settings.methods:
            yield Step(
                embedding_step(method, stage),
                self.embedder.title(method, stage),
                (run.embeddings[stage, method],),
                (stage, neighbors, *self._turned_onto(method, stage)),
                partial(self._embed, method, stage),
                self.embedder.lane(method),
            )
        for method in self._free(stage):
            yield Step(
                _free(method),
                f"{self.embedder.title(method, stage)}, not from the map before",
                (),
                (stage, neighbors, *self._turned_onto(method, stage)),
                partial(self._embed_free, method),
                self.embedder.lane(method),
                leaves=(run.free_embeddings[method],),
            )

    def scores_of(self, stage: str, training: bool) -> Iterator[Step]:
        """Steps for a stage's numbers; `training`: whether there are training features."""
        needs = {
            "features": (stage, f"training_features_{stage}", f"neighbors_{stage}"),
            "embeddings": (
                stage,
                f"neighbors_{stage}",
                *self._embeddings(stage),
                *map(_free, self._free(stage)),
            ),
        }
        for part, title in (("features", "Scores of features"), ("embeddings", "Scores of maps")):
            yield Step(
                _scores(part, stage),
                f"{title} {stage}",
                (),
                needs[part],
                partial(self._measure, stage, part, training),
                beside_training=stage == "before",
                leaves=(self.run.stage_scores[stage, part],),
            )

    def conclusions(self, tuned: bool, classes: bool) -> Iterator[Step]:
        """Steps for what is said of both stages, the figures and the page.

        Args:
            tuned: whether fine-tuning lies between the stages.
            classes: whether there are numbers of classes.
        """
        run = self.run
        yield from self._again()
        yield Step(
            "scores_change",
            "Scores of the change",
            (),
            (*STAGES, *(f"neighbors_{stage}" for stage in STAGES), "finetune"),
            partial(self._compare, tuned),
            leaves=(run.change_scores,),
        )
        of_classes = (run.class_scores,) if classes else ()
        outputs = (run.scores, *of_classes, run.image_rows, run.claims, run.measures)
        needs = (*(_scores(part, stage) for stage in STAGES for part in PARTS), "scores_change")
        needs += ("reseeded",) * self._reseeds
        yield Step("scores", "Claims", outputs, needs, partial(self._score, tuned, classes), is_drawn=True)
        yield from self._figures()
        # All that it shows, so that it is made again where that changes and no score does.
        maps = (*self._embeddings("before"), *self._embeddings("after"))
        needs = ("environment", *STAGES, "finetune", *maps, "layers", "scores")
        yield Step("report", "Report", (run.report,), needs, self._write_report)

    @property
    def _reseeds(self) -> bool:
        return _SEEDED in self._settings.methods and self.embedder.points <= RESEEDED_UP_TO

    def _again(self) -> Iterator[Step]:
        """t-SNE before once more with another seed, which tells what moves where no feature has changed.

        Last of what is embedded: on a machine with few cores it is made while the network trains.
        """
        if self._reseeds:
            title = f"{self.embedder.title(_SEEDED, 'before')}, another seed"
            needs = "before", "neighbors_before"
            lane, leaves = self.embedder.lane(_SEEDED), (self.run.reseeded,)
            yield Step("reseeded", title, (), needs, self._reseed, lane, leaves=leaves)

    def _figures(self) -> Iterator[Step]:
        of_stage = {stage: self._embeddings(stage) for stage in STAGES}
        needs = {"history": ("finetune",), "layers": ("layers",)}
        needs |= {stage: ("scores", *of_stage[stage]) for stage in STAGES}
        needs["comparison"] = ("scores", *of_stage["before"], *of_stage["after"])
        # What takes longest first, so that no process draws alone at the end.
        for name in sorted(figure_names(self._settings), key="comparison".__ne__):
            yield Step(
                f"figure_{name}",
                f"Figure {name}",
                self.run.figures[name],
                needs[name],
                partial(self.drawer.draw, name),
                draws=True,
            )

    def _embeddings(self, stage: str) -> tuple[str, ...]:
        return tuple(embedding_step(method, stage) for method in self._settings.methods)

    def _turned_onto(self, method: str, stage: str) -> tuple[str, ...]:
        """Steps that make what an embedding is turned onto."""
        before, after = STAGES
        return (embedding_step(method, before),) if self._settings.align and stage == after else ()

    def _free(self, stage: str) -> list[str]:
        """Methods whose embeddings of a stage are made a second time, free to start where they would."""
        return [m for m in self._settings.methods if stage == STAGES[1] and self.embedder.makes_free(m)]

    def _environment(self, progress: Progress) -> None:
        self.run.environment.write(self.here())

    def _find(self, stage: str, progress: Progress) -> None:
        # As many as any embedding or number needs, so that they are found once.
        wanted = [KNN_CANDIDATES, *KEEPING, self._settings.n_neighbors, int(3 * self._settings.perplexity)]
        values = self.run.features[stage].read().values
        self.run.neighbors[stage].write(exact_neighbors(values, min(max(wanted), len(values) - 1)))

    def _embed(self, method: str, stage: str, progress: Progress) -> None:
        file, params = self.run.embeddings[stage, method], self._settings.reduction(method)
        self._make(method, stage, file, params, progress)

    def _embed_free(self, method: str, progress: Progress) -> None:
        free, after = self.run.free_embeddings[method], STAGES[1]
        made = self.run.embeddings[after, method]
        # Of a run that goes on elsewhere another library may have made the embedding: then it was but turned.
        # One that is being made begins with the map before, and is not waited for.
        if embedding_step(method, after) in self.under_way or _from_coords(made.read()):
            params = {**self._settings.reduction(method), "initialization": "pca"}
            self._make(method, after, free, params, progress)

    def _make(
        self,
        method: str,
        stage: str,
        file: RunFile[Embedding],
        params: dict[str, Parameter],
        progress: Progress,
    ) -> None:
        try:
            self.embedder.make(self._job(method, stage, file, params), progress, self.notify)
        except JaxtlError as error:
            # Another library or more time, which a resumed run may be given, can help.
            raise self.run.mended(error) from None

    def _job(self, method: str, stage: str, file: RunFile[Embedding], params: dict[str, Parameter]) -> Job:
        run, before = self.run, STAGES[0]
        return Job(
            method,
            stage,
            run.features[stage].path,
            run.neighbors[stage].path,
            file.path,
            params,
            run.embeddings[before, method].path if self._turned_onto(method, stage) else None,
        )

    def _reseed(self, progress: Progress) -> None:
        run = self.run
        params = {**self._settings.reduction(_SEEDED), "seed": self._settings.seed ^ 1}
        try:
            self.embedder.make(self._job(_SEEDED, "before", run.reseeded, params), progress, self.notify)
        except JaxtlError as error:
            # A number less, and no run that fails for it.
            self.notify(f"{RESEED_KEPT.label}: left out ({error})")

    def _measure(self, stage: str, part: str, training: bool, progress: Progress) -> None:
        methods = list(self._settings.methods)
        given = {"stage": stage, "part": part, "methods": methods, "training": training}
        self._tell_all(self.call(scores.measure, given, progress))

    def _compare(self, tuned: bool, progress: Progress) -> None:
        self._tell_all(self.call(scores.compare, {"tuned": tuned}, progress))

    def _score(self, tuned: bool, classes: bool, progress: Progress) -> None:
        scores.score(self.run, self._settings.methods, self._settings.seed, tuned, classes)

    def _tell_all(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.notify(line)

    def call(self, function: Callable[..., Any], given: dict[str, Any], progress: Progress) -> Any:
        """A function of `jaxtl.experiment.scores`, in a process of its own where JAX computes on a GPU.

        There threads of this process would keep the one that feeds the device waiting for Python's lock.
        """
        arguments = {"folder": str(self.run), "seed": self._settings.seed, **given}
        if default_engine() == "cpu":
            return function(**arguments, progress=progress)
        try:
            return self.elsewhere.call(f"{scores.__name__}:{function.__name__}", arguments, progress)
        except Silence as error:
            raise self.run.mended(JaxtlError(f"{self.run}: {function.__name__}: {error}")) from None

    def _write_report(self, progress: Progress) -> None:
        write_report([self.run], self.run.report.path)


def _from_coords(made: Embedding) -> bool:
    return made.params.get("initialization") == FROM_COORDS


def embedding_step(method: str, stage: str) -> str:
    """The name of the step that makes an embedding."""
    return f"{method}_{stage}"


def _free(method: str) -> str:
    return f"{method}_free"


def _scores(part: str, stage: str) -> str:
    return f"scores_{part}_{stage}"
