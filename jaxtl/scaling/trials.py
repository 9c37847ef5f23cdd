"""The trials of a study: one embedding each, its cost and its quality, a file each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.methods import LIBRARIES, METHODS
from jaxtl.records.documents import (
    count,
    either,
    list_of,
    number,
    one_like,
    one_of,
    or_none,
    positive,
    real,
    record_of,
    text,
    within,
)
from jaxtl.records.files import read_json_object, write_json
from jaxtl.scaling.settings import Limits

DONE, OVER_TIME, OVER_MEMORY = "done", "over time", "over memory"
OUT_OF_MEMORY, FAILED, NOT_TRIED = "out of memory", "failed", "not tried"
# Where a study keeps them, and what files that tell of the features themselves begin with. The folder's name
# is an older word for trials: studies that were begun with it go on.
FOLDER, FEATURES = "points", "features_"


def _score(value: Any) -> str:
    """What is wrong with a value, its low and its high."""
    fault = list_of(or_none(real))(value)
    return fault or ("" if len(value) == 3 and value[0] is not None else "is no value with its interval")


# By metric.
_QUALITY = record_of({}, others=_score)
_FACT = or_none(either(text, number))
_MOST = 2**53
_METHOD = re.compile(rf"({'|'.join(METHODS)})(@\d{{1,20}})?")
_TRIAL = record_of(
    {
        "method": one_like(_METHOD),
        "backend": one_of(*LIBRARIES),
        "n": within(1, _MOST),
        "seconds": list_of(positive),
        "quality": or_none(_QUALITY),
    },
    {
        "status": one_of(DONE, OVER_TIME, OVER_MEMORY, OUT_OF_MEMORY, FAILED, NOT_TRIED),
        "note": text,
        **dict.fromkeys(("baseline", "peak", "resident_peak", "device_peak"), or_none(count)),
        "start_seconds": or_none(number),
        "limits": record_of({}, others=real),
        "machine": record_of(
            {},
            {"versions": record_of({}, others=_FACT), "host": text, "beside": within(1, _MOST)},
            others=_FACT,
        ),
    },
)
# A larger size of the same curve cannot fare better.
HOPELESS = (OVER_TIME, OVER_MEMORY, OUT_OF_MEMORY)
# What is available varies a little; a limit of memory larger by less is the same limit.
_LARGER = 1.1


@dataclass(frozen=True)
class Trial:
    """One method by one library on the first n images.

    Attributes:
        method, backend, n: which trial it is.
        status: one of the words above; "not tried" before it is.
        note: why it is not done, one line.
        seconds: of each repetition of the reduction alone; empty unless done.
        start_seconds: of its process before it began, with imports and a tiny embedding.
        baseline: bytes of the process before it read the features, files not counted; as all of these.
        peak: the most bytes during the reduction.
        resident_peak: the same with memory-mapped files, which can be given back.
        device_peak: the most bytes of the GPU in use, by all processes; None without a GPU.
        limits: those that it had to keep.
        machine: processor, cores and GPU, versions of libraries (which old trials lack), the name of the host
            and how many trials were made on it at a time (likewise).
        quality: value, low and high by metric; None before it was measured.
    """

    method: str
    backend: str
    n: int
    status: str = NOT_TRIED
    note: str = ""
    seconds: tuple[float, ...] = ()
    start_seconds: float | None = None
    baseline: int | None = None
    peak: int | None = None
    resident_peak: int | None = None
    device_peak: int | None = None
    limits: dict[str, float] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, tuple[float, float | None, float | None]] | None = None

    @property
    def typical_seconds(self) -> float:
        """The median of the repetitions."""
        ordered = sorted(self.seconds)
        return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2

    @property
    def memory(self) -> int | None:
        """Bytes that the reduction took beyond what its process had before, the features included.

        On a machine that does not tell what is a file's, and for embeddings too small to show, it may be 0.
        """
        return None if self.peak is None or self.baseline is None else max(0, self.peak - self.baseline)

    def settled(self, limits: Limits) -> bool:
        """Whether there is no reason to compute it (again) under these limits."""
        if self.status == OVER_TIME:
            return limits.seconds <= self.limits["seconds"]
        if self.status in (OVER_MEMORY, OUT_OF_MEMORY):
            return limits.memory <= _LARGER * self.limits["memory"]
        return self.status == DONE

    @property
    def name(self) -> str:
        """Of its files, without their suffix."""
        return stem(self.method, self.backend, self.n)

    def left_out(self, smaller: Trial) -> Trial:
        """This trial, not tried because of what became of a smaller one."""
        return replace(self, note=f"{smaller.n:,} images were {smaller.status} already")

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Trial:
        """What `dataclasses.asdict` made of one, as JSON holds it."""
        quality = record["quality"]
        measured = None if quality is None else scores_of(quality)
        return cls(**{**record, "seconds": tuple(record["seconds"]), "quality": measured})

    def with_quality(self, quality: dict[str, tuple[float, float | None, float | None]]) -> Trial:
        return replace(self, quality=quality)


def scores_of(record: Mapping[str, Any]) -> dict[str, tuple[float, float | None, float | None]]:
    """Value, low and high by metric, as JSON holds them."""
    return {metric: tuple(score) for metric, score in record.items()}


def stem(method: str, backend: str, n: int) -> str:
    """The name of a trial's files, without their suffix."""
    return f"{method}_{backend}_{n}"


def save(folder: Path, trial: Trial) -> None:
    write_json(folder / f"{trial.name}.json", asdict(trial))


def load(path: Path) -> Trial:
    """Raises JaxtlError where the file does not hold a trial."""
    record = read_json_object(path)
    fault = _TRIAL(record)
    if lacking := set(record) - {part.name for part in fields(Trial)}:
        fault = fault or f"has {', '.join(sorted(lacking))}, which no trial has"
    fault = fault or _unlike(path, record)
    if fault:
        raise JaxtlError(f"{path}: not a trial of a study (it {fault}); delete it to compute it again")
    return Trial.of_record(record)


def _unlike(path: Path, record: Mapping[str, Any]) -> str:
    """What a record that has all its parts says of no trial, or of another than its file's name does."""
    status, limits = record.get("status", NOT_TRIED), record.get("limits", {})
    if status == DONE and not record["seconds"]:
        return "has no seconds though it is done"
    if status in HOPELESS and not {"seconds", "memory"} <= limits.keys():
        return "was over a limit and has none"
    own = stem(record["method"], record["backend"], record["n"])
    return "" if path.stem == own else f"tells of {own}"


def load_quality(path: Path) -> dict[str, Any]:
    """Scores of the features themselves. Raises JaxtlError where the file does not hold some."""
    record = read_json_object(path)
    if fault := _QUALITY(record):
        raise JaxtlError(f"{path}: not scores of features (it {fault}); delete it to compute them again")
    return record


def load_all(folder: Path) -> dict[Path, Trial]:
    """All trials of a study, by their files. Raises JaxtlError where one does not hold a trial."""
    files = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith((".", FEATURES))]
    return {path: load(path) for path in files}
