"""A study's features: of all images of a dataset in one shuffled order, and of deformed digits after them.

The first n rows are the study's n images, so that every size holds the smaller ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from jaxtl.data import load
from jaxtl.data.files import joined
from jaxtl.data.infinite import infinite
from jaxtl.errors import JaxtlError
from jaxtl.models.weights import load_model
from jaxtl.network.extraction import features_of, stream
from jaxtl.progress import Notify, Progress
from jaxtl.records import store
from jaxtl.records.dataset import Dataset
from jaxtl.scaling.folder import FEATURES
from jaxtl.scaling.settings import Settings

# Only MNIST's digits go on without end.
_ENDLESS = "mnist"


@dataclass(frozen=True)
class Source:
    """The images of a study, in its order."""

    settings: Settings

    @cached_property
    def whole(self) -> Dataset:
        """Training and test images together, in the dataset's own order.

        Raises JaxtlError where they have other classes or shapes.
        """
        name, images = self.settings.dataset, self.settings.images
        selection = asdict(self.settings.selection)
        how = {"image_size": images.image_size, **images.pixels, **selection}
        train, test = (load(name, split, **how) for split in ("train", "test"))
        if train.class_names != test.class_names or train.images.shape[1:] != test.images.shape[1:]:
            raise JaxtlError(
                f"dataset {name}: training and test images differ in classes or shape, "
                f"{train.images.shape[1:]} and {test.images.shape[1:]}; a study takes both together: give "
                "images of one kind"
            )
        labels = np.concatenate((train.labels, test.labels))
        together = joined(train.images, test.images)
        named = train.ids is not None and test.ids is not None
        ids = np.concatenate((train.ids, test.ids)) if named else None
        # The others are of how they were divided, which plays no part here.
        notes = [data.notes[-1] for data in (train, test) if data.origin.get("left_out")]
        names, origin = train.class_names, {"notes": notes}
        return Dataset(together, labels, names, "train and test", name, ids=ids, origin=origin)

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
    """Rows of features that a study has. Raises JaxtlError where their file is damaged."""
    path = folder / FEATURES
    return len(store.mapped(path)) if path.is_file() else 0


def extract(
    folder: Path, source: Source, had: int, n: int, progress: Progress, notify: Notify | None = None
) -> None:
    """Bring a study's features from the first rows, `had`, which are kept as they are, up to n.

    They go to a store (`jaxtl.records.store`) that is written piece by piece, whatever n; one that was
    stopped begins again with the rows that the study had.

    Raises OSError where they cannot be written.
    """
    model = load_model(source.settings.weights, source.settings.model)
    d = model.config.features
    meta = features_of(model, source.whole.take(1), source.settings.images, np.zeros((1, d), np.float32)).meta
    kept = store.copied(store.mapped(folder / FEATURES), had) if had else ()
    # By the one engine that is everywhere: a study may go on elsewhere.
    how = {"engine": "jax", "progress": progress, "notify": notify}
    new = stream(model, source.images, n, source.settings.images, first=had, **how)
    store.write(folder / FEATURES, chain(kept, new), source.labels(n), source.index(n), meta, d)
