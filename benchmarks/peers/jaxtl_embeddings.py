"""jaxtl's embeddings and neighbours, by the backends that it takes by itself on this machine."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.peers import data, jax_clock, quality, work
from benchmarks.peers.timing import Result, measured
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Embedding, Features
from jaxtl.reduction import reduce
from jaxtl.reduction.choice import choose


def pca(n: int) -> Result:
    """Exact, in float64."""

    def judge(embedding: Embedding) -> dict[str, float]:
        return quality.of_pca(embedding.coords, embedding.diagnostics["explained_variance_ratio"])

    return measured(_reduction(n, "pca"), judge, work.principal(*data.features(n).shape))


def tsne(n: int) -> Result:
    """Exact neighbours, 250 iterations at exaggeration 12 and 500 without."""
    descend = _reduction(n, "tsne", perplexity=quality.PERPLEXITY)
    return measured(descend, lambda embedding: quality.of_tsne(embedding.coords))


def lle(n: int, method: str = "standard") -> Result:
    """12 neighbours; `method` is "standard" or "modified"."""

    def judge(embedding: Embedding) -> dict[str, float]:
        return quality.of_lle(embedding.coords, embedding.diagnostics["reconstruction_error"])

    embed = _reduction(n, "lle", n_neighbors=quality.LLE_NEIGHBORS, variant=method)
    return measured(embed, judge, compiled=jax_clock.compiled)


def neighbors(n: int, k: int, space: str = "features") -> Result:
    """Exact, proven in float64."""
    values = data.space(space, n)
    return measured(
        lambda: exact_neighbors(values, k, engine=engine()),
        lambda neighbors: quality.of_neighbors(neighbors.indices, values),
        work.distances(*values.shape, out=8 * n * k),
        jax_clock.compiled,
    )


def engine() -> str:
    """Of jaxtl's own methods: JAX's GPU where there is one, as for LLE."""
    return "jax" if choose("lle").on_gpu else "cpu"


def _reduction(n: int, method: str, **given: object) -> Callable[[], Embedding]:
    features = Features(data.features(n), data.labels(n), np.arange(n, dtype=np.int32))
    return lambda: reduce(features, method, seed=0, **given)
