"""Runs made up for tests of the report: real digits where there are enough, maps that are clouds."""

import numpy as np

from jaxtl.data import load
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, LINEAR_CKA
from jaxtl.records.arrays import Embedding
from jaxtl.records.tables import Score
from jaxtl.report import RunData

SPACES = ("features", "pca", "tsne", "lle")
CONFIG = {
    "dataset": "mnist",
    "samples": 300,
    "train_samples": 2000,
    "image_size": 48,
    "preprocessing": "unit",
    "weights": None,
    "trainable": "10",
    "epochs": 2,
    "batch_size": 32,
    "learning_rate": 0.001,
    "methods": ["pca", "tsne", "lle"],
    "perplexity": 30.0,
    "n_neighbors": 12,
    "precision": "highest",
    "deterministic": False,
    "seed": 1,
    "weights_digest": "00",
    "digest": "11",
}
CLAIM = {
    "id": "pca",
    "text": "PCA separates poorly before",
    "statistic": "10-NN accuracy, PCA, before",
    "value": 0.332,
    "low": 0.291,
    "high": 0.375,
    "threshold": 0.6,
    "direction": "below",
    "verdict": "holds",
    "words": "A third of the images lie among their own.",
}


def synthetic_run(n, seed=0, **changes):
    """A run of n digits with everything that a run may hold; `changes` replace its fields."""
    digits = load("mnist", "test").take(n)
    draw = np.random.default_rng(seed)
    labels, classes = digits.labels, len(digits.class_names)
    fields = {
        "name": "made-up",
        "labels": labels,
        "index": digits.index,
        "class_names": digits.class_names,
        "embeddings": maps_of(labels, digits.index, draw),
        "config": {**CONFIG, "samples": n},
        "environment": {"jaxtl": "0.1.0", "devices": ["cpu: cpu"], "versions": {"jax": "0.10.2"}},
        "timings": {"before": 1.5, "finetune": 20.0, "tsne_before": 3.0, "peak_memory_gib": 1.2},
        "scores": scores_of(draw),
        "history": [
            {
                "epoch": float(k),
                "loss": 1 / k,
                "accuracy": 0.9,
                "test_loss": 2 / k,
                "test_accuracy": 0.8 + k / 20,
            }
            for k in (1, 2)
        ],
        "features": {"dimensions": 1280, "model": "mobilenet_v2 width 1"},
        "images": digits.images,
        "claims": [CLAIM],
        "class_scores": [
            {"stage": stage, "space": "tsne", "metric": "10-NN recall", "class": name, "value": 0.5}
            for stage in ("before", "after")
            for name in digits.class_names
        ],
        "layers": [
            {
                "stage": stage,
                "layer": f"block_{k}_add",
                "metric": metric,
                "value": k / 10,
                "low": None,
                "high": None,
            }
            for metric, stages in ((LEAVE_ONE_OUT, ("before", "after")), (LINEAR_CKA, ("both",)))
            for stage in stages
            for k in range(1, 6)
        ],
        "measures": measures_of(labels, classes, draw),
    }
    return RunData(**{**fields, **changes})


def maps_of(labels, index, draw):
    """A cloud around each class's own place; a few points of LLE's lie far out, as LLE's do."""
    maps = {}
    for stage, spread in (("before", 2.0), ("after", 0.6)):
        for method in SPACES[1:]:
            centres = 4 * draw.normal(size=(labels.max() + 1, 2))
            coords = (centres[labels] + spread * draw.normal(size=(len(labels), 2))).astype(np.float32)
            if method == "lle":
                coords[:3] *= 60
            maps[stage, method] = Embedding(coords, labels, index, method, "sklearn", {"seed": 1})
    return maps


def scores_of(draw):
    accuracies = [
        Score(stage, space, LEAVE_ONE_OUT, 0.5, 0.45, 0.55)
        for stage in ("before", "after")
        for space in SPACES
    ]
    others = [
        ("before", "tsne", "trustworthiness"),
        ("after", "lle", "silhouette"),
        ("before", "features", "LogME"),
        ("both", "features", LINEAR_CKA),
    ]
    return [*accuracies, *(Score(*of, float(draw.random())) for of in others)]


def measures_of(labels, classes, draw):
    n = len(labels)
    shares = np.eye(classes) * 0.9 + 0.1 / classes
    sizes = np.unique(np.geomspace(1, n // 2, 20).astype(int))
    neighbors = {stage: neighbors_of(n, draw) for stage in ("before", "after")}
    # Half of the neighbours of every other image stay.
    neighbors["after"][::2, :5] = neighbors["before"][::2, :5]
    kept = [np.isin(*pair).mean() for pair in zip(neighbors["after"], neighbors["before"], strict=True)]
    return {
        "head_after": labels.astype(np.int32),
        "head_probability": draw.random(n).astype(np.float32),
        "neighbors_before": neighbors["before"],
        "neighbors_after": neighbors["after"],
        "confusion_before_features": shares,
        "confusion_after_tsne": shares,
        "qnx_k": sizes,
        "qnx_before_tsne": np.linspace(0.2, 0.8, len(sizes)),
        **changes_of(labels, classes, draw),
        "kept": np.array(kept, np.float32),
        "moved": draw.beta(1.2, 9.0, n).astype(np.float32),
        **{f"kept_{method}": draw.random(n).astype(np.float32) for method in SPACES[1:]},
        **{
            f"trust_{stage}_{method}": draw.random(n).astype(np.float32)
            for stage in ("before", "after")
            for method in SPACES[1:]
        },
    }


def neighbors_of(n, draw):
    return ((np.arange(n)[:, None] + draw.integers(1, n, n)[:, None] + 7 * np.arange(10)) % n).astype(
        np.int32
    )


def changes_of(labels, classes, draw):
    """Classes named by two classifiers at both stages, and what became of each image by them."""
    made = {}
    for kind, wrong in (("knn", (0.3, 0.08)), ("probe", (0.2, 0.05))):
        right = {}
        for stage, share in zip(("before", "after"), wrong, strict=True):
            missed = draw.random(len(labels)) < share
            made[f"{kind}_{stage}"] = np.where(missed, (labels + 1) % classes, labels).astype(np.int32)
            right[stage] = ~missed
        codes = np.select(
            [right["before"] & right["after"], right["after"], right["before"]], [0, 1, 2], default=3
        )
        made[f"outcome_{kind}"] = codes.astype(np.uint8)
    return made
