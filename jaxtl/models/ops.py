"""The convolutions of mobile networks, each in the two forms that platforms favour.

`form="matmul"`: a 1x1 convolution is one matrix product, a depthwise one is a sum of shifted products,
and a full one gathers its patches into one matrix product. On CPUs this is many times faster than
XLA's own convolutions.
`form="xla"`: `lax.conv_general_dilated`, which XLA hands to cuDNN on NVIDIA GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

Form = Literal["matmul", "xla"]
Padding = tuple[tuple[int, int], tuple[int, int]]

# Parity with float32 references needs full products: TF32 is the default on recent GPUs.
PRECISION = lax.Precision.HIGHEST
# Pixels up to which a depthwise convolution is written out pixel by pixel; measured on a CPU at 2x2 and 3x3.
_SMALL_MAP = 9
NO_PADDING: Padding = ((0, 0), (0, 0))


def default_form() -> Form:
    """The faster form on the platform that JAX computes on."""
    return "matmul" if jax.default_backend() == "cpu" else "xla"


def output_size(size: int, kernel_size: int, stride: int, padding: tuple[int, int]) -> int:
    return (size + sum(padding) - kernel_size) // stride + 1


def convolve(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, form: Form) -> jax.Array:
    """Full convolution (cross-correlation, as in Keras).

    Args:
        x: float32 [n, h, w, channels_in].
        kernel: float32 [k, k, channels_in, channels].
    """
    if form == "xla":
        return _xla_convolution(x, kernel, stride, padding, groups=1)
    size, _, channels_in, channels = kernel.shape
    if size == 1 and stride == 1:
        return _matmul(x, kernel.reshape(channels_in, channels))
    patches = jnp.concatenate(_shifts(x, size, stride, padding), axis=-1)
    return _matmul(patches, kernel.reshape(size * size * channels_in, channels))


def convolve_depthwise(
    x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, form: Form
) -> jax.Array:
    """Depthwise convolution with multiplier 1.

    Args:
        x: float32 [n, h, w, channels].
        kernel: float32 [k, k, channels, 1], Keras's layout.
    """
    size, _, channels, _ = kernel.shape
    if form == "xla":
        return _xla_convolution(x, kernel.reshape(size, size, 1, channels), stride, padding, groups=channels)
    taps = kernel.reshape(size * size, channels)
    if x.shape[1] * x.shape[2] <= _SMALL_MAP:
        return _depthwise_by_pixel(x, taps, size, stride, padding)
    shifts = _shifts(x, size, stride, padding)
    return _sum_in_order(shift * tap for shift, tap in zip(shifts, taps, strict=True))


def _depthwise_by_pixel(x: jax.Array, taps: jax.Array, size: int, stride: int, padding: Padding) -> jax.Array:
    """Each output pixel from the input pixels that its kernel meets: at 2x2, 16 products instead of 36."""
    n, height, width, channels = x.shape
    rows = output_size(height, size, stride, padding[0])
    columns = output_size(width, size, stride, padding[1])

    def pixel(row: int, column: int) -> jax.Array:
        top, left = row * stride - padding[0][0], column * stride - padding[1][0]
        return _sum_in_order(
            x[:, top + i, left + j] * taps[size * i + j]
            for i in range(size)
            for j in range(size)
            if 0 <= top + i < height and 0 <= left + j < width
        )

    pixels = [pixel(row, column) for row in range(rows) for column in range(columns)]
    return jnp.stack(pixels, axis=1).reshape(n, rows, columns, channels)


def _sum_in_order(terms: Iterable[jax.Array]) -> jax.Array:
    # The order of the taps, as other frameworks add them: on a flat background every pixel rounds
    # alike, so that another order would shift the features by a constant instead of by noise.
    first, *rest = terms
    total = first
    for term in rest:
        total = total + term
    return total


def _shifts(x: jax.Array, size: int, stride: int, padding: Padding) -> list[jax.Array]:
    """What each tap of a kernel sees: size*size arrays [n, h_out, w_out, channels]."""
    n, height, width, channels = x.shape
    rows = output_size(height, size, stride, padding[0])
    columns = output_size(width, size, stride, padding[1])
    padded = pad(x, padding)
    return [
        lax.slice(
            padded,
            (0, i, j, 0),
            (n, i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1, channels),
            (1, stride, stride, 1),
        )
        for i in range(size)
        for j in range(size)
    ]


def pad(x: jax.Array, padding: Padding) -> jax.Array:
    return x if padding == NO_PADDING else jnp.pad(x, ((0, 0), *padding, (0, 0)))


def _matmul(x: jax.Array, matrix: jax.Array) -> jax.Array:
    flat = jnp.matmul(x.reshape(-1, x.shape[-1]), matrix, precision=PRECISION)
    return flat.reshape(*x.shape[:-1], matrix.shape[1])


def _xla_convolution(x, kernel, stride, padding, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=PRECISION,
    )
