"""What a user can set, with its defaults and checks; light to import, so that help is instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import check_precision
from jaxtl.methods import METHODS, Parameter, parameters

STAGES = ("before", "after")
PREPROCESSING = ("unit", "keras")
# Networks by the name that users type, and as people write it.
MODELS = {
    "mobilenet_v2": "MobileNetV2",
    **{f"resnet{depth}": f"ResNet-{depth}" for depth in (18, 34, 50, 101, 152)},
}
ANTIALIAS = ("auto", "on", "off")
ORIENTATIONS = ("exif", "stored")
ALPHA = ("white", "drop")
FITS = ("stretch", "crop", "pad")
# How images in files become pixels: each setting, and what it can be.
PIXELS = {"antialias": ANTIALIAS, "orientation": ORIENTATIONS, "alpha": ALPHA, "fit": FITS}
# The same before runs recorded them.
FORMER_PIXELS = {"antialias": "off", "orientation": "stored", "alpha": "white", "fit": "stretch"}
# Forms in which a run is exported.
EXPORTS = ("tensorboard", "parquet", "csv")
# Seconds that one embedding may take, and the most seeds of one command.
TIME_LIMIT, MOST_SEEDS = 900.0, 1000
# Test accuracy after the last epoch is noisy, as Keras's is: 0.936 to 0.974 over seeds 0 to 5. Of these,
# seed 1 gave 0.955, nearest the median, so that a run with no options shows what is usual.
TYPICAL_SEED = 1


def check_model(name: str | None) -> None:
    """Raises JaxtlError for a name that is none of `MODELS`; None stands for the weights' own network."""
    if name not in (None, *MODELS):
        raise JaxtlError(f"model: must be one of {', '.join(MODELS)}, got {name!r}")


@dataclass(frozen=True)
class Images:
    """How images become a network's input.

    Attributes:
        image_size: height and width in pixels, at least 32.
        preprocessing: "unit" scales to [0, 1], "keras" to [-1, 1] as Keras's own preprocess_input.
        antialias: whether an image that shrinks is averaged over what each new pixel covers. "off" is plain
            bilinear, as Keras and TensorFlow resize; "auto" is "on" for images in files, and "off" for those
            that come as an array, all of one size.
        orientation: "exif" turns images in files as their EXIF orientation says, "stored" leaves them as
            their pixels are stored.
        alpha: "white" lays transparent pixels over white, "drop" takes their colours as they are.
        fit: of images that are not square: "stretch" gives each side its own scale, "crop" takes the largest
            square from the middle, "pad" keeps all of the image and fills up with black.
    """

    image_size: int = 48
    preprocessing: str = "unit"
    antialias: str = "auto"
    orientation: str = "exif"
    alpha: str = "white"
    fit: str = "stretch"

    def __post_init__(self) -> None:
        if not 32 <= self.image_size <= 1024:
            raise JaxtlError(f"image_size must be 32 to 1024, got {self.image_size}")
        if self.preprocessing not in PREPROCESSING:
            raise JaxtlError(f"preprocessing must be 'unit' or 'keras', got {self.preprocessing!r}")
        for name, known in PIXELS.items():
            if getattr(self, name) not in known:
                raise JaxtlError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    @property
    def pixels(self) -> dict[str, str]:
        """The settings of `PIXELS`, which `jaxtl.load` takes too."""
        return {name: getattr(self, name) for name in PIXELS}


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune.

    Attributes:
        trainable: which layers learn; see `jaxtl.network.trunk.trainable_boundary`.
        epochs: passes over the training images, at least 1.
        batch_size: images per step, at least 1; the last batch of an epoch may be smaller, as in Keras.
        learning_rate: Adam's, above 0.
        seed: of the head's initial weights and of the shuffling.
    """

    trainable: str = "10"
    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = TYPICAL_SEED

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise JaxtlError(
                f"epochs and batch_size must be at least 1, got {self.epochs} and {self.batch_size}"
            )
        if not 0 < self.learning_rate < float("inf"):
            raise JaxtlError(f"learning_rate must be a positive number, got {self.learning_rate}")


@dataclass(frozen=True)
class RunConfig:
    """Every setting that a run's results depend on; the defaults are the founding experiment.

    Attributes:
        dataset: what `jaxtl.load` takes.
        samples: test images that are embedded, the first ones of the split; None takes all.
        train_samples: training images, likewise.
        image_size: pixels, 32 to 1024.
        preprocessing: "unit" or "keras".
        antialias, orientation, alpha, fit: see `Images`.
        weights: a safetensors file to start from; None takes the bundled ImageNet weights.
        model: one of `MODELS`, which the weights must be of; None takes the network that they are of.
        trainable: see `jaxtl.network.trunk.trainable_boundary`.
        epochs, batch_size, learning_rate: see `FinetuneConfig`.
        methods: some of "pca", "tsne", "lle".
        perplexity: of t-SNE.
        n_neighbors: of LLE.
        precision: of the network's products; see `jaxtl.extract`.
        layers: whether the end of every block is looked at too.
        deterministic: the same bits on every run on the same GPU, at some cost; a CPU's always are.
        seed: of the head, the shuffling and the embeddings.
    """

    dataset: str = "mnist"
    samples: int | None = 2000
    train_samples: int | None = None
    image_size: int = 48
    preprocessing: str = "unit"
    weights: str | None = None
    model: str | None = None
    trainable: str = "10"
    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
    methods: tuple[str, ...] = tuple(METHODS)
    perplexity: float = 30.0
    n_neighbors: int = 12
    precision: str = "highest"
    deterministic: bool = False
    layers: bool = True
    seed: int = TYPICAL_SEED
    antialias: str = "auto"
    orientation: str = "exif"
    alpha: str = "white"
    fit: str = "stretch"

    def __post_init__(self) -> None:
        unknown = [method for method in self.methods if method not in METHODS]
        if unknown or not self.methods:
            raise JaxtlError(
                f"methods: got {', '.join(unknown) or 'none'}; the methods are {', '.join(METHODS)}"
            )
        for name, number in (("samples", self.samples), ("train_samples", self.train_samples)):
            if number is not None and number < 1:
                raise JaxtlError(f"{name}: must be at least 1 or all, got {number}")
        if not 0 <= self.seed < 2**32:
            raise JaxtlError(f"seed: must be 0 to {2**32 - 1}, got {self.seed}")
        check_model(self.model)
        check_precision(self.precision)
        _ = self.images, self.finetuning

    @property
    def images(self) -> Images:
        return images_of(asdict(self))

    @property
    def finetuning(self) -> FinetuneConfig:
        return FinetuneConfig(self.trainable, self.epochs, self.batch_size, self.learning_rate, self.seed)

    def reduction(self, method: str) -> dict[str, Parameter]:
        """The parameters that `reduce` is given for a method."""
        return parameters(method, self)


def images_of(settings: Mapping[str, Any]) -> Images:
    """What of a run's or a study's settings says how images become input; older ones lack some."""
    given = {**FORMER_PIXELS, **settings}
    return Images(**{part.name: given[part.name] for part in fields(Images) if part.name in given})
