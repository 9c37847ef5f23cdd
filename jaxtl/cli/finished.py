"""The verbs that make parts of a finished run again: figures, scores, the depth profile, the page."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jaxtl.cli import headings, options, screen
from jaxtl.cli.values import Names
from jaxtl.errors import JaxtlError

if TYPE_CHECKING:
    from jaxtl.experiment.experiment import Experiment

if TYPE_CHECKING:
    from jaxtl.runs.figures import Print


@click.command(cls=headings.Command, short_help="Draw one embedding, or a run's figures again.")
@click.argument("source", type=options.PATH, metavar="RUN|E.npz")
@click.option(
    "--out",
    type=options.PATH,
    metavar="PATH",
    help="Of an embedding, the picture to write (.png, .svg, .pdf); of a run, the folder.  "
    "[default: E.png; RUN/figures]",
)
@click.option(
    "--width",
    metavar="one|two|MM",
    help="Of a figure in print: one or two columns of a journal (89 or 183 mm), or millimetres.  "
    "[default: 61 mm a map]",
)
@options.limit("--dpi", "N", "Dots per inch of what is not drawn by lines.  [default: 300]")
@click.option(
    "--methods", type=Names(), metavar="M,...", help="Maps of a run to show, in this order.  [default: all]"
)
@screen.quiet
def plot(
    source: Path,
    out: Path | None,
    width: str | None,
    dpi: float | None,
    methods: tuple[str, ...] | None,
) -> None:
    """Draw one embedding (E.npz of jaxtl reduce), or the figures of a finished run again.

    Prints the files that it wrote, one on a line.
    """
    from jaxtl.runs.figures import Print, save_figures

    how = Print(width, **({} if dpi is None else {"dpi": dpi}), methods=methods or ())
    if source.is_dir():
        _check_figures(source, out)
        written = save_figures(source, out, how)
    else:
        if methods:
            raise JaxtlError(f"--methods: {source} is one embedding; give a run, or leave it out")
        written = [out or source.with_suffix(".png")]
        _plot_embedding(source, written[0], how)
    for path in written:
        click.echo(str(path))


def _check_figures(source: Path, out: Path | None) -> None:
    """Refuse a folder for figures that is no folder, or another run's."""
    from jaxtl.runs.folder import RunFolder

    for file in (file for files in RunFolder(source).figures.values() for file in files):
        path = file.path if out is None else out / file.path.name
        options.check_outputs([("--out", path)], but=file.path)


def _plot_embedding(source: Path, out: Path, how: Print) -> None:
    from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, N_NEIGHBORS
    from jaxtl.metrics import leave_one_out_knn
    from jaxtl.neighbors import exact_neighbors
    from jaxtl.plots.maps import embedding_figure
    from jaxtl.plots.style import check_picture, save
    from jaxtl.records.arrays import Embedding

    check_picture(out)
    options.check_outputs([("--out", out)], [("the embedding", source)])
    embedding, accuracy = Embedding.load(source), None
    try:
        if embedding.labels is not None:
            neighbors = exact_neighbors(embedding.coords, N_NEIGHBORS)
            accuracy = leave_one_out_knn(neighbors, embedding.labels).accuracy.value
    except JaxtlError as error:
        screen.tell(f"drawn without its {LEAVE_ONE_OUT.label}: {error}")
    save(embedding_figure(embedding, accuracy, width=how.width), out, how.dpi)


@click.command(cls=headings.Command, short_help="Compute all scores of a finished run again.")
@click.argument("folder", type=options.FOLDER, metavar="RUN")
@screen.as_json
@screen.quiet
def score(folder: Path, in_json: bool) -> None:
    """Compute all scores of a finished run or comparison again, and print them.

    Claims, figures and page, which show the scores, are made again too. To read the scores that are there:
    jaxtl show RUN --all.
    """
    from jaxtl.cli import results

    work = _opened(folder)
    # A file that a later step cannot read is no reason to lose the work of those before it.
    run = work.folder
    of_stages = (run.features, run.training_features, run.neighbors, run.embeddings)
    for file in (run.history, run.model, *chain.from_iterable(files.values() for files in of_stages)):
        file.read_or(None)
    work.redo("scores", "figures", "report")
    results.show(results.read(folder), in_json, every=True)


@click.command(cls=headings.Command, short_help="Compute the scores at the end of every block again.")
@click.argument("folder", type=options.FOLDER, metavar="RUN")
@screen.as_json
@screen.quiet
def layers(folder: Path, in_json: bool) -> None:
    """Where in the network a finished run's classes can be told apart, and what fine-tuning changed there.

    Computes and prints, for the end of every block: how well the 10 nearest neighbours and a linear
    classifier (ridge probe) tell the classes, over how many dimensions the features spread (effective rank),
    and how alike they are before and after (linear CKA, 1 where nothing changed). Blocks behind the one where
    accuracy falls before fine-tuning are worth training: see jaxtl run --trainable.
    """
    from jaxtl.cli.tables import layer_table
    from jaxtl.settings import RunConfig

    work = _opened(folder)
    if not isinstance(work.config, RunConfig):
        raise JaxtlError(f"{folder}: is a comparison of features, which knows of no layers")
    if not work.config.layers:
        raise JaxtlError(f"{folder}: was made with --no-layers; make a new run without that")
    work.redo("layers", "figures", "report")
    rows, picture = work.folder.layers.read(), work.folder.figures["layers"][0].path
    if in_json:
        screen.print_json({"layers": rows, "picture": picture})
        return
    screen.print_table(screen.results(), layer_table(rows))
    screen.print_path("Picture", picture)


def _opened(folder: Path) -> Experiment:
    """A finished run or comparison. Raises JaxtlError for what is none of these."""
    from jaxtl.experiment.folders import resume_one
    from jaxtl.runs.folder import holds_seeds, run_folders

    if holds_seeds(folder):
        first = run_folders(folder)[0]
        raise JaxtlError(f"{folder}: holds several seeds; give the folder of one, such as {first}")
    return resume_one(folder, observer=screen.observer())


@click.command(cls=headings.Command, short_help="Write the page of one run, or of several to compare.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=options.FOLDER)
@click.option(
    "--out",
    type=options.FILE,
    metavar="F.html",
    help="The page to write.  [default: report.html, in the run's folder if there is one run]",
)
@screen.quiet
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """Write one page of a finished run, or of several to compare, that opens offline in any browser.

    Of a sweep the page of all its combinations. Prints where it is.
    """
    from jaxtl.report.document import write_report
    from jaxtl.runs.folder import RunFolder, holds_sweep, run_folders
    from jaxtl.runs.lock import Hold

    if len(runs) == 1 and not out and holds_sweep(runs[0]):
        from jaxtl.sweeps.result import write_again

        click.echo(str(write_again(runs[0])))
        return
    # Several runs are shown on a page of the working directory's.
    own = RunFolder(runs[0] if len(runs) == 1 else ".")
    path = out or own.report.path
    options.check_suffix(path, ".html")
    options.check_outputs([("--out", path)], but=own.report.path if len(runs) == 1 else None)
    shown = [folder for run in runs for folder in run_folders(run)]
    if out or len(runs) > 1:
        write_report(shown, path)
    else:
        for run in shown:
            run.check()
        with Hold(own.path):
            write_report(shown, path)
            own.accept([own.report])
    click.echo(str(path))
