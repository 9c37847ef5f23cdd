"""A finished run's network, or that of a file of weights, for other libraries."""

from __future__ import annotations

import os
from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.exports.forms import export_network
from jaxtl.exports.network import ExportedNetwork
from jaxtl.models.weights import imagenet_path, load_arrays
from jaxtl.records.kinds import kind_of
from jaxtl.runs.folder import RunFolder
from jaxtl.settings import NETWORKS, STAGES, USUAL_PREPROCESSING, Images


def export(
    source: str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str],
    stage: str | None = None,
    image_size: int | None = None,
) -> list[Path]:
    """Write the network of a run's stage, or of a file of weights, as another library's.

    Args:
        source: folder of a run, or a `.safetensors` file of `jaxtl finetune` or `weights_convert`.
        to: "keras" (a `.keras` file, softmax head and scaling of pixels included), "torch" (a state_dict of
            torchvision's network as `.safetensors`, and a `.py` that loads it and pads as it must) or
            "onnx" (pixels [n, 3, h, w] to features, and probabilities where there is a head).
        out: where to; it ends as the form does.
        stage: of a run, "before" has the weights that it started from; None is "after".
        image_size: height and width of the network's images, for a file of weights, which does not tell it.

    Returns:
        The files written.

    Raises:
        JaxtlError: no such form, stage or run folder, a run that is not finished, weights that are not those
            it started from, another ending of `out`, a stage of a file, an image size of a run, or a library
            that is not installed.
    """
    if to not in NETWORKS:
        raise JaxtlError(f"to must be one of {', '.join(NETWORKS)}, got {to!r}")
    if stage not in (None, *STAGES):
        raise JaxtlError(f"stage must be before or after for a network, got {stage!r}")
    out = Path(out)
    if out.suffix != NETWORKS[to]:
        raise JaxtlError(f"{out}: {to} takes a name that ends in {NETWORKS[to]}")
    if out.is_dir():
        raise JaxtlError(f"{out}: a folder; give the name of a file to write")
    of_file = Path(source).is_file() or Path(source).suffix == ".safetensors"
    network = _of_file(source, stage, image_size) if of_file else _of_run(source, stage, image_size)
    if of_file and out.exists() and out.samefile(source):
        raise JaxtlError(f"{out}: input and output are the same file; give another output")
    try:
        return export_network(network, to, out)
    except OSError as error:
        raise JaxtlError(f"{out}: cannot be written ({error.strerror}); choose another folder") from None


def _of_file(path: str | os.PathLike[str], stage: str | None, image_size: int | None) -> ExportedNetwork:
    if Path(path).suffix != ".safetensors":
        raise JaxtlError(
            f"{path}: holds {kind_of(Path(path))} and no network; give a file of weights (.safetensors), or "
            "the folder of a run"
        )
    if stage is not None:
        raise JaxtlError(f"{path}: a file of weights has no stages; leave out --stage")
    if image_size is None:
        raise JaxtlError(f"{path}: a file of weights tells no size of images; say --image-size, such as 96")
    model, arrays, _ = load_arrays(path)
    images = Images(image_size, model.preprocessing or USUAL_PREPROCESSING)
    origin = f"jaxtl's weights {Path(path).name}"
    return ExportedNetwork(model, arrays, images.image_size, str(images.preprocessing), (), origin)


def _of_run(folder: str | os.PathLike[str], stage: str | None, image_size: int | None) -> ExportedNetwork:
    if image_size is not None:
        raise JaxtlError(f"{folder}: a run has an image size of its own; leave out --image-size")
    run, stage = RunFolder(folder), stage or "after"
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
