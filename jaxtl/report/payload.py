"""The arrays of the page's maps and its thumbnails, as JSON that may stand within a script element."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from typing import Any

import numpy as np

from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, MOVED
from jaxtl.methods import method_label
from jaxtl.plots.palette import class_colours
from jaxtl.plots.sprites import picture, tiled
from jaxtl.records.arrays import Embedding
from jaxtl.runs.data import RunData
from jaxtl.settings import STAGES

# A sheet of 1600 thumbnails is at most 2560 pixels a side: little to decode for one hover.
_SHEET_COLUMNS = 40
_SHEET = _SHEET_COLUMNS**2
# All thumbnails of a run together: 10,000 digits stay whole, and compress to some 3 MB.
_PIXELS = 20e6
_LARGEST_SIDE = 64
_FITTED = (0.5, 99.5)
_ROOM = 1.08
# Of each image: a class or a row, a code, a number without bounds, a share of 0 to 1.
_WHOLE = (
    *("knn_before", "knn_after", "knn_training_before", "knn_training_after"),
    *("probe_before", "probe_after", "head_after"),
    *("neighbors_before", "neighbors_after", "outcome_knn", "outcome_probe"),
)
_FLOATS = ("moved",)
_SHARES = ("kept", "kept_", "trust_", "head_probability")
# Steps of a share: 0.1, which ten neighbours are counted in, is a whole number of them; 255 is unknown.
_STEPS, _UNKNOWN = 250, 255


def payload(runs: list[RunData]) -> str:
    """JSON of the maps and thumbnails of all runs; sheets that runs share are held once."""
    sheets: dict[str, str] = {}
    record = {"runs": [_run(run, sheets) for run in runs], "meanings": {"moved": MOVED.sentence}}
    return embeddable({**record, "sheets": sheets})


def embeddable(record: Any) -> str:
    """JSON in ASCII without what could end a script element or begin a comment in it."""
    text = json.dumps(record, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def packed(array: np.ndarray, dtype: str) -> str:
    """Base64 of an array's bytes, in little-endian order."""
    return base64.b64encode(np.ascontiguousarray(array).astype(dtype).tobytes()).decode()


def fitted(coords: np.ndarray) -> tuple[np.ndarray, int]:
    """Coordinates, on one scale, whose middle 99 % on either axis lie in [-1, 1]; and how many points do not.

    LLE throws a few points so far out that a view of all of them would show the rest as one dot.
    """
    low, high = np.percentile(coords.astype(np.float64), _FITTED, axis=0)
    half = 0.5 * _ROOM * (max(high - low) or 1.0)
    placed = (coords - 0.5 * (low + high)) / half
    return placed.astype(np.float32), int((np.abs(placed) > 1).any(axis=1).sum())


def _run(run: RunData, sheets: dict[str, str]) -> dict[str, Any]:
    colours = (class_colours(max(1, len(run.class_names))) * 255).round().astype(int)
    labels = np.zeros(len(run)) if run.labels is None else run.labels
    return {
        "name": run.name,
        "n": len(run),
        "labelled": run.labels is not None,
        "classes": list(run.class_names) if run.labels is not None else [""],
        "ids": None if run.ids is None else run.ids.tolist(),
        "colours": ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours],
        "labels": packed(labels, "<u4"),
        "index": packed(run.index, "<u4"),
        "maps": [
            _map(run, stage, method, run.embeddings[stage, method])
            for stage in STAGES
            for method in run.methods
            if (stage, method) in run.embeddings
        ],
        "images": None if run.images is None else _thumbnails(run.images, sheets),
        "measures": _measures(run.measures),
    }


def _map(run: RunData, stage: str, method: str, embedding: Embedding) -> dict[str, Any]:
    coords, outside = fitted(embedding.coords)
    score = run.score(stage, method, LEAVE_ONE_OUT)
    return {
        "stage": stage,
        "method": method,
        "name": method_label(method),
        "coords": packed(coords, "<f4"),
        "outside": outside,
        "accuracy": None if score is None else score.value,
    }


def _measures(measures: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """What there is of each image, by name: its type and its bytes, in as few as hold it."""
    made = {}
    for name, values in measures.items():
        if name in _WHOLE:
            made[name] = _whole(values)
        elif name in _FLOATS:
            made[name] = ["f4", packed(values, "<f4")]
        elif name.startswith(_SHARES):
            steps = np.where(np.isnan(values), _UNKNOWN, np.round(np.clip(values, 0, 1) * _STEPS))
            made[name] = ["share", packed(steps, "u1")]
    return made


def _whole(values: np.ndarray) -> list[str]:
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    kind = next(kind for kind in ("u1", "i1", "u2", "i2", "i4") if _holds(kind, low, high))
    return [kind, packed(values, f"<{kind}")]


def _holds(kind: str, low: int, high: int) -> bool:
    return np.iinfo(kind).min <= low <= high <= np.iinfo(kind).max


def _thumbnails(images: np.ndarray, sheets: dict[str, str]) -> dict[str, Any]:
    n, height, width, _ = images.shape
    largest = min(_LARGEST_SIDE, max(height, width), int((_PIXELS / n) ** 0.5))
    scale = largest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    keys = []
    for start in range(0, n, _SHEET):
        sheet = _sheet(images[start : start + _SHEET], size)
        key = hashlib.sha256(sheet.encode()).hexdigest()[:16]
        sheets[key] = sheet
        keys.append(key)
    return {"width": size[0], "height": size[1], "columns": _SHEET_COLUMNS, "sheets": keys}


def _sheet(images: np.ndarray, size: tuple[int, int]) -> str:
    """Up to 1600 images side by side as a data URI: PNG where they are grey, else JPEG.

    Photographs would be five times the size as PNG.
    """
    sheet = picture(tiled(images, size, -(-len(images) // _SHEET_COLUMNS), _SHEET_COLUMNS))
    out = io.BytesIO()
    if images.shape[3] == 1:
        sheet.save(out, "PNG")
        kind = "png"
    else:
        sheet.save(out, "JPEG", quality=85)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
