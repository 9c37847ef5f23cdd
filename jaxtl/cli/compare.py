"""The verb for features that somebody else computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jaxtl.cli import options
from jaxtl.cli.run import work_off
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import configure


@click.command()
@click.argument("before", type=options.FILE, required=False, metavar="BEFORE")
@click.argument("after", type=options.FILE, required=False, metavar="AFTER")
@click.option(
    "--training-features",
    type=options.FILE,
    nargs=2,
    metavar="B A",
    help="Features of labelled training images before and after, by which the others are classified.",
)
@click.option(
    "--labels",
    type=options.FILE,
    metavar="FILE",
    help="Labels in the order of BEFORE, if the files hold none: .npy, or text with one on a line.",
)
@click.option(
    "--common", is_flag=True, help="Compare the ids that both files have, and leave out the others."
)
@click.option("--name", default="", metavar="TEXT", help="What the features are of, for the page.")
@click.option(
    "--out",
    type=options.FOLDER,
    metavar="DIR",
    help="The folder to write, new or empty.  [default: runs/BEFORE-AFTER]",
)
@click.option("--resume", type=options.FOLDER, metavar="DIR", help="Continue a stopped comparison.")
@options.embeddings
@options.seed
@click.pass_context
def compare(
    ctx: click.Context,
    before: Path | None,
    after: Path | None,
    training_features: tuple[Path, Path] | None,
    labels: Path | None,
    common: bool,
    name: str,
    out: Path | None,
    resume: Path | None,
    methods: str,
    backend: str,
    time_limit: float,
    **settings: Any,
) -> None:
    """Numbers, claims, figures and the page for features of your own, before and after; no network needed.

    BEFORE and AFTER hold features of the same images, of any two numbers of dimensions:

    \b
      .npz            values, features or embeddings [n, d]; labels, ids and class_names where there are some
      .npy            features [n, d] alone
      .parquet        a column of vectors, or columns of numbers; label and id where there are some
      .csv            columns of numbers, with a header; label and id where there are some

    Labels are numbers or names. Without them, what needs none is computed. Rows are matched by id where both
    files have ids (in any order), else they must be in the same order.

    \b
    jaxtl compare before.npz after.npz --out runs/mine
    jaxtl compare before.npz after.npz --training-features train_before.npz train_after.npz
    jaxtl report runs/mine      likewise: jaxtl plot, score, export
    """
    from jaxtl.experiment import comparison, folders
    from jaxtl.experiment.embeddings import EmbeddingOptions
    from jaxtl.machine.terminal import Terminal
    from jaxtl.runs.folder import fresh_folder

    settings["methods"] = options.parse_names(methods)
    insisted = {name: value for name, value in settings.items() if options.given(ctx, name)}
    observer, made_with = Terminal(options.console()), EmbeddingOptions(backend, time_limit)
    configure(notify=observer.notify)
    if resume:
        if before or out or training_features or labels:
            raise JaxtlError("--resume continues with the features in its folder: give nothing else")
        work_off(folders.resume_one(resume, insisted, observer, made_with), observer)
        return
    if before is None or after is None:
        raise click.UsageError("give two files of features, BEFORE and AFTER", ctx)
    own = None if labels is None else _read_labels(labels)
    compared = comparison.read(before, after, training_features, own, name, common)
    config, lowered = comparison.settings(compared, list(insisted), **settings)
    folder = out or fresh_folder(f"{before.stem}-{after.stem}")
    work = comparison.start(compared, config, folder, observer, made_with)
    for line in (*compared.notes, *lowered):
        observer.notify(line)
    work_off(work, observer)


def _read_labels(path: Path) -> Any:
    from jaxtl.data.feature_files import read_labels

    return read_labels(path)
