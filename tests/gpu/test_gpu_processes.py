"""JAX and cuML side by side on one GPU, and the process that embeds, killed."""

import subprocess
import sys

import pytest

from jaxtl.machine import cuda
from tests.gpu.processes import check_a_killed_reducer

SET_UP = "import jaxtl.machine.devices; jaxtl.machine.devices.leave_device_memory()"
COMPUTE = "import jax; assert float(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((512, 512)))) == 512.0**3"
PCA = (
    "import cupy, cuml; from cuml.decomposition import PCA; "
    "x = cupy.sin(cupy.arange(51200, dtype=cupy.float32)).reshape(6400, 8); "
    "assert bool(cupy.isfinite(PCA(n_components=2, output_type='cupy').fit_transform(x)).all())"
)
ORDERS = {"JAX first": (COMPUTE, PCA, COMPUTE), "cuML first": (PCA, COMPUTE, PCA)}


@pytest.mark.parametrize("order", ORDERS)
def test_jax_and_cuml_compute_in_one_process(order):
    """Each again after the other came."""
    if fault := cuda.cuml_fault():
        pytest.skip(f"{fault.what}; {fault.remedy}")
    code = "\n".join([SET_UP, *ORDERS[order]])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_killed_process_is_reported_and_replaced(features, tmp_path):
    backend = "sklearn" if cuda.cuml_fault() else "cuml"
    check_a_killed_reducer(features(2000), backend, tmp_path)
