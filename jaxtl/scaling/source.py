"""A study's features: of all images of a dataset in one shuffled order, and of deformed digits after them.

The first n rows are the study's n images, so that every size holds the smaller ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from jaxtl.data import load
from jaxtl.data.infinite import infinite
from jaxtl.errors import JaxtlError
from jaxtl.extraction import Notice, Progress, features_of, run_layers
from jaxtl.files import remove_leftovers, replacing, write_npz
from jaxtl.models.weights import load_model
from jaxtl.records import Dataset
from jaxtl.scaling.settings import Settings

FEATURES, IMAGES = "features.npy", "images.npz"
# Only MNIST's digits go on without end.
_ENDLESS = "mnist"
# Images extracted at a time: whole batches for any platform, 80 MiB of features.
_CHUNK = 16_384


@dataclass(frozen=True)
class Source:
    """The images of a study, in its order."""

    settings: Settings

    @cached_property
    def whole(self) -> Dataset:
        """Training and test images together, in the dataset's own order.

        Raises JaxtlError where they have other classes or shapes.
        """
        name, size = self.settings.dataset, self.settings.image_size
        train, test = (load(name, split, image_size=size) for split in ("train", "test"))
        if train.class_names != test.class_names or train.images.shape[1:] != test.images.shape[1:]:
            raise JaxtlError(
                f"dataset {name}: training and test images differ in classes or shape, {train.images.shape[1:]} "
                f"and {test.images.shape[1:]}; a study takes both together: give images of one kind"
            )
        images, labels = (
            np.concatenate(both)
            for both in ((train.images, test.images), (train.labels, test.labels))
        )
        return Dataset(images, labels, train.class_names, "train and test", name)

    @cached_property
    def order(self) -> np.ndarray:
        """int32 [total], the row in `whole` of each of the study's images."""
        return np.random.default_rng(self.settings.seed).permutation(len(self.whole)).astype(np.int32)

    def check(self, n: int) -> None:
        """Raises JaxtlError where there are fewer than n images."""
        if n > len(self.whole) and self.settings.dataset != _ENDLESS:
            raise JaxtlError(
                f"size {n:,}: dataset {self.settings.dataset} has {len(self.whole):,} images, training and "
                f"test together; take smaller sizes (only {_ENDLESS} goes on without end)"
            )

    def labels(self, n: int) -> np.ndarray:
        """int32 [n]."""
        own, more = self.whole.labels[self.order[:n]], n - len(self.whole)
        return own if more <= 0 else np.concatenate([own, self._more(more).labels])

    def index(self, n: int) -> np.ndarray:
        """int32 [n], rows in `whole`; numbers from its size on are deformed digits."""
        beyond = np.arange(len(self.whole), n, dtype=np.int32)
        return np.concatenate([self.order[:n], beyond])

    def images(self, start: int, stop: int) -> np.ndarray:
        """uint8 [stop - start, h, w, c]."""
        total = len(self.whole)
        own = self.whole.images[self.order[start : min(stop, total)]]
        if stop <= total:
            return own
        more = self._more(stop - total).images[max(start - total, 0) : stop - total]
        return np.concatenate([own, more])

    def _more(self, count: int) -> Dataset:
        return infinite(count, self.settings.seed)


def stored(folder: Path) -> int:
    """Rows of features that a study has."""
    path = folder / FEATURES
    if not path.is_file():
        return 0
    try:
        return len(np.load(path, mmap_mode="r"))
    except (ValueError, EOFError, OSError):
        raise JaxtlError(f"{path}: not a readable array; delete it to extract the features again") from None


def extract(folder: Path, source: Source, n: int, progress: Progress, notice: Notice | None = None) -> None:
    """Bring a study's features up to n rows, those that are there kept as they are.

    They go to `features.npy`, float32 [n, d], which is written piece by piece, whatever n; one that was
    stopped begins again with the rows that the study had. `images.npz` tells labels and index.

    Raises OSError where they cannot be written.
    """
    path, had = folder / FEATURES, stored(folder)
    remove_leftovers(path)
    settings, model = source.settings, load_model(source.settings.weights)
    one = np.zeros((1, model.config.features), np.float32)
    meta = features_of(model, source.whole.take(1), settings.images, one).meta
    # First, so that no row of features ever lacks its label.
    write_npz(folder / IMAGES, {"labels": source.labels(n), "index": source.index(n)}, meta)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        # Written, not mapped: a full disk is then an error, and not the end of the process.
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, model.config.features)}
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, had, _CHUNK):
            stream.write(np.load(path, mmap_mode="r")[start : min(start + _CHUNK, had)].tobytes())
        for start in range(had, n, _CHUNK):
            stop = min(start + _CHUNK, n)
            images, done = source.images(start, stop), (start - had) / (n - had)
            share = (stop - start) / (n - had)
            tell = partial(_tell, progress, done, share)
            values = run_layers(
                model, 0, model.config.pooled, images, settings.images, progress=tell, notice=notice
            ).x
            stream.write(np.ascontiguousarray(values, "<f4").tobytes())


def _tell(progress: Progress, done: float, share: float, fraction: float) -> None:
    progress(done + share * fraction)
