"""The files of a run by name, and what tells that one was written again."""

import contextlib

from jaxtl.experiment import opening
from jaxtl.methods import METHODS
from jaxtl.progress import Silent

FIGURE_NAMES = ("before", "after", "comparison", "history")


FIGURES = [f"figures/{name}.{kind}" for name in FIGURE_NAMES for kind in ("png", "svg", "pdf")]


MAPS = [f"embeddings/{stage}_{method}.npz" for stage in ("before", "after") for method in METHODS]
# Which t-SNE makes beside the map that starts from the one before.
FREE_MAP = "embeddings/after_tsne_free.npz"


FILES = {
    "config.json",
    "dataset.json",
    "environment.json",
    "manifest.json",
    "timings.json",
    "features/before.npz",
    "features/after.npz",
    "features/train_before.npz",
    "features/train_after.npz",
    "neighbors/before.npz",
    "neighbors/after.npz",
    "history.csv",
    "model.safetensors",
    "scores.csv",
    "classes.csv",
    "images.csv",
    "claims.json",
    "measures.npz",
    "report.html",
    *MAPS,
    FREE_MAP,
    *FIGURES,
}


def stamps(folder):
    """Inode and time of every file but the log: they differ if a file was written again."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "log.txt")
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def older(folder):
    """The folder of a run, as a version wrote it that had no manifest."""
    (folder / "manifest.json").unlink()
    return folder


def finish(folder, **given):
    opening.resume(folder, given).run()


class Notes(Silent):
    """An observer that keeps what it is told."""

    def __init__(self):
        self.said, self.titles = [], []

    @contextlib.contextmanager
    def step(self, title):
        self.titles.append(title)
        yield lambda fraction: None

    def notify(self, text):
        self.said.append(text)
