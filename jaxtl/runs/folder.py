"""A run's folder: its settings, and what is drawn and written from the files in it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from jaxtl.errors import JaxtlError
from jaxtl.evaluation import catalogue, depth
from jaxtl.plots import maps as plots
from jaxtl.progress import Progress
from jaxtl.records.arrays import Embedding, Pathlike, load_history, load_scores
from jaxtl.records.files import read_json_object, write_json, write_text
from jaxtl.report import build_page, load_run
from jaxtl.settings import STAGES, RunConfig

SUFFIXES = ("png", "svg", "pdf")
CONFIG = "config.json"
FIGURES = "figures"
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


def figure_files(name: str) -> tuple[str, ...]:
    """The files of a figure, in the folder of figures."""
    return tuple(f"{name}.{suffix}" for suffix in SUFFIXES)


def draw(folder: Path, name: str) -> Figure:
    """One of `figure_names`, from only the files that it shows."""
    if name == "history":
        return plots.history_figure(load_history(folder / "history.csv"))
    if name == _LAYERS:
        rows = [
            row._replace(metric=catalogue.current(row.metric, catalogue.FORMER_LAYERS))
            for row in depth.load(folder / "layers.csv")
        ]
        return plots.layers_figure(rows, list(dict.fromkeys(row.layer for row in rows)))
    methods = read_config(folder)[0].methods
    accuracies = _accuracies(folder)
    if name in STAGES:
        return plots.stage_figure(_maps(folder, name, methods), name, accuracies[name])
    return plots.comparison_figure(*(_maps(folder, stage, methods) for stage in STAGES), accuracies)


def _maps(folder: Path, stage: str, methods: Sequence[str]) -> list[Embedding]:
    return [Embedding.load(folder / "embeddings" / f"{stage}_{method}.npz") for method in methods]


def _accuracies(folder: Path) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {stage: {} for stage in STAGES}
    for score in load_scores(folder / "scores.csv"):
        if score.metric == catalogue.LEAVE_ONE_OUT:
            found[score.stage][score.space] = score.value
    return found


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


def save_figure(
    folder: Pathlike,
    name: str,
    out: Pathlike | None = None,
    progress: Progress = lambda fraction: None,
) -> None:
    """Draw one of a run's `figure_names`, in every format, into a folder; by default the run's own."""
    figure = draw(Path(folder), name)
    target = Path(folder, FIGURES) if out is None else Path(out)
    for number, file in enumerate(figure_files(name)):
        plots.save(figure, target / file)
        progress((number + 1) / len(SUFFIXES))


def save_figures(folder: Path, out: Path) -> list[Path]:
    """Draw a finished run's figures into a folder, each in every format. Returns the files."""
    names = figure_names(read_config(folder)[0])
    for name in names:
        save_figure(folder, name, out)
    return [out / file for name in names for file in figure_files(name)]
