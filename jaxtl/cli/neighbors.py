"""The verb of nearest neighbours, which several processes can search for together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jaxtl.cli import headings, options, processes, screen
from jaxtl.machine.devices import configure, devices_used
from jaxtl.machine.together import together
from jaxtl.progress import counted

# What t-SNE takes with its usual perplexity of 30.
_USUAL = 90


@click.command(cls=headings.Command, short_help="The nearest neighbours of every image, exact.")
@click.argument("features", type=options.PATH, metavar="F.npz|F.npy|F.shards")
@options.number("--n-neighbors", _USUAL, "How many of each. t-SNE takes three times its perplexity.", "K")
@options.devices
@click.option("--out", type=options.FILE, required=True, metavar="N.npz", help="The neighbours to write.")
@processes.together
@screen.as_json
@screen.quiet
def neighbors(
    features: Path, n_neighbors: int, devices: int | None, out: Path, in_json: bool, **how: Any
) -> None:
    """Search for the nearest neighbours of every image by its features, and write them.

    The file holds indices int32 [n, K] and distances float32 [n, K], nearest first and without the image
    itself. jaxtl reduce --neighbors takes them. Several processes divide the search: blocks of features go
    round.
    """
    from jaxtl.machine.exchange import check_alike
    from jaxtl.neighbors import exact_neighbors, neighbors_together
    from jaxtl.records import store

    options.check_suffix(out, ".npz")
    place = processes.placed(how)
    options.check_outputs([("--out", out)], store.named(features))
    observer = screen.observer()
    with together(place) as rank:
        configure(devices=devices)
        values = store.features_in(features).values
        if rank.count > 1:
            check_alike({"devices": devices_used(), "n_neighbors": n_neighbors, "features": values.shape})
        with observer.step(f"Nearest neighbours of {counted(len(values), 'image')}"):
            search = exact_neighbors if rank.count == 1 else neighbors_together
            nearest = search(values, n_neighbors)
            if rank.is_first:
                nearest.save(out)
    if not rank.is_first:
        return
    if in_json:
        screen.print_json({"out": out, "images": len(values), "n_neighbors": n_neighbors})
        return
    click.echo(f"{out}: {n_neighbors} neighbours of {counted(len(values), 'image')}")
