"""The verb of nearest neighbours, which several processes can search for together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.cli import headings, options, processes, screen
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import configure, devices_used
from jaxtl.machine.together import together
from jaxtl.progress import counted

if TYPE_CHECKING:
    import numpy as np

    from jaxtl.machine.together import Rank
    from jaxtl.progress import Progress
    from jaxtl.records.arrays import Neighbors

# What t-SNE takes with its usual perplexity of 30.
_USUAL = 90


@click.command(cls=headings.Command, short_help="The nearest neighbours of every image.")
@click.argument("features", type=options.PATH, metavar="F.npz|F.npy|F.shards")
@options.number("--n-neighbors", _USUAL, "How many of each. t-SNE takes three times its perplexity.", "K")
@options.limit(
    "--recall",
    "X",
    "Search approximately, by faiss: for so large a share of the true neighbours, such as 0.95. What is "
    "reached is measured and told.  [default: exact]",
)
@options.devices
@click.option("--out", type=options.FILE, required=True, metavar="N.npz", help="The neighbours to write.")
@processes.together
@screen.as_json
@screen.quiet
def neighbors(
    features: Path,
    n_neighbors: int,
    recall: float | None,
    devices: int | None,
    out: Path,
    in_json: bool,
    **how: Any,
) -> None:
    """Search for the nearest neighbours of every image by its features, and write them.

    The file holds indices int32 [n, K] and distances float32 [n, K], nearest first and without the image
    itself. jaxtl reduce --neighbors takes them. Several processes divide the search: blocks of features go
    round. From 100,000 images on --recall takes a quarter of the time, and less.
    """
    from jaxtl.machine.exchange import check_alike
    from jaxtl.records import store

    options.check_suffix(out, ".npz")
    place = processes.placed(how)
    if recall is not None and not place.is_alone:
        raise JaxtlError("--recall: one process searches approximately; leave out the other processes")
    observer = screen.observer()
    with together(place) as rank:
        options.check_outputs([("--out", out)], store.named(features))
        configure(devices=devices)
        values = store.features_in(features).values
        if rank.count > 1:
            check_alike({"devices": devices_used(), "n_neighbors": n_neighbors, "features": values.shape})
        with observer.step(f"Nearest neighbours of {counted(len(values), 'image')}") as progress:
            nearest = _search(values, n_neighbors, recall, rank, progress)
            if rank.is_first:
                nearest.save(out)
    if not rank.is_first:
        return
    if in_json:
        told = {"images": len(values), "n_neighbors": n_neighbors, "recall": nearest.recall}
        screen.print_json({"out": out, **told})
        return
    how_near = "" if nearest.recall is None else f", approximate: {nearest.recall:.3f} of the true ones"
    click.echo(f"{out}: {n_neighbors} neighbours of {counted(len(values), 'image')}{how_near}")


def _search(
    values: np.ndarray, n_neighbors: int, recall: float | None, rank: Rank, progress: Progress
) -> Neighbors:
    from jaxtl.neighbors import exact_neighbors, neighbors_together
    from jaxtl.neighbors.approximate import approximate_neighbors

    if recall is not None:
        return approximate_neighbors(values, n_neighbors, recall, progress)
    return (exact_neighbors if rank.count == 1 else neighbors_together)(values, n_neighbors)
