"""What can be measured: every case with its peers, its unit and its sizes, and where each peer is found.

A case's function has the same name in every peer's module; whole processes are in `benchmarks.processes`.
How an embedding's time grows with the number of points is `jaxtl scale`'s to measure.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

FAMILIES = {
    "network": "The network",
    "embeddings": "Embeddings",
    "neighbors": "Neighbours",
    "metrics": "Metrics",
    "processes": "Whole processes",
}
OURS = "jaxtl"


@dataclass(frozen=True)
class Peer:
    """Where a peer's functions are.

    Attributes:
        module: that serves them.
        libraries: the distributions whose versions are recorded.
        environment: of its process, beside the suite's.
        on: devices that it computes on.
        install: what to ask pip for where it is not installed.
    """

    module: str
    libraries: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    on: Sequence[str] = ("cpu", "gpu")
    install: str = '".[bench]"'


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
        family: of FAMILIES.
        title: what is done, and with what.
        peers: that may have it, in the order of their turns.
        unit: what its size counts; empty where it has no size.
        function: the peers' name for it, where that is another.
        size: the argument that its size is.
        arguments: further ones, beside those in `_BY_SIZE`.
        counted: arguments whose product says how many of `units` a call works on.
        units: of the rate.
        seeded: takes `seed`, another one every round.
        warm: a first call warms up and stands apart. Not where every call starts from nothing and takes long.
    """

    family: str
    title: str
    peers: Sequence[str]
    unit: str = "points"
    function: str = ""
    size: str = "n"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    counted: Sequence[str] = ("n",)
    units: str = "points"
    seeded: bool = False
    warm: bool = True

    def count(self, arguments: Mapping[str, Any]) -> int | None:
        """Images or points that a call works on."""
        known = all(name in arguments for name in self.counted)
        return prod(arguments[name] for name in self.counted) if known else None


# Arguments that follow from the size: as many batches as take time, and not more images than there are.
_BY_SIZE: dict[str, Callable[[int], dict[str, int]]] = {
    "forward": lambda batch: {"n": max(64, min(8 * batch, 2048))},
    "finetune": lambda train: {"test": min(10_000, max(train // 6, 256))},
    "whole": lambda train: {"samples": min(train, 2000)},
}


def _read(name: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


PEERS = {name: Peer(**row) for name, row in _read("peers.toml").items()}
CASES = {name: Case(**row) for name, row in _read("cases.toml").items()}


def arguments_for(name: str, size: int | None) -> dict[str, Any]:
    """What a case's function is given at a size."""
    case = CASES[name]
    by_size = {} if size is None else {case.size: size} | _BY_SIZE.get(name, lambda size: {})(size)
    return by_size | dict(case.arguments)


# Features that a network's are held against.
COMPARED_FEATURES = 256
# Peers of whole processes only: nothing but an interpreter, and the plain script.
PROCESS_PEERS = ("Python", "Keras, scikit-learn")

# Which way is better; a number that is not here only has to be the same for all.
BETTER = dict.fromkeys(
    ["accuracy", "test_accuracy", "knn_accuracy", "trustworthiness", "explained_variance_ratio", "recall"], +1
) | dict.fromkeys(("kl_divergence", "reconstruction_error", "loss"), -1)


def peer_names() -> tuple[str, ...]:
    return (*PEERS, *PROCESS_PEERS)
