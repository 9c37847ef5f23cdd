"""Features of two networks of the same made-up images, for tests of comparisons and of their files."""

import numpy as np

from jaxtl.experiment import comparison

N = 60
NAMES = np.array(["chat", "chien", "été"])  # the last one composed


def made(seed=0, d=8, n=N, apart=2.0):
    """Features [n, d] of three classes, and the classes' numbers."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    return (rng.normal(size=(n, d)) + apart * rng.normal(size=(3, d))[labels]).astype("f4"), labels


BEFORE, LABELS = made()
AFTER, _ = made(1, d=12)
IDS = np.array([f"fotos/bild ü{k}.jpg" for k in range(N)])


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def pair_of(before, after, **how):
    return comparison.read(before, after, **how).pair


def labels_of(pair):
    return [pair.before.class_names[k] for k in pair.before.labels]
