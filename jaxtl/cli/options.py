"""Options that verbs share, and how what is typed becomes what they take; light to import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import PRECISIONS
from jaxtl.methods import LIBRARIES, METHODS, Method
from jaxtl.settings import (
    ALPHA,
    ANTIALIAS,
    BATCH_NORM,
    FITS,
    MODELS,
    ORIENTATIONS,
    PREPROCESSING,
    TIME_LIMIT,
    FinetuneConfig,
    Images,
    RunConfig,
    Selection,
    mean_and_deviation,
)

if TYPE_CHECKING:
    from rich.console import Console

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
PATH = click.Path(path_type=Path)

_RUN, _TUNE, _IMAGES, _SELECTION = RunConfig(), FinetuneConfig(), Images(), Selection()
# Settings of methods whose names are no words for a help text.
_WORDS = {"n_neighbors": "Neighbours"}


class Count(click.ParamType):
    """A number of images, or "all"; None stands for all."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value is None or isinstance(value, int):
            return value
        if value.lower() == "all":
            return None
        if not value.isdecimal() or int(value) < 1:
            self.fail(f"{value!r} is neither a number from 1 nor all", param, ctx)
        return int(value)


class Preprocessing(click.ParamType):
    """A preprocessing as in `jaxtl.settings.Images`."""

    name = "|".join((*PREPROCESSING, "MEAN/DEVIATION"))

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            mean_and_deviation(value)
        except JaxtlError as error:
            self.fail(str(error).removeprefix("preprocessing: "), param, ctx)
        return value


def together(*options: Decorator) -> Decorator:
    """Several options as one decorator, in the order in which the help shows them."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def setting(name: str, default: Any, help: str = "", **more: Any) -> Decorator:
    """An option that has a default, which the help shows."""
    return click.option(name, default=default, show_default=True, help=help, **more)


def limit(name: str, unit: str, help: str, **more: Any) -> Decorator:
    """An option that takes a number above 0."""
    return click.option(name, type=click.FloatRange(0, min_open=True), metavar=unit, help=help, **more)


def _of_method(method: Method, name: str) -> Decorator:
    default = getattr(_RUN, name)
    metavar = "K" if isinstance(default, int) else "X"
    word = _WORDS.get(name, name.replace("_", " ").capitalize())
    return setting(f"--{name.replace('_', '-')}", default, f"{word} of {method.label}.", metavar=metavar)


dataset = setting(
    "--dataset",
    _RUN.dataset,
    "mnist (comes with jaxtl), infinite:N (its digits, each with a random deformation, fixed by the seed), "
    "tfds:NAME, idx:FOLDER, hf:FOLDER, or a path: to a folder that has a folder of images for each class, "
    "with train and test above them or not; to a CSV or Parquet table of images and classes; to an .npz.",
    metavar="PATH|NAME",
)
selection = together(
    click.option(
        "--test-share",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="X",
        help="Share of each class that is set aside as test images, of a set that has none.  [default: 0.2]",
    ),
    setting(
        "--split-seed",
        _SELECTION.split_seed,
        "Of that choice.",
        type=click.IntRange(0, 2**32 - 1),
        metavar="N",
    ),
    click.option(
        "--train-split",
        metavar="NAME",
        help="The split to train on, by its name in the set; for tfds also as 'train[:80%]'.  [default: "
        "train or the like]",
    ),
    click.option(
        "--test-split",
        metavar="NAME",
        help="The split with the test images.  [default: test or the like, else validation]",
    ),
    click.option(
        "--image-column", metavar="NAME", help="Column of a table that holds the images or their paths."
    ),
    click.option("--label-column", metavar="NAME", help="Column that holds the classes."),
    click.option("--split-column", metavar="NAME", help="Column that holds the names of splits."),
    click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and list them."),
)
weights = together(
    click.option(
        "--model",
        type=click.Choice(list(MODELS)),
        help="The network. All but MobileNetV2 need --weights.  [default: that of the weights]",
    ),
    click.option(
        "--weights",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Safetensors weights to start from.  [default: MobileNetV2's of ImageNet, in jaxtl]",
    ),
)
images = together(
    setting(
        "--image-size",
        _IMAGES.image_size,
        "Images are resized to this height and width, 32 to 1024.",
        metavar="PIXELS",
    ),
    click.option(
        "--preprocessing",
        type=Preprocessing(),
        help="unit: [0, 1]; keras: [-1, 1], as when the ImageNet weights were trained; imagenet: "
        "torchvision's mean and deviation; or a mean and deviation, R,G,B/R,G,B, of pixels in [0, 1].  "
        "[default: what the weights want, if their file says so, else unit]",
    ),
    setting(
        "--antialias",
        _IMAGES.antialias,
        "Average over what each new pixel covers where an image shrinks. auto: for images in files, and not "
        "for arrays of one size, which are resized as Keras does it.",
        type=click.Choice(ANTIALIAS),
    ),
    setting(
        "--fit",
        _IMAGES.fit,
        "Images that are not square: stretch them, crop the middle, or pad them with black.",
        type=click.Choice(FITS),
    ),
    setting(
        "--orientation",
        _IMAGES.orientation,
        "exif: turn photos as their EXIF orientation says; stored: leave them as they are stored.",
        type=click.Choice(ORIENTATIONS),
    ),
    setting(
        "--alpha",
        _IMAGES.alpha,
        "Transparent pixels: lay them over white, or drop the transparency.",
        type=click.Choice(ALPHA),
    ),
)
train_samples = setting(
    "--train-samples",
    "all",
    "Train on the first N training images, or all where there are fewer.",
    type=Count(),
)
training = together(
    setting(
        "--trainable",
        _TUNE.trainable,
        "Layers to train besides the head: the last LAYERS layers as Keras counts them, all, none, or the "
        "name of the first trainable layer or part, such as block_16_expand_BN or layer4.",
        metavar="LAYERS",
    ),
    setting("--epochs", _TUNE.epochs, "Passes over the training images.", metavar="N"),
    setting("--batch-size", _TUNE.batch_size, "Training images per step.", metavar="N"),
    setting("--learning-rate", _TUNE.learning_rate, "Learning rate of the optimizer.", metavar="X"),
    setting(
        "--batch-norm",
        _TUNE.batch_norm,
        "Moving statistics of batch normalisations that learn. keras: follow the batches, too slowly for "
        "a few thousand images; frozen: stay; recalibrated: are taken from all training images at the end.",
        type=click.Choice(BATCH_NORM),
    ),
)
method_settings = together(
    *(_of_method(method, name) for method in METHODS.values() for name in method.settings)
)
# Of verbs that make all embeddings of a folder.
embeddings = together(
    setting("--methods", ",".join(METHODS), "Embeddings to compute.", metavar="M,..."),
    method_settings,
    setting(
        "--align/--no-align",
        _RUN.align,
        "Turn each map after onto the one before, and start t-SNE from it, so that the two can be compared.",
    ),
    setting(
        "--backend",
        "auto",
        f"Libraries to prefer for the embeddings: {', '.join(LIBRARIES)}. auto takes cuML where it works.",
        metavar="NAME,...",
    ),
    limit(
        "--time-limit",
        "SECONDS",
        "For one embedding by cuML; one that takes longer is stopped.",
        default=TIME_LIMIT,
        show_default=True,
    ),
)
seed = setting(
    "--seed",
    _RUN.seed,
    "Random seed; the same seed gives the same bytes on the same machine, cores and versions.",
    type=click.IntRange(0, 2**32 - 1),
    metavar="N",
)
computing = together(
    setting(
        "--precision",
        _RUN.precision,
        "Precision of the network's products: highest is float32; the others are faster on some GPUs.",
        type=click.Choice(PRECISIONS),
    ),
    click.option(
        "--deterministic",
        is_flag=True,
        help="Give the same bits on every run on the same GPU, at some cost; a CPU always does.",
    ),
    setting(
        "--compilation-cache",
        "auto",
        "Keep what JAX compiles here, for the next process. auto: in the user's cache folder where there is "
        "a GPU; none: keep nothing.",
        type=FOLDER,
        metavar="DIR",
    ),
)


def console() -> Console:
    """Where progress and tables go: standard error."""
    from rich.console import Console

    return Console(stderr=True)


def selected(settings: dict[str, Any]) -> dict[str, Any]:
    """The options of `selection`, taken out of all that a command got."""
    return {part.name: settings.pop(part.name) for part in fields(Selection)}


def given(ctx: click.Context, name: str) -> bool:
    """Whether the user typed an option, even if it is its default."""
    return ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def check_suffix(path: Path, *suffixes: str) -> None:
    """Raises JaxtlError for a file of --out that ends otherwise."""
    if path.suffix not in suffixes:
        raise JaxtlError(f"--out {path}: must end in {' or '.join(suffixes)}")


def parse_names(text: str) -> tuple[str, ...]:
    """Names with commas between."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def parse_parameter(text: str) -> tuple[str, Any]:
    """Name and value of a parameter, written NAME=VALUE: a whole number, a number or text.

    Raises JaxtlError for what is not written so.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise JaxtlError(f"--set {text}: must be NAME=VALUE")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
