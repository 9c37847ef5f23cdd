"""Compiles a run's programs for an H100, on a machine that needs no GPU but JAX's CUDA plugin.

    python tests/compile_for_gpu.py

Prints JSON: for each program by name, the thunks of XLA (kernels, calls of libraries, loops, graphs) that the
host launches, by kind, and how many kernels and calls are inside of its loop.
"""

import collections
import json
import os
import re
import tempfile
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_dump_hlo_as_text --xla_dump_to={tempfile.mkdtemp()}"

import jax
import jax._src.xla_bridge
from jax.experimental import topologies

from jaxtl.machine import programs
from jaxtl.models.weights import load_model
from jaxtl.network import finetuning
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.settings import FinetuneConfig, Images

DUMP = Path(os.environ["XLA_FLAGS"].partition("--xla_dump_to=")[2])
# The H100 SXM as openxla describes it, under CUDA 13. Without the versions, loops stay out of graphs.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448 threads_per_core_limit: 2048
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: 3352320000000 pcie_bandwidth: 34359738368 l2_cache_size: 52428800
  device_memory_size: 84942979072 ecc_enabled: true device_address_bits: 64
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  device_vendor: "NVIDIA Corporation" platform_version: "Compute Capability 9.0a"
  name: "NVIDIA H100 80GB HBM3" driver_version: "13.0.0" runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0" dnn_version: "9.12.0" cub_version: "3.1.2"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 patch: 0 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
# 60,000 images of which an epoch's chunks are of one shape.
IMAGE, TRAIN, SEEDS = (28, 28, 1), 60_000, 5


def card():
    """Where arrays on the described card lie."""
    # JAX resolves "gpu" by the devices that there are (jax-ml/jax#23971, #28376).
    bridge, resolve = jax._src.xla_bridge, jax._src.xla_bridge.canonicalize_platform
    bridge.canonicalize_platform = lambda name: "cuda" if name == "gpu" else resolve(name)
    described = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    return jax.sharding.SingleDeviceSharding(described.devices[0])


def asked_for():
    """Name, program and arguments of all that a run prepares, and of training five seeds."""
    asked = []
    programs.Program.prepare = lambda *case: asked.append(case)
    model, config = load_model(), FinetuneConfig()
    trunk = Trunk(model, trainable_boundary(model.config, config.trainable), Images())
    trunk.prepare(IMAGE, [TRAIN])
    trunk.prepare_then(model, model.config.pooled, IMAGE, True)
    trunk.prepare_averages(IMAGE, True)
    finetuning.prepare(trunk, 10, TRAIN, config, IMAGE, True)
    finetuning.prepare(trunk, 10, TRAIN, config, IMAGE, True, SEEDS)
    names = ["trunk", "empty", "put", "batch", "features", "averages", "training", "tests"]
    names += ["five seeds", "tests again"]
    assert len(asked) == len(names)
    return {name: case for name, case in zip(names, asked, strict=True) if name != "tests again"}


def launched(program, args, where):
    """Thunks that the host launches, by kind, and the number of kernels and calls in the loop."""
    for path in filter(Path.is_file, DUMP.iterdir()):
        path.unlink()
    static = program._static
    specs = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where), args[static:])
    lowered = program.jitted.trace(*args[:static], *specs).lower(lowering_platforms=("cuda",))
    lowered.compile(compiler_options=programs.options())
    # The second file is there where passes changed something, such as what goes into graphs.
    paths = sorted(DUMP.glob("*thunk_sequence*.txt"), key=lambda path: "after_thunk_passes" in path.name)
    return counts(paths[-1].read_text() if paths else "")  # a program of memset alone has no file


def counts(text):
    """From lines such as "  017: kCublasLtMatmul [...]", indented by what they are in."""
    outside, in_loop, body = collections.Counter(), 0, None
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.strip() == "body:":
            body = indent
        kernel = re.match(r"\s*\d+: k(\w+)", line)
        if not kernel:
            continue
        if body is not None and indent <= body:
            body = None
        in_loop += body is not None
        outside[kernel[1]] += indent == 0
    return {"launched": +outside, "in loop": in_loop}


def main():
    where = card()
    jax.default_backend = lambda: "gpu"  # whose options, batches and forms are taken
    launches = {name: launched(program, args, where) for name, (program, *args) in asked_for().items()}
    print(json.dumps(launches))


if __name__ == "__main__":
    main()
