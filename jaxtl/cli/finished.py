"""The verbs for finished runs: figures, scores, the page, files for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jaxtl.cli import options
from jaxtl.errors import JaxtlError
from jaxtl.settings import EXPORTS, NETWORKS, STAGES

if TYPE_CHECKING:
    from jaxtl.runs.figures import Print


@click.command()
@click.argument("source", type=options.PATH, metavar="RUN|E.npz")
@click.option(
    "--out",
    type=options.PATH,
    metavar="PATH",
    help="For an embedding, the picture (.png, .svg, .pdf); for a run, the folder.  "
    "[default: E.png; RUN/figures]",
)
@click.option(
    "--width",
    metavar="one|two|MM",
    help="Of a figure in print: one or two columns of a journal (89 or 183 mm), or millimetres.  "
    "[default: 61 mm a map]",
)
@click.option(
    "--dpi", type=float, metavar="N", help="Dots per inch of what is not drawn by lines.  [default: 300]"
)
@click.option("--methods", metavar="M,...", help="Maps of a run to show, in this order.  [default: all]")
def plot(source: Path, out: Path | None, width: str | None, dpi: float | None, methods: str | None) -> None:
    """Draw one embedding, or the figures of a finished run again."""
    from jaxtl.runs.figures import Print, save_figures

    chosen = options.parse_names(methods or "")
    how = Print(width, **({} if dpi is None else {"dpi": dpi}), methods=chosen)
    if source.is_dir():
        written = save_figures(source, out, how)
    else:
        if chosen:
            raise JaxtlError(f"--methods: {source} is one embedding; give a run, or leave it out")
        written = [out or source.with_suffix(".png")]
        _plot_embedding(source, written[0], how)
    for path in written:
        click.echo(str(path))


def _plot_embedding(source: Path, out: Path, how: Print) -> None:
    from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, N_NEIGHBORS
    from jaxtl.metrics import leave_one_out_knn
    from jaxtl.neighbors import exact_neighbors
    from jaxtl.plots.maps import embedding_figure
    from jaxtl.plots.style import save
    from jaxtl.records.arrays import Embedding

    embedding, accuracy = Embedding.load(source), None
    try:
        if embedding.labels is not None:
            neighbors = exact_neighbors(embedding.coords, N_NEIGHBORS)
            accuracy = leave_one_out_knn(neighbors, embedding.labels).accuracy.value
    except JaxtlError as error:
        click.echo(f"drawn without its {LEAVE_ONE_OUT.label}: {error}", err=True)
    save(embedding_figure(embedding, accuracy, width=how.width), out, how.dpi)


@click.command()
@click.argument("folder", type=options.FOLDER, metavar="RUN")
def score(folder: Path) -> None:
    """Compute all scores of a finished run again, with claims, figures and page."""
    from jaxtl.cli.tables import claims_table, number_table
    from jaxtl.experiment.folders import resume_one
    from jaxtl.machine.terminal import Terminal

    console = options.console()
    work = resume_one(folder, observer=Terminal(console))
    scores = work.redo("scores", "figures", "report")
    console.print(number_table(scores))
    if claims := work.folder.claims.read():
        console.print(claims_table(claims))


@click.command()
@click.argument("folder", type=options.FOLDER, metavar="RUN")
def layers(folder: Path) -> None:
    """Where in the network a finished run's task is solved, and what fine-tuning moved.

    At the end of every block: 10-NN accuracy, accuracy of a ridge probe, effective rank, and the linear CKA
    of before and after. Where accuracy falls before fine-tuning, blocks are worth unfreezing.
    """
    from jaxtl.cli.tables import layer_table
    from jaxtl.experiment.folders import resume_one
    from jaxtl.machine.terminal import Terminal
    from jaxtl.settings import RunConfig

    console = options.console()
    work = resume_one(folder, observer=Terminal(console))
    if not isinstance(work.config, RunConfig):
        raise JaxtlError(f"{folder}: is a comparison of features, which knows of no layers")
    if not work.config.layers:
        raise JaxtlError(f"{folder}: was made with --no-layers; make a new run without that")
    work.redo("layers", "figures", "report")
    console.print(layer_table(work.folder.layers.read()))
    console.print(f"Picture: {work.folder.figures['layers'][0]}", highlight=False, soft_wrap=True)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=options.PATH)
@click.option(
    "--out",
    type=options.FILE,
    metavar="F.html",
    help="Where to write the page.  [default: report.html, in the run's folder if there is one run]",
)
def report(runs: tuple[Path, ...], out: Path | None) -> None:
    """One page of a finished run, or of several to compare, that opens offline in any browser."""
    from jaxtl.report.document import write_report
    from jaxtl.runs.folder import RunFolder, run_folders

    # Several runs are shown on a page of the working directory's.
    path = out or RunFolder(runs[0] if len(runs) == 1 else ".").report.path
    options.check_suffix(path, ".html")
    write_report([folder for run in runs for folder in run_folders(run)], path)
    click.echo(str(path))


@click.command()
@click.argument("source", type=options.PATH, metavar="RUN|FILE.safetensors")
@click.option(
    "--to",
    "form",
    type=click.Choice([*EXPORTS, *NETWORKS]),
    required=True,
    help="tensorboard: embedding projector; parquet: Embedding Atlas; csv: one table; keras, torch, onnx: "
    "the network.",
)
@click.option(
    "--stage",
    type=click.Choice([*STAGES, "both"]),
    help="Before or after fine-tuning, or both.  [default: both; for a network after]",
)
@click.option(
    "--out",
    type=options.PATH,
    required=True,
    metavar="PATH",
    help="A file .parquet, .csv, .keras, .safetensors (torch) or .onnx; for tensorboard a folder.",
)
@click.option(
    "--image-size",
    type=int,
    metavar="N",
    help="Pixels of the network's images, for a file of weights, which does not tell it.",
)
def export(source: Path, form: str, stage: str | None, out: Path, image_size: int | None) -> None:
    """A finished run for other tools: one row per image, with its class, predictions and embeddings; or its
    network, or that of a file of weights, for other libraries.

    \b
    jaxtl export RUN --to tensorboard --out projector     then: tensorboard --logdir projector
    jaxtl export RUN --to parquet --out run.parquet       then: embedding-atlas run.parquet --image image
            --x after_tsne_x --y after_tsne_y --neighbors neighbors_after
    jaxtl export RUN --to onnx --out tuned.onnx           pixels in, features and probabilities out
    jaxtl export tuned.safetensors --to onnx --image-size 96 --out tuned.onnx
    """
    if form in NETWORKS:
        from jaxtl.runs.export_network import export as export_network

        options.check_suffix(out, NETWORKS[form])
        for path in export_network(source, form, out, stage, image_size):
            click.echo(str(path))
        return
    if image_size is not None:
        raise click.UsageError("--image-size is for networks (--to keras, torch, onnx)")
    from jaxtl.runs.export import export as export_run

    if form != "tensorboard":
        options.check_suffix(out, f".{form}")
    written, notes = export_run(source, form, out, stage or "both")
    for note in notes:
        click.echo(note, err=True)
    for path in written:
        click.echo(str(path))
