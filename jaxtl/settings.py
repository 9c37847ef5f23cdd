"""What a user can set, with its defaults and checks; light to import, so that help is instant."""

from __future__ import annotations

from dataclasses import dataclass

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
        return Images(self.image_size, self.preprocessing)

    @property
    def finetuning(self) -> FinetuneConfig:
        return FinetuneConfig(self.trainable, self.epochs, self.batch_size, self.learning_rate, self.seed)

    def reduction(self, method: str) -> dict[str, Parameter]:
        """The parameters that `reduce` is given for a method."""
        return parameters(method, self)
