"""Ways into a finished run, or a study, whose folder somebody made or damaged: the commands that read it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import jaxtl
from tests.faults.outcomes import command
from tests.faults.strangers import WHOLE, Way, link, shown_whole


def _copied(run: Path) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        link(run, folder)

    return make


def _files(folder: Path) -> object:
    """Every file by itself: the first that cannot be read is what is told."""
    from jaxtl.runs.folder import RunFolder

    run = RunFolder(folder)
    return [file.read_or(None) for file in (*run.files, run.settings)]


def _loaded(folder: Path) -> object:
    return shown_whole(jaxtl.load_run(folder))


def _commands(*lines: Iterable[str]) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        out = folder.with_name("out")
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        return [command(*(word.format(run=folder, out=out) for word in line)) for line in lines]

    return read


def study_ways(study: Path) -> tuple[Way, ...]:
    """What reads a study's folder that somebody made: forecasts, and who goes on with it."""
    names = tuple(
        sorted(
            name
            for file in study.rglob("*")
            if file.is_file()
            and (name := str(file.relative_to(study))).startswith(("config", "extraction", "points/"))
        )
    )
    made, make = _commands(("scale", "--out", "{run}", "--forecast", "5000")), _copied(study)
    return (
        Way("forecast", make, made, names),
        Way("study", make, _prepared, (*names, "features.npy", "features.rows.npz")),
    )


def _prepared(folder: Path) -> object:
    from jaxtl.scaling import study

    return study.prepare(folder, {}).curves


# A page, pictures and bytes are made from the others, and read by nobody.
_MADE = ("figures/", "report.html", "summary.md", "log", *WHOLE)
_LARGE = ("features/train", "model.safetensors")


def run_ways(run: Path) -> tuple[Way, ...]:
    """What reads a finished run's folder."""
    names = tuple(
        sorted(
            name
            for file in run.rglob("*")
            if file.is_file() and not (name := str(file.relative_to(run))).startswith((*_MADE, *_LARGE))
        )
    )
    texts = tuple(name for name in names if name.endswith((".csv", ".json")))
    make = _copied(run)
    return (
        Way("run-files", make, _files, names),
        Way("load_run", make, _loaded, names),
        Way("show", make, _commands(("show", "{run}", "--all"), ("show", "{run}", "--json")), names),
        Way("show-texts", make, _commands(("show", "{run}", "--all")), texts),
        Way(
            "export",
            make,
            _commands(
                *(("export", "{run}", "--to", to, "--out", f"{{out}}/e.{to}") for to in ("csv", "parquet")),
                ("export", "{run}", "--to", "tensorboard", "--out", "{out}/projector"),
            ),
            names,
        ),
        Way("report", make, _commands(("report", "{run}", "--out", "{out}/r.html")), names),
        Way("plot", make, _commands(("plot", "{run}", "--out", "{out}/figures")), names),
    )
