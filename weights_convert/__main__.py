"""Command line of the converters: `python -m weights_convert keras|torch IN OUT.safetensors`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from jaxtl.cli.headings import Command
from jaxtl.cli.values import Number, Preprocessing
from jaxtl.errors import JaxtlError, shown
from jaxtl.machine import signals
from jaxtl.ranges import Range
from jaxtl.records.paths import check_can_be_written

# Of tensors that are left out, those that are named, and the letters of a line.
_NAMED, _LETTERS = 30, 1000

if TYPE_CHECKING:
    from weights_convert.conversion import Conversion


class _Width(Number):
    """A channel multiplier, or "auto"; a text, as the converters take it."""

    def __init__(self) -> None:
        super().__init__(Range(0, 8, above=True), tell=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value if value == "auto" else str(super().convert(value, param, ctx))


@click.group()
def main() -> None:
    """Convert checkpoints of other frameworks to jaxtl's safetensors."""


_OPTIONS = (
    click.argument("source_file", metavar="IN"),
    click.argument("out", metavar="OUT.safetensors"),
    click.option(
        "--width",
        type=_Width(),
        metavar="X",
        default="auto",
        show_default=True,
        help="Channel multiplier: auto, or such as 0.35.",
    ),
    click.option(
        "--preprocessing",
        type=Preprocessing(),
        metavar="NAME",
        help="What the weights want of pixels: unit, keras, imagenet, or mean and deviation R,G,B/R,G,B.",
    ),
    click.option(
        "--licence", default="not stated", show_default=True, help="Licence of the weights, noted in OUT."
    ),
    click.option("--source", help="Where the weights come from, noted in OUT."),
)


def _converter(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the arguments and options that all have."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return main.command(cls=Command)(command)


@_converter
@click.option("--head", is_flag=True, help="Convert the model's own Dense after average pooling too.")
def keras(source_file: str, out: str, **options: Any) -> None:
    """Convert MobileNetV2 from Keras: .h5, .weights.h5 or .keras."""
    # Here, since it imports JAX, which --help has no need of.
    from weights_convert.keras import convert
    from weights_convert.keras_layouts import STATE

    _convert(convert, source_file, out, options, STATE)


@_converter
@click.option(
    "--head/--no-head",
    default=None,
    help="Ask for the head, or for none.  [default: kept where it is one linear layer]",
)
@click.option("--key", help="Which of a checkpoint's dictionaries, such as state_dict_ema.")
@click.option(
    "--epsilon",
    type=Number(Range(0, 1, above=True, below=True)),
    metavar="X",
    help="Of batch normalisation.  [default: the library's]",
)
@click.option(
    "--padding", type=click.Choice(["keras", "symmetric"]), help="Of stride 2.  [default: the library's]"
)
@click.option(
    "--stem",
    type=click.Choice(["imagenet", "cifar"]),
    help="Of a ResNet: stride 2 and max pooling, or neither.  [default: cifar for a first kernel of 3x3]",
)
def torch(source_file: str, out: str, **options: Any) -> None:
    """Convert MobileNetV2 or ResNet from torchvision, timm or Hugging Face: .safetensors, .pth, .pt or .bin.

    PyTorch need not be installed, and nothing in the file is run.
    """
    from weights_convert.torch import convert

    _convert(convert, source_file, out, options, ())


def _convert(
    convert: Callable[..., Conversion],
    source_file: str,
    out: str,
    options: dict[str, Any],
    state: tuple[str, ...],
) -> None:
    """Convert, and say what came of it; `state` begins the paths of an optimizer's tensors."""
    try:
        check_can_be_written(Path(out))
        done = convert(source_file, out, **options)
    except JaxtlError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or source_file}: {error.strerror}; give another path")
    except MemoryError:
        _fail(f"{source_file}: takes more memory than there is; free some, or save the weights alone")
    config = done.config
    top = f"{config.classes} classes" if config.classes else "no top"
    click.echo(f"{out}: {config.label}, width {config.width:g}, {top}, {len(config.parameters)} tensors")
    click.echo(f"digest {done.digest}")
    for note in done.notes:
        click.echo(_told(note))
    if done.head:
        click.echo(_told(f"{config.head} is {done.head}"))
    _tell_left_out(done.left_out, state)


def _told(text: str) -> str:
    """A line in which names of a stranger's stand."""
    return shown(text if len(text) <= _LETTERS else f"{text[:_LETTERS]} [...]")


def _fail(message: str) -> NoReturn:
    click.echo(f"Error: {shown(message)}", err=True)
    sys.exit(2)


def run() -> None:
    """Exit 0; 2 with one line; 130 after Ctrl-C."""
    try:
        main(prog_name="python -m weights_convert", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
    except click.UsageError as error:
        _fail(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        click.echo("weights_convert: interrupted", err=True)
        sys.exit(130)


def _tell_left_out(paths: tuple[str, ...], state: tuple[str, ...]) -> None:
    if paths:
        others = [path for path in paths if not path.startswith(state)]
        of_state = len(paths) - len(others)
        click.echo(f"left out {len(paths):,} tensors outside the backbone:")
        more = [f"and {len(others) - _NAMED:,} more"] if len(others) > _NAMED else []
        state_too = [f"{of_state:,} of the optimizer's state"] if of_state else []
        for path in [*others[:_NAMED], *more, *state_too]:
            click.echo(f"  {_told(path)}")


if __name__ == "__main__":
    signals.hear()
    try:
        run()
        signals.leave(0)
    except SystemExit as end:
        signals.leave(end.code if isinstance(end.code, int) else 1)
