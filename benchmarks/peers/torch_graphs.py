"""PyTorch at its fastest: timm's MobileNetV2 compiled by `torch.compile`, every call one CUDA graph.

The network's graphs are torch.compile's own ("reduce-overhead"); a training step, forward, backward and
Adam, is captured whole. On a CPU, which has no graphs, the same work runs without them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.peers import data
from benchmarks.peers.torch_network import Enter, backbone, halves
from jaxtl.settings import FinetuneConfig

Result = dict[str, Any]

_CLASSES = 10
_ADAM_EPSILON = 1e-7  # Keras's
# As torch's documentation has it: lazy libraries and tuning must be over before a capture.
_WARM_UP = 3


def forward(batch: int, repeats: int, tf32: bool, compiled: bool) -> Result:
    """The whole network on a batch that is on the device, with fixed statistics and no gradients."""
    _set(tf32)
    model = _placed(nn.Sequential(Enter(), backbone())).eval()
    run = torch.compile(model, fullgraph=True, dynamic=False, mode="reduce-overhead") if compiled else model
    images = torch.from_numpy(np.array(data.images("test", batch).images)).to(_device())

    @torch.inference_mode()
    def work() -> None:
        run(images)
        _wait()

    calls = [_seconds(work) for _ in range(_WARM_UP + repeats)]
    how = "torch.compile, graphs" if compiled else "eager"
    what = f"PyTorch, {how}, {'tf32' if tf32 else 'highest'}: network, batch {batch}"
    seconds = float(np.median(calls[_WARM_UP:]))
    return {
        "times": [_time(what, batch, calls)],
        "numbers": {
            f"{what}, images a second": batch / seconds, "PyTorch": torch.__version__, "card": _card(),
        },
        "headline": f"{batch / seconds:,.0f} images/s, first call {calls[0]:.1f} s",
    }  # fmt: skip


def training(kept: int, repeats: int, compiled: bool) -> Result:
    """Epochs of the last layers on kept outputs, whose values are noise, in float32."""
    _set(tf32=False)
    torch._dynamo.reset()
    torch.manual_seed(FinetuneConfig.seed)
    size, device = FinetuneConfig.batch_size, _device()
    model = _placed(halves()[1])
    run = torch.compile(model, fullgraph=True, dynamic=False) if compiled else model
    optimizer = torch.optim.Adam(
        model.parameters(), lr=FinetuneConfig.learning_rate, eps=_ADAM_EPSILON, fused=True,
        capturable=device.type == "cuda",
    )  # fmt: skip
    source, labels = _kept(kept)
    rows = torch.zeros(size, dtype=torch.long, device=device)

    def step() -> torch.Tensor:
        batch = source[rows].contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(run(batch), labels[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    began = time.perf_counter()
    replay = _captured(step) if device.type == "cuda" else step
    _wait()
    prepared = time.perf_counter() - began
    steps = kept // size

    def epoch() -> float:
        order = torch.randperm(kept)[: steps * size].view(steps, size).to(device)
        total = torch.zeros((), device=device)
        for each in order:
            rows.copy_(each)
            total += replay()
        return total.item() / steps

    calls = [_seconds(epoch) for _ in range(1 + repeats)]
    what = f"PyTorch, {'torch.compile' if compiled else 'eager'}, one graph a step: training, batch {size}"
    step_seconds = float(np.median(calls[1:])) / steps
    return {
        "times": [_time(f"{what}, epoch", steps * size, calls)],
        "numbers": {f"{what}, seconds to compile and capture": prepared,
                    f"{what}, microseconds a step, epoch": 1e6 * step_seconds},
        "headline": f"{1e6 * step_seconds:.0f} us a step, compiled and captured in {prepared:.1f} s",
    }  # fmt: skip


def _captured(step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step()

    def replay() -> torch.Tensor:
        graph.replay()
        return loss

    return replay


def _kept(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise in the shape of the frozen layers' outputs, and labels."""
    frozen, generator = _placed(halves()[0]).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        shape = frozen(torch.from_numpy(np.array(data.images("test", 1).images)).to(_device())).shape[1:]
    block = torch.randn((min(n, 2000), *shape), generator=generator).to(_device())
    source = block.repeat(-(-n // len(block)), 1, 1, 1)[:n].contiguous(memory_format=torch.channels_last)
    return source, torch.randint(_CLASSES, (n,), generator=generator).to(_device())


def _set(tf32: bool) -> None:
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True


def _placed(model: nn.Module) -> nn.Module:
    return model.to(_device(), memory_format=torch.channels_last)


def _device() -> torch.device:
    # Where no card is hidden on purpose, a PyTorch without CUDA has to fail, not to fall back.
    return torch.device("cpu" if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else "cuda")


def _card() -> str:
    return torch.cuda.get_device_name() if _device().type == "cuda" else "cpu"


def _wait() -> None:
    if _device().type == "cuda":
        torch.cuda.synchronize()


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _time(what: str, count: int, calls: list[float]) -> Result:
    return {"what": what, "count": count, "first_seconds": calls[0], "seconds": calls[_settled(calls) :]}


def _settled(calls: list[float]) -> int:
    return min(_WARM_UP, len(calls) - 1)
