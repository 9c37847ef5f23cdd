"""All families of networks that are read from Keras's files, and which of them a file holds.

A family joins by a `KERAS` in its module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jaxtl.errors import JaxtlError
from weights_convert import mobilenet_v2
from weights_convert.hdf5 import Tensor
from weights_convert.keras_layout import KerasLayout

LAYOUTS = (mobilenet_v2.KERAS,)
STATE = ("optimizer/", "optimizer_weights/")
_FLAT = ("", "model_weights/")


@dataclass(frozen=True)
class Backbone:
    """The tensors of one network in a file by our names, those that have no place in it, and the rest."""

    layout: KerasLayout
    found: dict[str, Tensor]
    unknown: dict[str, Tensor]
    outside: dict[str, Tensor]


@dataclass(frozen=True)
class _Group:
    """The tensors that one container encloses, by the names that a layout gives them."""

    layout: KerasLayout
    container: str
    names: dict[str, list[Tensor]]

    @property
    def fit(self) -> int:
        """How many more of the layout's names are there than are missing.

        Early Keras 3 numbers layers without a name, and the first of them fit several networks.
        """
        there = len(self.names.keys() & self.layout.known)
        return 2 * there - len(self.layout.known)


def locate(tensors: Mapping[str, Tensor], where: str) -> Backbone:
    """Group tensors by what encloses them; the backbone is the one group with most of a network."""
    best: dict[str, _Group] = {}
    for group in _groups(tensors):
        rival = best.get(group.container)
        if group.fit > (rival.fit if rival else 0):
            best[group.container] = group
    if not best:
        some = ", ".join(sorted(tensors)[:3]) or "none at all"
        kinds = " or ".join(layout.usual.label for layout in LAYOUTS)
        raise JaxtlError(f"{where}: holds no {kinds}; its tensors are {some}, ...; give a file of {kinds}")
    if len(best) > 1:
        places = ", ".join(sorted(best))
        raise JaxtlError(f"{where}: holds {len(best)} backbones ({places}); save one of them alone")
    return _split(tensors, *best.values(), where)


def _groups(tensors: Mapping[str, Tensor]) -> Iterator[_Group]:
    for layout in LAYOUTS:
        groups: dict[str, _Group] = {}
        for tensor in tensors.values():
            address = None if tensor.path.startswith(STATE) else layout.address(tensor)
            if address:
                container, name = address
                group = groups.setdefault(container, _Group(layout, container, {}))
                group.names.setdefault(name, []).append(tensor)
        yield from groups.values()


def _split(tensors: Mapping[str, Tensor], group: _Group, where: str) -> Backbone:
    twice = [" and ".join(t.path for t in same) for same in group.names.values() if len(same) > 1]
    if twice:
        raise JaxtlError(f"{where}: several tensors for one parameter: {'; '.join(twice[:3])}; save it again")
    named = {name: same[0] for name, same in group.names.items()}
    taken = {tensor.path for tensor in named.values()}
    rest = {path: t for path, t in sorted(tensors.items()) if path not in taken}
    nested = group.container not in _FLAT
    unknown = {path: t for path, t in rest.items() if nested and path.startswith(group.container)}
    outside = {path: t for path, t in rest.items() if path not in unknown}
    return Backbone(group.layout, named, unknown, outside)
