"""How much a case asks for, whoever does it: {"flops", "bytes"}, two operations a multiply-add.

Bytes are those that must move at least: what goes in, read once, and what comes out. What an implementation
does beyond is its own; nobody reaches 100 % of a machine by these counts.
"""

from __future__ import annotations

from itertools import islice

from jaxtl.models.layers import NetworkConfig

_FLOAT = 4


def distances(n: int, d: int, out: int = 0) -> dict[str, int]:
    """Euclidean distances by products of all pairs of n rows of d values, each pair once; `out` bytes."""
    return {"flops": n * (n - 1) * d, "bytes": _FLOAT * n * d + out}


def principal(n: int, d: int) -> dict[str, int]:
    """Half of a covariance matrix [d, d] and two scores of each row; its eigenvectors are left out."""
    return {"flops": n * d * (d + 1) + 4 * n * d, "bytes": _FLOAT * (n * d + 2 * n)}


def passes(n: int, d: int) -> dict[str, int]:
    """One multiply-add for each value of [n, d]: sums, means, squares."""
    return {"flops": 2 * n * d, "bytes": _FLOAT * n * d}


def forward_flops(config: NetworkConfig, image_size: int, start: int = 0, stop: int | None = None) -> int:
    """Floating-point operations of layers `start` to `stop` for one image: two for each multiply-add."""
    return 2 * sum(islice(config.multiply_adds(image_size), start, stop))


def training_flops(config: NetworkConfig, image_size: int, boundary: int) -> int:
    """Operations to train the layers from `boundary` on with one image.

    Three times the forward pass: gradients for weights and for inputs cost as much each. Where a trainable
    normalisation comes first, as with Keras's last 10 layers, the first convolution too needs its input's
    gradient.
    """
    return 3 * forward_flops(config, image_size, boundary)
