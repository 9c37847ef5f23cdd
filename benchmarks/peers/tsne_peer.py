"""t-SNE by openTSNE or manifolds-rs themselves, as BENCHMARK_TSNE names them: their own defaults but for what
all peers are asked alike, which is exact neighbours, 250 iterations at exaggeration 12, and 500 without.

jaxtl computes its t-SNE on a CPU with openTSNE, from a start in float64, and measures the divergence.
"""

from __future__ import annotations

import os
from collections.abc import Callable
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
    values, fit = data.features(n), _fit(quality.tsne_settings(LIBRARY))
    return measured(lambda: np.asarray(fit(values)), quality.of_tsne)


def _fit(settings: dict[str, Any]) -> Callable[[np.ndarray], Any]:
    if LIBRARY == "openTSNE":
        from openTSNE import TSNE

        return TSNE(**settings).fit
    from manifolds_rs import TSNE, TsneOptim

    phases = TsneOptim(early_exag_iter=250, early_exag_factor=12.0)
    return TSNE(**settings, optim_params=phases).fit_transform
