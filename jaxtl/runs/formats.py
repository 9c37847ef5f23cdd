"""How those files of a run are read and written that hold no record of `jaxtl.records`, and what is checked.

A file that holds something else raises JaxtlError with one line that names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.evaluation import catalogue
from jaxtl.evaluation.measures import shown_as
from jaxtl.methods import METHODS
from jaxtl.records import tables
from jaxtl.records.documents import (
    Check,
    anything,
    brief,
    count,
    digest_of,
    fault_of,
    list_of,
    number,
    one_of,
    or_none,
    plain,
    record_of,
    text,
    truth,
    whole,
    within,
)
from jaxtl.records.files import MAKE_AGAIN, read_json_object, read_npz, write_json, write_npz
from jaxtl.records.tables import LayerRow, Score
from jaxtl.settings import FORMER_ALIGN, FORMER_ENGINE, FORMER_PIXELS, ComparisonConfig, RunConfig

if TYPE_CHECKING:  # which import JAX; those who draw need none of it
    from jaxtl.models.layers import NetworkConfig
    from jaxtl.network.checkpoint import Checkpoint

Claims = list[dict[str, Any]]
# What config.json says of itself. An experiment's says nothing.
COMPARISON = "comparison"
_KINDS: dict[str | None, type[RunConfig | ComparisonConfig]] = {None: RunConfig, COMPARISON: ComparisonConfig}
# What timings.json holds beside seconds by step.
_BEGAN = "began"


class Started(NamedTuple):
    """What a run was started with: its settings, and the digest of the weights that it starts from.

    A comparison of features has settings of its own, and no weights.
    """

    config: RunConfig | ComparisonConfig
    weights_digest: str = ""


class Weights(NamedTuple):
    """A network as `jaxtl.models.weights` keeps it; `provenance` says where it comes from."""

    config: NetworkConfig
    arrays: dict[str, np.ndarray]
    provenance: dict[str, str]


class Averages(NamedTuple):
    """Global averages of blocks' outputs, float32 [n, channels] by their last layer; labels int32 [n]."""

    labels: np.ndarray
    layers: dict[str, np.ndarray]


def load_started(path: Path) -> Started:
    """Raises JaxtlError where the settings were edited, or are not of this version."""
    record = read_json_object(path)
    # Results made under one setting must not be continued under another.
    if record.pop("digest", None) != digest_of(record):
        raise JaxtlError(f"{path}: was edited since the run started; undo that")
    try:
        kind = record.pop("kind", None)
        if kind not in (None, COMPARISON):
            raise TypeError(f"kind is {brief(kind)}")
        weights_digest = "" if kind else record.pop("weights_digest")
        former = FORMER_ALIGN if kind else FORMER_PIXELS | FORMER_ALIGN | FORMER_ENGINE
        if fault := text(weights_digest) or fault_of_settings(record, _KINDS[kind]):
            raise TypeError(fault)
        known = {**former, **record, "methods": tuple(record["methods"])}
        return Started(_KINDS[kind](**known), weights_digest)
    except (KeyError, TypeError) as error:
        raise JaxtlError(f"{path}: not the settings of a run of this jaxtl ({error})") from None


def save_started(path: Path, started: Started) -> None:
    kind = next(kind for kind, settings in _KINDS.items() if isinstance(started.config, settings))
    more = {"kind": kind} if kind else {"weights_digest": started.weights_digest}
    record = {**asdict(started.config), **more}
    write_json(path, {**record, "digest": digest_of(record)})


def load_settings(path: Path) -> dict[str, Any]:
    """The settings as they stand, of whatever version, for who shows them."""
    record = read_json_object(path)
    kind = record.get("kind")
    if kind not in (None, COMPARISON):
        raise JaxtlError(f"{path}: not the settings of a run (kind is {brief(kind)})")
    if fault := fault_of_settings(record, _KINDS[kind]):
        raise JaxtlError(f"{path}: not the settings of a run ({fault})")
    return record


def fault_of_settings(record: dict[str, Any], kind: type[RunConfig | ComparisonConfig]) -> str:
    """What of settings, of whatever version, is of another type or range than today's; else nothing."""
    known = {part.name: _RANGES.get(part.name, _TYPES[str(part.type)]) for part in fields(kind)}
    needed = "dataset" if kind is RunConfig else "name"
    if needed not in record:
        return f"{needed} is {None!r}"
    return fault_of(record, (known.get(name, plain) for name in record))


def load_images(path: Path) -> np.ndarray:
    """Images that were given in Python, uint8 [n, h, w, 1 or 3]: those that are embedded."""
    images = read_npz(path, ("images",), lambda name: False, {"images": "iu"})[0]["images"]
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3) or not images.size:
        raise JaxtlError(f"{path}: not images uint8 [n, h, w, 1 or 3]; {MAKE_AGAIN}")
    return images


def save_images(path: Path, images: np.ndarray) -> None:
    write_npz(path, {"images": images}, {})


def load_dataset(path: Path) -> dict[str, Any]:
    """The record of both splits, as `jaxtl.runs.dataset.recorded` makes it."""
    return _checked(path, _DATASET, "the record of a set of images")


def load_environment(path: Path) -> dict[str, Any]:
    return _checked(path, _ENVIRONMENT, "a machine and its versions")


def load_timings(path: Path) -> dict[str, Any]:
    """Seconds by step; with `began` (likewise), `run` and `peak_memory_gib`."""
    return _checked(path, _TIMINGS, "a run's seconds")


def load_claims(path: Path) -> Claims:
    """Rows as `jaxtl.evaluation.claims.Verdict` has them; over seeds with `values` and `held_in`, too."""
    claims: Any = read_json_object(path).get("claims")
    if not isinstance(claims, list):
        raise JaxtlError(f"{path}: not a list of claims (there are none); {MAKE_AGAIN}")
    for place, claim in enumerate(claims, 1):
        if fault := _CLAIM(claim):
            raise JaxtlError(f"{path}: not a list of claims (claim {place}: it {fault}); {MAKE_AGAIN}")
    return claims


def _checked(path: Path, check: Check, what: str) -> dict[str, Any]:
    """A JSON object that a schema was asked of."""
    record = read_json_object(path)
    if fault := check(record):
        raise JaxtlError(f"{path}: not {what} (it {fault}); {MAKE_AGAIN}")
    return record


def save_claims(path: Path, claims: Claims) -> None:
    write_json(path, {"claims": claims})


def load_measures(path: Path) -> dict[str, np.ndarray]:
    """Arrays by name, as of `jaxtl.evaluation.measures.Measures`; others are not read."""
    arrays, _ = read_npz(path, (), lambda name: shown_as(name) is not None)
    for name, array in arrays.items():
        kinds, axes = shown_as(name) or ("", 0)
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise JaxtlError(f"{path}: array {name} must hold finite numbers; {MAKE_AGAIN}")
        if array.ndim != axes or array.dtype.kind not in kinds:
            raise JaxtlError(
                f"{path}: array {name} is {array.dtype} {list(array.shape)}, not "
                f"{'whole numbers' if 'i' in kinds else 'numbers'} of {axes} axes; {MAKE_AGAIN}"
            )
        if said := _beyond(name, array):
            raise JaxtlError(f"{path}: array {name} holds {said}; {MAKE_AGAIN}")
    return arrays


def _beyond(name: str, array: np.ndarray) -> str:
    """What of an array that is shown is out of its range, if it is: places, sizes or shares."""
    least, most = int(name == "qnx_k"), 1 if array.dtype.kind == "f" else np.inf
    # Shares are rounded to float32.
    if not array.size or least <= array.min() <= array.max() <= most + 1e-6:
        return ""
    told = "shares, 0 to 1" if array.dtype.kind == "f" else f"whole numbers from {least} on"
    return f"{array.min()} to {array.max()}, not {told}"


def save_measures(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    write_npz(path, arrays, {})


def load_weights(path: Path) -> Weights:
    from jaxtl.models.weights import load_arrays

    return Weights(*load_arrays(path))


def save_weights(path: Path, weights: Weights) -> None:
    from jaxtl.models.weights import save_weights

    save_weights(path, *weights)


def load_checkpoint(path: Path) -> Checkpoint:
    from jaxtl.network.checkpoint import Checkpoint

    return Checkpoint.load(path)


_LAYER = "layer "


def load_averages(path: Path) -> Averages:
    arrays, _ = read_npz(path, ("labels",), lambda name: name.startswith(_LAYER), {"labels": "iu"})
    labels = arrays.pop("labels")
    if labels.ndim != 1:
        raise JaxtlError(f"{path}: array labels is {list(labels.shape)}, not [n]; {MAKE_AGAIN}")
    for name, values in arrays.items():
        if values.ndim != 2 or values.dtype.kind != "f" or len(values) != len(labels):
            raise JaxtlError(f"{path}: array {name} must be float [{len(labels)}, d]; {MAKE_AGAIN}")
    return Averages(labels, {name.removeprefix(_LAYER): values for name, values in arrays.items()})


def save_averages(path: Path, averages: Averages) -> None:
    layers = {f"{_LAYER}{name}": values for name, values in averages.layers.items()}
    write_npz(path, {"labels": averages.labels, **layers}, {})


def load_seeds(path: Path) -> list[int]:
    """Different whole numbers, two or more; NumPy takes none below 0 or beyond 32 bits."""
    seeds: Any = read_json_object(path).get("seeds")
    if _SEEDS(seeds) or len(seeds) < 2 or len(set(seeds)) < len(seeds) or max(seeds) >= 2**32:
        raise JaxtlError(f"{path}: holds no list of seeds")
    return seeds


def save_seeds(path: Path, seeds: list[int]) -> None:
    write_json(path, {"seeds": seeds})


class Predictions(NamedTuple):
    """Classes int32 [n] of all test images of a sweep, and those that networks name, int32 [seeds, n]."""

    labels: np.ndarray
    named: np.ndarray


def load_predictions(path: Path) -> Predictions:
    names = ("labels", "named")
    arrays, _ = read_npz(path, names, lambda name: False, dict.fromkeys(names, "iu"))
    labels, named = arrays["labels"], arrays["named"]
    if labels.ndim != 1 or named.ndim != 2 or named.shape[1:] != labels.shape or not named.size:
        raise JaxtlError(f"{path}: not classes [n] and [seeds, n]; {MAKE_AGAIN}")
    return Predictions(labels, named)


def save_predictions(path: Path, predictions: Predictions) -> None:
    write_npz(path, predictions._asdict(), {})


def load_sweep(path: Path) -> dict[str, Any]:
    """What a sweep was asked for, as `jaxtl.sweeps.settings.Asked` records it."""
    record = read_json_object(path)
    if record.pop("digest", None) != digest_of(record):
        raise JaxtlError(f"{path}: was edited since the sweep started; undo that")
    if fault := _SWEEP(record):
        raise JaxtlError(f"{path}: not what a sweep is asked for (it {fault})")
    if fault := fault_of_settings(record["settings"], RunConfig):
        raise JaxtlError(f"{path}: not what a sweep is asked for (its {fault})")
    return record


def save_sweep(path: Path, record: dict[str, Any]) -> None:
    write_json(path, {**record, "digest": digest_of(record)})


def load_rows(path: Path) -> dict[str, Any]:
    """What a sweep found, a row for each combination."""
    return _checked(path, _ROWS, "the rows of a sweep")


# One schema for each kind of file.

# Of settings, by how `jaxtl.settings` says it; JSON has lists where that has tuples.
_TYPES: dict[str, Check] = {
    "str": text,
    "int": whole,
    "float": number,
    "bool": truth,
    "str | None": or_none(text),
    "int | None": or_none(whole),
    "float | None": or_none(number),
    "tuple[str, ...]": list_of(one_of(*METHODS)),
}
# Whose numbers decide how much memory or time who shows a run takes.
_RANGES: dict[str, Check] = {
    "image_size": within(1, 2**14),
    "epochs": count,
    "samples": or_none(count),
    "train_samples": or_none(count),
    "points": count,
    "classes": count,
}
_LEFT_OUT = list_of(record_of({"id": text, "reason": text}))
_DIGESTS = {"digest": text, "contents": text}
_SPLIT = record_of(
    {"images": count}, {**_DIGESTS, "rule": text, "left_out": _LEFT_OUT, "notes": list_of(text)}
)
_SHOWN = record_of({"images": count}, _DIGESTS)
_DATASET = record_of({}, {"class_names": list_of(text), "train": _SPLIT, "test": _SPLIT, "shown": _SHOWN})
_VERSIONS = record_of({}, others=or_none(text))
_ENVIRONMENT = record_of(
    {}, {"versions": _VERSIONS, "devices": list_of(text), "settings": record_of({}, others=text)}
)
_TIMINGS = record_of({}, {_BEGAN: record_of({}, others=number)}, number)
_CLAIM = record_of(
    {
        **dict.fromkeys(("id", "text", "statistic", "direction", "verdict", "words"), text),
        **dict.fromkeys(("value", "threshold"), number),
        **dict.fromkeys(("low", "high"), or_none(number)),
    },
    {"values": list_of(number), "held_in": count},
)
_SEEDS = list_of(count)
_GRID = record_of(
    {"trainable": list_of(text), "image_size": list_of(whole), "weights": list_of(or_none(text))}
)
_SWEEP = record_of({"settings": record_of({}), "grid": _GRID, "seeds": count})


def _three(value: Any) -> str:
    """A value and its bounds."""
    return list_of(number)(value) or ("" if len(value) == 3 else f"is {brief(value)}")


_ESTIMATE = or_none(_three)
_ROW = record_of(
    {
        **dict.fromkeys(("name", "trainable", "status", "note"), text),
        "image_size": whole,
        "weights": or_none(text),
        "seeds": count,
        **dict.fromkeys(("parameters", "multiply_adds"), or_none(count)),
        **dict.fromkeys(("training_seconds", "seconds", "peak_memory_gib"), or_none(number)),
        **dict.fromkeys(
            ("test_accuracy", "probe_before", "probe_after", "knn_before", "knn_after", "behind"), _ESTIMATE
        ),
    }
)
_ROWS = record_of({"rows": list_of(_ROW), "words": list_of(text)}, {"test_images": or_none(count)}, anything)


def load_scores(path: Path) -> list[Score]:
    """Scores, those of an earlier version by the names of today."""
    return [
        replace(score, metric=catalogue.current(score.metric, catalogue.FORMER_SCORES))
        for score in tables.load_scores(path)
    ]


def load_layers(path: Path) -> list[LayerRow]:
    """A depth profile, one of an earlier version by the names of today."""
    return [
        row._replace(metric=catalogue.current(row.metric, catalogue.FORMER_LAYERS))
        for row in tables.load_layers(path)
    ]
