"""What a finished run, comparison or folder of seeds found, read from its files alone, and shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.cli import screen
from jaxtl.cli.tables import change_line, result_tables
from jaxtl.methods import method_label
from jaxtl.progress import counted
from jaxtl.records.tables import Score
from jaxtl.runs.folder import RunFolder, SeedsFolder, holds_seeds
from jaxtl.runs.formats import COMPARISON
from jaxtl.settings import MODELS

# Arrays of measures.npz that say what became of each image: 0 right, 1 fixed, 2 broken, 3 wrong.
_OUTCOMES = ("right", "fixed", "broken", "wrong")
_BY = {"probe": "a linear classifier on the features", "knn": "their nearest neighbours"}


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        kind: "run", "comparison" or "seeds".
        seeds: of "seeds", those that it has runs of.
        settings: as in config.json, of the first run where there are several.
        change: what fine-tuning did to the images, where the run knows: `images`, `kept` (share of the
            nearest neighbours kept, 0 to 1), and by classifier how many were right, fixed, broken, wrong.
        files: what people look at, by name.
    """

    folder: Path
    kind: str
    seeds: list[int]
    settings: dict[str, Any]
    scores: list[Score]
    claims: list[dict[str, Any]]
    change: dict[str, Any]
    files: dict[str, Path]


def read(folder: Path) -> Found:
    """Raises JaxtlError where there is no such folder, it is not finished, or a file is damaged."""
    if holds_seeds(folder):
        several = SeedsFolder(folder)
        seeds = several.seeds.read()
        several.check_there([several.scores])
        settings = several.run_of(seeds[0]).settings.read()
        return _found(several, "seeds", seeds, settings, {}, {})
    run = RunFolder(folder)
    run.check()
    settings = run.settings.read()
    run.check_there([run.scores])
    kind = COMPARISON if settings.get("kind") == COMPARISON else "run"
    return _found(
        run, kind, [], settings, _change(run.measures.read_or({})), {"pictures": run.figures["comparison"][0]}
    )


def _found(
    folder: RunFolder | SeedsFolder,
    kind: str,
    seeds: list[int],
    settings: dict[str, Any],
    change: dict[str, Any],
    pictures: dict[str, Any],
) -> Found:
    files = {name: file.path for name, file in {**pictures, "report": folder.report}.items() if file.is_there}
    scores, claims = folder.scores.read(), folder.claims.read_or([])
    return Found(folder.path, kind, seeds, settings, scores, claims, change, files)


def _change(measures: dict[str, np.ndarray]) -> dict[str, Any]:
    change: dict[str, Any] = {}
    for by in _BY:
        outcome = measures.get(f"outcome_{by}")
        if outcome is not None and len(outcome) and (outcome < len(_OUTCOMES)).all():
            counts = np.bincount(outcome, minlength=len(_OUTCOMES)).tolist()
            change |= {"images": len(outcome), by: dict(zip(_OUTCOMES, counts, strict=True))}
    kept = measures.get("kept")
    if kept is not None and np.isfinite(kept).any():
        change |= {"images": len(kept), "kept": float(np.nanmean(kept))}
    return change


def show(found: Found, in_json: bool = False, every: bool = False) -> None:
    """Print it on standard output, what matters most last; `every`: all scores."""
    if in_json:
        screen.print_json(vars(found))
        return
    console = screen.results()
    for table in result_tables(found.scores, found.claims, console.width, every):
        screen.print_table(console, table)
    if line := change_line(found.change, _BY, tuned=found.kind != COMPARISON):
        console.print(line)
    for name, path in found.files.items():
        screen.print_path(name.capitalize(), path)


def headline(found: Found) -> str:
    """What the folder is of, in a line, such as "mnist, 2,000 test images; MobileNetV2, 5 epochs"."""
    settings = found.settings
    maps = "maps by " + ", ".join(map(method_label, settings.get("methods", ())))
    if found.kind == COMPARISON:
        name = f"{settings['name']}: " if settings.get("name") else ""
        rows = f"{counted(settings['points'], 'image')}" if "points" in settings else "features"
        return f"{name}{rows}, {settings.get('before')} before, {settings.get('after')} after; {maps}"
    images = (
        f"up to {counted(samples, 'test image')}"
        if (samples := settings.get("samples"))
        else "all test images"
    )
    tuned = f"{_learned(str(settings.get('trainable', '')))}, {counted(settings.get('epochs', 0), 'epoch')}"
    own = settings.get("weights")
    network = MODELS.get(str(settings.get("model")), Path(own).name if own else MODELS["mobilenet_v2"])
    said = "; ".join(filter(None, (f"{settings['dataset']}, {images}", network, tuned, maps)))
    return f"{counted(len(found.seeds), 'seed')} of {said}" if found.seeds else said


def _learned(trainable: str) -> str:
    """Which layers learned, in words."""
    if trainable.isdecimal() and trainable != "0":
        return f"last {counted(int(trainable), 'layer')} trained"
    return {"none": "head alone trained", "0": "head alone trained", "all": "all layers trained"}.get(
        trainable, f"trained from {trainable} on"
    )
