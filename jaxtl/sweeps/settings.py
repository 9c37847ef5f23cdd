"""What a sweep is asked for: which layers learn, at which sizes, with which weights; light to import."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jaxtl.errors import JaxtlError
from jaxtl.ranges import RANGES, Range, shown, text
from jaxtl.settings import MOST_SEEDS, RunConfig

T = TypeVar("T")

# How the weights that come with jaxtl are named among others.
BUNDLED = "imagenet"
TRAINABLE = ("none", "10", "30", "all")
# What decides is the network's accuracy: maps and the depth profile are for the run that was chosen.
USUAL = RunConfig(methods=("pca",), layers=False)
SEEDS = Range(1, MOST_SEEDS, whole=True)
# More runs than anybody waits for; a typing error.
_MOST = 1000
# More than any number of layers has.
_DIGITS = 20
_STRANGE = re.compile(r"[^\w.-]+")


class Combination(NamedTuple):
    """One of a sweep's runs, or of its groups of runs that differ in their seed alone.

    Attributes:
        name: of its folder, and of its column on the page.
        trainable, image_size, weights: as of `jaxtl.RunConfig`.
    """

    name: str
    trainable: str
    image_size: int
    weights: str | None

    @property
    def group(self) -> str:
        """What it has in common with those that differ in what learns alone, as a folder's name."""
        return self.name.removesuffix(f"-{_as_name(self.trainable)}") if self.trainable else self.name


@dataclass(frozen=True)
class Grid:
    """All combinations of some settings.

    Attributes:
        trainable: each as of `jaxtl.RunConfig`.
        image_size: pixels, each 32 to 1024.
        weights: files; None, or "imagenet", stands for those that come with jaxtl.

    Raises JaxtlError for none of a kind, for one that is no such setting, and for more than 1000
    combinations.
    """

    trainable: tuple[str, ...] = TRAINABLE
    image_size: tuple[int, ...] = (RunConfig.image_size,)
    weights: tuple[str | None, ...] = (None,)

    def __post_init__(self) -> None:
        sizes = _each(
            "image_size", self.image_size, lambda size: RANGES["image_size"].checked("image_size", size)
        )
        self._set("image_size", sizes)
        self._set(
            "trainable", _each("trainable", self.trainable, lambda some: text("trainable", _spelled(some)))
        )
        self._set("weights", _each("weights", self.weights, _weights))
        if (count := len(self.trainable) * len(sizes) * len(self.weights)) > _MOST:
            raise JaxtlError(f"sweep: {count:,} combinations are more than {_MOST:,}; leave some out")

    def _set(self, name: str, values: tuple[Any, ...]) -> None:
        object.__setattr__(self, name, values)

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """All of them, those with the same weights and size side by side."""
        made, names = [], set()
        for weights in self.weights:
            for size in self.image_size:
                for trainable in self.trainable:
                    stem = f"{_as_name(Path(weights).stem)}-" if weights else ""
                    name, number = f"{stem}{size}px-{_as_name(trainable)}", 1
                    while name.lower() in names:
                        number += 1
                        name = f"{stem}{number}-{size}px-{_as_name(trainable)}"
                    names.add(name.lower())
                    made.append(Combination(name, trainable, size, weights))
        return tuple(made)


class Asked(NamedTuple):
    """A sweep: the settings that all its runs share, what differs, and how many seeds each combination has.

    `config.seed` is the first of them.
    """

    config: RunConfig
    grid: Grid
    seeds: int

    @property
    def seed_numbers(self) -> list[int]:
        return list(range(self.config.seed, self.config.seed + self.seeds))

    def config_of(self, combination: Combination) -> RunConfig:
        """The settings of its first run."""
        _, trainable, image_size, weights = combination
        return replace(self.config, trainable=trainable, image_size=image_size, weights=weights)

    def as_record(self) -> dict[str, Any]:
        return {"settings": asdict(self.config), "grid": asdict(self.grid), "seeds": self.seeds}

    @classmethod
    def of_record(cls, record: dict[str, Any]) -> Asked:
        """Raises JaxtlError, TypeError or KeyError for what is no such record."""
        settings = {**record["settings"], "methods": tuple(record["settings"]["methods"])}
        grid = Grid(**{name: tuple(values) for name, values in record["grid"].items()})
        return cls(RunConfig(**settings), grid, SEEDS.checked("seeds", record["seeds"]))


def _each(name: str, values: Sequence[Any], checked: Callable[[Any], T]) -> tuple[T, ...]:
    if not isinstance(values, list | tuple) or not values:
        raise JaxtlError(f"{name}: must be a list of at least one, got {shown(values)}")
    return tuple(dict.fromkeys(map(checked, values)))


def _spelled(trainable: Any) -> Any:
    """A number as it is written once, however it was: "010" is 10."""
    if isinstance(trainable, str) and trainable.isdecimal() and len(trainable) <= _DIGITS:
        trainable = int(trainable)
    return str(trainable) if isinstance(trainable, int) and not isinstance(trainable, bool) else trainable


def _weights(path: Any) -> str | None:
    return None if path in (None, BUNDLED) else text("weights", path)


def _as_name(part: str) -> str:
    return _STRANGE.sub("-", part).strip("-.") or "x"
