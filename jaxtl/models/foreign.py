"""What a file is, told from its content, and what would read it: for files that are no weights of ours, or
that a converter cannot read."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.records.members import DAMAGED

KERAS = "convert it with: python -m weights_convert keras"
TORCH = "convert it with: python -m weights_convert torch"
# Bytes by which a file is told.
_HEAD = 1024
_RUN_IT = "compute features with {0} and give both files to jaxtl compare"
_BEGINNINGS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes it", KERAS),
    (b"GGUF", "a GGUF file of llama.cpp, which holds language models", "give a network for images"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch it with: git lfs pull"),
    (b"\x93NUMPY", "a NumPy array", "give the checkpoint that it was made from"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it first"),
    (b"BZh", "compressed by bzip2", "unpack it first"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"PAR1", "a Parquet table", "give a checkpoint"),
    (b"\x89PNG", "a picture", "give a checkpoint"),
    (b"\xff\xd8\xff", "a picture", "give a checkpoint"),
    (b"%PDF", "a PDF document", "give a checkpoint"),
)

_UNKNOWN = "of no kind that is known here", "give a checkpoint of Keras or PyTorch"
# How transformers and its relatives name the files of a checkpoint that is divided, and the list of them.
_PART = re.compile(r"-(?P<number>\d{5})-of-(?P<count>\d{5})\.\w+$")
_IN_ONE = "load it with its library and save it in one file: save_pretrained(FOLDER, max_shard_size='10GB')"


def described(path: Path) -> tuple[str, str] | None:
    """What a file that is no weights of jaxtl's is, and what to do; None where nothing tells."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                return describe_zip(archive)
        with path.open("rb") as file:
            data = file.read(_HEAD)
    except DAMAGED:
        return None
    # A safetensors file that is cut off: its first bytes, a length, may be anything.
    told = None if data[8:9] == b"{" else describe(data, path.name)
    return None if told == _UNKNOWN else told


def describe(data: bytes, name: str = "") -> tuple[str, str]:
    """What a file is that begins so, and what to do; `name` is its name."""
    text = data[:512].lstrip().lower()
    for beginning, kind, remedy in _BEGINNINGS:
        if data.startswith(beginning):
            return kind, remedy
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "a web page, not weights (the download went wrong)", "download the file itself"
    if data[4:8] == b"TFL3":
        return "a TFLite model, whose layers are fused", _RUN_IT.format("TensorFlow Lite")
    if data[257:262] == b"ustar":
        return "a tar archive, as PyTorch wrote it before 0.1.10, or a packed folder", "unpack it first"
    if name.endswith("saved_model.pb"):
        return "a graph of a TensorFlow SavedModel", _keras_first()
    if name.endswith(".onnx") or (data[:1] == b"\x08" and b"onnx" in data[:256].lower()):
        return "an ONNX model, whose layers have no names of their own", _RUN_IT.format("ONNX Runtime")
    if _is_safetensors(data):
        if data.find(b'"format":"jaxtl-', 8, 8 + int.from_bytes(data[:8], "little")) > 0:
            return "weights of jaxtl already", "give it to jaxtl run --weights"
        return "a safetensors file, as PyTorch's libraries write it", TORCH
    if data[8:9] == b"{" and data[9:10] in (b'"', b"}"):
        return "a safetensors file that ends within its header", "download or save it again"
    if data.startswith(b"\x80"):
        return "a Python pickle, perhaps of PyTorch", TORCH
    if name.endswith(".index.json"):
        return "the list of files of a checkpoint that is divided, not weights", _IN_ONE
    if text.startswith((b"{", b"[")):
        return "JSON text, not weights", "give the file of weights that lies beside it"
    return _UNKNOWN


def _keras_first() -> str:
    return "load it with Keras, save the model as .keras and convert that"


def describe_zip(archive: zipfile.ZipFile) -> tuple[str, str]:
    """The same for a zip archive."""
    names = archive.namelist()
    if "model.weights.h5" in names:
        return "a Keras archive", KERAS
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "a TorchScript program",
            "save its weights: torch.save(torch.jit.load(IN).state_dict(), OUT), and convert those",
        )
    if any(name.rpartition("/")[2] in ("archive_format", "archive_version") for name in names):
        return "a program of torch.export", "save the state_dict of the module, and convert that"
    if any(name.endswith("/data.pkl") for name in names):
        return "a PyTorch checkpoint", TORCH
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive", "give the checkpoint that it was made from"
    return "a zip of something else", "unpack it, and give the checkpoint within"


def check_whole(path: Path) -> None:
    """Raises JaxtlError for a file that is by its name one part of a checkpoint that is divided."""
    part = _PART.search(path.name)
    if part and int(part["count"]) > 1:
        raise JaxtlError(
            f"{path}: part {int(part['number'])} of {int(part['count'])} of a checkpoint that is divided; "
            f"{_IN_ONE}"
        )


def refuse_folder(path: Path, wanted: str) -> JaxtlError:
    """The error for a folder, which names the file within that is meant."""
    if (path / "saved_model.pb").is_file():
        return JaxtlError(f"{path}: a TensorFlow SavedModel; {_keras_first()}")
    of_libraries = [f"model{suffix}" for suffix in (".safetensors", ".keras", ".h5")]
    for name in (*of_libraries, "pytorch_model.bin"):
        if (path / name).is_file():
            return JaxtlError(f"{path}: a folder; give the file {path / name}")
    if any((path / f"{name}.index.json").is_file() for name in (*of_libraries, "pytorch_model.bin")):
        return JaxtlError(f"{path}: a checkpoint that is divided into several files; {_IN_ONE}")
    if (path / "data.pkl").is_file():
        return JaxtlError(f"{path}: an unpacked checkpoint of PyTorch; give the file before it was unpacked")
    return JaxtlError(f"{path}: a folder; give the {wanted} file itself")


def _is_safetensors(data: bytes) -> bool:
    return len(data) > 10 and data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8
