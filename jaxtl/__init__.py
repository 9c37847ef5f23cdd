"""jaxtl: what transfer learning does to a network's features, in pictures and in numbers.

Names are imported at their first use, so that `import jaxtl` costs nothing. `__init__.pyi` says
the same to type checkers.
"""

import os

# OpenMP's threads wait for each other without sleeping, by default: beside other busy processes a t-SNE of
# 500 points then takes minutes in place of seconds. It is read when the first library that has OpenMP loads,
# so that it stands here; it changes no number, and who has set it has their way.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# So do OpenBLAS's, after 2^4 cycles and not 2^26: beside busy processes PCA of 2000 x 1280 features on two
# cores takes 1.4 s of processor time instead of 4.7, with the same bits.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

__version__ = "0.1.0"

_HOME = {
    "run": "jaxtl.experiment.run",
    "load": "jaxtl.data",
    "load_run": "jaxtl.runs.data",
    "load_model": "jaxtl.models.weights",
    "Network": "jaxtl.models.network",
    "MobileNetV2": "jaxtl.models.mobilenet_v2",
    "MobileNetV2Config": "jaxtl.models.mobilenet_v2",
    "ResNet": "jaxtl.models.resnet",
    "ResNetConfig": "jaxtl.models.resnet",
    "extract": "jaxtl.network.extraction",
    "finetune": "jaxtl.network.finetuning",
    "reduce": "jaxtl.reduction",
    "plot": "jaxtl.plots.shown",
    "compare": "jaxtl.experiment.comparison",
    "Comparison": "jaxtl.experiment.compared",
    "sweep": "jaxtl.sweeps.result",
    "SweepResult": "jaxtl.sweeps.result",
    "SweepRow": "jaxtl.sweeps.rows",
    "LocallyLinearEmbedding": "jaxtl.lle.estimator",
    "knn_accuracy": "jaxtl.metrics.separability",
    "Dataset": "jaxtl.records.dataset",
    "Features": "jaxtl.records.arrays",
    "Embedding": "jaxtl.records.arrays",
    "Score": "jaxtl.records.tables",
    "Images": "jaxtl.settings",
    "FinetuneConfig": "jaxtl.settings",
    "RunConfig": "jaxtl.settings",
    "JaxtlError": "jaxtl.errors",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'jaxtl' has no attribute {name!r}")
    from importlib import import_module  # here, since the program's first lines are to come soon

    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
