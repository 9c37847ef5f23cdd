"""A finished run's network for other libraries."""

from __future__ import annotations

import os
from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.exports.forms import export_network
from jaxtl.exports.network import ExportedNetwork
from jaxtl.models.weights import imagenet_path, load_arrays
from jaxtl.runs.folder import RunFolder
from jaxtl.settings import NETWORKS, USUAL_PREPROCESSING


def export(
    folder: str | os.PathLike[str], to: str, out: str | os.PathLike[str], stage: str = "after"
) -> list[Path]:
    """Write the network of a run's stage as another library's.

    Args:
        folder: of a run.
        to: "keras" (a `.keras` file, softmax head and scaling of pixels included), "torch" (a state_dict of
            torchvision's MobileNetV2 as `.safetensors`, and a `.py` that loads it and pads as it must) or
            "onnx" (pixels [n, 3, h, w] to features, and probabilities where there is a head).
        out: where to; it ends as the form does.
        stage: "before" has the weights that the run started from.

    Returns:
        The files written.

    Raises:
        JaxtlError: no such form, stage or run folder, a run that is not finished, weights that are not those
            it started from, another ending of `out`, or a library that is not installed.
    """
    if to not in NETWORKS:
        raise JaxtlError(f"to must be one of {', '.join(NETWORKS)}, got {to!r}")
    if stage not in ("before", "after"):
        raise JaxtlError(f"stage must be before or after for a network, got {stage!r}")
    out = Path(out)
    if out.suffix != NETWORKS[to]:
        raise JaxtlError(f"{out}: {to} takes a name that ends in {NETWORKS[to]}")
    if out.is_dir():
        raise JaxtlError(f"{out}: a folder; give the name of a file to write")
    try:
        return export_network(_network(RunFolder(folder), stage), to, out)
    except OSError as error:
        raise JaxtlError(f"{out}: cannot be written ({error.strerror}); choose another folder") from None


def _network(run: RunFolder, stage: str) -> ExportedNetwork:
    run.check()
    config, digest = run.started.read()
    run.check_there([run.model, run.features["after"]])
    if stage == "after":
        model, arrays, _ = run.model.read()
    else:
        path = config.weights or imagenet_path()
        model, arrays, metadata = load_arrays(path)
        if metadata["tensor_digest"] != digest:
            raise JaxtlError(f"{path}: not the weights that {run} was started with; restore that file")
    names = tuple(run.features["after"].read().meta.get("class_names", ())) if stage == "after" else ()
    preprocessing = config.preprocessing or USUAL_PREPROCESSING
    return ExportedNetwork(
        model, arrays, config.image_size, preprocessing, names, f"jaxtl run, {config.dataset}, {stage}"
    )
