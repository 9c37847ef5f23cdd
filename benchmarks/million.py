"""A million points: what they take, what approximate neighbours save, and what landmarks lose.

    python -m benchmarks.million command R.json extract --dataset infinite:1000000 --out F.shards
    python -m benchmarks.million command R.json neighbors F.shards --recall 0.95 --out N.npz
    python -m benchmarks.million recall R.json F.shards N.npz annoy pynndescent
    python -m benchmarks.million maps R.json F.npy EXACT.npz MAP.npz...

Each measurement is a row of R.json, with wall seconds, seconds of all cores (`cpu`), which other work on the
machine hardly moves, and the peak of resident memory that belongs to no file (`bytes`).
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import machine
from benchmarks.__main__ import main
from jaxtl.machine.host import cpu_count, describe, versions
from jaxtl.machine.memory import resident
from jaxtl.records import store
from jaxtl.records.arrays import Embedding, Neighbors
from jaxtl.records.files import read_json_object, write_json

# Rows by which a recall is measured.
_ASKED = 1000
# Factors of a landmark map's size at which its divergence is taken: a map of few points is small.
_SIZES = (1.0, 1.5, 2.0, 3.0, 4.0)
_PATH = click.Path(path_type=Path)


@click.group()
def cli() -> None:
    """What a million points take, and what is lost on the way; rows are added to RESULT."""


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("result", type=_PATH)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
def command(result: Path, words: tuple[str, ...]) -> None:
    """One command of jaxtl's, as it is typed behind `jaxtl`."""
    from jaxtl.cli.main import cli as jaxtl

    told = {"command": " ".join(["jaxtl", *words])}
    with _measured(told):
        jaxtl(words, prog_name="jaxtl", standalone_mode=False)
    _write(result, told)


@cli.command()
@click.argument("result", type=_PATH)
@click.argument("features", type=_PATH)
@click.argument("sources", nargs=-1, required=True, metavar="N.npz|annoy|pynndescent...")
@click.option("--n-neighbors", type=int, default=90, show_default=True, help="Of a library.")
def recall(result: Path, features: Path, sources: tuple[str, ...], n_neighbors: int) -> None:
    """The share of the true neighbours in a file, or that a library finds."""
    from benchmarks.peers.quality import shares_found

    values = store.features_in(features).values
    asked = np.random.default_rng(1).choice(len(values), min(len(values), _ASKED), replace=False)
    for source in sources:
        told: dict[str, Any] = {"neighbors": source, "n": len(values)}
        if source in _SEARCHES:
            search, needs = _SEARCHES[source]
            search(np.array(values[:2000]), n_neighbors)  # compiles
            told["versions"] = versions([needs])
            with _measured(told):
                indices = search(values, n_neighbors)
        else:
            indices = Neighbors.load(source).indices
        began = time.process_time()
        shares = shares_found(indices, values, asked)
        told |= {"k": indices.shape[1], "recall": float(shares.mean()), "asked": len(asked)}
        told |= {"interval": 1.96 * float(shares.std()) / len(asked) ** 0.5}
        _write(result, told | {"cpu_of_asked": time.process_time() - began})


@cli.command()
@click.argument("result", type=_PATH)
@click.argument("features", type=_PATH)
@click.argument("neighbors", type=_PATH)
@click.argument("embeddings", nargs=-1, required=True, type=_PATH)
def maps(result: Path, features: Path, neighbors: Path, embeddings: tuple[Path, ...]) -> None:
    """How good maps of FEATURES (.npy) are, whole ones and those by landmarks, with the same measure.

    NEIGHBORS are 90 exact ones. Of t-SNE it tells the divergence from the affinities of all points, of LLE
    the error that it minimises, of all points too.
    """
    from jaxtl.scaling import quality

    given, known = store.features_in(features), Neighbors.load(neighbors)
    space = quality.look(features, given.labels, 0)
    objectives = {"tsne": _divergences, "lle": _rebuilding_error}
    for path in embeddings:
        embedding = Embedding.load(path)
        told = {"map": embedding.method, "n": len(given.values), "params": embedding.params}
        told |= {"diagnostics": embedding.diagnostics, "of_features": space.own}
        told |= {"quality": space.quality(embedding)}
        if objective := objectives.get(embedding.method):
            told |= objective(embedding, given.values, known)
        _write(result, told)


def _pynndescent(values: np.ndarray, k: int) -> np.ndarray:
    from pynndescent import NNDescent

    # A row is its own first neighbour.
    return NNDescent(np.ascontiguousarray(values), n_neighbors=k + 1, random_state=0).neighbor_graph[0][:, 1:]


def _annoy(values: np.ndarray, k: int) -> np.ndarray:
    """As openTSNE calls it for t-SNE."""
    from openTSNE.nearest_neighbors import Annoy

    return Annoy(values, k, metric="euclidean", random_state=0, n_jobs=-1).build()[0]


# By the names of the command line: the search, and whose version counts.
_SEARCHES: dict[str, tuple[Callable[[np.ndarray, int], np.ndarray], str]] = {
    "annoy": (_annoy, "openTSNE"),
    "pynndescent": (_pynndescent, "pynndescent"),
}


def _divergences(embedding: Embedding, values: np.ndarray, known: Neighbors) -> dict[str, Any]:
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    from benchmarks.peers.quality import PERPLEXITY, divergence

    index = PrecomputedNeighbors(known.indices, known.distances.astype(np.float64))
    affinities = PerplexityBasedNN(perplexity=PERPLEXITY, knn_index=index, n_jobs=-1)
    sizes = _SIZES if "landmarks" in embedding.params else _SIZES[:1]
    return {"kl": {str(size): divergence(embedding.coords * size, affinities) for size in sizes}}


def _rebuilding_error(embedding: Embedding, values: np.ndarray, known: Neighbors) -> dict[str, Any]:
    """Of the map about its middle, with covariance 1 / n: the sum of eigenvalues, were it LLE's own."""
    from jaxtl.lle.alignment import barycenter_weights

    indices = known.indices[:, : embedding.params["n_neighbors"]]
    weights = barycenter_weights(values, values, indices, embedding.params["reg"], cpu_count())
    coords = np.linalg.qr(embedding.coords - embedding.coords.mean(axis=0, dtype=np.float64))[0]
    apart = coords - np.einsum("nk,nkc->nc", weights, coords[indices])
    return {"rebuilding_error": float(np.square(apart).sum())}


@contextmanager
def _measured(told: dict[str, Any]) -> Iterator[None]:
    """Adds what the work within took; memory is beyond what the process had before."""
    ended, peaks = threading.Event(), [before := resident("RssAnon") or 0]

    def watch() -> None:
        while not ended.wait(0.2):
            peaks.append(resident("RssAnon") or 0)

    threading.Thread(target=watch, daemon=True).start()
    wall, cpu = time.perf_counter(), _cpu_seconds()
    try:
        yield
    finally:
        ended.set()
        told |= {"wall": time.perf_counter() - wall, "cpu": _cpu_seconds() - cpu}
        told |= {"bytes": max(peaks) - before}


def _cpu_seconds() -> float:
    """Of this process and of those that it started and that ended; `os.times` counts in steps of 10 ms."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def _write(result: Path, told: dict[str, Any]) -> None:
    record = read_json_object(result) if result.exists() else {"benchmark": "million", "rows": []}
    when = {"date": machine.now(), "revision": machine.revision()["revision"], "load": machine.load_average()}
    record["rows"].append(when | told)
    write_json(result, record | {"machine": describe()})
    click.echo(told)


if __name__ == "__main__":
    main(cli)
