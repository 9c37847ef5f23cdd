"""What a scaling study is asked for: sizes, methods and settings, and their file in its folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.methods import METHODS, parameters
from jaxtl.records.files import read_json_object, write_json
from jaxtl.reduction import check_settings
from jaxtl.reduction.choice import choose, parse_libraries
from jaxtl.runs.folder import CONFIG
from jaxtl.scaling.settings import LARGEST, SMALLEST, Settings


@dataclass(frozen=True)
class Method:
    """A way to make a map.

    Attributes:
        name: as users write it, such as "tsne" or "tsne@5000".
        base: "pca", "tsne" or "lle".
        landmarks: images that are mapped by the method itself, the others being placed among them; None
            for all.
    """

    name: str
    base: str
    landmarks: int | None = None

    def params(self, settings: Settings) -> dict[str, Any]:
        """What `jaxtl.reduce` is given."""
        some = {} if self.landmarks is None else {"landmarks": self.landmarks}
        return {**parameters(self.base, settings), **some}

    def has(self, n: int) -> bool:
        """Whether n is a size of this method: where all images are landmarks it is the plain method."""
        return self.landmarks is None or n > self.landmarks

    def check(self, n: int, settings: Settings) -> None:
        """Raises JaxtlError where n images are too few for the method's own parameters."""
        check_settings(self.base, min(n, self.landmarks or n), settings)


@dataclass(frozen=True)
class Series:
    """A method by one library: a curve of the study."""

    method: Method
    backend: str
    on_gpu: bool = False

    @property
    def streamed(self) -> bool:
        """Whether features are read from their file piece by piece, so that they need not fit into memory."""
        return self.method.landmarks is not None or self.backend in METHODS[self.method.base].streamed


def parse_sizes(text: str) -> tuple[int, ...]:
    """Numbers with commas between, ascending and each once.

    Raises JaxtlError for what is no number, and for one that is too small or too large.
    """
    parts = [part.strip().replace("_", "") for part in text.split(",") if part.strip()]
    wrong = [part for part in parts if not part.isdecimal()]
    if wrong or not parts:
        raise JaxtlError(f"sizes: {wrong[0] if wrong else text!r} is not a whole number; "
                         "give some such as 500,1000,2000")  # fmt: skip
    sizes = sorted({int(part) for part in parts})
    if sizes[0] < SMALLEST or sizes[-1] > LARGEST:
        outside = sizes[0] if sizes[0] < SMALLEST else sizes[-1]
        raise JaxtlError(f"sizes: {outside:,} is outside {SMALLEST} to {LARGEST:,}; leave it out")
    return tuple(sizes)


def parse_methods(text: str) -> tuple[Method, ...]:
    """Names with commas between, each once, in their order. Raises JaxtlError for one that is unknown."""
    names = dict.fromkeys(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise JaxtlError(f"methods: none given; {_KNOWN}")
    return tuple(_parse_method(name) for name in names)


_KNOWN = f"the methods are {', '.join(METHODS)}, and with landmarks such as tsne@5000"


def _parse_method(name: str) -> Method:
    base, at, count = name.partition("@")
    if base not in METHODS or (at and not (count.isdecimal() and SMALLEST <= int(count) <= LARGEST)):
        raise JaxtlError(f"unknown method {name!r}; {_KNOWN}")
    return Method(name, base, int(count)) if at else Method(name, base)


def series_of(methods: tuple[Method, ...], backends: str) -> tuple[Series, ...]:
    """One curve for every method and every one of the backends, with commas between, that has it.

    A method that none of them has is left to `jaxtl.reduction.choice.choose`, as is every method with "auto".

    Raises JaxtlError for a backend that is unknown or cannot work.
    """
    wanted = parse_libraries(backends)
    found = []
    for method in methods:
        own = [name for name in wanted if name in METHODS[method.base].libraries]
        names = own + ["auto"] * ("auto" in wanted or not own)
        choices = {choice.name: choice for choice in (choose(method.base, name) for name in names)}
        found += [Series(method, name, choice.on_gpu) for name, choice in choices.items()]
    return tuple(found)


def check_sizes(sizes: tuple[int, ...], methods: tuple[Method, ...], settings: Settings) -> None:
    """Raises JaxtlError where a method has none of the sizes, or its smallest is too small for it."""
    for method in methods:
        own = [n for n in sizes if method.has(n)]
        if not own:
            raise JaxtlError(f"{method.name}: no size is above its landmarks; add a larger one to --sizes")
        try:
            method.check(own[0], settings)
        except JaxtlError as error:
            raise JaxtlError(f"size {own[0]:,}: {error}") from None


def write_config(folder: Path, settings: Settings, weights_digest: str, asked: dict[str, Any]) -> None:
    """Record the settings, the digest of the weights, and the sizes, methods and backends asked for."""
    record = {**asdict(settings), "weights_digest": weights_digest}
    write_json(folder / CONFIG, {**record, "digest": _digest(record), "asked": asked})


def read_config(folder: Path) -> tuple[Settings, str, dict[str, Any]]:
    """A study's settings, the digest of its weights, and what was asked for last.

    Raises JaxtlError where there are none, or they were edited.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise JaxtlError(f"{folder}: no scaling study (it has no {CONFIG}); start one with "
                         f"jaxtl scale --out {folder}")  # fmt: skip
    record = read_json_object(path)
    asked, digest = record.pop("asked", None), record.pop("digest", None)
    if asked is None:
        raise JaxtlError(f"{folder}: no scaling study but something else's folder; give another with --out")
    if digest != _digest(record):
        raise JaxtlError(
            f"{path}: was edited since the study started; undo that, or start a new one with --out"
        )
    try:
        weights_digest = record.pop("weights_digest")
        return Settings(**record), weights_digest, asked
    except (KeyError, TypeError) as error:
        raise JaxtlError(
            f"{path}: not the settings of a study of this jaxtl ({error}); start a new one with --out"
        ) from None


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
