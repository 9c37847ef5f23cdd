"""The network's compiled programs on a GPU: forms of the convolutions under XLA's options, each by itself.

Every function compiles its program anew; the process that does it serves one form and choice of options.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import flops, machine
from benchmarks.gpu.network import IMAGES, base_model, digits, least_bytes
from benchmarks.gpu.results import Result
from jaxtl.models import folding
from jaxtl.models.mobilenet_v2 import Carry
from jaxtl.network import batches, layers
from jaxtl.network import training as last_layers
from jaxtl.network.head import with_head
from jaxtl.network.training import Trainer
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.settings import FinetuneConfig

_FAST = {"xla_gpu_enable_triton_gemm": False, "xla_gpu_autotune_level": 0}
_GRAPHS = "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,CUDNN,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE"
# XLA's own; without Triton's products and without tuning; the same with whole loops in CUDA graphs.
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "untuned": _FAST,
    "untuned, graphs": {**_FAST, "xla_gpu_enable_command_buffer": _GRAPHS},
}
_CLASSES = 10


class Program(NamedTuple):
    """A compiled function, and the seconds that lowering and compiling it took."""

    run: Callable[..., Any]
    seconds: float


def compiled(function: Callable, options: str, *arguments: Any, **how: Any) -> Program:
    """Compile a function for arguments like these, under OPTIONS of that name."""
    began = time.perf_counter()
    lowered = jax.jit(function, **how).lower(*arguments)
    program = lowered.compile(compiler_options=OPTIONS[options] or None)
    seconds = time.perf_counter() - began
    _say(f"compiled in {seconds:.2f} s")
    return Program(program, seconds)


def training(form: str, options: str, kept: int, steps: int, repeats: int) -> Result:
    """Chunks of training steps on kept outputs, whose values are noise: two calls, then a whole epoch.

    Numbers hold the mean losses of the two calls, which should not depend on form and options.
    """
    config = FinetuneConfig()
    trainer = _trainer(form, config)
    source, labels, order = _kept(kept), _labels(kept), _orders(kept, steps, config.batch_size)
    fixed = (trainer._frozen, trainer._arrays, source, labels)
    state = trainer.initial()
    program = compiled(_chunk(trainer), options, state, *fixed, order[0], donate_argnums=0)
    calls, losses = [], []
    for number in range(2):
        began = time.perf_counter()
        state, sums = jax.block_until_ready(program.run(state, *fixed, order[number % len(order)]))
        calls.append(time.perf_counter() - began)
        losses.append(float(sums[0]) / order[0].size)
        _say(f"call {number + 1}: {calls[-1]:.4f} s, loss {losses[-1]:.6f}")
    epochs = []
    for _ in range(repeats):
        began = time.perf_counter()
        for chunk in order:
            state, sums = program.run(state, *fixed, chunk)
            np.asarray(sums)  # as training itself asks for every chunk's sums
        epochs.append(time.perf_counter() - began)
    what = f"{form}, {options}: training, batch {config.batch_size}"
    step = float(np.median(epochs)) / (len(order) * steps)
    return {
        "times": [
            _time(f"{what}, chunk of {steps}", order[0].size, calls),
            {"what": f"{what}, epoch", "count": order.size, "first_seconds": None, "seconds": epochs},
        ],
        "numbers": {
            f"{what}, compile seconds": program.seconds,
            f"{what}, microseconds a step, second call": 1e6 * calls[1] / steps,
            f"{what}, microseconds a step, epoch": 1e6 * step,
            f"{what}, losses of the two calls": losses,
            **_training_shares(what, config.batch_size, step),
        },
        "headline": f"{1e6 * step:.0f} us a step ({1e6 * calls[1] / steps:.0f} in the second call), "
        f"compiled in {program.seconds:.1f} s",
    }


def trunk(form: str, options: str, n: int, batch: int) -> Result:
    """All n images through the frozen layers, batch by batch, results left on the device: twice."""
    images = digits(n).images
    boundary = _boundary()
    plan, arrays = folding.fold(base_model(), 0, boundary)
    function = partial(_plain(layers._run_batch), plan, IMAGES, form, "highest")
    arrays = jax.device_put(arrays)
    program = compiled(function, options, arrays, next(batches.batches(images, batch)))
    passes = []
    for number in range(2):
        began = time.perf_counter()
        for each in batches.batches(images, batch):
            found = program.run(arrays, each)
        jax.block_until_ready(found)
        passes.append(time.perf_counter() - began)
        _say(f"pass {number + 1}: {passes[-1]:.4f} s")
    what = f"{form}, {options}: frozen layers, batch {batch}"
    return {
        "times": [_time(what, n, passes)],
        "numbers": {
            f"{what}, compile seconds": program.seconds,
            f"{what}, images a second": n / passes[1],
            f"{what}, mean output of the last batch": float(found.x.mean()),
        },
        "headline": f"{n / passes[1]:,.0f} images/s, compiled in {program.seconds:.1f} s",
    }


def forward(form: str, options: str, precision: str, batch: int, repeats: int, ceilings: dict) -> Result:
    """The whole network on a batch that is on the device, with its shares of the device's own rates."""
    config = base_model().config
    plan, arrays = folding.fold(base_model(), 0, config.pooled)
    function = partial(_plain(layers._run_batch), plan, IMAGES, form, precision)
    arguments = jax.device_put((arrays, np.asarray(digits(batch).images)))
    program = compiled(function, options, *arguments)
    calls = []
    for _ in range(2 + repeats):
        began = time.perf_counter()
        jax.block_until_ready(program.run(*arguments))
        calls.append(time.perf_counter() - began)
    what = f"jaxtl, {form}, {options}, {precision}: network, batch {batch}"
    seconds = float(np.median(calls[1:]))
    operations = batch * flops.forward_flops(config, IMAGES.image_size, 0, config.pooled)
    moved = least_bytes(config, IMAGES.image_size, batch, 2 if precision == "bf16" else 4)
    return {
        "times": [_time(what, batch, calls)],
        "numbers": {
            f"{what}, compile seconds": program.seconds,
            f"{what}, images a second": batch / seconds,
            **_shares(what, operations, moved, seconds, ceilings, precision),
        },
        "headline": f"{batch / seconds:,.0f} images/s, compiled in {program.seconds:.1f} s",
    }


def ceilings(size: int, mebibytes: int, repeats: int) -> Result:
    """What the device reaches at its best: products at each precision, and a copy."""
    found = machine.ceilings([size], mebibytes, repeats)
    return {
        "numbers": {name: rate / (1e9 if name == "bytes" else 1e12) for name, rate in found.items()},
        "ceilings": found,
        "headline": ", ".join(f"{name} {rate:.3g} a second" for name, rate in found.items()),
    }


def _training_shares(what: str, batch: int, seconds: float) -> dict[str, float]:
    """Operations and least bytes of a step: weights and Adam's moments read and written, a batch read."""
    config, boundary = with_head(base_model(), _CLASSES, 0).config, _boundary()
    operations = batch * flops.training_flops(config, IMAGES.image_size, boundary)
    learning = sum(
        int(np.prod(shape))
        for layer in config.layers[boundary:]
        for name, shape in layer.parameters.items()
        if not name.startswith("moving")
    )
    moved = 4 * (6 * learning + batch * Trunk(base_model(), boundary, IMAGES).bytes_per_image() // 4)
    return {
        f"{what}, TFLOP/s": operations / seconds / 1e12,
        f"{what}, least bytes, GB/s": moved / seconds / 1e9,
    }


def _shares(
    what: str, operations: float, moved: float, seconds: float, ceilings: dict, precision: str
) -> dict[str, float]:
    peak = ceilings.get("flops" if precision == "highest" else f"flops {precision}")
    found = {
        f"{what}, TFLOP/s": operations / seconds / 1e12,
        f"{what}, least bytes, GB/s": moved / seconds / 1e9,
    }
    if peak:
        found[f"{what}, share of the matrix product's rate"] = operations / seconds / peak
        found[f"{what}, share of the copy's bandwidth"] = moved / seconds / ceilings["bytes"]
    return found


def _trainer(form: str, config: FinetuneConfig) -> Trainer:
    return Trainer(
        Trunk(base_model(), _boundary(), IMAGES, "highest", form),
        with_head(base_model(), _CLASSES, config.seed), config,
    )  # fmt: skip


def _boundary() -> int:
    return trainable_boundary(base_model().config, FinetuneConfig().trainable)


def _kept(n: int) -> Carry:
    """Noise in the shape of the frozen layers' outputs; the same rows again and again, made on the device."""
    image = jax.ShapeDtypeStruct((1, IMAGES.image_size, IMAGES.image_size, 3), np.float32)
    shapes = jax.eval_shape(lambda x: base_model().run(Carry(x), 0, _boundary()), image)
    rng, rows = np.random.default_rng(0), min(n, 2000)

    def fill(shape: jax.ShapeDtypeStruct) -> jax.Array:
        block = jnp.asarray(rng.standard_normal((rows, *shape.shape[1:]), np.float32))
        return jnp.concatenate([block] * -(-n // rows))[:n]

    return jax.block_until_ready(jax.tree.map(fill, shapes))


def _labels(n: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).integers(0, _CLASSES, n).astype(np.int32))


def _orders(n: int, steps: int, batch: int) -> np.ndarray:
    """Row numbers [chunks, steps, batch] of one pass."""
    chunks = max(1, n // (steps * batch))
    order = np.random.default_rng(2).permutation(max(n, chunks * steps * batch)) % n
    return order[: chunks * steps * batch].astype(np.int32).reshape(chunks, steps, batch)


def _chunk(trainer: Trainer) -> Callable:
    """What training compiles: a function of state, frozen part, arrays, source, labels and order."""
    train = getattr(last_layers, "_train", None)
    return partial(_plain(train), trainer._tail) if train else _plain(trainer._chunk)


def _plain(program: Any) -> Callable:
    """The function that a compiled one was made of."""
    return getattr(program, "jitted", program).__wrapped__


def _time(what: str, count: int, calls: list[float]) -> Result:
    return {"what": what, "count": count, "first_seconds": calls[0], "seconds": calls[1:]}


def _say(line: str) -> None:
    # The last words of a process that dies tell how far it came.
    print(line, file=sys.stderr, flush=True)
