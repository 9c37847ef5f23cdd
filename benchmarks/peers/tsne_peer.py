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


def settings() -> dict[str, Any]:
    kind = "float64" if LIBRARY == "openTSNE" else "float32 as given"
    return {"device": "cpu", "threads": cpu_count(), "dtype": kind}


def tsne(n: int) -> Result:
    values = data.features(n)
    fit = {"openTSNE": _opentsne, "manifolds-rs": _manifolds}[LIBRARY]()
    return measured(lambda: np.asarray(fit(values)), quality.of_tsne)


def _opentsne() -> Any:
    from openTSNE import TSNE

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


def _manifolds() -> Any:
    from manifolds_rs import TSNE, TsneOptim

    return TSNE(
        perplexity=quality.PERPLEXITY,
        n_epochs=750,
        ann="exhaustive",  # exact as its default is, and 4 times as fast in 1280 dimensions
        approx="fft_3k",  # of its four the fastest that ends in a divergence like openTSNE's
        seed=0,
        verbose=0,
        optim_params=TsneOptim(early_exag_iter=250, early_exag_factor=12.0),
    ).fit_transform
