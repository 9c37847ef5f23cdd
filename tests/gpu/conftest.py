"""Checks on an NVIDIA GPU: jaxtl there against a CPU, scikit-learn and openTSNE. Nothing is timed.

    timeout -s INT 300 python -m pytest -m gpu tests/gpu --junitxml=gpu.xml

The folder's tests run under `-m gpu` alone; without a usable GPU they are then skipped, and the reason is
told. They need no network, and PyTest, jaxtl and its requirements only; what needs cuML is skipped without
it. What was measured is in the result as properties, also of a run that SIGINT has ended. `python -m
benchmarks` times.
"""

from pathlib import Path

import numpy as np
import pytest

from jaxtl.data import load
from jaxtl.machine import cuda
from jaxtl.models.weights import load_model
from jaxtl.network.extraction import extract
from jaxtl.records.arrays import Features
from jaxtl.reduction.process import Reducer

FOLDER = Path(__file__).parent
# A library that hangs must not take the time of the other tests.
CALL_SECONDS = 180


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark the folder's tests; without `-m gpu` leave them out, and without a GPU skip them."""
    own = [item for item in items if FOLDER in item.path.parents]
    for item in own:
        item.add_marker(pytest.mark.gpu)
    if own and config.option.markexpr != "gpu":
        items[:] = [item for item in items if item not in own]
        config.hook.pytest_deselected(items=own)
    elif own and (fault := cuda.gpu_fault() or cuda.jax_gpu_fault()):
        for item in own:
            item.add_marker(pytest.mark.skip(reason=f"no GPU: {fault.what}; {fault.remedy}"))


@pytest.fixture
def measured(record_property):
    """A function that writes numbers by name into the result."""

    def record(numbers):
        for name, value in numbers.items():
            record_property(name, value if isinstance(value, str) else float(value))

    return record


@pytest.fixture(scope="session")
def features():
    """A function of n: features of the first n test images, extracted once."""
    everything = extract(load_model(), load("mnist", "test"))

    def first(n):
        rows = np.ascontiguousarray(everything.values[:n])
        return Features(rows, everything.labels[:n], everything.index[:n], everything.meta)

    return first


@pytest.fixture(scope="session")
def reduce_apart(tmp_path_factory):
    """`jaxtl.reduce` with cuML in the process that a run gives it, which may die without taking the tests."""
    if fault := cuda.cuml_fault():
        pytest.skip(f"{fault.what}; {fault.remedy}")
    folder = tmp_path_factory.mktemp("cuml")
    with Reducer(CALL_SECONDS, ("cuml",)) as reducer:

        def reduce(features, method):
            features.save(folder / "features.npz")
            return reducer.reduce(folder / "features.npz", folder / "embedding.npz", method, "cuml", {})

        yield reduce
