"""What a user can set, with its defaults and checks; light to import, so that help is instant."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import check_precision
from jaxtl.methods import METHODS, Parameter, parameters

STAGES = ("before", "after")
PREPROCESSING = ("unit", "keras")
# Forms in which a run is exported.
EXPORTS = ("tensorboard", "parquet", "csv")
# Seconds that one embedding may take, and the most seeds of one command.
TIME_LIMIT, MOST_SEEDS = 900.0, 1000
# Test accuracy after the last epoch is noisy, as Keras's is: 0.936 to 0.974 over seeds 0 to 5. Of these,
# seed 1 gave 0.955, nearest the median, so that a run with no options shows what is usual.
TYPICAL_SEED = 1


@dataclass(frozen=True)
class Images:
    """How images become a network's input.

    Attributes:
        image_size: height and width in pixels, at least 32.
        preprocessing: "unit" scales to [0, 1], "keras" to [-1, 1] as Keras's own preprocess_input.
    """

    image_size: int = 48
    preprocessing: str = "unit"

    def __post_init__(self) -> None:
        if not 32 <= self.image_size <= 1024:
            raise JaxtlError(f"image_size must be 32 to 1024, got {self.image_size}")
        if self.preprocessing not in PREPROCESSING:
            raise JaxtlError(f"preprocessing must be 'unit' or 'keras', got {self.preprocessing!r}")


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
        weights: a safetensors file to start from; None takes the bundled ImageNet weights.
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

    def __post_init__(self) -> None:
        _check_methods(self.methods)
        for name, number in (("samples", self.samples), ("train_samples", self.train_samples)):
            if number is not None and number < 1:
                raise JaxtlError(f"{name}: must be at least 1 or all, got {number}")
        _check_seed(self.seed)
        check_precision(self.precision)
        _ = self.images, self.finetuning

    @property
    def images(self) -> Images:
        return Images(self.image_size, self.preprocessing)

    @property
    def finetuning(self) -> FinetuneConfig:
        return FinetuneConfig(self.trainable, self.epochs, self.batch_size, self.learning_rate, self.seed)

    def reduction(self, method: str) -> dict[str, Parameter]:
        """The parameters that `reduce` is given for a method."""
        return parameters(method, self)


@dataclass(frozen=True)
class ComparisonConfig:
    """Every setting that a comparison of two files of features depends on.

    Attributes:
        before, after: names of what the features were read from.
        points: rows that both have.
        name: of what the features are of, for the page.
        classes: how many there are, 0 where nobody knows them.
        training: whether there are features of training images.
        methods, perplexity, n_neighbors, seed: as of `RunConfig`.
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
    seed: int = TYPICAL_SEED

    def __post_init__(self) -> None:
        _check_methods(self.methods)
        _check_seed(self.seed)

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


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise JaxtlError(f"seed: must be 0 to {2**32 - 1}, got {seed}")
