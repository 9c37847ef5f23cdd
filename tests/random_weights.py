"""Networks and images of random numbers."""

import numpy as np


def random_arrays(config, seed=0):
    """Random weights, and statistics that no layer may ignore.

    With this gain two images still differ by a fourth of the scale in the last block, and some values
    reach 6. At 1 the deep layers would forget the image and hide errors; at 2 they would amplify
    rounding, whoever computes it.
    """
    rng = np.random.default_rng(seed)
    gain = 1.5
    draw = {
        "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
        "beta": lambda shape: rng.normal(0, 0.3, shape),
        "moving_mean": lambda shape: rng.normal(0, 0.3, shape),
        "moving_variance": lambda shape: rng.uniform(0.5, 2, shape),
        "bias": lambda shape: rng.normal(0, 0.3, shape),
        "kernel": lambda shape: rng.normal(0, (gain / np.prod(shape[:-1])) ** 0.5, shape),
        "depthwise_kernel": lambda shape: rng.normal(0, (gain / 9) ** 0.5, shape),
    }
    shapes = config.parameters
    return {name: draw[name.split("/")[1]](shapes[name]).astype(np.float32) for name in shapes}


def random_images(size, n=2, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, (n, size, size, 3)).astype(np.float32)
