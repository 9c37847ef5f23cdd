"""What a sweep found of each combination: a row of numbers, read from the files of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, LOGISTIC_PROBE, METRICS, TEST_ACCURACY
from jaxtl.evaluation.seeds import scores_over_seeds
from jaxtl.metrics.estimates import Estimate, independent
from jaxtl.records.tables import Score
from jaxtl.runs import check
from jaxtl.runs.folder import RunFolder, SweepFolder, run_folders
from jaxtl.sweeps.settings import BUNDLED, Combination

DONE, REFUSED, FAILED, NOT_RUN = "done", "refused", "failed", "not run yet"
# Fields that hold an estimate.
ESTIMATES = ("test_accuracy", "probe_before", "probe_after", "knn_before", "knn_after", "behind")


# In headings, which are narrow, without the word that all share.
TESTED = METRICS[TEST_ACCURACY].label
NEAREST = METRICS[LEAVE_ONE_OUT].short.removesuffix(" accuracy")


@dataclass(frozen=True)
class SweepRow:
    """One combination of a sweep.

    Accuracies are from 0 to 1, each with its 95 % interval over seeds and test images, over images alone
    where there is one seed; None where they are not known.

    Attributes:
        name: of the folder of its runs.
        trainable, image_size, weights: what it is of; None stands for the weights that come with jaxtl.
        status: "done", "refused", "failed" or "not run yet".
        note: why it is not done, one line.
        seeds: how many runs it has.
        parameters: numbers that learn, those of the head among them.
        multiply_adds: of one run's network, frozen layers once and those that learn in every epoch: what it
            costs on whatever machine.
        test_accuracy: of the tuned network, on all test images.
        probe_before, probe_after: of a linear classifier on the features.
        knn_before, knn_after: of the vote of the 10 nearest features.
        training_seconds: of fine-tuning one run, frozen layers left out.
        seconds: of one run, what it shares with others left out.
        peak_memory_gib: of its process.
        behind: test accuracy of the best combination less that of this one, image by image and seed by seed.
    """

    name: str
    trainable: str
    image_size: int
    weights: str | None
    status: str = NOT_RUN
    note: str = ""
    seeds: int = 1
    parameters: int | None = None
    test_accuracy: Estimate | None = None
    probe_before: Estimate | None = None
    probe_after: Estimate | None = None
    knn_before: Estimate | None = None
    knn_after: Estimate | None = None
    training_seconds: float | None = None
    seconds: float | None = None
    peak_memory_gib: float | None = None
    multiply_adds: int | None = None
    behind: Estimate | None = None

    @property
    def is_done(self) -> bool:
        return self.status == DONE

    def as_record(self) -> dict[str, object]:
        record = asdict(self)
        return record | {name: record[name] and list(record[name]) for name in ESTIMATES}

    @classmethod
    def of_record(cls, record: Mapping[str, object]) -> SweepRow:
        known: dict[str, Any] = {part.name: record[part.name] for part in fields(cls) if part.name in record}
        made = {name: Estimate(*known[name]) for name in ESTIMATES if known.get(name)}
        return cls(**{**known, **made})


def begun(combination: Combination, seeds: int, known: Mapping[str, Any]) -> SweepRow:
    """A row of what is not run yet; `known` of it by `jaxtl.sweeps.work.look`."""
    return SweepRow(
        *combination,
        status=REFUSED if known["fault"] else NOT_RUN,
        note=known["fault"],
        seeds=seeds,
        parameters=known["parameters"],
        multiply_adds=known["multiply_adds"],
    )


def is_whole(folder: SweepFolder, name: str) -> bool:
    """Whether a combination's runs are finished, all as they wrote it, and their predictions are there.

    Raises JaxtlError for runs whose settings are not those that they began with: nothing makes these again.
    """
    path = folder.run_of(name).path
    if not path.exists():
        return False
    runs = run_folders(path)
    for run in runs:
        if run.settings.is_expected:
            run.settings.check_intact()
    if not folder.predictions_of(name).is_there:
        return False
    finished = all(run.scores.is_there and run.report.is_there for run in runs)
    return finished and all(standing.is_fine for standing in check.look(path))


def finished(row: SweepRow, folder: SweepFolder) -> SweepRow:
    """A row with the numbers of its runs. Raises JaxtlError where a file is damaged."""
    runs = run_folders(folder.run_of(row.name).path)
    tested = folder.predictions_of(row.name).read()
    right = (tested.named == tested.labels).mean(axis=1)
    made = [_scores(run, accuracy, len(tested.labels)) for run, accuracy in zip(runs, right, strict=True)]
    scores = scores_over_seeds(made) if len(made) > 1 else made[0]
    by_key = {(score.stage, score.metric): score for score in scores if score.space in ("features", "model")}

    def estimate(stage: str, metric: str) -> Estimate | None:
        score = by_key.get((stage, metric))
        return score and _share(Estimate(score.value, score.low, score.high))

    timings = [run.timings.read() for run in runs]
    return replace(
        row,
        status=DONE,
        note="",
        seeds=len(runs),
        test_accuracy=estimate("after", TEST_ACCURACY),
        probe_before=estimate("before", LOGISTIC_PROBE),
        probe_after=estimate("after", LOGISTIC_PROBE),
        knn_before=estimate("before", LEAVE_ONE_OUT),
        knn_after=estimate("after", LEAVE_ONE_OUT),
        training_seconds=_typical(timings, "finetune"),
        seconds=_typical(timings, "run"),
        peak_memory_gib=max(taken.get("peak_memory_gib", 0.0) for taken in timings),
    )


def _share(estimate: Estimate) -> Estimate:
    """An accuracy with an interval within what it can be: few seeds would put it beyond."""
    value, low, high = estimate
    return Estimate(value, low and max(0.0, low), high and min(1.0, high))


def _scores(run: RunFolder, accuracy: float, images: int) -> list[Score]:
    """The scores of a run's features, and the accuracy of its network with an interval over test images."""
    own = [score for score in run.scores.read() if score.space == "features"]
    tested = independent(Estimate(float(accuracy), float(accuracy), float(accuracy)), images)
    return [*own, Score("after", "model", TEST_ACCURACY, *tested)]


def _typical(timings: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [taken[name] for taken in timings if name in taken]
    return round(float(np.mean(known)), 3) if known else None


def label(row: SweepRow | Combination, several: Sequence[SweepRow | Combination]) -> str:
    """A combination among others in words: what differs, such as "block_14, 48 px"."""
    said = [trainable_label(row.trainable)]
    said += [f"{row.image_size} px"] if len({other.image_size for other in several}) > 1 else []
    said += [weights_label(row.weights)] if len({other.weights for other in several}) > 1 else []
    return ", ".join(said)


def trainable_label(trainable: str) -> str:
    if trainable.isdecimal() and trainable != "0":
        return f"last {trainable}"
    return {"none": "head alone", "0": "head alone", "all": "all layers"}.get(trainable, f"from {trainable}")


def weights_label(weights: str | None) -> str:
    """A file's name without its folder and suffix."""
    return BUNDLED if weights is None else weights.rpartition("/")[2].removesuffix(".safetensors")
