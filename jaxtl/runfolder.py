"""A run's folder: its settings, and what is drawn and written from the files in it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from jaxtl import depth, plots
from jaxtl.errors import JaxtlError
from jaxtl.files import read_json_object, write_json, write_text
from jaxtl.records import Embedding, load_history, load_scores
from jaxtl.report import build_page, load_run
from jaxtl.scoring import KNN_METRIC
from jaxtl.settings import RunConfig

STAGES = ("before", "after")
SUFFIXES = ("png", "svg", "pdf")
CONFIG = "config.json"
_FIGURES = (*STAGES, "comparison", "history")
_LAYERS = "layers"


def figure_names(config: RunConfig) -> tuple[str, ...]:
    """The figures of a run, without their suffixes."""
    return (*_FIGURES, _LAYERS) if config.layers else _FIGURES


def write_config(folder: Path, config: RunConfig, weights_digest: str) -> None:
    """Record the settings and the digest of the weights that a run starts from."""
    record = {**asdict(config), "weights_digest": weights_digest}
    write_json(folder / CONFIG, {**record, "digest": _digest(record)})


def read_config(folder: Path) -> tuple[RunConfig, str]:
    """A run's settings, and the digest of the weights that it started from.

    Raises JaxtlError where there are none, or they were edited.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise JaxtlError(f"{folder}: no run folder (it has no {CONFIG}); start one with --out {folder}")
    record = read_json_object(path)
    # Results made under one setting must not be continued under another.
    if record.pop("digest", None) != _digest(record):
        raise JaxtlError(
            f"{path}: was edited since the run started; undo that, or start a new run with --out"
        )
    try:
        weights_digest = record.pop("weights_digest")
        return RunConfig(**{**record, "methods": tuple(record["methods"])}), weights_digest
    except (KeyError, TypeError) as error:
        raise JaxtlError(
            f"{path}: not the settings of a run of this jaxtl ({error}); start a new run with --out"
        ) from None


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def draw(folder: Path) -> dict[str, Figure]:
    """The figures of a finished run, by name: before, after, comparison and history."""
    config, _ = read_config(folder)
    maps = {
        stage: [Embedding.load(folder / "embeddings" / f"{stage}_{method}.npz") for method in config.methods]
        for stage in STAGES
    }
    accuracies: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
    for score in load_scores(folder / "scores.csv"):
        if score.metric == KNN_METRIC:
            accuracies[score.stage][score.space] = score.value
    figures = {stage: plots.stage_figure(maps[stage], stage, accuracies[stage]) for stage in STAGES}
    figures["comparison"] = plots.comparison_figure(maps["before"], maps["after"], accuracies)
    figures["history"] = plots.history_figure(load_history(folder / "history.csv"))
    if config.layers:
        rows = depth.load(folder / "layers.csv")
        layers = list(dict.fromkeys(row.layer for row in rows))
        figures[_LAYERS] = plots.layers_figure(rows, layers)
    return figures


def write_report(folders: Sequence[Path], path: Path) -> None:
    """The interactive page of one finished run, or of several side by side, as one HTML file.

    Raises JaxtlError where a run is not finished, or its files are damaged.
    """
    runs = [load_run(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        wanted = [(stage, method) for method in run.config.get("methods", ()) for stage in STAGES]
        absent = [f"{method}_{stage}" for stage, method in wanted if (stage, method) not in run.maps]
        absent += [] if run.scores else ["scores.csv"]
        if absent:
            raise JaxtlError(
                f"{folder}: is not finished ({absent[0]} is missing); go on with: jaxtl run --resume "
                f"{shlex.quote(str(folder))}"
            )
    write_text(path, build_page(runs))


def claims(folder: Path) -> list[dict[str, Any]]:
    """What became of the claims in a finished run: rows as in its claims.json."""
    return read_json_object(folder / "claims.json")["claims"]


def save_figures(
    folder: Path, out: Path, progress: Callable[[float], None] = lambda fraction: None
) -> list[Path]:
    """Draw a finished run's figures into a folder, each in every format. Returns the files."""
    written = []
    figures = draw(folder)
    for number, (name, figure) in enumerate(figures.items()):
        for suffix in SUFFIXES:
            plots.save(figure, out / f"{name}.{suffix}")
            written.append(out / f"{name}.{suffix}")
        progress((number + 1) / len(figures))
    return written
