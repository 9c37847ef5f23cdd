"""openTSNE by itself: its own defaults but for what all peers are asked alike.

jaxtl computes its t-SNE on a CPU with it, from a start in float64, and measures the divergence at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from joblib import cpu_count
from openTSNE import TSNE

from benchmarks.peers import data, quality
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.timing import Result, measured


def versions() -> dict[str, str]:
    return data.installed("openTSNE", "numpy", "scipy", "scikit-learn")


def settings() -> dict[str, Any]:
    return {"device": "cpu", "threads": cpu_count(), "n_jobs": -1, "dtype": "float64"}


def tsne(n: int) -> Result:
    """Exact neighbours; 250 iterations at exaggeration 12, 500 without."""
    values = data.features(n)
    model = TSNE(
        perplexity=quality.PERPLEXITY,
        initialization="pca",
        learning_rate="auto",
        early_exaggeration=12,
        early_exaggeration_iter=250,
        n_iter=500,
        neighbors="exact",
        negative_gradient_method="auto",
        n_jobs=-1,
        random_state=0,
    )
    return measured(lambda: np.asarray(model.fit(values)), quality.of_tsne)
