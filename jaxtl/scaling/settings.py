"""What a scaling study can be set to, with its defaults; light to import, so that help is instant."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from jaxtl.errors import JaxtlError
from jaxtl.ranges import settle
from jaxtl.settings import TYPICAL_SEED, Images, Selection, check_model, images_of, selection_of

SIZES = (500, 1000, 2000, 5000, 10_000, 20_000, 40_000, 70_000)
LARGEST = 1_000_000
# Of the memory that is available when a study starts.
MEMORY_SHARE = 0.8
# Trustworthiness of 10 neighbours needs them to be less than half of the points.
SMALLEST = 22


@dataclass(frozen=True)
class Settings:
    """Every setting that a study's embeddings and features depend on; all its trials share them.

    Attributes:
        dataset: what `jaxtl.load` takes; its training and test images are used together.
        image_size, preprocessing, antialias, orientation, alpha, fit: see `jaxtl.settings.Images`.
        weights: a safetensors file; None takes the bundled ImageNet weights.
        model: one of `jaxtl.settings.MODELS`, which the weights must be of; None takes what they are of.
        train_split, test_split, image_column, label_column, split_column, skip_bad: see
            `jaxtl.settings.Selection`; images are not divided into training and test images here.
        perplexity: of t-SNE.
        n_neighbors: of LLE.
        seed: of the shuffle, of images beyond the dataset, and of the embeddings.
    """

    dataset: str = "mnist"
    image_size: int = 48
    preprocessing: str | None = None
    weights: str | None = None
    model: str | None = None
    perplexity: float = 30.0
    n_neighbors: int = 12
    seed: int = TYPICAL_SEED
    antialias: str = "auto"
    orientation: str = "exif"
    alpha: str = "white"
    fit: str = "stretch"
    train_split: str | None = Selection.train_split
    test_split: str | None = Selection.test_split
    image_column: str | None = Selection.image_column
    label_column: str | None = Selection.label_column
    split_column: str | None = Selection.split_column
    skip_bad: bool = Selection.skip_bad

    def __post_init__(self) -> None:
        settle(self)
        if self.dataset.startswith("infinite:"):
            # Its images would all be made, and in memory together.
            raise JaxtlError(
                f"dataset {self.dataset}: a study of endless digits is --dataset mnist with larger --sizes"
            )
        check_model(self.model)
        _ = self.selection
        _ = self.images

    @property
    def images(self) -> Images:
        return images_of(asdict(self))

    @property
    def selection(self) -> Selection:
        return selection_of(asdict(self))


@dataclass(frozen=True)
class Limits:
    """What one trial may take.

    Attributes:
        seconds: of one reduction, > 0.
        memory: bytes that are resident and not files, of the trial's process and its children, > 0.
    """

    seconds: float
    memory: int

    def __post_init__(self) -> None:
        if not (0 < self.seconds < math.inf and 0 < self.memory < math.inf):
            raise JaxtlError(
                f"limits: seconds and memory must be above 0, got {self.seconds:g} s and "
                f"{self.memory / 2**30:.3g} GiB"
            )
