"""torchvision's MobileNetV2 with jaxtl's weights, on CUDA's device or, where that is hidden, a CPU.

BENCHMARK_TORCH is "eager", as one begins, "compiled" by `torch.compile`, or "graphs", into CUDA graphs too.
BENCHMARK_PRECISION is "highest" or "tf32". Images are resized on the device by the model. Unlike Keras and
jaxtl, PyTorch moves variances with the batch's unbiased one, and Adam's epsilon is outside of the bias
correction.
"""

from __future__ import annotations

import os
import runpy
import tempfile
from collections.abc import Callable
from functools import cache, lru_cache, partial
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import data, network
from benchmarks.peers.data import open_data as open_data
from benchmarks.peers.network import IMAGES, batches
from benchmarks.peers.timing import Result, measured
from jaxtl.records.dataset import Dataset
from jaxtl.settings import FinetuneConfig

MODE = os.environ.get("BENCHMARK_TORCH", "eager")
PRECISION = os.environ.get("BENCHMARK_PRECISION", "highest")
_CLASSES = 10
_ADAM_EPSILON = 1e-7  # Keras's
_TEST_BATCH = 1024

Predict = Callable[[torch.Tensor], torch.Tensor]

# What `torch.compile` is given. A graph in pieces would be no peer; fullgraph refuses one.
_WHOLE = {"fullgraph": True, "dynamic": False}
_MODES = {"eager": None, "compiled": _WHOLE, "graphs": _WHOLE | {"mode": "reduce-overhead"}}

_ON_CPU = os.environ.get("CUDA_VISIBLE_DEVICES") == ""
# Where no card is hidden on purpose, a PyTorch without CUDA has to fail, not to fall back.
_DEVICE = torch.device("cpu" if _ON_CPU else "cuda")
if MODE != "eager" and _ON_CPU and not which(os.environ.get("CXX", "g++")):
    raise ImportError("torch.compile on a CPU needs a C++ compiler; install g++, or name one with CXX")
if MODE not in _MODES:
    raise ValueError(f"BENCHMARK_TORCH: must be one of {', '.join(_MODES)}, got {MODE!r}")
torch.set_float32_matmul_precision("high" if PRECISION == "tf32" else "highest")
torch.backends.cudnn.allow_tf32 = PRECISION == "tf32"


def settings() -> dict[str, Any]:
    card = torch.cuda.get_device_name() if not _ON_CPU else "cpu"
    how = {"mode": MODE, "precision": PRECISION, "CUDA": str(torch.version.cuda)}
    return {"device": card, "threads": torch.get_num_threads()} | how


def tail(n: int, epochs: int, batch_size: int) -> Result:
    """As jaxtl's peer has it; what is compiled is kept from call to call."""
    model, predict, start = _tail(batch_size)
    model.load_state_dict(start)
    source, labels = _outputs("train", n)

    def work() -> float:
        generator = torch.Generator().manual_seed(FinetuneConfig.seed)
        optimizer = _optimizer(model)
        for _ in range(epochs):
            loss = _train_epoch(predict, optimizer, source, labels, batch_size, generator)
        return loss

    def judge(loss: float) -> dict[str, float]:
        accuracy = _accuracy(model.eval(), *_outputs("test", 1000))
        model.train()
        return {"test_accuracy": accuracy, "loss": loss}

    return measured(work, judge, compiled=_CLOCK)


def finetune(train: int, test: int, epochs: int, seed: int) -> Result:
    """Training by images through all layers, of which the last 10 and the head learn, and tests.

    A fresh model, compiled anew.
    """
    torch._dynamo.reset()
    torch.manual_seed(seed)
    first, last = _halves()
    model = _placed(nn.Sequential(first, last))
    predict, optimizer = _compile(model), _optimizer(model)
    splits = data.images("train", train), data.images("test", test)

    def work() -> dict[str, float]:
        learned, tested = (_tensors(part) for part in splits)
        generator, row = torch.Generator().manual_seed(seed), {}
        for _ in range(epochs):
            last.train()
            row["loss"] = _train_epoch(predict, optimizer, *learned, FinetuneConfig.batch_size, generator)
            last.eval()
            row["test_accuracy"] = _accuracy(predict, *tested)
        return row

    return measured(work, lambda row: row, compiled=_CLOCK)


class _Enter(nn.Module):
    """uint8 [n, h, w, 1] to float32 [n, 3, size, size] in [0, 1], channels last in memory."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        size = (IMAGES.image_size, IMAGES.image_size)
        x = F.interpolate(images.permute(0, 3, 1, 2).float(), size, mode="bilinear", align_corners=False)
        return (x / 255).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def _backbone() -> nn.Module:
    """Without a head; padded and normalised as Keras's is."""
    with tempfile.TemporaryDirectory() as folder:
        path = network.export("torch", Path(folder, "network.safetensors"))
        return runpy.run_path(str(path))["load"]()


def _halves() -> tuple[nn.Module, nn.Module]:
    """The frozen layers, up to block 16's expansion, and those that learn, with a fresh head.

    The former are at their fixed statistics, without gradients; the latter are in training.
    """
    *blocks, last, final = _backbone().features
    expand, *behind = last.conv[0]
    head = nn.Linear(final[0].out_channels, _CLASSES)
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    frozen = nn.Sequential(_Enter(), *blocks, expand).requires_grad_(False)
    return frozen.eval(), nn.Sequential(*behind, *last.conv[1:], final, *ends).train()


def _compile(model: nn.Module) -> Predict:
    how = _MODES[MODE]
    return torch.compile(model, **how) if how else model


@cache
def _extractor() -> Predict:
    return _compile(_placed(nn.Sequential(_Enter(), _backbone())).eval())


@cache
def _trunk() -> nn.Module:
    return _placed(_halves()[0])


@cache
def _compiled_trunk() -> Predict:
    return _compile(_trunk())


@lru_cache(maxsize=1)
def _tail(batch_size: int) -> tuple[nn.Module, Predict, dict[str, torch.Tensor]]:
    torch.manual_seed(FinetuneConfig.seed)
    model = _placed(_halves()[1])
    return model, _compile(model), {name: value.clone() for name, value in model.state_dict().items()}


@lru_cache(maxsize=2)
def _outputs(split: str, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The trunk's outputs for n images, and their labels, on the device."""
    part = data.images(split, n)
    return _run(_trunk(), part.images, _TEST_BATCH), _tensors(part)[1]


def _tensors(part: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels on the device."""
    pair = part.images, part.labels.astype(np.int64)
    return tuple(torch.from_numpy(array).to(_DEVICE) for array in pair)


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    learning = [weights for weights in model.parameters() if weights.requires_grad]
    return torch.optim.Adam(learning, lr=FinetuneConfig.learning_rate, eps=_ADAM_EPSILON)


def _train_epoch(
    predict: Predict,
    optimizer: torch.optim.Optimizer,
    source: torch.Tensor,
    labels: torch.Tensor,
    batch_size: int,
    generator: torch.Generator,
) -> float:
    """One pass in random order; returns the mean loss."""
    order = torch.randperm(len(source), generator=generator).to(source.device)
    total = torch.zeros((), device=source.device)
    for rows in order.split(batch_size):
        optimizer.zero_grad(set_to_none=True)
        batch = source[rows]
        if batch.is_floating_point():  # a selection forgets how its source lay in memory
            batch = batch.contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(predict(batch), labels[rows])
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(rows)
    return total.item() / len(source)


@torch.no_grad()
def _accuracy(predict: Predict, source: torch.Tensor, labels: torch.Tensor) -> float:
    size = min(_TEST_BATCH, len(source))
    outputs = torch.cat([_kept(predict(batch)) for batch in batches(source, size)])[: len(source)]
    return (outputs.argmax(1) == labels).double().mean().item()


def _kept(output: torch.Tensor) -> torch.Tensor:
    # The next call of a CUDA graph writes over it.
    return output.clone() if MODE == "graphs" else output


@torch.no_grad()
def _run(predict: Predict, images: np.ndarray, size: int) -> torch.Tensor:
    inputs = batches(torch.from_numpy(images), min(size, len(images)))
    outputs = [_kept(predict(batch.to(_DEVICE, non_blocking=True))) for batch in inputs]
    return torch.cat(outputs)[: len(images)]


def _placed(model: nn.Module) -> nn.Module:
    return model.to(_DEVICE, memory_format=torch.channels_last)


def _compiled_seconds() -> float:
    from torch._dynamo.utils import calculate_time_spent

    return calculate_time_spent().get("total_wall_time", 0.0)


def _features(images: np.ndarray, size: int) -> np.ndarray:
    return _run(_extractor(), images, size).cpu().numpy()


def _frozen(images: np.ndarray, size: int) -> torch.Tensor:
    """They stay on a GPU, where training is."""
    outputs = _run(_compiled_trunk(), images, size)
    if not _ON_CPU:
        torch.cuda.synchronize()
    return outputs


_CLOCK = None if MODE == "eager" else _compiled_seconds
forward = partial(network.forward, _features, clock=_CLOCK)
extract = partial(network.extract, _features, clock=_CLOCK)
trunk = partial(
    network.trunk,
    _frozen,
    size=None if _ON_CPU else _TEST_BATCH,
    clock=_CLOCK,
    fetched=lambda x: x.permute(0, 2, 3, 1).cpu().numpy(),
)
