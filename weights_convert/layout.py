"""How a library of PyTorch's names the tensors of a family of networks, and computes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.exports.torchvision import our_shape, torch_names
from jaxtl.models.layers import NetworkConfig
from jaxtl.settings import spelled

Shapes = Mapping[str, tuple[int, ...]]
# PyTorch's name, and the order of our axes in its form, by our name of an array.
Names = Mapping[str, tuple[str, tuple[int, ...]]]


def as_it_is(config: Any, beside: dict[str, Any], processor: dict[str, Any]) -> Any:
    """Nothing beside a file says more."""
    return config


def without_notes(config: Any) -> list[str]:
    """Nothing was guessed."""
    return []


@dataclass(frozen=True)
class Layout:
    """One library's names for one family of networks.

    Attributes:
        library: whose names they are, such as "timm".
        signature: name of the tensor by which the backbone's place in a file is told.
        modules: the library's module for each of our layers that holds arrays, by a network's config.
        usual: what the library's networks of this family compute like, where nothing beside the file says
            otherwise; its size and classes play no part.
        config: `usual` with the size that tensors of these shapes, by the library's names, have; the first
            argument is the width asked for, or "auto". Raises JaxtlError for a relative that jaxtl does not
            have.
        told: changes to a config by `config.json` and `preprocessor_config.json` beside the file, both {}
            where they are not there. Raises JaxtlError for a network that jaxtl does not have.
        notes: lines about what the tensors leave open and `config` has chosen.
    """

    library: str
    signature: str
    modules: Callable[[Any], dict[str, str]]
    usual: Any
    config: Callable[[str, Shapes, Any], Any]
    told: Callable[[Any, dict[str, Any], dict[str, Any]], Any] = as_it_is
    notes: Callable[[Any], list[str]] = without_notes

    def names(self, config: NetworkConfig) -> Names:
        """Of a network's arrays, without those of a head."""
        backbone: Any = replace(config, classes=None)  # type: ignore[type-var]
        return torch_names(backbone.layers, self.modules(backbone))

    def prefixes(self, names: Iterable[str]) -> list[str]:
        """What stands before the signature wherever it ends a tensor's name."""
        ends = [name for name in names if name == self.signature or name.endswith(f".{self.signature}")]
        return sorted(name.removesuffix(self.signature) for name in ends)


def our_shapes(names: Names, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Shapes by our names, of those tensors that `names` knows, from shapes by the library's."""
    return {
        ours: our_shape(shapes[theirs], axes) for ours, (theirs, axes) in names.items() if theirs in shapes
    }


def told_by_timm(config: Any, beside: dict[str, Any], processor: dict[str, Any]) -> Any:
    """The mean and deviation of timm's `config.json`."""
    settings = beside.get("pretrained_cfg", beside)
    if "mean" in settings and "std" in settings:
        return replace(config, preprocessing=_spelled(settings["mean"], settings["std"]))
    return config


def told_by_processor(config: Any, processor: dict[str, Any]) -> Any:
    """The mean and deviation of transformers' `preprocessor_config.json`."""
    if processor.get("do_normalize") is False:
        return replace(config, preprocessing="unit")
    if "image_mean" in processor and "image_std" in processor:
        return replace(config, preprocessing=_spelled(processor["image_mean"], processor["image_std"]))
    return config


def check_fixed(fixed: Mapping[str, Any], beside: Mapping[str, Any], label: str) -> None:
    """Raises JaxtlError where `config.json` has another value of what jaxtl's network has one value of."""
    for name, value in fixed.items():
        if beside.get(name, value) != value:
            raise JaxtlError(f"config.json has {name} {beside[name]!r}; jaxtl's {label} has {value!r}")


def _spelled(mean: Any, deviation: Any) -> str:
    try:
        return spelled(*(tuple(float(number) for number in numbers) for numbers in (mean, deviation)))
    except (TypeError, ValueError):
        raise JaxtlError("the mean and deviation beside it are no numbers; say --preprocessing") from None
