"""Options that verbs share, and how what is typed becomes what they take; light to import."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from jaxtl.cli.values import Count, Folder, Names, Number, Preprocessing
from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import PRECISIONS
from jaxtl.methods import LIBRARIES, METHODS, Method
from jaxtl.ranges import LARGEST_WHOLE, RANGES, SEED, Range, shown
from jaxtl.settings import (
    ALPHA,
    ANTIALIAS,
    BATCH_NORM,
    ENGINES,
    FITS,
    MODELS,
    ORIENTATIONS,
    TIME_LIMIT,
    FinetuneConfig,
    Images,
    RunConfig,
    Selection,
)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = Folder()
PATH = click.Path(path_type=Path)

_RUN, _TUNE, _IMAGES, _SELECTION = RunConfig(), FinetuneConfig(), Images(), Selection()
# Letters of what was typed that a message repeats.
_SHOWN = 60
# What a parameter of `jaxtl reduce` may be, whatever it is of.
_ANY_WHOLE, _ANY = Range(-LARGEST_WHOLE, SEED.high, whole=True), Range(-LARGEST_WHOLE, LARGEST_WHOLE)
# What settings of methods do, with their unit and range; of others the help tells the name alone.
_WORDS = {
    "perplexity": "t-SNE: about how many neighbours of an image pull on it in the map; more shows coarser "
    "structure. From 1 to a third of the number of images.",
    "n_neighbors": "LLE: how many neighbours each image is rebuilt from; more smooths the map. From 3 to the "
    "number of images less 1.",
}


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


def number(name: str, default: Any, help: str, metavar: str = "N", **more: Any) -> Decorator:
    """`setting` for a number that has a row in `jaxtl.ranges.RANGES`, under the option's name."""
    return setting(name, default, help, type=_number(name), metavar=metavar, **more)


def limit(name: str, unit: str, help: str, **more: Any) -> Decorator:
    """An option that takes a number of `RANGES`, and need not have a default."""
    return click.option(name, type=_number(name), metavar=unit, help=help, **more)


def _number(name: str, tell: bool = True) -> Number:
    return Number(RANGES[name.removeprefix("--").replace("-", "_")], tell)


def _of_method(method: Method, name: str) -> Decorator:
    default, option = getattr(_RUN, name), f"--{name.replace('_', '-')}"
    metavar = "K" if isinstance(default, int) else "X"
    words = _WORDS.get(name, f"{method.label}: its {name.replace('_', ' ')}.")
    return setting(option, default, words, type=_number(option, name not in _WORDS), metavar=metavar)


dataset = setting(
    "--dataset",
    _RUN.dataset,
    "A path: to a folder with a folder of images for each class, which may stand in folders train and test; "
    "to a CSV or Parquet table of images and classes; to an .npz. Or a name: mnist (comes with jaxtl), "
    "infinite:N (N of its digits, each randomly deformed), tfds:NAME, idx:FOLDER, hf:FOLDER.",
    metavar="PATH|NAME",
)
_SELECTING = (
    limit(
        "--test-share",
        "X",
        "Of a set without test images: the share of each class to set aside as such.  [default: 0.2]",
    ),
    number(
        "--split-seed",
        _SELECTION.split_seed,
        "Random seed of the choice of test images, for --test-share.",
    ),
    click.option(
        "--train-split",
        metavar="NAME",
        help="The part of the set to train on, by its name there; of tfds: also such as 'train[:80%]'.  "
        "[default: train or the like]",
    ),
    click.option(
        "--test-split",
        metavar="NAME",
        help="The part of the set with the test images, likewise.  [default: test or the like, else "
        "validation]",
    ),
    click.option(
        "--image-column",
        metavar="NAME",
        help="Of a table: the column with the images or their paths.  [default: image, path or the like]",
    ),
    click.option(
        "--label-column",
        metavar="NAME",
        help="Of a table: the column with the classes.  [default: label, class or the like]",
    ),
    click.option(
        "--split-column",
        metavar="NAME",
        help="Of a table: the column that says train or test.  [default: split or the like, if there is one]",
    ),
    click.option("--skip-bad", is_flag=True, help="Leave out images that cannot be read, and list them."),
)
selection = together(*_SELECTING)
# Of a study, which takes training and test images together, so that none are to be set aside.
study_selection = together(*_SELECTING[2:])
weights = together(
    click.option(
        "--model",
        type=click.Choice(list(MODELS)),
        help="The network. All but mobilenet_v2 need --weights.  [default: that of the weights]",
    ),
    click.option(
        "--weights",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="Weights to start from, .safetensors, of jaxtl or converted for it.  [default: MobileNetV2's of "
        "ImageNet, which come with jaxtl]",
    ),
)
pixels = together(
    click.option(
        "--preprocessing",
        type=Preprocessing(),
        metavar="unit|keras|imagenet|R,G,B/R,G,B",
        help="What pixels are scaled to. unit: 0 to 1; keras: -1 to 1, as when the ImageNet weights were "
        "trained; imagenet: torchvision's mean and deviation; or a mean and deviation, R,G,B/R,G,B, of "
        "pixels from 0 to 1.  [default: what the weights want, if their file says so, else unit]",
    ),
    setting(
        "--antialias",
        _IMAGES.antialias,
        "Whether an image that shrinks is averaged over what each new pixel covers. auto: images in files "
        "are, arrays of one size are not, as in Keras.",
        type=click.Choice(ANTIALIAS),
    ),
    setting(
        "--fit",
        _IMAGES.fit,
        "What is done with images that are not square: stretch them, crop them to the middle, or pad them "
        "with black.",
        type=click.Choice(FITS),
    ),
    setting(
        "--orientation",
        _IMAGES.orientation,
        "exif: turn photos as the camera noted (EXIF); stored: leave them as they are stored.",
        type=click.Choice(ORIENTATIONS),
    ),
    setting(
        "--alpha",
        _IMAGES.alpha,
        "What is done with transparent pixels: lay them over white, or drop the transparency.",
        type=click.Choice(ALPHA),
    ),
)
images = together(
    number(
        "--image-size",
        _IMAGES.image_size,
        "Height and width that images are resized to.",
        metavar="PIXELS",
    ),
    pixels,
)
train_samples = setting(
    "--train-samples",
    "all",
    "How many training images to train on: the first N, or all.",
    type=Count(),
    metavar="N|all",
)
schedule = together(
    number("--epochs", _TUNE.epochs, "How many times to go over the training images."),
    number("--batch-size", _TUNE.batch_size, "How many training images in each step."),
    number("--learning-rate", _TUNE.learning_rate, "How far each step goes (Adam's).", metavar="X"),
    setting(
        "--batch-norm",
        _TUNE.batch_norm,
        "Statistics that the trained batch normalisations are tested with. keras: they follow the batches, "
        "too slowly for a few thousand images; frozen: they stay as they were; recalibrated: they are taken "
        "from all training images at the end.",
        type=click.Choice(BATCH_NORM),
    ),
)
training = together(
    setting(
        "--trainable",
        _TUNE.trainable,
        "Layers to train besides the head: a number, counted from the end as Keras counts; all; none; or the "
        "first layer or part to train, such as block_16_expand_BN or layer4.",
        metavar="LAYERS",
    ),
    schedule,
)
method_settings = together(
    *(_of_method(method, name) for method in METHODS.values() for name in method.settings)
)


def maps_of(methods: Iterable[str]) -> Decorator:
    """Options of verbs that make all embeddings of a folder, by default those of some methods."""
    return together(
        setting("--methods", ",".join(methods), "Which maps to make.", type=Names(), metavar="M,..."),
        _MAPS,
    )


_MAPS = together(
    method_settings,
    setting(
        "--align/--no-align",
        _RUN.align,
        "Turn each map after onto the one before, and start t-SNE from it, so that the two can be compared.",
    ),
    setting(
        "--backend",
        "auto",
        f"Libraries to prefer for the maps: {', '.join(LIBRARIES)}. auto takes cuML where there is a GPU for "
        "it; else intelex for t-SNE, where that extra is installed.",
        metavar="NAME,...",
    ),
    limit(
        "--time-limit",
        "SECONDS",
        "Time that cuML may take for one map; one that takes longer is stopped.",
        default=TIME_LIMIT,
        show_default=True,
    ),
)
embeddings = maps_of(METHODS)
seed = number(
    "--seed",
    _RUN.seed,
    "Random seed. The same seed gives the same bytes on the same machine, cores and versions.",
)
devices = limit(
    "--devices",
    "N",
    "How many of this machine's GPUs, or of what else JAX computes on, share the work.  [default: all]",
)
computing = together(
    setting(
        "--precision",
        _RUN.precision,
        "Precision of the network's products. highest: float32; the others are faster on some GPUs and less "
        "exact.",
        type=click.Choice(PRECISIONS),
    ),
    setting(
        "--engine",
        _RUN.engine,
        "What computes the layers from the images on. litert, openvino, onnxruntime: on a CPU, where the "
        "extra of that name is installed; auto: the first of litert and openvino that is, else JAX.",
        type=click.Choice(ENGINES),
    ),
    click.option(
        "--deterministic",
        is_flag=True,
        help="Give the same bits on every run on the same GPU, at some cost; a CPU always does.",
    ),
    devices,
    setting(
        "--compilation-cache",
        "auto",
        "Where compiled programs are kept for the next call. auto: in the user's cache folder where there is "
        "a GPU, else nowhere; none: nowhere.",
        type=FOLDER,
        metavar="DIR",
    ),
)


def selected(settings: dict[str, Any]) -> dict[str, Any]:
    """The options of `selection`, taken out of all that a command got."""
    return {part.name: settings.pop(part.name) for part in fields(Selection)}


def given(ctx: click.Context, name: str) -> bool:
    """Whether the user typed an option, even if it is its default."""
    return ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def check_suffix(path: Path, *suffixes: str) -> None:
    """Raises JaxtlError for a file of --out that ends otherwise."""
    if path.suffix not in suffixes:
        *most, last = suffixes
        raise JaxtlError(f"--out {path}: must end in {', '.join(most)}{' or ' if most else ''}{last}")


def check_outputs(
    outputs: Iterable[tuple[str, Path]],
    inputs: Iterable[tuple[str, Path]] = (),
    full: Iterable[tuple[str, Path]] = (),
    but: Path | None = None,
) -> None:
    """Refuse outputs before any work: see `jaxtl.records.paths.check_outputs`, and files of a run.

    `but`: a file of a run that the command makes again.
    """
    from jaxtl.records.paths import check_outputs
    from jaxtl.runs.own import check_not_of_a_run

    outputs = list(outputs)
    for name, path in outputs:
        check_not_of_a_run(name, path, but)
    check_outputs(outputs, inputs, full)


def read_from(dataset: str, weights: str | None) -> dict[str, list[tuple[str, Path]]]:
    """`inputs` and `full` of `check_outputs`, of a command that reads images and weights.

    Raises JaxtlError for a data set that is not known.
    """
    from jaxtl.data import holds_images_alone, place_of
    from jaxtl.models.weights import imagenet_path

    place = place_of(dataset)
    inputs = [("--weights", Path(weights) if weights else imagenet_path())]
    if place is None:
        return {"inputs": inputs, "full": []}
    full = [("--dataset", place)] if holds_images_alone(dataset) else []
    return {"inputs": [*inputs, ("--dataset", place)], "full": full}


def parse_parameter(text: str) -> tuple[str, Any]:
    """Name and value of a parameter, written NAME=VALUE: a whole number, a number or text.

    Raises JaxtlError for what is not written so, and for a number that is not finite or beyond all use.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name or not value:
        raise JaxtlError(f"--set {text[:_SHOWN]}: must be NAME=VALUE")
    for allowed in (_ANY_WHOLE, _ANY):
        try:
            return name, allowed.read(value)
        except JaxtlError:
            continue
    if _is_number(value):
        raise JaxtlError(
            f"--set {name[:_SHOWN]}: must be a finite number below {LARGEST_WHOLE:,}, got {shown(value)}"
        )
    return name, value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
