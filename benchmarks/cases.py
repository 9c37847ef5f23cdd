"""What can be measured: every case with its peers, its unit and its sizes, and where each peer is found.

A case's function has the same name in every peer's module; `PEERS` says where it is not so. Whole processes
are in `benchmarks.processes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FAMILIES = {
    "network": "The network",
    "maps": "Maps",
    "neighbors": "Neighbours",
    "metrics": "Metrics",
    "processes": "Whole processes",
}
OURS = "jaxtl"

_TORCH = "benchmarks.peers.torch_peer"
_KERAS = "benchmarks.peers.keras_peer"
# jaxtl judges their results; on the CPU, so that it takes no part of the card.
_JUDGED_ON_CPU = {"JAX_PLATFORMS": "cpu"}


@dataclass(frozen=True)
class Peer:
    """Where a peer's functions are.

    Attributes:
        module: that serves them.
        install: what to ask pip for where it is not installed.
        environment: of its process, beside the suite's.
        functions: names that differ from the case's.
        on: devices that it computes on.
    """

    module: str
    install: str
    environment: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    on: tuple[str, ...] = ("cpu", "gpu")


PEERS = {
    OURS: Peer("benchmarks.peers.jaxtl_peer", "."),
    "Keras (TensorFlow)": Peer(_KERAS, '".[bench]"', {"KERAS_BACKEND": "tensorflow"}, on=("cpu",)),
    "Keras (JAX)": Peer(_KERAS, '".[bench]"', {"KERAS_BACKEND": "jax"}),
    "PyTorch": Peer(_TORCH, '".[bench]"', _JUDGED_ON_CPU | {"BENCHMARK_TORCH": "eager"}),
    "PyTorch, compiled": Peer(_TORCH, '".[bench]"', _JUDGED_ON_CPU | {"BENCHMARK_TORCH": "compiled"}),
    "scikit-learn": Peer("benchmarks.peers.sklearn_peer", "scikit-learn", _JUDGED_ON_CPU),
    "openTSNE": Peer("benchmarks.peers.opentsne_peer", "openTSNE", _JUDGED_ON_CPU),
    "umap-learn": Peer(
        "benchmarks.peers.umap_peer", '".[bench]"', _JUDGED_ON_CPU, functions={"tsne": "umap"}
    ),
    "cuML": Peer("benchmarks.peers.cuml_peer", '".[cuda13]"', _JUDGED_ON_CPU, on=("gpu",)),
    "cuML's UMAP": Peer(
        "benchmarks.peers.cuml_peer", '".[cuda13]"', _JUDGED_ON_CPU, functions={"tsne": "umap"}, on=("gpu",)
    ),
}
_NETWORKS = (OURS, "Keras (TensorFlow)", "Keras (JAX)", "PyTorch", "PyTorch, compiled")
_POINTS = (OURS, "scikit-learn", "cuML")


@dataclass(frozen=True)
class Case:
    """One thing to time.

    Attributes:
        family: of FAMILIES.
        title: what is done, and with what.
        peers: that may have it, in the order of their turns.
        unit: what its size counts; None where it has no size.
        function: the peers' name for it.
        arguments: of the function, by size; without, the size is `n`.
        work: how many of `units` a call works on, by arguments; without, the size.
        units: of `work`, for the rate.
        seeded: takes `seed`, another one every round.
        warm: a first call warms up and stands apart. Not where every call starts from nothing and takes long.
    """

    family: str
    title: str
    peers: tuple[str, ...]
    unit: str | None = "points"
    function: str = ""
    arguments: Callable[[int], dict[str, Any]] | None = None
    work: Callable[[Mapping[str, Any]], int] | None = None
    units: str = "points"
    seeded: bool = False
    warm: bool = True

    def arguments_for(self, size: int | None) -> dict[str, Any]:
        if size is None:
            return {}
        return self.arguments(size) if self.arguments else {"n": size}

    def count(self, arguments: Mapping[str, Any]) -> int | None:
        """Images or points that a call works on."""
        if self.unit is None:
            return None
        return self.work(arguments) if self.work else arguments.get("n")


def _metric(name: str, title: str, peers: tuple[str, ...] = _POINTS) -> dict[str, Case]:
    return {name: Case("metrics", title, peers, function=name)}


def _in_the_map(name: str, title: str, peers: tuple[str, ...] = _POINTS) -> dict[str, Case]:
    """The metric of the 1280 features, and that of a map."""
    planar = Case(
        "metrics", f"{title}, of a map", peers, function=name,
        arguments=lambda n: {"n": n, "space": "map"},
    )  # fmt: skip
    return _metric(name, f"{title}, of 1280 features", peers) | {f"{name}-map": planar}


CASES: dict[str, Case] = {
    "forward": Case(
        "network", "Forward pass: uint8 images to pooled features, by batch size", _NETWORKS,
        unit="batch", units="images",
        # Enough batches to be timed, and not more images than there are.
        arguments=lambda size: {"batch_size": size, "n": max(64, min(8 * size, 2048))},
    ),
    "trunk": Case(
        "network", "Frozen layers of the default fine-tuning", (OURS, "PyTorch", "PyTorch, compiled"),
        unit="images", units="images",
    ),
    "tail": Case(
        "network", "Training the last 10 layers and the head on the trunk's outputs, batch 32",
        (OURS, "PyTorch", "PyTorch, compiled"), unit="images", units="images",
        arguments=lambda size: {"n": size, "epochs": 2, "batch_size": 32},
        work=lambda given: given["n"] * given["epochs"],
    ),
    "finetune": Case(
        "network", "Fine-tuning from images to the tested network, everything compiled anew", _NETWORKS,
        unit="training images", units="images",
        arguments=lambda size: {"train": size, "test": min(10_000, max(size // 6, 256)), "epochs": 5},
        work=lambda given: given["train"] * given["epochs"], seeded=True, warm=False,
    ),
    "pca": Case("maps", "PCA to two dimensions", _POINTS),
    "tsne": Case(
        "maps", "t-SNE, perplexity 30; UMAP beside it",
        (OURS, "openTSNE", "scikit-learn", "umap-learn", "cuML", "cuML's UMAP"),
    ),
    "lle": Case("maps", "LLE, 12 neighbours", (OURS, "scikit-learn")),
    "lle-modified": Case(
        "maps", "Modified LLE, 12 neighbours", (OURS, "scikit-learn"), function="lle",
        arguments=lambda n: {"n": n, "method": "modified"},
    ),
    "neighbors": Case(
        "neighbors", "12 nearest neighbours in 1280 dimensions", (OURS, "scikit-learn", "umap-learn", "cuML"),
        arguments=lambda n: {"n": n, "k": 12},
    ),
    "neighbors-90": Case(
        "neighbors", "90 nearest neighbours in 1280 dimensions",
        (OURS, "scikit-learn", "umap-learn", "cuML"), function="neighbors",
        arguments=lambda n: {"n": n, "k": 90},
    ),
    **_in_the_map("knn_accuracy", "10-NN accuracy, 5-fold"),
    **_in_the_map("leave_one_out_knn", "10-NN accuracy, leave-one-out"),
    **_in_the_map("silhouette", "Silhouette of the classes"),
    **_in_the_map("davies_bouldin", "Davies-Bouldin index", (OURS, "scikit-learn")),
    **_in_the_map("calinski_harabasz", "Calinski-Harabasz index", (OURS, "scikit-learn")),
    **_in_the_map("kmeans_agreement", "k-means clusters against classes"),
    **_metric("trustworthiness", "Trustworthiness of a map"),
    **_metric("ridge_probe", "Ridge probe", (OURS, "scikit-learn")),
    **_metric("logistic_probe", "Logistic probe"),
    **_metric("procrustes", "Procrustes distance of two representations", (OURS, "scikit-learn")),
    **_metric("linear_cka", "Linear CKA of two representations", (OURS,)),
    **_metric("two_nn", "Intrinsic dimension, two nearest neighbours", (OURS,)),
    **_metric("dimensions", "Effective rank and participation ratio", (OURS,)),
    **_metric("log_me", "LogME", (OURS,)),
    **_metric("h_score", "H-score", (OURS,)),
    "import": Case(
        "processes", "Start-up: an interpreter that imports the library",
        ("Python", OURS, "Keras (TensorFlow)", "PyTorch", "scikit-learn", "openTSNE"), unit=None,
    ),
    "help": Case("processes", "Start-up: `jaxtl --help`", ("Python", OURS), unit=None),
    "report": Case("processes", "`jaxtl report`: a run's page, written anew", (OURS,), unit="points mapped"),
    "whole": Case(
        "processes", "The whole experiment: `jaxtl run`, and `plain_keras.py` (Keras, scikit-learn)",
        (OURS, "Keras, scikit-learn"), unit="training images",
        arguments=lambda size: {"train": size, "samples": min(size, 2000), "epochs": 5},
        seeded=True, warm=False,
    ),
}  # fmt: skip

# Peers of whole processes only: nothing but an interpreter, and the plain script.
PROCESS_PEERS = ("Python", "Keras, scikit-learn")

# Which way is better; a number that is not here only has to be the same for all.
BETTER = {
    "accuracy": +1,
    "test_accuracy": +1,
    "knn_accuracy": +1,
    "trustworthiness": +1,
    "explained_variance_ratio": +1,
    "recall": +1,
    "kl_divergence": -1,
    "reconstruction_error": -1,
    "loss": -1,
}


def peer_names() -> tuple[str, ...]:
    return (*PEERS, *PROCESS_PEERS)
