"""Whole processes, timed from outside: start-up, a run's page, the whole experiment."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT
from benchmarks.workers import Deadline, Worker, run_process
from jaxtl.evaluation.catalogue import FIVE_FOLDS
from jaxtl.records.tables import load_history, load_scores

Result = dict[str, Any]
_PLAIN_SCRIPT = Path(__file__).with_name("plain_keras.py")
_JAXTL = (sys.executable, "-c", "from jaxtl.cli.main import main; main()")
# What a user of each library imports to do what jaxtl does.
_IMPORTS = {
    "Python": "pass",
    "jaxtl": "import jaxtl",
    "Keras (TensorFlow)": "import keras",
    "PyTorch": "import torch",
    "scikit-learn": "import sklearn.manifold, sklearn.decomposition",
    "openTSNE": "import openTSNE",
}
_SPACES = ("features", "pca", "tsne", "lle")


class Processes:
    """Starts them in folders of their own.

    Args:
        folder: for their files, and for what is prepared once.
        environment: added to this process's.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def call(self, case: str, peer: str, deadline: Deadline, arguments: Mapping[str, Any]) -> Result:
        """One process of a case: seconds, cpu_seconds, quality, its memory, and seconds by stage if it tells.

        Raises:
            JaxtlError: the deadline passes first.
            RuntimeError: it fails, with the end of its output.
        """
        folder = Path(tempfile.mkdtemp(prefix=f"{case}-", dir=self.folder))
        try:
            command, judge = _CASES[case](self, peer, deadline, arguments)
            done = run_process(command, folder, deadline, self._environment(case, peer))
            quality, parts = judge(folder) if judge else {}, _parts(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return {
            "seconds": done.seconds,
            "cpu_seconds": done.cpu_seconds,
            "quality": quality,
            "memory": {"peak_bytes": done.peak_bytes},
            **({"parts": parts} if parts else {}),
        }

    def _environment(self, case: str, peer: str) -> Mapping[str, str]:
        path = {"PYTHONPATH": str(ROOT)} if peer == "jaxtl" else {}  # where jaxtl is not installed
        return {**self.environment, **path}

    def finished_run(self, samples: int, deadline: Deadline) -> Path:
        """A small run to report on, made once."""
        folder = self.folder / f"run-{samples}"
        if not folder.exists():
            options = ("--samples", str(samples), "--train-samples", "640", "--epochs", "1")
            place = Path(tempfile.mkdtemp(dir=self.folder))
            command = [*_JAXTL, "run", "--out", str(folder), *options]
            run_process(command, place, deadline, self._environment("report", "jaxtl"))
        return folder

    def keras_weights(self, deadline: Deadline) -> Path:
        """jaxtl's weights as Keras reads them, made once."""
        path = self.folder / "imagenet.weights.h5"
        if not path.exists():
            environment = {**self.environment, "KERAS_BACKEND": "tensorflow"}
            with Worker("benchmarks.peers.keras_peer", deadline, environment) as worker:
                worker.call("write_weights", path=str(path))
        return path


Judge = Callable[[Path], dict[str, float]] | None
Command = tuple[list[str], Judge]


def _import(_: Processes, peer: str, __: Deadline, ___: Mapping[str, Any]) -> Command:
    return [sys.executable, "-c", _IMPORTS[peer]], None


def _help(_: Processes, peer: str, __: Deadline, ___: Mapping[str, Any]) -> Command:
    return ([sys.executable, "-c", "pass"] if peer == "Python" else [*_JAXTL, "--help"]), None


def _report(bench: Processes, peer: str, deadline: Deadline, arguments: Mapping[str, Any]) -> Command:
    run = bench.finished_run(arguments["n"], deadline)

    def judge(folder: Path) -> dict[str, float]:
        return {"page_mib": (folder / "page.html").stat().st_size / 2**20}

    return [*_JAXTL, "report", str(run), "--out", "page.html"], judge


def _whole(bench: Processes, peer: str, deadline: Deadline, arguments: Mapping[str, Any]) -> Command:
    options = {
        "--samples": "samples",
        "--train-samples": "train",
        "--epochs": "epochs",
        "--seed": "seed",
    }
    given = [each for option, name in options.items() for each in (option, str(arguments[name]))]
    if peer == "jaxtl":
        return [*_JAXTL, "run", "--out", "run", *given], _judge_jaxtl
    weights = bench.keras_weights(deadline)
    return [sys.executable, str(_PLAIN_SCRIPT), _assets(), str(weights), *given], _judge_plain


def _assets() -> str:
    import jaxtl

    return str(Path(jaxtl.__file__).parent / "assets")


def _parts(folder: Path) -> dict[str, float]:
    """Seconds of its stages, as the run or the script itself wrote them; empty for other processes."""
    for path in (folder / "run" / "timings.json", folder / "scores.json"):
        if path.is_file():
            found = json.loads(path.read_text())
            return {k: v for k, v in found.get("seconds", found).items() if k != "peak_memory_gib"}
    return {}


def _judge_jaxtl(folder: Path) -> dict[str, float]:
    found = {
        (score.stage, score.space): score.value
        for score in load_scores(folder / "run" / "scores.csv")
        if score.metric == FIVE_FOLDS
    }
    history = load_history(folder / "run" / "history.csv")
    return _qualities(history[-1]["test_accuracy"], lambda stage, space: found[stage, space])


def _judge_plain(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "scores.json").read_text())
    return _qualities(found["test_accuracy"][-1], lambda stage, space: found[stage][space])


def _qualities(test_accuracy: float, accuracy: Callable[[str, str], float]) -> dict[str, float]:
    """All are accuracies: of the test set, and of 10 neighbours in each space before and after."""
    maps = {
        f"knn_accuracy {stage}, {space}": accuracy(stage, space)
        for stage in ("before", "after")
        for space in _SPACES
    }
    return {"test_accuracy": test_accuracy, **maps}


_CASES: dict[str, Callable[[Processes, str, Deadline, Mapping[str, Any]], Command]] = {
    "import": _import,
    "help": _help,
    "report": _report,
    "whole": _whole,
}
