"""What a user can set, with its defaults and checks; light to import, so that help is instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import check_precision
from jaxtl.methods import METHODS, Parameter, parameters
from jaxtl.ranges import settle

STAGES = ("before", "after")
# What becomes of the moving statistics of the batch normalisations that learn: see `FinetuneConfig`.
BATCH_NORM = ("keras", "frozen", "recalibrated")
# What pixels are scaled to, by name: mean and deviation of R, G and B, of pixels in [0, 1], that are taken
# away and divided by. The last are those of ImageNet's training images, which torchvision and timm use.
PREPROCESSING = {
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "keras": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
# Where neither the user nor the weights say anything.
USUAL_PREPROCESSING = "unit"
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
# Likewise of runs that knew of no `align`, or of no `engine`.
FORMER_ALIGN, FORMER_ENGINE = {"align": False}, {"engine": "jax"}
# What computes the layers from the images on: see `jaxtl.extract`.
ENGINES = ("auto", "jax", "litert", "openvino", "onnxruntime")
# What "auto" takes on a CPU, the first that is installed. ONNX Runtime is not among them: it was no faster
# than JAX with batches of 32 and more.
PREFERRED_ENGINES = ("litert", "openvino")
# Forms in which a run is exported.
EXPORTS = ("tensorboard", "parquet", "csv")
# Forms in which its network is, and how their files end.
NETWORKS = {"keras": ".keras", "torch": ".safetensors", "onnx": ".onnx"}
# Seconds that one embedding may take, and the most seeds of one command.
TIME_LIMIT, MOST_SEEDS = 900.0, 1000
# Test accuracy after the last epoch is noisy, as Keras's is: 0.936 to 0.974 over seeds 0 to 5. Of these,
# seed 1 gave 0.955, nearest the median, so that a run with no options shows what is usual.
TYPICAL_SEED = 1


def check_model(name: str | None) -> None:
    """Raises JaxtlError for a name that is none of `MODELS`; None stands for the weights' own network."""
    if name not in (None, *MODELS):
        raise JaxtlError(f"model: must be one of {', '.join(MODELS)}, got {name!r}")


def check_engine(name: str) -> None:
    """Raises JaxtlError unless it is one of `ENGINES`."""
    if name not in ENGINES:
        raise JaxtlError(f"engine: must be one of {', '.join(ENGINES)}, got {name!r}")


@dataclass(frozen=True)
class Images:
    """How images become a network's input.

    Attributes:
        image_size: height and width in pixels, at least 32.
        preprocessing: "unit" scales to [0, 1], "keras" to [-1, 1] as Keras's own preprocess_input,
            "imagenet" takes ImageNet's mean away and divides by its deviation, as torchvision and timm do;
            "R,G,B/R,G,B" does so with any mean and deviation of pixels in [0, 1]. None takes what the
            weights want, which their file may say, and otherwise "unit".
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
    preprocessing: str | None = None
    antialias: str = "auto"
    orientation: str = "exif"
    alpha: str = "white"
    fit: str = "stretch"

    def __post_init__(self) -> None:
        settle(self)
        if self.preprocessing is not None:
            mean_and_deviation(self.preprocessing)
        for name, known in PIXELS.items():
            if getattr(self, name) not in known:
                raise JaxtlError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    @property
    def pixels(self) -> dict[str, str]:
        """The settings of `PIXELS`, which `jaxtl.load` takes too."""
        return {name: getattr(self, name) for name in PIXELS}

    def settled(self, wanted: str | None) -> Images:
        """With a preprocessing: the one set, or else what the weights want, or else "unit"."""
        return replace(self, preprocessing=self.preprocessing or wanted or USUAL_PREPROCESSING)


RGB = tuple[float, float, float]


def mean_and_deviation(preprocessing: str) -> tuple[RGB, RGB]:
    """Of R, G and B, for pixels in [0, 1]: what is taken away, and what is then divided by.

    Raises JaxtlError for what is neither a name nor "R,G,B/R,G,B" with finite numbers, deviations above 0.
    """
    if preprocessing in PREPROCESSING:
        return PREPROCESSING[preprocessing]
    try:
        mean, deviation = (
            tuple(float(number) for number in half.split(",")) for half in str(preprocessing).split("/")
        )
        if len(mean) == len(deviation) == 3 and all(map(isfinite, mean + deviation)) and min(deviation) > 0:
            return mean, deviation
    except ValueError:
        pass
    names = ", ".join(map(repr, PREPROCESSING))
    raise JaxtlError(
        f"preprocessing: {preprocessing!r} is not one of {names}, nor mean and deviation such as "
        "0.5,0.5,0.5/0.25,0.25,0.25"
    )


def told_preprocessing(wanted: str) -> str:
    """One line that says that weights decided."""
    return f"Preprocessing {wanted}, which the weights want; --preprocessing takes another"


def spelled(mean: RGB, deviation: RGB) -> str:
    """The preprocessing of this mean and deviation: its name, or its numbers."""
    for name, numbers in PREPROCESSING.items():
        if all(abs(a - b) <= 1e-6 for a, b in zip(mean + deviation, sum(numbers, ()), strict=True)):
            return name
    return "/".join(",".join(f"{number:.9g}" for number in half) for half in (mean, deviation))


@dataclass(frozen=True)
class Selection:
    """Which images of a set are taken, as which classes, and which of them to test with.

    Attributes:
        test_share: share of each class that is set aside as test images, above 0 and below 1, where the set
            has none; None takes 0.2.
        split_seed: of that choice.
        train_split, test_split: names of the splits to take; None takes those whose names say what they are.
        image_column, label_column, split_column: columns of a table or of a set of Hugging Face or TFDS; None
            takes those with usual names.
        skip_bad: whether images that cannot be read are left out; else they are an error.
    """

    test_share: float | None = None
    split_seed: int = 0
    train_split: str | None = None
    test_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    skip_bad: bool = False

    def __post_init__(self) -> None:
        settle(self)


@dataclass(frozen=True)
class FinetuneConfig:
    """How to fine-tune.

    Attributes:
        trainable: which layers learn; see `jaxtl.network.trunk.trainable_boundary`.
        epochs: passes over the training images, at least 1.
        batch_size: images per step, at least 1; the last batch of an epoch may be smaller, as in Keras.
        learning_rate: Adam's, above 0.
        seed: of the head's initial weights and of the shuffling.
        batch_norm: what the batch normalisations of the layers that learn do. "keras": they normalise with
            the batch's own statistics, and their moving ones follow slowly, which a few hundred steps are too
            few for. "frozen": their weights learn, and their moving statistics stay and are what they
            normalise with. "recalibrated": as "keras", and after the last epoch the moving statistics are
            those of all training images (Wu & Johnson 2021, arXiv:2105.07576, "precise BatchNorm").
    """

    trainable: str = "10"
    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = TYPICAL_SEED
    batch_norm: str = "keras"

    def __post_init__(self) -> None:
        settle(self)
        if self.batch_norm not in BATCH_NORM:
            raise JaxtlError(f"batch_norm must be one of {', '.join(BATCH_NORM)}, got {self.batch_norm!r}")


@dataclass(frozen=True)
class RunConfig:
    """Every setting that a run's results depend on; the defaults are the founding experiment.

    Attributes:
        dataset: what `jaxtl.load` takes.
        samples: test images that are embedded, up to so many, the first ones of the split; None takes all.
        train_samples: training images, likewise.
        image_size: pixels, 32 to 1024.
        preprocessing: see `Images`; a run records the one that it took.
        antialias, orientation, alpha, fit: see `Images`.
        weights: a safetensors file to start from; None takes the bundled ImageNet weights.
        model: one of `MODELS`, which the weights must be of; None takes the network that they are of.
        trainable: see `jaxtl.network.trunk.trainable_boundary`.
        epochs, batch_size, learning_rate, batch_norm: see `FinetuneConfig`.
        methods: some of "pca", "tsne", "lle".
        perplexity: of t-SNE; a run on fewer images than it needs takes the largest that they allow.
        n_neighbors: of LLE.
        align: whether each map after is turned onto the one before, and that of t-SNE starts from it where
            its library can: see `jaxtl.reduce`, `onto`.
        precision: of the network's products; see `jaxtl.extract`.
        engine: that computes the layers from the images on; see `jaxtl.extract`. A run records the one that
            it took.
        layers: whether the end of every block is looked at too.
        deterministic: the same bits on every run on the same GPU, at some cost; a CPU's always are.
        seed: of the head, the shuffling and the embeddings.
        test_share, split_seed, train_split, test_split, image_column, label_column, split_column, skip_bad:
            see `Selection`.
    """

    dataset: str = "mnist"
    samples: int | None = 2000
    train_samples: int | None = None
    image_size: int = Images.image_size
    preprocessing: str | None = None
    weights: str | None = None
    model: str | None = None
    trainable: str = FinetuneConfig.trainable
    epochs: int = FinetuneConfig.epochs
    batch_size: int = FinetuneConfig.batch_size
    learning_rate: float = FinetuneConfig.learning_rate
    methods: tuple[str, ...] = tuple(METHODS)
    perplexity: float = 30.0
    n_neighbors: int = 12
    align: bool = True
    precision: str = "highest"
    engine: str = "auto"
    deterministic: bool = False
    layers: bool = True
    seed: int = TYPICAL_SEED
    antialias: str = Images.antialias
    orientation: str = Images.orientation
    alpha: str = Images.alpha
    fit: str = Images.fit
    batch_norm: str = FinetuneConfig.batch_norm
    test_share: float | None = Selection.test_share
    split_seed: int = Selection.split_seed
    train_split: str | None = Selection.train_split
    test_split: str | None = Selection.test_split
    image_column: str | None = Selection.image_column
    label_column: str | None = Selection.label_column
    split_column: str | None = Selection.split_column
    skip_bad: bool = Selection.skip_bad

    def __post_init__(self) -> None:
        settle(self)
        _check_methods(self.methods)
        check_model(self.model)
        check_precision(self.precision)
        check_engine(self.engine)
        _ = self.images, self.finetuning, self.selection

    @property
    def images(self) -> Images:
        return images_of(asdict(self))

    @property
    def finetuning(self) -> FinetuneConfig:
        return FinetuneConfig(**{part.name: getattr(self, part.name) for part in fields(FinetuneConfig)})

    @property
    def selection(self) -> Selection:
        return selection_of(asdict(self))

    def reduction(self, method: str) -> dict[str, Parameter]:
        """The parameters that `reduce` is given for a method."""
        return parameters(method, self)


def images_of(settings: Mapping[str, Any]) -> Images:
    """What of a run's or a study's settings says how images become input; older ones lack some."""
    given = {**FORMER_PIXELS, **settings}
    return Images(**{part.name: given[part.name] for part in fields(Images) if part.name in given})


@dataclass(frozen=True)
class ComparisonConfig:
    """Every setting that a comparison of two files of features depends on.

    Attributes:
        before, after: names of what the features were read from.
        points: rows that both have.
        name: of what the features are of, for the page.
        classes: how many there are, 0 where nobody knows them.
        training: whether there are features of training images.
        methods, perplexity, n_neighbors, align, seed: as of `RunConfig`.
    """

    before: str
    after: str
    points: int
    name: str = ""
    classes: int = 0
    training: bool = False
    methods: tuple[str, ...] = tuple(METHODS)
    perplexity: float = RunConfig.perplexity
    n_neighbors: int = RunConfig.n_neighbors
    align: bool = RunConfig.align
    seed: int = TYPICAL_SEED

    def __post_init__(self) -> None:
        settle(self)
        _check_methods(self.methods)

    @property
    def tells_classes(self) -> bool:
        """Whether there are classes to tell apart: more than one, and fewer than points."""
        return 1 < self.classes < self.points

    def reduction(self, method: str) -> dict[str, Parameter]:
        """The parameters that `reduce` is given for a method."""
        return parameters(method, self)


def _check_methods(methods: tuple[str, ...]) -> None:
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise JaxtlError(f"methods: got {', '.join(unknown) or 'none'}; the methods are {', '.join(METHODS)}")


def selection_of(settings: Mapping[str, Any]) -> Selection:
    """What of a run's settings says which images are taken; those of earlier versions lack some."""
    return Selection(
        **{part.name: settings[part.name] for part in fields(Selection) if part.name in settings}
    )
