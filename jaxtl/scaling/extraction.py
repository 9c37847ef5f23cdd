"""The features of a study: as many rows as its largest size, made once and added to."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict

from jaxtl.errors import JaxtlError
from jaxtl.machine.host import cpu_count, cpu_name
from jaxtl.models.weights import load_model
from jaxtl.progress import Observer, counted
from jaxtl.records.files import write_json
from jaxtl.scaling import source
from jaxtl.scaling.folder import EXTRACTION, FEATURES, ROWS, StudyFolder
from jaxtl.scaling.source import Source

# What an extraction leaves. If any of it is damaged, all is made again: seconds are told of nothing else.
_MADE = (FEATURES, ROWS, EXTRACTION)
# Left free on the disk when features are written: for maps, tables and pictures.
_SPARE_BYTES = 2**28


def check_disk(files: StudyFolder, images: Source, rows: int) -> None:
    """Raises JaxtlError where there is no room for the features of so many images."""
    if rows <= _stored(files):
        return
    width = load_model(images.settings.weights, images.settings.model).config.features
    # The old file stays until the new one is whole.
    needed = 4 * rows * width + _SPARE_BYTES
    if needed > (free := shutil.disk_usage(files.path).free):
        raise JaxtlError(
            f"{files}: features of {rows:,} images need {needed / 2**30:.1f} GiB of disk, "
            f"{free / 2**30:.1f} GiB are free; free some space or take smaller sizes"
        )


def bring_to(rows: int, files: StudyFolder, images: Source, observer: Observer) -> None:
    """Make the features of so many images, those that are not there yet, and note what that took.

    Raises OSError where they cannot be written.
    """
    had = _stored(files)
    if rows <= had:
        return
    if fault := files.fault(*_MADE):
        observer.notify(f"Features: made again, as {fault}")
    known = None if fault else files.extraction()
    began = time.perf_counter()
    title = f"Features of {counted(rows - had, 'image')}"
    with observer.attempt(title) as attempt, files.recorded(FEATURES, ROWS):
        source.extract(files.path, images, had, rows, attempt.progress, observer.notify)
    taken = {"images": rows - had, "seconds": round(time.perf_counter() - began, 3)}
    # The largest tells most: less of it is compilation.
    if known is None or known["images"] < rows - had:
        here = {"cpu": cpu_name(), "cores": cpu_count()}
        with files.recorded(EXTRACTION):
            write_json(files.path / EXTRACTION, {**taken, **asdict(images.settings.images), **here})


def _stored(files: StudyFolder) -> int:
    """Rows of features that are there, as the study wrote them."""
    return 0 if files.fault(*_MADE) else source.stored(files.path)
