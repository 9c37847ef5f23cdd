"""The convolutions of networks, each in the forms that platforms favour, at a chosen precision.

`form="matmul"`: a 1x1 convolution is one matrix product, a depthwise one is a sum of shifted products,
and a full one gathers its patches into one matrix product; where patches and map are large it is XLA's.
`form="xla"`: `lax.conv_general_dilated`, which XLA hands to cuDNN on NVIDIA GPUs.
`form="mixed"`: 1x1 convolutions as matrix products, the others by XLA.

`precision="highest"`: float32 throughout.
`precision="tf32"`: full and 1x1 convolutions multiply operands with 10 bits of mantissa and add in float32,
as NVIDIA's tensor cores do; a CPU rounds the operands, so that the effect can be seen there. Depthwise
convolutions stay in float32: memory bounds them, not arithmetic.
`precision="bf16"`: operands and the activations between layers are bfloat16. Sums, biases, normalisation,
statistics, pooling and the gradients of weights are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxtl.errors import JaxtlError
from jaxtl.machine.devices import Precision, check_precision, leave_device_memory

# Here, since all of jaxtl's networks import this module before they make JAX's first array.
leave_device_memory()

Form = Literal["matmul", "xla", "mixed"]
# Of x and kernel, linear in each, at a precision that XLA knows.
Product = Callable[[jax.Array, jax.Array, lax.Precision], jax.Array]
Padding = tuple[tuple[int, int], tuple[int, int]]

# Parity with float32 references needs full products: TF32 is the default on recent GPUs.
PRECISION = lax.Precision.HIGHEST
# Pixels up to which a depthwise convolution is written out pixel by pixel; measured on a CPU at 2x2 and 3x3.
_SMALL_MAP = 9
# Where a full convolution gathers its patches: they hold few values, as those of a 3x3 one on RGB, or its
# output has few pixels. Processor milliseconds for 32 images, gathered and by XLA: 2x2 of 512 channels
# 11 and 810, 7x7 of 512 109 and 169, 12x12 of 64 8 and 5, 56x56 of 64 465 and 104, a kernel of 7 on RGB at
# 48x48 11 and 6. Gathered patches also take nine times the input's memory.
_SMALL_PATCH, _GATHERED_PIXELS = 27, 49
NO_PADDING: Padding = ((0, 0), (0, 0))


def default_form() -> Form:
    """The fastest form.

    On a CPU XLA's own convolutions are many times slower. On an H100 (`jaxtl.machine.programs` says how
    compiled) the frozen layers pass 479,000 images a second, with "mixed" 138,000 and with "xla" and tuning
    214,000; a
    training step takes 222 us, with "xla" 319.
    """
    return "matmul"


def check(precision: Precision, form: Form | None) -> None:
    """Raises JaxtlError unless both are known; None stands for the default form."""
    check_precision(precision)
    if form not in (None, *get_args(Form)):
        raise JaxtlError(f"form: must be one of {', '.join(get_args(Form))}, got {form!r}")


def widened(x: jax.Array) -> jax.Array:
    """In float32, or in what is wider already."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def stored(x: jax.Array, precision: Precision) -> jax.Array:
    """An activation as it lies in memory between two layers."""
    return x.astype(jnp.bfloat16) if precision == "bf16" else x


def output_size(size: int, kernel_size: int, stride: int, padding: tuple[int, int]) -> int:
    return (size + sum(padding) - kernel_size) // stride + 1


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: Padding,
    form: Form,
    precision: Precision = "highest",
) -> jax.Array:
    """Full convolution (cross-correlation, as in Keras).

    Args:
        x: float32 or, at precision "bf16", bfloat16 too [n, h, w, channels_in].
        kernel: float32 [k, k, channels_in, channels].

    Returns:
        float32 [n, h_out, w_out, channels]; bfloat16 at precision "bf16".
    """
    size, _, channels_in, channels = kernel.shape
    pointwise = size == 1 and stride == 1
    if form == "xla" or (form == "mixed" and not pointwise) or not _is_gathered(x, kernel, stride, padding):
        product = partial(_xla_convolution, stride=stride, padding=padding, groups=1)
        return _multiply(product, x, kernel, precision)
    if not pointwise:
        x = jnp.concatenate(_shifts(x, size, stride, padding), axis=-1)
    return _multiply(_matmul, x, kernel.reshape(size * size * channels_in, channels), precision)


def _is_gathered(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> bool:
    size, _, channels_in, _ = kernel.shape
    rows, columns = (
        output_size(pixels, size, stride, sides) for pixels, sides in zip(x.shape[1:3], padding, strict=True)
    )
    return size == 1 or size * size * channels_in <= _SMALL_PATCH or rows * columns <= _GATHERED_PIXELS


def convolve_depthwise(
    x: jax.Array,
    kernel: jax.Array,
    stride: int,
    padding: Padding,
    form: Form,
    precision: Precision = "highest",
) -> jax.Array:
    """Depthwise convolution with multiplier 1.

    Args:
        x: float32 or, at precision "bf16", bfloat16 too [n, h, w, channels].
        kernel: float32 [k, k, channels, 1], Keras's layout.

    Returns:
        float32 [n, h_out, w_out, channels]; bfloat16 at precision "bf16".
    """
    size, _, channels, _ = kernel.shape
    if form == "matmul":
        product = partial(_shifted_products, stride=stride, padding=padding)
    else:
        kernel = kernel.reshape(size, size, 1, channels)
        product = partial(_xla_convolution, stride=stride, padding=padding, groups=channels)
    return _multiply(product, x, kernel, "highest" if precision == "tf32" else precision)


def max_pool(x: jax.Array, size: int, stride: int, padding: Padding) -> jax.Array:
    """Largest value under each window of `size` pixels a side; what is padded is never the largest.

    x and the result are [n, h, w, channels], float32 or bfloat16. Where several are the largest the gradient
    goes to the first one, as in torch.
    """
    windows = ((1, size, size, 1), (1, stride, stride, 1), ((0, 0), *padding, (0, 0)))
    return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, *windows)


def _multiply(product: Product, x: jax.Array, kernel: jax.Array, precision: Precision) -> jax.Array:
    if precision == "highest":
        return product(x, kernel, PRECISION)
    if precision == "tf32" and jax.default_backend() != "cpu":
        return product(x, kernel, lax.Precision.DEFAULT)
    return _narrow_product(product, precision, x, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _narrow_product(product: Product, precision: Precision, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return product(_narrow(x, precision), _narrow(kernel, precision), lax.Precision.DEFAULT)


def _narrow_product_forward(product, precision, x, kernel):
    return _narrow_product(product, precision, x, kernel), (x, kernel)


def _narrow_product_backward(product, precision, operands, gradient):
    # JAX's own rule would multiply by a gradient that is not narrowed, and round weights' to bfloat16.
    x, kernel = operands
    gradient, narrow_x, narrow_kernel = (_narrow(a, precision) for a in (gradient, x, kernel))
    default = lax.Precision.DEFAULT
    to_x = jax.linear_transpose(lambda a: product(a, narrow_kernel, default), narrow_x)
    wide_x, wide_kernel = widened(narrow_x), widened(narrow_kernel)
    to_kernel = jax.linear_transpose(lambda a: product(wide_x, a, default), wide_kernel)
    return to_x(gradient)[0].astype(x.dtype), to_kernel(widened(gradient))[0].astype(kernel.dtype)


_narrow_product.defvjp(_narrow_product_forward, _narrow_product_backward)


def _narrow(x: jax.Array, precision: Precision) -> jax.Array:
    return x.astype(jnp.bfloat16) if precision == "bf16" else lax.reduce_precision(x, 8, 10)


def _shifted_products(
    x: jax.Array, kernel: jax.Array, precision: lax.Precision, stride: int, padding: Padding
) -> jax.Array:
    """A depthwise convolution; elementwise, so that `precision` has no say. Adds in float32."""
    size, _, channels, _ = kernel.shape
    taps, wide = widened(kernel).reshape(size * size, channels), widened(x)
    if x.shape[1] * x.shape[2] <= _SMALL_MAP:
        return _depthwise_by_pixel(wide, taps, size, stride, padding).astype(x.dtype)
    shifts = _shifts(wide, size, stride, padding)
    return _sum_in_order(shift * tap for shift, tap in zip(shifts, taps, strict=True)).astype(x.dtype)


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


def _matmul(x: jax.Array, matrix: jax.Array, precision: lax.Precision) -> jax.Array:
    flat = jnp.matmul(x.reshape(-1, x.shape[-1]), matrix, precision=precision)
    return flat.reshape(*x.shape[:-1], matrix.shape[1])


def _xla_convolution(x, kernel, precision, stride, padding, groups):
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        precision=precision,
    )
