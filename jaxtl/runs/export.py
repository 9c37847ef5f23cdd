"""A finished run in the formats that other tools read: CSV, Parquet, TensorBoard's embedding projector."""

from __future__ import annotations

import io
import math
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from jaxtl.errors import JaxtlError, install
from jaxtl.metrics.change import OUTCOMES
from jaxtl.plots.sprites import picture, tiled
from jaxtl.records.files import replacing, write_text
from jaxtl.records.tables import as_csv
from jaxtl.runs.data import RunData, distances_to, features_of, load_run
from jaxtl.runs.folder import RunFolder
from jaxtl.runs.lock import Hold
from jaxtl.settings import EXPORTS, STAGES

# The projector refuses a larger sprite (MAX_SPRITE_IMAGE_SIZE_PX of its data-provider.ts).
SPRITE_SIDE = 8192
_CLASSIFIERS = ("knn", "knn_training", "probe")
_HEAD = ("head_after", "head_probability")
_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def export(
    folder: str | os.PathLike[str], to: str, out: str | os.PathLike[str], stage: str = "both"
) -> tuple[list[Path], list[str]]:
    """Write a run, one row an image, for other tools.

    "csv" makes one table: index (row in the dataset's test split), id (what the image is called in its
    source, where it has a name), label and class where they are known, knn_STAGE (label that the
    10 nearest neighbours vote for), knn_training_STAGE and probe_STAGE (that the 10 nearest training images
    and the logistic probe name), head_after and head_probability, trust_STAGE_METHOD (share of the 10 nearest
    in the embedding that are so in the features), STAGE_METHOD_x and STAGE_METHOD_y. Of both stages it also
    has outcome_knn and outcome_probe (right, fixed, broken or wrong), kept and kept_METHOD (share of the 10
    nearest before that are so after) and moved.
    "parquet" adds what Embedding Atlas reads: image {bytes, path}, PNG, and neighbors_STAGE {ids,
    distances}, nearest first, ids being rows, distances Euclidean between features. "tensorboard" makes a
    folder for the embedding projector: features and embeddings as TSV, metadata, a sprite of the images and
    projector_config.pbtxt, to be opened with `tensorboard --logdir`. The projector's TSV cannot quote, so
    there tabs and line ends in class names are written as escapes.

    Args:
        folder: of a run, as `jaxtl run` makes it.
        to: "csv", "parquet" or "tensorboard".
        out: a file; for "tensorboard" a folder.
        stage: "before", "after" or "both".

    Returns:
        The files written, and one line for everything that had to be left out.

    Raises:
        JaxtlError: no such format, stage or run folder, no embedding of the stage, damaged files, `out` is a
            folder where a file is to be or the reverse, or PyArrow is not installed.
    """
    if to not in EXPORTS:
        raise JaxtlError(f"to must be one of {', '.join(EXPORTS)}, got {to!r}")
    if stage not in (*STAGES, "both"):
        raise JaxtlError(f"stage must be before, after or both, got {stage!r}")
    out, stages = Path(out), STAGES if stage == "both" else (stage,)
    if to == "tensorboard" and out.exists() and not out.is_dir():
        raise JaxtlError(f"{out}: a file; tensorboard takes a folder: give another path")
    if to != "tensorboard" and out.is_dir():
        raise JaxtlError(f"{out}: a folder; {to} is one file: give a path that ends in .{to}")
    files, run = RunFolder(folder), load_run(folder)
    if not any(of in stages for of, _ in run.embeddings):
        raise JaxtlError(f"{folder}: holds no maps of stage {stage}; {files.go_on}")
    notes = [] if run.measures else [f"without predictions and neighbours: {files.measures} is not there"]
    if to == "csv":
        _write_csv(out, _table(run, stages))
        return [out], notes
    features, absent = features_of(files, run, stages)
    notes += absent
    if run.images is None and not run.is_comparison:
        notes.append(f"without images: {run.images_fault}")
    if to == "parquet":
        _write_parquet(out, run, stages, features)
        return [out], notes
    # Of two runs at a time the files would be mixed.
    with Hold(out):
        return _write_projector(out, run, stages, features), notes


def _table(run: RunData, stages: tuple[str, ...]) -> dict[str, Any]:
    """Columns by name, of one length."""
    columns = _of_images(run, stages)
    for stage, method in _embedded(run, stages):
        for axis, values in zip("xy", run.embeddings[stage, method].coords.T, strict=True):
            columns[f"{stage}_{method}_{axis}"] = values
    return columns


def _of_images(run: RunData, stages: tuple[str, ...]) -> dict[str, Any]:
    columns: dict[str, Any] = {"index": run.index}
    if run.ids is not None:
        columns["id"] = run.ids.tolist()
    if run.labels is not None:
        columns["label"] = run.labels
        columns["class"] = [run.class_names[label] for label in run.labels]
    names = [f"{name}_{stage}" for stage in stages for name in _CLASSIFIERS]
    names += _HEAD if "after" in stages else ()
    names += [f"trust_{stage}_{method}" for stage, method in product(stages, run.methods)]
    columns |= {name: run.measures[name] for name in names if name in run.measures}
    return columns | (_changes(run) if len(stages) > 1 else {})


def _changes(run: RunData) -> dict[str, Any]:
    """What became of each image between the stages."""
    known = [name for name in ("outcome_knn", "outcome_probe") if name in run.measures]
    told = {name: [OUTCOMES[code] for code in run.measures[name]] for name in known}
    names = ("kept", "moved", *(f"kept_{method}" for method in run.methods))
    return told | {name: run.measures[name] for name in names if name in run.measures}


def _embedded(run: RunData, stages: tuple[str, ...]) -> list[tuple[str, str]]:
    return [
        (stage, method) for stage in stages for method in run.methods if (stage, method) in run.embeddings
    ]


def _text(values: Any) -> list[str]:
    # 9 significant digits are what it takes to give back every float32.
    real = isinstance(values, np.ndarray) and values.dtype.kind == "f"
    return [f"{value:.9g}" if real else str(value) for value in values]


def _write_csv(path: Path, columns: dict[str, Any]) -> None:
    # RFC 4180's line ends: with "\n" alone csv would leave a "\r" within a class name unquoted.
    write_text(path, as_csv(columns, zip(*map(_text, columns.values()), strict=True), "\r\n"))


def _write_parquet(
    path: Path, run: RunData, stages: tuple[str, ...], features: dict[str, np.ndarray]
) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise JaxtlError(f"Parquet is written by PyArrow; {install('parquet')}") from None
    columns = {name: pa.array(values) for name, values in _table(run, stages).items()}
    for stage, values in features.items():
        if f"neighbors_{stage}" in run.measures:
            ids = run.measures[f"neighbors_{stage}"]
            rows = zip(ids.tolist(), distances_to(values, ids).tolist(), strict=True)
            kind = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
            columns[f"neighbors_{stage}"] = pa.array([{"ids": i, "distances": d} for i, d in rows], kind)
    if run.images is not None:
        names = [] if run.ids is None else run.ids.tolist()
        images = [
            {"bytes": _png(image), "path": name}
            for image, name in zip(run.images, names or [f"{index}.png" for index in run.index], strict=True)
        ]
        columns["image"] = pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    with replacing(path) as temporary:
        parquet.write_table(pa.table(columns), temporary)


def _png(image: np.ndarray) -> bytes:
    out = io.BytesIO()
    picture(image).save(out, "PNG")
    return out.getvalue()


def _write_projector(
    folder: Path, run: RunData, stages: tuple[str, ...], features: dict[str, np.ndarray]
) -> list[Path]:
    tensors = {f"features_{stage}": values for stage, values in features.items()}
    for stage, method in _embedded(run, stages):
        # A third axis of zeros: the projector opens in 3-D, and its PCA of two columns has no third, but NaN.
        tensors[f"{method}_{stage}"] = np.pad(run.embeddings[stage, method].coords, ((0, 0), (0, 1)))
    written = [folder / "metadata.tsv"]
    _write_metadata(written[0], _of_images(run, stages))
    for name, values in tensors.items():
        written.append(folder / f"{name}.tsv")
        _write_tensor(written[-1], values)
    size = None
    if run.images is not None:
        written.append(folder / "sprite.png")
        size = _write_sprite(written[-1], run.images)
    written.append(folder / "projector_config.pbtxt")
    write_text(written[-1], "".join(_embedding(name, v.shape, size) for name, v in tensors.items()))
    return written


def _write_metadata(path: Path, columns: dict[str, Any]) -> None:
    texts = [[text.translate(_ESCAPES) for text in _text(values)] for values in columns.values()]
    lines = ["\t".join(columns), *map("\t".join, zip(*texts, strict=True))]
    write_text(path, "\n".join(lines) + "\n")


def _write_tensor(path: Path, values: np.ndarray) -> None:
    # TSV, not raw floats: TensorBoard tries to read either as text first, and a few floats may pass for it.
    line = "\t".join(["%.9g"] * values.shape[1]) + "\n"
    with replacing(path) as temporary, temporary.open("w", encoding="ascii") as stream:
        stream.writelines(line % tuple(row.tolist()) for row in values)


def _write_sprite(path: Path, images: np.ndarray) -> tuple[int, int]:
    """A square grid of the images, row by row, shrunk where too large. Returns a tile's (width, height)."""
    n, height, width, _ = images.shape
    tiles = math.isqrt(n - 1) + 1
    scale = min(1.0, SPRITE_SIDE // tiles / max(height, width))
    size = (max(1, int(width * scale)), max(1, int(height * scale)))
    with replacing(path) as temporary:
        picture(tiled(images, size, tiles, tiles)).save(temporary, "PNG")
    return size


def _embedding(name: str, shape: tuple[int, ...], size: tuple[int, int] | None) -> str:
    """One `embeddings` of TensorBoard's projector_config.proto, as text."""
    lines = [f'tensor_name: "{name}"', f'tensor_path: "{name}.tsv"', 'metadata_path: "metadata.tsv"']
    lines += [f"tensor_shape: {count}" for count in shape]
    if size:
        sides = " ".join(f"single_image_dim: {side}" for side in size)
        lines.append(f'sprite {{ image_path: "sprite.png" {sides} }}')
    return "\n  ".join(["embeddings {", *lines]) + "\n}\n"
