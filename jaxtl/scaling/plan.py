"""What a scaling study is asked for: sizes, methods and settings, and their file in its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from jaxtl.data import absolute
from jaxtl.errors import JaxtlError
from jaxtl.methods import METHODS, parameters
from jaxtl.models.weights import imagenet_path, load_start, wanted_preprocessing
from jaxtl.ranges import shown
from jaxtl.records.documents import digest_of
from jaxtl.records.files import read_json_object, write_json
from jaxtl.records.paths import absolute_path
from jaxtl.reduction import check_settings
from jaxtl.reduction.choice import choose, parse_libraries
from jaxtl.runs.lock import entries
from jaxtl.scaling.folder import CONFIG
from jaxtl.scaling.settings import LARGEST, SIZES, SMALLEST, Settings
from jaxtl.settings import FORMER_PIXELS

# Settings that are paths, which one may write in several ways.
_SPELLED: dict[str, Callable[[Any], Any]] = {"dataset": absolute, "weights": absolute_path}
# More than any size has; of thousands Python makes no number.
_DIGITS = 20


@dataclass(frozen=True)
class Method:
    """A way to make an embedding.

    Attributes:
        name: as users write it, such as "tsne" or "tsne@5000".
        base: "pca", "tsne" or "lle".
        landmarks: images that are embedded by the method itself, the others being placed among them; None
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
    def curve(self) -> tuple[str, str]:
        """The names of its method and library."""
        return self.method.name, self.backend

    @property
    def streamed(self) -> bool:
        """Whether features are read from their file piece by piece, so that they need not fit into memory."""
        return self.method.landmarks is not None or self.backend in METHODS[self.method.base].streamed


class Grid(NamedTuple):
    """What is asked for, as users write it; None takes what was asked for last, else the default."""

    sizes: str | None = None
    methods: str | None = None
    backends: str | None = None


DEFAULT_GRID = Grid(",".join(map(str, SIZES)), ",".join(METHODS), "auto")


def parse_sizes(text: str) -> tuple[int, ...]:
    """Numbers with commas between, ascending and each once.

    Raises JaxtlError for what is no number, and for one that is too small or too large.
    """
    parts = [part.strip().replace("_", "") for part in text.split(",") if part.strip()]
    wrong = [part for part in parts if not part.isdecimal()]
    if wrong or not parts:
        what = shown(wrong[0] if wrong else text)
        raise JaxtlError(f"sizes: {what} is not a whole number; give some such as 500,1000,2000")
    if long := [part for part in parts if len(part) > _DIGITS]:
        raise JaxtlError(f"sizes: {shown(long[0])} is outside {SMALLEST} to {LARGEST:,}; leave it out")
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
    # A number of landmarks may be written in several ways.
    return tuple(dict.fromkeys(map(_parse_method, names)))


_KNOWN = f"the methods are {', '.join(METHODS)}, and with landmarks such as tsne@5000"


def _parse_method(name: str) -> Method:
    base, at, count = name.partition("@")
    known = count.isdecimal() and len(count) <= _DIGITS and SMALLEST <= int(count) <= LARGEST
    if base not in METHODS or (at and not known):
        raise JaxtlError(f"unknown method {shown(name)}; {_KNOWN}")
    return Method(f"{base}@{int(count)}", base, int(count)) if at else Method(name, base)


def series_of(methods: tuple[Method, ...], backends: str, largest: int) -> tuple[Series, ...]:
    """One curve for every method and every one of the backends, with commas between, that has it.

    A method that none of them has is left to `jaxtl.reduction.choice.choose`, as is every method with "auto":
    then all of a curve is by the library for its largest size.

    Raises JaxtlError for a backend that is unknown or cannot work.
    """
    wanted = parse_libraries(backends)
    series = []
    for method in methods:
        own = [name for name in wanted if name in METHODS[method.base].libraries]
        names = own + ["auto"] * ("auto" in wanted or not own)
        points = min(largest, method.landmarks or largest)
        choices = {choice.name: choice for choice in (choose(method.base, name, points) for name in names)}
        series += [Series(method, name, choice.on_gpu) for name, choice in choices.items()]
    return tuple(series)


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


def settings_of(folder: Path, given: dict[str, Any]) -> tuple[Settings, Grid]:
    """Settings of a folder, or for a new one, and what it was asked for last.

    Raises JaxtlError for settings that differ from the folder's, weights that changed, and for a folder that
    holds something else.
    """
    if not (folder / CONFIG).is_file():
        if folder.exists() and (not folder.is_dir() or any(entries(folder))):
            raise JaxtlError(f"{folder}: holds something else than a study; give a new folder with --out")
        settings = Settings(**given)
        # So that the study goes on from any working directory.
        paths = {name: spell(getattr(settings, name)) for name, spell in _SPELLED.items()}
        settings = replace(settings, **paths)
        images = settings.images.settled(wanted_preprocessing(settings.weights))
        return replace(settings, preprocessing=images.preprocessing), Grid()
    settings, digest, asked = read_config(folder)
    for name, value in given.items():
        spell = _SPELLED.get(name, lambda value: value)
        if spell(was := getattr(settings, name)) != spell(value):
            raise JaxtlError(
                f"{folder}: was made with {name} {was}, not {value}, which all its trials share: leave it "
                "out to go on, or give a new folder with --out"
            )
    if weights_digest(settings) != digest:
        raise JaxtlError(
            f"{settings.weights or imagenet_path()}: not the weights that {folder} was started with; restore "
            "that file"
        )
    return settings, _asked(folder, asked)


def _asked(folder: Path, asked: Any) -> Grid:
    # Settings have a digest; this may be edited, if it is what could be asked for.
    known = isinstance(asked, dict) and set(asked) <= set(Grid._fields)
    if not known or not all(isinstance(text, str | None) for text in asked.values()):
        raise JaxtlError(
            f"{folder / CONFIG}: asked must have {', '.join(Grid._fields)}, each a text or null; undo that "
            "edit, or start a new study with --out"
        )
    return Grid(**asked)


def weights_digest(settings: Settings) -> str:
    """Of the weights that a study is made with."""
    return load_start(settings.weights, settings.model)[2]["tensor_digest"]


def write_config(folder: Path, settings: Settings, digest: str, asked: dict[str, Any]) -> None:
    """Record the settings, the digest of the weights, and the sizes, methods and backends asked for."""
    record = {**asdict(settings), "weights_digest": digest}
    write_json(folder / CONFIG, {**record, "digest": digest_of(record), "asked": asked})


def read_config(folder: Path) -> tuple[Settings, str, dict[str, Any]]:
    """A study's settings, the digest of its weights, and what was asked for last.

    Raises JaxtlError where there are none, or they were edited.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise JaxtlError(
            f"{folder}: no scaling study (it has no {CONFIG}); start one with jaxtl scale --out {folder}"
        )
    record = read_json_object(path)
    asked, digest = record.pop("asked", None), record.pop("digest", None)
    if asked is None:
        raise JaxtlError(f"{folder}: no scaling study but something else's folder; give another with --out")
    if digest != digest_of(record):
        raise JaxtlError(
            f"{path}: was edited since the study started; undo that, or start a new one with --out"
        )
    try:
        of_weights = record.pop("weights_digest")
        return Settings(**{**FORMER_PIXELS, **record}), of_weights, asked
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise JaxtlError(
            f"{path}: not the settings of a study of this jaxtl ({error}); start a new one with --out"
        ) from None
