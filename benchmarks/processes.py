"""Whole processes, timed from outside: start-up, the whole experiment, runs cold and warm."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jaxtl
from benchmarks.cases import OURS
from benchmarks.machine import ROOT
from benchmarks.workers import Deadline, Worker, run_process
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import FIVE_FOLDS
from jaxtl.records.tables import load_history, load_scores

Result = dict[str, Any]
_PLAIN_SCRIPT = Path(__file__).with_name("plain_keras.py")
JAXTL_COMMAND = (sys.executable, "-c", "from jaxtl.cli.main import main; main()")
# What a user of each library imports to do what jaxtl does.
_IMPORTS = {
    "Python": "pass",
    "jaxtl": "import jaxtl",
    "Keras (TensorFlow)": "import keras",
    "PyTorch": "import torch",
    "scikit-learn": "import sklearn.manifold, sklearn.decomposition",
    "openTSNE": "import openTSNE",
}
# Options that are not named as the argument.
_LONGER = {"train": "train-samples"}
# pytest's exit codes where tests failed, and where it was interrupted: the record tells which have ended.
_SOME_FAILED, _INTERRUPTED = 1, 2
# pytest, which interrupts itself in time to write its record.
_TESTS = """
import os, signal, sys, threading
import pytest
timer = threading.Timer(float(sys.argv[1]), os.kill, (os.getpid(), signal.SIGINT))
timer.daemon = True
timer.start()
sys.exit(pytest.main(sys.argv[2:]))
"""
_SECONDS_TO_WRITE = 8.0
_CHECKS = "checks.xml"
_STAGES = ("before", "after")
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
        """One process of a case: seconds, quality, its memory, and seconds by step if it tells.

        Raises:
            JaxtlError: the deadline passes first; it tells how far a run came.
            RuntimeError: it fails, with the end of its output.
        """
        folder = Path(tempfile.mkdtemp(prefix=f"{case}-", dir=self.folder))
        try:
            command = self._command(case, peer, deadline, arguments)
            allowed = (0, _SOME_FAILED, _INTERRUPTED) if case == "checks" else (0,)
            ended = run_process(command, folder, deadline, self._environment(case, peer), allowed)
            if case == "checks" and not (folder / _CHECKS).is_file():
                raise RuntimeError((folder / "output.txt").read_text(errors="replace")[-2000:])
            quality, parts = judge(folder), _parts(folder)
        except JaxtlError as error:
            if parts := _parts(folder):
                raise JaxtlError(f"{error}; seconds so far: {spoken(parts)}") from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return {
            "seconds": ended.seconds,
            "quality": quality,
            "memory": {"peak_bytes": ended.peak_memory},
            **({"parts": parts} if parts else {}),
        }

    def _command(self, case: str, peer: str, deadline: Deadline, arguments: Mapping[str, Any]) -> list[str]:
        if case == "import":
            return [sys.executable, "-c", _IMPORTS[peer]]
        if case == "checks":
            # Options of plugins that are not installed are no fault.
            ours = ["-o", "addopts=", "-W", "ignore::pytest.PytestConfigWarning", "-p", "no:cacheprovider"]
            ours += ["-m", "gpu", f"--rootdir={ROOT}", f"--junitxml={_CHECKS}", str(ROOT / "tests" / "gpu")]
            return [sys.executable, "-c", _TESTS, f"{max(1.0, deadline.left - _SECONDS_TO_WRITE)}", *ours]
        if case == "help":
            return [sys.executable, "-c", "pass"] if peer == "Python" else [*JAXTL_COMMAND, "--help"]
        options = [
            text for name, value in arguments.items() for text in (f"--{_LONGER.get(name, name)}", str(value))
        ]
        if peer == OURS:
            return [*JAXTL_COMMAND, "run", "--out", "run", *options]
        assets = Path(jaxtl.__file__).parent / "assets"
        weights = self._keras_weights(deadline)
        return [sys.executable, str(_PLAIN_SCRIPT), str(assets), str(weights), *options]

    def _environment(self, case: str, peer: str) -> Mapping[str, str]:
        path = {"PYTHONPATH": str(ROOT)} if peer == OURS else {}  # where jaxtl is not installed
        caches = self.folder / "caches"
        # Nothing of the user's own caches helps, whichever library keeps one; these last for the suite.
        own = {"XDG_CACHE_HOME": str(caches), "CUDA_CACHE_PATH": str(caches / "cuda")}
        return {**self.environment, **path, **(own if case.startswith("run") else {})}

    def _keras_weights(self, deadline: Deadline) -> Path:
        """jaxtl's weights as Keras reads them, made once."""
        path = self.folder / "imagenet.weights.h5"
        if not path.exists():
            environment = {**self.environment, "KERAS_BACKEND": "tensorflow"}
            with Worker("benchmarks.peers.keras_peer", deadline, environment) as worker:
                worker.call("write_weights", path=str(path))
        return path


def _parts(folder: Path) -> dict[str, float]:
    """Seconds of its steps, as the run or the script itself wrote them; empty for other processes."""
    if (folder / _CHECKS).is_file():
        return {name: seconds for name, _, seconds, _ in _checks(folder / _CHECKS)}
    for path in (folder / "run" / "timings.json", folder / "scores.json"):
        if path.is_file():
            record = json.loads(path.read_text())
            steps = record.get("seconds", record)
            return {
                name: value
                for name, value in steps.items()
                if name != "peak_memory_gib" and isinstance(value, int | float)
            }
    return {}


def spoken(parts: Mapping[str, float]) -> str:
    """Such as "trunk test 3.5, finetune 40.2"."""
    return ", ".join(f"{name.replace('_', ' ')} {seconds:.1f}" for name, seconds in parts.items())


def judge(folder: Path) -> dict[str, float]:
    """Accuracies: of the test set, and of 10 neighbours (5-fold) in each space before and after.

    Of checks how many passed, failed and were skipped, and the numbers that they measured.
    """
    if (folder / _CHECKS).is_file():
        checks = list(_checks(folder / _CHECKS))
        counts = {end: float(sum(one == end for _, one, _, _ in checks)) for end in _ENDS}
        failed = {f"failed: {name}": 1.0 for name, end, _, _ in checks if end == "failed"}
        numbers = {f"{name}: {what}": value for name, _, _, found in checks for what, value in found.items()}
        return counts | failed | numbers
    if (folder / "run" / "scores.csv").is_file():
        scores = load_scores(folder / "run" / "scores.csv")
        accuracies = {(row.stage, row.space): row.value for row in scores if row.metric == FIVE_FOLDS}
        tested = load_history(folder / "run" / "history.csv")[-1]["test_accuracy"]
    elif (folder / "scores.json").is_file():
        written = json.loads((folder / "scores.json").read_text())
        accuracies = {(stage, space): value for stage in _STAGES for space, value in written[stage].items()}
        tested = written["test_accuracy"][-1]
    else:
        return {}
    spaces = {
        f"knn_accuracy {stage}, {space}": accuracies[stage, space] for stage in _STAGES for space in _SPACES
    }
    return {"test_accuracy": tested, **spaces}


_ENDS = ("passed", "failed", "skipped")


def _checks(path: Path) -> Iterator[tuple[str, str, float, dict[str, float]]]:
    """Of each test in a file of pytest's: its name, how it ended, its seconds, and what it measured."""
    # One that was interrupted has no name.
    for test in ET.parse(path).iterfind(".//testcase[@name]"):
        kinds = {child.tag for child in test}
        end = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found = {}
        for one in test.iter("property"):
            # Versions and device names are in the record already.
            with contextlib.suppress(ValueError):
                found[one.attrib["name"]] = float(one.attrib["value"])
        yield test.attrib["name"], end, float(test.attrib["time"]), found
