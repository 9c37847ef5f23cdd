"""The verb that takes a finished run to other tools."""

from __future__ import annotations

from pathlib import Path

import click

from jaxtl.cli import headings, options, screen
from jaxtl.errors import JaxtlError
from jaxtl.settings import EXPORTS, NETWORKS, STAGES


@click.command(cls=headings.Command, short_help="A run as tables, or its network, for other tools.")
@click.argument("source", type=options.PATH, metavar="RUN|FILE.safetensors")
@click.option(
    "--to",
    "form",
    type=click.Choice([*EXPORTS, *NETWORKS]),
    required=True,
    help="Tables: tensorboard for its embedding projector, parquet for Embedding Atlas, csv. Networks: "
    "keras, torch, onnx.",
)
@click.option(
    "--stage",
    type=click.Choice([*STAGES, "both"]),
    help="Which state of the network: before or after fine-tuning, or both.  [default: both; of a network "
    "after]",
)
@click.option(
    "--out",
    type=options.PATH,
    required=True,
    metavar="PATH",
    help="The file to write: .parquet, .csv, .keras, .safetensors (torch) or .onnx; for tensorboard a "
    "folder.",
)
@options.limit(
    "--image-size",
    "PIXELS",
    "Height and width of the network's images. Only for a file of weights, which does not tell it.",
)
@screen.quiet
def export(source: Path, form: str, stage: str | None, out: Path, image_size: int | None) -> None:
    """Write a finished run for other tools, and print what was written.

    Tables have one row per image, with its class, predictions and embeddings. A network is that of the run,
    or of a file of weights, as another library holds it.

    \b
    jaxtl export RUN --to csv --out images.csv
    jaxtl export RUN --to tensorboard --out projector
      then: tensorboard --logdir projector
    jaxtl export RUN --to parquet --out run.parquet
      then: embedding-atlas run.parquet --image image --x after_tsne_x
            --y after_tsne_y --neighbors neighbors_after
    jaxtl export RUN --to onnx --out tuned.onnx
      pixels in, features and probabilities out
    jaxtl export tuned.safetensors --to onnx --image-size 96 --out tuned.onnx
    """
    if form in NETWORKS:
        from jaxtl.runs.export_network import export as export_network

        options.check_suffix(out, NETWORKS[form])
        options.check_outputs([("--out", out)], [("the network to export", source)])
        for path in export_network(source, form, out, stage, image_size):
            click.echo(str(path))
        return
    if image_size is not None:
        raise click.UsageError("--image-size is for networks (--to keras, torch, onnx)")
    from jaxtl.runs.export import export as export_run

    if source.is_file():
        from jaxtl.records.kinds import kind_of

        raise JaxtlError(f"{source}: holds {kind_of(source)}; --to {form} takes the folder of a run")
    if form == "tensorboard":
        _check_folder(source, out)
    else:
        options.check_suffix(out, f".{form}")
        options.check_outputs([("--out", out)])
    written, notes = export_run(source, form, out, stage or "both")
    for note in notes:
        screen.tell(note)
    for path in written:
        click.echo(str(path))


def _check_folder(source: Path, out: Path) -> None:
    """Refuse a folder for the projector's files that is a run's own, or cannot be written."""
    from jaxtl.records.paths import is_within
    from jaxtl.runs.folder import RunFolder

    own = {file.path.parent for file in RunFolder(source).files}
    if any(is_within(out, folder) and is_within(folder, out) for folder in own):
        raise JaxtlError(f"--out {out}: is a folder of the run's own files; give another path")
    options.check_outputs([("--out", out / "projector_config.pbtxt")])
