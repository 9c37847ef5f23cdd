"""What must hold when the process that embeds is killed between two calls."""

import os
import signal
from functools import partial

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.reduction.process import Reducer


def check_a_killed_reducer(features, backend, folder):
    """The next call says so in one line, the one after it works."""
    features.save(folder / "features.npz")
    with Reducer(180) as reducer:
        ask = partial(reducer.reduce, folder / "features.npz", folder / "embedding.npz", "pca", backend, {})
        before = ask().coords
        os.kill(reducer.pid, signal.SIGKILL)
        with pytest.raises(JaxtlError, match="SIGKILL") as caught:
            ask()
        assert "\n" not in str(caught.value)
        np.testing.assert_allclose(ask().coords, before, rtol=0, atol=1e-3)
