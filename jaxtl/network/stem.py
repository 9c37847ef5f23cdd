"""The first layers of a network that several trunks have in common: their outputs, once for all, in files.

Runs that freeze different numbers of layers of one network, for the same images, all begin with the layers
that every one of them freezes. What these make of an image is the same to the bit wherever it is gone on
from, as they end where a block does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.models.layers import NetworkConfig
from jaxtl.models.network import Carry, Network
from jaxtl.network.blocks import block_ends
from jaxtl.network.layers import run_layers
from jaxtl.network.trunk import Trunk
from jaxtl.progress import Notify, Progress
from jaxtl.records.files import read_json_object, replacing, write_json
from jaxtl.records.rows import StoredRows

# Beside the rows of each split: how many there are, and of what shape.
_ABOUT = "about.json"


@dataclass(frozen=True)
class Stem:
    """The outputs of layers 0 to `stop` (exclusive), for the images of both splits, in a folder.

    Attributes:
        shapes: by split, [n, height, width, channels].
    """

    folder: Path
    stop: int
    shapes: dict[str, tuple[int, ...]]

    @classmethod
    def load(cls, folder: Path) -> Stem | None:
        """That of a folder; None where it is not whole."""
        if not (folder / _ABOUT).is_file():
            return None
        about = read_json_object(folder / _ABOUT)
        return cls(folder, about["stop"], {split: tuple(shape) for split, shape in about["shapes"].items()})

    def first(self, split: str, count: int, config: NetworkConfig) -> Carry:
        """What the next layer takes, of the first images of a split; read as it is asked for."""
        rows = StoredRows.of_file(_path(self.folder, split), self.shapes[split], np.float32).first(count)
        # At the end of a block nothing is kept but what the block gave.
        return Carry(rows, rows if config.layers[self.stop - 1].name in config.saved else None)


def make_stem(
    trunk: Trunk,
    stop: int,
    images: dict[str, Any],
    folder: Path,
    progress: Progress,
    notify: Notify | None = None,
) -> Stem:
    """Compute and write a stem.

    Args:
        trunk: of any of the runs: how images enter, and how it is computed.
        images: uint8 [n, h, w, c], by split.

    Raises OSError where the disk is full.
    """
    shapes, done, count = {}, 0, sum(map(len, images.values()))
    for split, rows in images.items():
        with replacing(_path(folder, split)) as path:

            def place(shape: tuple[int, ...], path: Path = path) -> StoredRows:
                return StoredRows.of_file(path, shape, np.float32)

            tell = partial(_tell_part, progress, done / count, len(rows) / count)
            carry = run_layers(
                trunk.model,
                0,
                stop,
                rows,
                trunk.images,
                progress=tell,
                notify=notify,
                place=place,
                **trunk.how(trunk.images),
            )
        shapes[split], done = carry.x.shape, done + len(rows)
    write_json(folder / _ABOUT, {"stop": stop, "shapes": shapes})
    return Stem(folder, stop, shapes)


def bytes_of_stem(model: Network, stop: int, image_size: int) -> int:
    """Of one image."""
    main, _ = list(model.config.shapes(image_size))[stop - 1]
    return math.prod(main) * 4


def shared_stop(model: Network, boundaries: Sequence[int], image_size: int) -> int:
    """Where a stem should end that saves most work of trunks with these boundaries; 0 where none saves any.

    It serves those trunks that are at least as long, all but one of which save its layers.
    """
    work = np.concatenate([[0], np.cumsum(list(model.config.multiply_adds(image_size)))])
    gains = {
        end: (sum(boundary >= end for boundary in boundaries) - 1) * work[end]
        for end in block_ends(model, 0, max(boundaries, default=0))
        if end < model.config.pooled
    }
    best = max(gains, key=lambda end: gains[end], default=0)
    return best if best and gains[best] > 0 else 0


def _path(folder: Path, split: str) -> Path:
    return folder / f"{split}.f32"


def _tell_part(progress: Progress, start: float, share: float, fraction: float) -> None:
    progress(start + share * fraction)
