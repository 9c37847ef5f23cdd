"""A million points: what approximate neighbours save, and what landmarks lose: the tables of docs/scaling.md.

    python -m benchmarks.million neighbors F.shards --rows 100000 --library faiss --out rows.jsonl
    python -m benchmarks.million maps F.shards --rows 70000 --methods tsne,tsne@5000,lle@5000 --out rows.jsonl

Each measurement is one line of JSON, with wall seconds, seconds of all cores (`cpu`), which other work on the
machine hardly moves, and the peak of resident memory that belongs to no file (`bytes`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from jaxtl.records.arrays import Embedding, Features, Neighbors

# Rows by which a recall is measured, and anchors of the trustworthiness.
_ASKED = _ANCHORS = 1000
_EQUAL = 1e-6
# Factors of a landmark map's size at which its divergence is taken: a map of few points is small.
_SIZES = (1.0, 1.5, 2.0, 3.0, 4.0)
_PATH = click.Path(path_type=Path)


@click.group()
def cli() -> None:
    """Approximate neighbours and landmarks, on the features of a store."""


@cli.command()
@click.argument("features", type=_PATH)
@click.option("--rows", type=int, required=True, help="The first N rows of the store.")
@click.option("--n-neighbors", type=int, default=90, show_default=True)
@click.option("--library", type=click.Choice(["exact", "faiss", "pynndescent", "annoy"]), required=True)
@click.option("--recall", type=float, default=0.95, show_default=True, help="Asked of faiss.")
@click.option("--out", type=_PATH, required=True, help="Lines are added to it.")
def neighbors(features: Path, rows: int, n_neighbors: int, library: str, recall: float, out: Path) -> None:
    """Neighbours by one library, and the share of the true ones that it found."""
    from jaxtl.neighbors import host
    from jaxtl.neighbors.approximate import true_distances

    values = _first(features, rows).values
    search = {"exact": _exact, "faiss": _faiss, "pynndescent": _pynndescent, "annoy": _annoy}[library]
    if library == "pynndescent":
        _pynndescent(np.array(values[:2000]), n_neighbors, recall)  # compiles
    told: dict[str, Any] = {"library": library, "n": rows, "k": n_neighbors}
    told |= {"asked": recall} if library == "faiss" else {}
    with _measured(told):
        indices = search(values, n_neighbors, recall)
    asked = np.random.default_rng(1).choice(rows, min(rows, _ASKED), replace=False)
    began = time.process_time()
    farthest = true_distances(values, asked, n_neighbors)
    told["cpu_of_asked"] = time.process_time() - began
    near = np.sqrt(host.measure(values, values, asked, indices[asked])) <= farthest[:, None] * (1 + _EQUAL)
    told["recall"] = float(near.mean())
    told["interval"] = float(1.96 * near.mean(axis=1).std() / np.sqrt(len(asked)))
    _write(out, told)


@cli.command()
@click.argument("features", type=_PATH)
@click.option("--rows", type=int, required=True, help="The first N rows of the store.")
@click.option("--scored", type=int, default=70_000, show_default=True, help="The first of them, scored.")
@click.option("--methods", required=True, help="Such as tsne,lle@5000.")
@click.option("--neighbors", type=_PATH, help="Of whole maps, exact; written where it is not there.")
@click.option("--out", type=_PATH, required=True, help="Lines are added to it, and maps written beside it.")
def maps(features: Path, rows: int, scored: int, methods: str, neighbors: Path | None, out: Path) -> None:
    """Maps of all rows and by landmarks, and how good they are."""
    import jaxtl

    given = _first(features, rows)
    known = _known(neighbors, given.values, out) if neighbors else None
    score = _scorer(given, min(scored, rows), known)
    for name in methods.split(","):
        method, _, landmarks = name.partition("@")
        told: dict[str, Any] = {"map": name, "n": rows}
        how: dict[str, Any] = {"landmarks": int(landmarks)} if landmarks else {"known_neighbors": known}
        with _measured(told):
            embedding = jaxtl.reduce(given, method, progress=_shown(name), **how)
        embedding.save(out.parent / f"{name}_{rows}.npz")
        _write(out, told | score(embedding, method))


def _first(path: Path, rows: int) -> Features:
    from jaxtl.records import store

    features = store.features_in(path)
    if rows > len(features.values):
        raise click.ClickException(f"{path} has {len(features.values):,} rows")
    return Features(features.values[:rows], features.labels[:rows], features.index[:rows], features.meta)


def _exact(values: np.ndarray, k: int, recall: float) -> np.ndarray:
    from jaxtl.neighbors import exact_neighbors

    return exact_neighbors(values, k).indices


def _faiss(values: np.ndarray, k: int, recall: float) -> np.ndarray:
    from jaxtl.neighbors.approximate import approximate_neighbors

    return approximate_neighbors(values, k, recall).indices


def _pynndescent(values: np.ndarray, k: int, recall: float) -> np.ndarray:
    from pynndescent import NNDescent

    indices = NNDescent(np.ascontiguousarray(values), n_neighbors=k + 1, random_state=0).neighbor_graph[0]
    return indices[:, 1:]


def _annoy(values: np.ndarray, k: int, recall: float) -> np.ndarray:
    """As openTSNE calls it for t-SNE."""
    from openTSNE.nearest_neighbors import Annoy

    return Annoy(values, k, metric="euclidean", random_state=0, n_jobs=-1).build()[0]


def _known(path: Path, values: np.ndarray, out: Path) -> Neighbors:
    from jaxtl.neighbors import exact_neighbors

    if path.exists():
        return Neighbors.load(path)
    told: dict[str, Any] = {"library": "exact", "n": len(values), "k": 90}
    with _measured(told):
        known = exact_neighbors(values, 90)
    known.save(path)
    _write(out, told)
    return known


def _scorer(
    features: Features, count: int, known: Neighbors | None
) -> Callable[[Embedding, str], dict[str, Any]]:
    """Scores of the first rows of a map: 10-NN accuracy, trustworthiness, and of t-SNE the divergence."""
    from jaxtl import metrics
    from jaxtl.scaling.quality import Space

    ranks = metrics.anchored(np.asarray(features.values[:count]), anchors=_ANCHORS, pairs=1, seed=0)
    space = Space(ranks, features.labels[:count], 0)
    affinities = _affinities(known) if known is not None and len(known.indices) == count else None

    def score(embedding: Embedding, method: str) -> dict[str, Any]:
        some = Embedding(embedding.coords[:count], embedding.labels[:count])
        told: dict[str, Any] = {"scored": count, "of_features": _plain(space.own)}
        told |= {"quality": _plain(space.quality(some)), "diagnostics": embedding.diagnostics}
        if method == "tsne" and affinities is not None:
            sizes = _SIZES if "placed" in embedding.diagnostics else _SIZES[:1]
            told["kl"] = {size: _divergence(some.coords * size, affinities) for size in sizes}
        return told

    return score


def _affinities(known: Neighbors) -> Any:
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    index = PrecomputedNeighbors(known.indices, known.distances.astype(np.float64))
    return PerplexityBasedNN(perplexity=30, n_jobs=-1, knn_index=index, symmetrize=True)


def _divergence(coords: np.ndarray, affinities: Any) -> float:
    from openTSNE import TSNEEmbedding

    from jaxtl.reduction.divergence import measure_divergence

    embedding = TSNEEmbedding(coords.astype(np.float64), affinities)
    measure_divergence(embedding)
    return float(embedding.kl_divergence)


def _plain(quality: dict[Any, Any]) -> dict[str, Any]:
    return {str(getattr(metric, "key", metric)): value for metric, value in quality.items()}


def _shown(name: str) -> Callable[[float], None]:
    last = [-1]

    def show(fraction: float) -> None:
        if int(10 * fraction) > last[0]:
            last[0] = int(10 * fraction)
            click.echo(f"{time.strftime('%H:%M:%S')} {name} {fraction:.0%}", err=True)

    return show


@contextmanager
def _measured(told: dict[str, Any]) -> Iterator[None]:
    """Adds wall seconds, seconds of all cores, and the peak of memory beyond what the process had before."""
    from jaxtl.machine.memory import resident

    ended, peaks = threading.Event(), [before := resident("RssAnon")]

    def watch() -> None:
        while not ended.wait(0.2):
            peaks.append(resident("RssAnon"))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        told |= {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        ended.set()
        watching.join()
        told["bytes"] = max(peaks) - before


def _write(out: Path, told: dict[str, Any]) -> None:
    line = json.dumps(told, default=float)
    click.echo(line)
    with out.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


if __name__ == "__main__":
    cli()
