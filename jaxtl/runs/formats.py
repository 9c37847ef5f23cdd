"""How those files of a run are read and written that hold no record of `jaxtl.records`, and what is checked.

A file that holds something else raises JaxtlError with one line that names it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxtl.errors import JaxtlError
from jaxtl.evaluation import catalogue
from jaxtl.methods import METHODS
from jaxtl.records import tables
from jaxtl.records.files import MAKE_AGAIN, read_json_object, read_npz, write_json, write_npz
from jaxtl.records.tables import LayerRow, Score
from jaxtl.settings import FORMER_ALIGN, FORMER_PIXELS, ComparisonConfig, RunConfig

if TYPE_CHECKING:  # which import JAX; those who draw need none of it
    from jaxtl.models.layers import NetworkConfig
    from jaxtl.network.training import Checkpoint

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
    if record.pop("digest", None) != _digest(record):
        raise JaxtlError(f"{path}: was edited since the run started; undo that")
    try:
        kind = record.pop("kind", None)
        weights_digest = "" if kind else record.pop("weights_digest")
        former = FORMER_ALIGN if kind else FORMER_PIXELS | FORMER_ALIGN
        known = {**former, **record, "methods": tuple(record["methods"])}
        return Started(_KINDS[kind](**known), weights_digest)
    except (KeyError, TypeError) as error:
        raise JaxtlError(f"{path}: not the settings of a run of this jaxtl ({error})") from None


def save_started(path: Path, started: Started) -> None:
    kind = next(kind for kind, settings in _KINDS.items() if isinstance(started.config, settings))
    more = {"kind": kind} if kind else {"weights_digest": started.weights_digest}
    record = {**asdict(started.config), **more}
    write_json(path, {**record, "digest": _digest(record)})


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def load_settings(path: Path) -> dict[str, Any]:
    """The settings as they stand, of whatever version, for who shows them."""
    record = read_json_object(path)
    size = record.get("image_size")
    for name, right in (
        ("kind", record.get("kind") in _KINDS),
        ("dataset", isinstance(record.get("name" if record.get("kind") else "dataset"), str)),
        ("image_size", size is None or _is_whole(size)),
        (
            "methods",
            _is_list_of(record.get("methods", []), str) and {*record.get("methods", [])} <= {*METHODS},
        ),
    ):
        if not right:
            raise JaxtlError(f"{path}: not the settings of a run ({name} is {record.get(name)!r})")
    return record


def load_images(path: Path) -> np.ndarray:
    """Images that were given in Python, uint8 [n, h, w, 1 or 3]: those that are embedded."""
    images = read_npz(path, ("images",))[0]["images"]
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3):
        raise JaxtlError(f"{path}: not images uint8 [n, h, w, 1 or 3]; {MAKE_AGAIN}")
    return images


def save_images(path: Path, images: np.ndarray) -> None:
    write_npz(path, {"images": images}, {})


def load_environment(path: Path) -> dict[str, Any]:
    record = read_json_object(path)
    if not isinstance(record.get("versions", {}), dict):
        raise JaxtlError(f"{path}: not a machine and its versions ({record['versions']!r}); {MAKE_AGAIN}")
    return record


def load_timings(path: Path) -> dict[str, Any]:
    """Seconds by step; with `began` (likewise), `run` and `peak_memory_gib`."""
    record = read_json_object(path)
    began = record.get(_BEGAN, {})
    if not isinstance(began, dict):
        raise JaxtlError(f"{path}: not a run's seconds ({_BEGAN} is {began!r}); {MAKE_AGAIN}")
    seconds = {name: value for name, value in record.items() if name != _BEGAN}
    for name, value in [*seconds.items(), *began.items()]:
        if not _is_number(value):
            raise JaxtlError(f"{path}: not a run's seconds ({name} is {value!r}); {MAKE_AGAIN}")
    return record


def load_claims(path: Path) -> Claims:
    """Rows as `jaxtl.evaluation.claims.Verdict` has them; over seeds with `values` and `held_in`, too."""
    claims: Any = read_json_object(path).get("claims")
    if not isinstance(claims, list):
        raise JaxtlError(f"{path}: not a list of claims (there are none); {MAKE_AGAIN}")
    for number, claim in enumerate(claims, 1):
        if fault := _fault_of_claim(claim):
            raise JaxtlError(f"{path}: not a list of claims (claim {number}: {fault}); {MAKE_AGAIN}")
    return claims


def save_claims(path: Path, claims: Claims) -> None:
    write_json(path, {"claims": claims})


def _fault_of_claim(claim: Any) -> str:
    if not isinstance(claim, dict):
        return f"it is {claim!r}"
    for name, right in _CLAIM.items():
        if not right(claim.get(name)):
            return f"{name} is {claim[name]!r}" if name in claim else f"it has no {name}"
    return ""


def load_measures(path: Path) -> dict[str, np.ndarray]:
    arrays, _ = read_npz(path, ())
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise JaxtlError(f"{path}: array {name} must hold finite numbers; {MAKE_AGAIN}")
    return arrays


def save_measures(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    write_npz(path, arrays, {})


def load_weights(path: Path) -> Weights:
    from jaxtl.models.weights import load_arrays

    return Weights(*load_arrays(path))


def save_weights(path: Path, weights: Weights) -> None:
    from jaxtl.models.weights import save_weights

    save_weights(path, *weights)


def load_checkpoint(path: Path) -> Checkpoint:
    from jaxtl.network.training import Checkpoint

    return Checkpoint.load(path)


_LAYER = "layer "


def load_averages(path: Path) -> Averages:
    arrays, _ = read_npz(path, ("labels",))
    labels = arrays.pop("labels")
    for name, values in arrays.items():
        if values.ndim != 2 or values.dtype.kind != "f" or len(values) != len(labels):
            raise JaxtlError(f"{path}: array {name} must be float [{len(labels)}, d]; {MAKE_AGAIN}")
    return Averages(labels, {name.removeprefix(_LAYER): values for name, values in arrays.items()})


def save_averages(path: Path, averages: Averages) -> None:
    layers = {f"{_LAYER}{name}": values for name, values in averages.layers.items()}
    write_npz(path, {"labels": averages.labels, **layers}, {})


def load_seeds(path: Path) -> list[int]:
    seeds: Any = read_json_object(path).get("seeds")
    if not _is_list_of(seeds, int) or len(seeds) < 2:
        raise JaxtlError(f"{path}: holds no list of seeds")
    return seeds


def save_seeds(path: Path, seeds: list[int]) -> None:
    write_json(path, {"seeds": seeds})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(member, kind) for member in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bound(value: Any) -> bool:
    return value is None or _is_number(value)


_CLAIM: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("id", "text", "statistic", "direction", "verdict", "words"), _is_text),
    **dict.fromkeys(("value", "threshold"), _is_number),
    **dict.fromkeys(("low", "high"), _is_bound),
}


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
