"""The verb for features that somebody else computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jaxtl.cli import headings, options, screen
from jaxtl.cli.run import work_off
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import configure


@click.command(cls=headings.Command, short_help="The same for features of your own, from two files.")
@click.argument("before", type=options.FILE, required=False, metavar="BEFORE")
@click.argument("after", type=options.FILE, required=False, metavar="AFTER")
@click.option(
    "--training-features",
    type=options.FILE,
    nargs=2,
    metavar="B A",
    help="Features of labelled training images, before and after, from which the others are classified.",
)
@click.option(
    "--labels",
    type=options.FILE,
    metavar="FILE",
    help="Classes in the order of BEFORE, if the files hold none: .npy, a text file with one on a line, or a "
    ".csv with columns label and id, in any order.",
)
@click.option(
    "--common",
    is_flag=True,
    help="Compare the images that both files have, by their ids, and leave out the others.",
)
@click.option("--name", default="", metavar="TEXT", help="What the features are of, for the page.")
@click.option(
    "--out",
    type=options.FOLDER,
    metavar="DIR",
    help="The folder to write, new or empty.  [default: runs/BEFORE-AFTER]",
)
@click.option(
    "--resume", type=options.FOLDER, metavar="DIR", help="Continue the stopped comparison in this folder."
)
@options.embeddings
@options.seed
@screen.as_json
@screen.quiet
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
    backend: str,
    time_limit: float,
    in_json: bool,
    **settings: Any,
) -> None:
    """Scores, claims, figures and the page for features of your own, before and after; no network needed.

    BEFORE and AFTER hold features of the same images, of any two numbers of dimensions:

    \b
      .npz        values, features or embeddings [n, d]; labels, ids, class_names
      .npy        features [n, d] alone
      .parquet    a column of vectors, or columns of numbers; label, id
      .csv        columns of numbers, with a header; label, id

    Labels (the classes of the images, numbers or names), ids and class names may be left out. Without labels,
    what needs none is computed. Rows are matched by id where both files have ids (in any order), else they
    must be in the same order.

    \b
    jaxtl compare before.npz after.npz --out runs/mine
    jaxtl compare before.npz after.npz --training-features old.npz new.npz
    jaxtl show runs/mine      likewise: jaxtl report, plot, score, export
    """
    from jaxtl.experiment import comparison, folders
    from jaxtl.experiment.embeddings import EmbeddingOptions
    from jaxtl.runs.naming import fresh_folder

    insisted = {name: value for name, value in settings.items() if options.given(ctx, name)}
    observer, made_with = screen.observer(), EmbeddingOptions(backend, time_limit)
    if resume:
        if before or out or training_features or labels:
            raise JaxtlError("--resume continues with the features in its folder: give nothing else")
        configure(notify=observer.notify)
        work_off(folders.resume_one(resume, insisted, observer, made_with), observer, in_json)
        return
    if before is None or after is None:
        raise click.UsageError("give two files of features, BEFORE and AFTER", ctx)
    _check_files(before, after, training_features, out)
    configure(notify=observer.notify)
    own = None if labels is None else _read_labels(labels)
    compared = comparison.read(before, after, training_features, own, name, common)
    config, lowered = comparison.settings(compared, list(insisted), **settings)
    folder = out or fresh_folder(f"{before.stem}-{after.stem}")
    work = comparison.start(compared, config, folder, observer, made_with)
    for line in (*compared.notes, *lowered):
        observer.notify(line)
    work_off(work, observer, in_json)


def _check_files(
    before: Path, after: Path, training_features: tuple[Path, Path] | None, out: Path | None
) -> None:
    """Refuse before any work files that are one, or larger than memory, and a folder that cannot be made."""
    from jaxtl.records.paths import check_size, same
    from jaxtl.runs.folder import RunFolder

    if same(before, after):
        raise JaxtlError(f"{after}: is {before} too; give two files, features before and after")
    if out:
        RunFolder(out).check_new()
        options.check_outputs([("--out", RunFolder(out).started.path)])
    for file in (before, after, *(training_features or ())):
        check_size(file)


def _read_labels(path: Path) -> Any:
    from jaxtl.data.feature_files import read_labels

    return read_labels(path)
