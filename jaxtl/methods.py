"""The methods that make embeddings, and the libraries that compute them: the one list of either.

Light to import. A new method is a row here, and its functions in the table of `jaxtl.reduction`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from jaxtl.errors import shown

# What a method's parameter may be.
Parameter = bool | int | float | str


@dataclass(frozen=True)
class Method:
    """A way from features to an embedding.

    Attributes:
        name: as it stands in settings, in commands and in the names of files.
        label: as readers see it.
        libraries: those that compute it, as users name them: "auto" takes the first that is installed and can
            work here.
        on_gpu: the libraries among them that compute on a GPU where there is one.
        streamed: the libraries among them that read features piece by piece, so that these may be a
            memory-mapped file, larger than memory.
        settings: those of a run that it takes besides the seed; each with the words, a format, by which a
            picture's title tells it.
        changes: rows beyond which a library among them computes it another way on a CPU, so that time and
            memory follow another law there.
        faster_up_to: points up to which "auto" takes a library among them, as the next is faster beyond.
        axis: what its axes are called before their number; the label where this is empty.
    """

    name: str
    label: str
    libraries: tuple[str, ...]
    on_gpu: tuple[str, ...]
    streamed: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, int] = field(default_factory=dict)
    faster_up_to: Mapping[str, int] = field(default_factory=dict)
    axis: str = ""


_LIST = (
    Method(
        "pca",
        "PCA",
        libraries=("cuml", "sklearn", "jaxtl"),
        on_gpu=("cuml",),
        streamed=("jaxtl",),
        axis="PC",
    ),
    Method(
        "tsne",
        "t-SNE",
        libraries=("cuml", "intelex", "opentsne"),
        on_gpu=("cuml",),
        settings={"perplexity": "perplexity {:g}"},
        # Its descent has one thread.
        faster_up_to={"intelex": 20_000},
    ),
    Method(
        "lle",
        "LLE",
        libraries=("jaxtl", "sklearn"),
        on_gpu=("jaxtl",),
        settings={"n_neighbors": "k = {}"},
        changes={"jaxtl": 10_000},
    ),
)
# By name, in the order in which they are shown.
METHODS: dict[str, Method] = {method.name: method for method in _LIST}
# Libraries as users name them and as their makers write them.
LIBRARIES = {
    "sklearn": "scikit-learn",
    "opentsne": "openTSNE",
    "intelex": "scikit-learn-intelex",
    "cuml": "cuML",
    "jaxtl": "jaxtl",
}
# Of those that compute on a CPU and that an extra of the same name brings: the module that they are there by.
EXTRAS = {"intelex": "sklearnex"}


class Seeded(Protocol):
    """Settings of a run or a study: a seed, and those that the methods take."""

    @property
    def seed(self) -> int: ...


def method_label(method: str) -> str:
    """A method as readers see it; one that is not in the list is shown by its name."""
    return METHODS[method].label if method in METHODS else shown(method)


def library_label(library: str) -> str:
    """A library as its makers write it; one that is not in the list is shown by its name."""
    return LIBRARIES.get(library) or shown(library)


def parameters(method: str, settings: Seeded) -> dict[str, Parameter]:
    """What `jaxtl.reduce` is given for a method: the seed, and those of the settings that it takes."""
    return {"seed": settings.seed, **{name: getattr(settings, name) for name in METHODS[method].settings}}
