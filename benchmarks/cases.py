"""What can be measured: every case with its peers, its unit and its sizes, and where each peer is found.

A case's function has the same name in every peer's module; whole processes are in `benchmarks.processes`.
How an embedding's time grows with the number of points is `jaxtl scale`'s to measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

FAMILIES = {
    "network": "The network",
    "embeddings": "Embeddings",
    "neighbors": "Neighbours",
    "metrics": "Metrics",
    "processes": "Whole processes",
}
OURS = "jaxtl"

_TORCH = "benchmarks.peers.torch_peer"
_KERAS = "benchmarks.peers.keras_peer"
_CUML = "benchmarks.peers.cuml_peer"
# jaxtl judges their results; on the CPU, so that it takes no part of the card.
_JUDGED_ON_CPU = {"JAX_PLATFORMS": "cpu"}


@dataclass(frozen=True)
class Peer:
    """Where a peer's functions are.

    Attributes:
        module: that serves them.
        install: what to ask pip for where it is not installed.
        environment: of its process, beside the suite's.
        on: devices that it computes on.
    """

    module: str
    install: str
    environment: Mapping[str, str] = field(default_factory=dict)
    on: tuple[str, ...] = ("cpu", "gpu")


_CPU, _GPU = ("cpu",), ("gpu",)


def _ours(**settings: str) -> Peer:
    """jaxtl with other settings than its own choice."""
    named = {f"BENCHMARK_{name.upper()}": value for name, value in settings.items()}
    return Peer("benchmarks.peers.jaxtl_peer", ".", named, on=_GPU)


PEERS = {
    OURS: Peer("benchmarks.peers.jaxtl_peer", "."),
    "Keras (TensorFlow)": Peer(_KERAS, '".[bench]"', {"KERAS_BACKEND": "tensorflow"}, on=_CPU),
    "Keras (JAX)": Peer(_KERAS, '".[bench]"', {"KERAS_BACKEND": "jax"}),
    "PyTorch": Peer(_TORCH, '".[bench]"', _JUDGED_ON_CPU | {"BENCHMARK_TORCH": "eager"}),
    "PyTorch, compiled": Peer(_TORCH, '".[bench]"', _JUDGED_ON_CPU | {"BENCHMARK_TORCH": "compiled"}),
    "scikit-learn": Peer("benchmarks.peers.sklearn_peer", "scikit-learn", _JUDGED_ON_CPU),
    "openTSNE": Peer("benchmarks.peers.opentsne_peer", "openTSNE", _JUDGED_ON_CPU),
    "cuML": Peer(_CUML, '".[cuda13]"', _JUDGED_ON_CPU, on=_GPU),
    "cuML, exact forces": Peer(_CUML, '".[cuda13]"', _JUDGED_ON_CPU | {"BENCHMARK_TSNE": "exact"}, on=_GPU),
    "PyTorch, CUDA graphs": Peer(
        _TORCH, '".[bench]"', _JUDGED_ON_CPU | {"BENCHMARK_TORCH": "graphs"}, on=_GPU
    ),
    "jaxtl, TF32": _ours(precision="tf32"),
    "jaxtl, bfloat16": _ours(precision="bf16"),
    "jaxtl, XLA's convolutions": _ours(form="xla"),
    "jaxtl, XLA's options": _ours(xla="default"),
}
_VARIANTS = tuple(name for name in PEERS if name.startswith("jaxtl, "))
_TORCHES = ("PyTorch", "PyTorch, compiled", "PyTorch, CUDA graphs")
_NETWORKS = (OURS, "Keras (TensorFlow)", "Keras (JAX)", *_TORCHES, *_VARIANTS)
_LAYERS = (OURS, *_TORCHES, *_VARIANTS)
_FITTED = (OURS, "Keras (TensorFlow)", "Keras (JAX)", "PyTorch", "PyTorch, compiled")
_LIBRARIES = (OURS, "scikit-learn")
_POINTS = (*_LIBRARIES, "cuML")
_TSNES = (OURS, "openTSNE", "scikit-learn", "cuML", "cuML, exact forces")
_IMPORTED = ("Python", OURS, "Keras (TensorFlow)", "PyTorch", "scikit-learn", "openTSNE")


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


def _forward(batch: int) -> dict[str, Any]:
    # Enough batches to be timed, and not more images than there are.
    return {"batch_size": batch, "n": max(64, min(8 * batch, 2048))}


def _finetune(train: int) -> dict[str, Any]:
    return {"train": train, "test": min(10_000, max(train // 6, 256)), "epochs": 5}


def _network(title: str, peers: tuple[str, ...], unit: str, **more: Any) -> Case:
    return Case("network", title, peers, unit, units="images", **more)


_NETWORK = {
    "forward": _network(
        "Forward pass: uint8 images to pooled features, by batch size", _NETWORKS, "batch", arguments=_forward
    ),
    "trunk": _network("Frozen layers of the default fine-tuning", _LAYERS, "images"),
    "tail": _network(
        "Training the last 10 layers and the head on the trunk's outputs, batch 32",
        _LAYERS,
        "images",
        arguments=lambda n: {"n": n, "epochs": 2, "batch_size": 32},
        work=lambda given: given["n"] * given["epochs"],
    ),
    "finetune": _network(
        "Fine-tuning from images to the tested network, everything compiled anew",
        (*_FITTED, "jaxtl, TF32", "jaxtl, bfloat16"),
        "training images",
        arguments=_finetune,
        work=lambda given: given["train"] * given["epochs"],
        seeded=True,
        warm=False,
    ),
}


def _neighbors(k: int) -> Case:
    return Case(
        "neighbors",
        f"{k} nearest neighbours in 1280 dimensions",
        _POINTS,
        function="neighbors",
        arguments=lambda n: {"n": n, "k": k},
    )


_EMBEDDINGS = {
    "pca": Case("embeddings", "PCA to two dimensions", _POINTS),
    "tsne": Case("embeddings", "t-SNE, perplexity 30", _TSNES),
    "lle": Case("embeddings", "LLE, 12 neighbours", _LIBRARIES),
    "lle-modified": Case(
        "embeddings",
        "Modified LLE, 12 neighbours",
        _LIBRARIES,
        function="lle",
        arguments=lambda n: {"n": n, "method": "modified"},
    ),
    "neighbors": _neighbors(12),
    "neighbors-90": _neighbors(90),
}

_METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "knn_accuracy": ("10-NN accuracy, 5-fold", _LIBRARIES),
    "leave_one_out_knn": ("10-NN accuracy, leave one out", _LIBRARIES),
    "silhouette": ("Silhouette of the classes", _POINTS),
    "davies_bouldin": ("Davies-Bouldin index", _LIBRARIES),
    "calinski_harabasz": ("Calinski-Harabasz index", _LIBRARIES),
    "kmeans_agreement": ("k-means clusters against classes", _POINTS),
    "trustworthiness": ("Trustworthiness of an embedding", _POINTS),
    "ridge_probe": ("Ridge probe", _LIBRARIES),
    "logistic_probe": ("Logistic probe", _LIBRARIES),
}
# Of 1280 features by themselves; with "-map" of an embedding.
_OF_TWO_SPACES = tuple(_METRICS)[:6]


def _metric(name: str, space: str = "features") -> Case:
    title, peers = _METRICS[name]
    of = {"map": ", of an embedding", "features": ", of 1280 features"}[space] * (name in _OF_TWO_SPACES)
    given = {"space": space} if space == "map" else {}
    return Case(
        "metrics", title + of, peers, function="metric", arguments=lambda n: {"name": name, "n": n, **given}
    )


_PROCESSES = {
    "import": Case("processes", "Start-up: an interpreter that imports the library", _IMPORTED, unit=None),
    "help": Case("processes", "Start-up: `jaxtl --help`", ("Python", OURS), unit=None),
    "whole": Case(
        "processes",
        "The whole experiment: `jaxtl run`, and `plain_keras.py` (Keras, scikit-learn)",
        (OURS, "Keras, scikit-learn"),
        unit="training images",
        arguments=lambda n: {"train": n, "samples": min(n, 2000), "epochs": 5},
        seeded=True,
        warm=False,
    ),
    "run": Case(
        "processes",
        "`jaxtl run`: its first call with empty caches, the others with what it left there",
        (OURS,),
        unit="test images",
        arguments=lambda n: {"samples": n, "train": 60_000, "epochs": 5},
    ),
    "run-seeds": Case(
        "processes",
        "The same with five seeds at once",
        (OURS,),
        unit="test images",
        arguments=lambda n: {"samples": n, "train": 60_000, "epochs": 5, "seeds": 5},
    ),
}

CASES: dict[str, Case] = {
    **_NETWORK,
    **_EMBEDDINGS,
    **{name: _metric(name) for name in _METRICS},
    **{f"{name}-map": _metric(name, "map") for name in _OF_TWO_SPACES},
    **_PROCESSES,
}

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
