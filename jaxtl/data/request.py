"""What is asked of a source of images, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxtl.data.files import Reading
from jaxtl.errors import JaxtlError
from jaxtl.settings import Selection


@dataclass(frozen=True)
class Request:
    """One split of a set.

    Attributes:
        split: "train" or "test".
        reading: how encoded images become pixels; without an image size they stay as large as they are.
        samples: the first so many images, or all where there are fewer; None takes all.
        selection: which images are taken at all.
        data_dir: TFDS's folder.
    """

    split: str
    reading: Reading = field(default_factory=Reading)
    samples: int | None = None
    selection: Selection = field(default_factory=Selection)
    data_dir: Path | None = None

    def refuse(self, name: str, *settings: str) -> None:
        """Raises JaxtlError where one of these settings, which a source cannot follow, was given."""
        for setting in settings:
            if getattr(self.selection, setting) is not None:
                option = setting.replace("_", "-")
                raise JaxtlError(f"dataset {name}: takes no --{option}; leave it out")


class Loaded(NamedTuple):
    """Images uint8 [n, h, w, c], labels int32 [n], class names; ids and origin as of `Dataset`."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    ids: np.ndarray | None = None
    origin: Mapping[str, object] = {}
