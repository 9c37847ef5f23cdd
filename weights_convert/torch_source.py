"""From a path to the tensors of a PyTorch checkpoint by name, and what lies beside it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.models.foreign import describe, describe_zip
from weights_convert.pickles import Unread, is_checkpoint, read_checkpoint
from weights_convert.safetensors_source import read_safetensors
from weights_convert.sources import opened_zip, read_file
from weights_convert.tensors import Tensor

_WANTED = ".safetensors, .pth, .pt or .bin"
# Where trainers keep the weights, the usual places first; averaged ones only where asked for.
_USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
_BESIDE = ("config.json", "preprocessor_config.json")
_SMALL = 2**20
_MOST_DICTIONARIES = 50_000
# Of places with tensors, those that a message names.
_NAMED = 6


@dataclass(frozen=True)
class TorchSource:
    """A checkpoint.

    Attributes:
        path: as the user gave it.
        sha256: of the file, in hex.
        tensors: by name.
        metadata: of a safetensors file.
        beside: `config.json` and `preprocessor_config.json` from the same folder; {} for one not there.
        key: where in the checkpoint the tensors were; "" where it holds nothing else.
        others: where else in it there are tensors.
    """

    path: str
    sha256: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    beside: tuple[dict[str, Any], dict[str, Any]]
    key: str = ""
    others: tuple[str, ...] = ()


def read_torch(path: str | os.PathLike[str], key: str | None = None) -> TorchSource:
    """Read a safetensors file or what `torch.save` wrote, told apart by content; nothing in it is run.

    Args:
        key: which of a checkpoint's dictionaries of tensors, such as "state_dict_ema" or "a/b"; None takes
            the usual one.

    Raises:
        JaxtlError: where it is absent, broken or of another kind, which it names.
    """
    data, where = read_file(Path(path), _WANTED), str(path)
    digest, beside = hashlib.sha256(data).hexdigest(), _read_beside(Path(path).parent)
    kind, remedy = describe(data, Path(path).name)
    if kind.startswith("a safetensors"):
        tensors, metadata = read_safetensors(data, where)
        return TorchSource(where, digest, tensors, metadata, beside)
    if not is_checkpoint(data):
        raise JaxtlError(f"{where}: {kind}, not a checkpoint of PyTorch; {remedy}")
    _check_zip(data, where)
    contents = read_checkpoint(data, where)
    places = _places(contents, where) if isinstance(contents, dict) else {}
    chosen = _choose(places, contents, key, where)
    others = tuple(place for place in places if place != chosen)
    return TorchSource(where, digest, places[chosen], {}, beside, chosen, others)


def _check_zip(data: bytes, where: str) -> None:
    if data.startswith(b"PK"):
        with opened_zip(data, where) as archive:
            kind, remedy = describe_zip(archive)
        if kind != "a PyTorch checkpoint":
            raise JaxtlError(f"{where}: {kind}, not a checkpoint of PyTorch; {remedy}")


def _places(contents: Any, where: str) -> dict[str, dict[str, Tensor]]:
    """Every dictionary with tensors by name in it, three levels deep, by its place.

    Raises JaxtlError for more of them than a checkpoint has: one that stands at many places is met at each.
    """
    places: dict[str, dict[str, Tensor]] = {}
    pending, met = [("", contents)], 0
    while pending:
        path, item = pending.pop()
        met += 1
        if met > _MOST_DICTIONARIES:
            raise JaxtlError(f"{where}: thousands of dictionaries; save its state_dict alone")
        names = {name: value for name, value in item.items() if isinstance(name, str)}
        if tensors := {name: value for name, value in names.items() if isinstance(value, Tensor)}:
            places[path] = tensors
        if path.count("/") < 2:
            inner = ((f"{path}/{n}" if path else n, v) for n, v in names.items() if isinstance(v, dict))
            pending += reversed(list(inner))
    return places


def _choose(places: Mapping[str, Any], contents: Any, key: str | None, where: str) -> str:
    if key is not None:
        if key not in places:
            there = _some(filter(None, places)) or "none"
            raise JaxtlError(f"{where}: --key {key}: no tensors there; the places with tensors are {there}")
        return key
    if not places:
        raise _without_tensors(contents, where)
    for usual in ("", *_USUAL):
        if usual in places:
            return usual
    by_size = sorted(places, key=lambda place: -len(places[place]))
    if len(by_size) > 1 and len(places[by_size[0]]) == len(places[by_size[1]]):
        raise JaxtlError(
            f"{where}: tensors at several places ({_some(by_size)}); say which with --key {by_size[0]}"
        )
    return by_size[0]


def _some(places: Iterable[str]) -> str:
    names = list(places)
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def _without_tensors(contents: Any, where: str) -> JaxtlError:
    if isinstance(contents, Unread):
        return JaxtlError(
            f"{where}: a whole pickled module ({contents.source}), whose code would have to be run; where "
            "you trust it, save its weights: torch.save(torch.load(IN, weights_only=False).state_dict(), OUT)"
        )
    if isinstance(contents, dict) and any(isinstance(value, Unread) for value in contents.values()):
        modules = [f"{k} ({v.source})" for k, v in contents.items() if isinstance(v, Unread)]
        return JaxtlError(
            f"{where}: holds no tensors by name, but pickled objects: {', '.join(modules[:3])}; save "
            "model.state_dict() instead of the model"
        )
    if isinstance(contents, dict) and {"state", "param_groups"} <= contents.keys():
        return JaxtlError(f"{where}: the state of an optimizer, not weights; save model.state_dict()")
    kind = (
        "a tensor alone"
        if isinstance(contents, Tensor)
        else f"a {type(contents).__name__} without tensors"
        if isinstance(contents, dict | list | str | int | float)
        else "an object without tensors"
    )
    return JaxtlError(f"{where}: {kind}, where a state_dict is needed; save model.state_dict()")


def _read_beside(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What Hugging Face's libraries put beside weights; a file that is something else counts as absent."""
    contents = []
    for name in _BESIDE:
        try:
            path = folder / name
            small = path.is_file() and path.stat().st_size <= _SMALL
            value = json.loads(path.read_bytes()) if small else {}
        except (OSError, ValueError, RecursionError):
            value = {}
        contents.append(value if isinstance(value, dict) else {})
    return contents[0], contents[1]
