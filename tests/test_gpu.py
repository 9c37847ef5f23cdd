"""On an NVIDIA GPU, `pytest -m gpu`: the checks of `python -m benchmarks gpu`, at small sizes."""

import pytest

from benchmarks.gpu import run as gpu
from benchmarks.gpu.cases import QUICK
from jaxtl.machine import cuda

FAULT = cuda.gpu_fault() or cuda.jax_gpu_fault()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(FAULT is not None, reason=f"no GPU: {FAULT and FAULT.what}; select with -m gpu"),
]


@pytest.mark.parametrize("case", ["device", "network", "agreement", "processes"])
def test_the_checks_of_a_case_pass(case, tmp_path):
    """What needs a library that is not installed is left out, as in the benchmark; something must be left."""
    paths, failed = gpu.run(tmp_path, QUICK, None, (case,), 900, on_gpu=True)
    assert not failed
    assert "| yes |" in paths[1].read_text()
