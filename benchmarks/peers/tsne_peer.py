"""t-SNE by openTSNE or manifolds-rs themselves, as BENCHMARK_TSNE names them: their own defaults but for what
all peers are asked alike, which is exact neighbours, 250 iterations at exaggeration 12, and 500 without.

jaxtl computes its t-SNE on a CPU with openTSNE, from a start in float64, and measures the divergence.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from benchmarks.peers import data, quality
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.timing import Result, measured
from jaxtl.machine.host import cpu_count

LIBRARY = os.environ.get("BENCHMARK_TSNE", "openTSNE")
# Where grids of interpolation overtake trees, by openTSNE's own rule.
_LARGE = 10_000


def settings() -> dict[str, Any]:
    kind = "float64" if LIBRARY == "openTSNE" else "float32 as given"
    return {"device": "cpu", "threads": cpu_count(), "dtype": kind}


def tsne(n: int) -> Result:
    values = data.features(n)
    fit = {"openTSNE": _opentsne, "manifolds-rs": _manifolds}[LIBRARY](n)
    return measured(lambda: np.asarray(fit(values)), quality.of_tsne)


def _opentsne(n: int) -> Any:
    from openTSNE import TSNE

    del n  # it has the rule for that itself
    return TSNE(
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
    ).fit


def _manifolds(n: int) -> Any:
    from manifolds_rs import TSNE, TsneOptim

    return TSNE(
        perplexity=quality.PERPLEXITY,
        n_epochs=750,
        ann="exhaustive",
        approx="barnes_hut" if n < _LARGE else "fft",
        seed=0,
        verbose=0,
        optim_params=TsneOptim(early_exag_iter=250, early_exag_factor=12.0),
    ).fit_transform
