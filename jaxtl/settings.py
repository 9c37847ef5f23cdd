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
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise JaxtlError(f"test_share must be above 0 and below 1, such as 0.2, got {self.test_share}")
        if not 0 <= self.split_seed < 2**32:
            raise JaxtlError(f"split_seed must be 0 to {2**32 - 1}, got {self.split_seed}")


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
        samples: test images that are embedded, up to so many, the first ones of the split; None takes all.
        train_samples: training images, likewise.
        image_size: pixels, 32 to 1024.
        preprocessing: "unit" or "keras".
        weights: a safetensors file to start from; None takes the bundled ImageNet weights.
        trainable: see `jaxtl.network.trunk.trainable_boundary`.
        epochs, batch_size, learning_rate: see `FinetuneConfig`.
        methods: some of "pca", "tsne", "lle".
        perplexity: of t-SNE; a run on fewer images than it needs takes the largest that they allow.
        n_neighbors: of LLE.
        precision: of the network's products; see `jaxtl.extract`.
        layers: whether the end of every block is looked at too.
        deterministic: the same bits on every run on the same GPU, at some cost; a CPU's always are.
        seed: of the head, the shuffling and the embeddings.
        test_share, split_seed, train_split, test_split, image_column, label_column, split_column, skip_bad:
            see `Selection`.
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
    test_share: float | None = None
    split_seed: int = 0
    train_split: str | None = None
    test_split: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    skip_bad: bool = False

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
        check_precision(self.precision)
        _ = self.images, self.finetuning, self.selection

    @property
    def images(self) -> Images:
        return Images(self.image_size, self.preprocessing)

    @property
    def finetuning(self) -> FinetuneConfig:
        return FinetuneConfig(self.trainable, self.epochs, self.batch_size, self.learning_rate, self.seed)

    @property
    def selection(self) -> Selection:
        return selection_of(asdict(self))

    def reduction(self, method: str) -> dict[str, Parameter]:
        """The parameters that `reduce` is given for a method."""
        return parameters(method, self)


def selection_of(settings: Mapping[str, Any]) -> Selection:
    """What of a run's settings says which images are taken; those of earlier versions lack some."""
    return Selection(
        **{part.name: settings[part.name] for part in fields(Selection) if part.name in settings}
    )
