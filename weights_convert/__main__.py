"""Command line of the converters: `python -m weights_convert keras IN OUT.safetensors`."""

from __future__ import annotations

import sys

import click

from jaxtl.errors import JaxtlError


@click.group()
def main() -> None:
    """Convert checkpoints of other frameworks to jaxtl's safetensors."""


@main.command()
@click.argument("source_file", metavar="IN")
@click.argument("out", metavar="OUT.safetensors")
@click.option("--width", default="auto", show_default=True, help="Channel multiplier: auto, or such as 0.35.")
@click.option("--head", is_flag=True, help="Convert the model's own Dense after average pooling too.")
@click.option(
    "--licence", default="not stated", show_default=True, help="Licence of the weights, noted in OUT."
)
@click.option("--source", help="Where the weights come from, noted in OUT.")
def keras(source_file: str, out: str, width: str, head: bool, licence: str, source: str | None) -> None:
    """Convert MobileNetV2 from Keras: .h5, .weights.h5 or .keras."""
    # Here, since it imports JAX, which --help has no need of.
    from weights_convert.keras import convert
    from weights_convert.layouts import STATE

    try:
        done = convert(source_file, out, width=width, head=head, licence=licence, source=source)
    except JaxtlError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    config = done.config
    top = f"{config.classes} classes" if config.classes else "no top"
    click.echo(f"{out}: MobileNetV2, width {config.width:g}, {top}, {len(config.parameters)} tensors")
    click.echo(f"digest {done.digest}")
    if done.head:
        click.echo(f"predictions is {done.head}")
    if done.left_out:
        state = [path for path in done.left_out if path.startswith(STATE)]
        others = [path for path in done.left_out if path not in state]
        click.echo(f"left out {len(done.left_out)} tensors outside the backbone:")
        for path in [*others, *([f"{len(state)} of the optimizer's state"] if state else [])]:
            click.echo(f"  {path}")


if __name__ == "__main__":
    main(prog_name="python -m weights_convert")
