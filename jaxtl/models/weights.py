"""Weights as safetensors files that say where they come from; loading is strict on both sides."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jaxtl.errors import JaxtlError
from jaxtl.models.families import FAMILIES
from jaxtl.models.foreign import described
from jaxtl.models.layers import NetworkConfig
from jaxtl.models.network import Network
from jaxtl.records.documents import parsed
from jaxtl.records.files import replacing
from jaxtl.records.names import is_text, readable
from jaxtl.records.places import check_file
from jaxtl.settings import MODELS, check_model

# The network whose weights come with jaxtl, and their file.
BUNDLED, IMAGENET = "mobilenet_v2", "mobilenet_v2_1.0_imagenet.safetensors"
# Of the files: with the family that a network belongs to.
FORMAT = "jaxtl-{}-1"
# Of their tensors, in safetensors' words.
_TYPE = "F32"


def tensor_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over the tensors in sorted order of name: name in UTF-8, then little-endian float32 in C order.

    It names the values whatever file they travel in.
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()


def arrays_of(model: Network) -> dict[str, np.ndarray]:
    """Every parameter and moving statistic by name, such as "Conv1/kernel", as float32 NumPy arrays."""
    return {
        f"{layer.name}/{key}": np.asarray(getattr(getattr(model, layer.name), key).get_value(), np.float32)
        for layer in model.config.layers
        for key in layer.parameters
    }


def complaints(config: NetworkConfig, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """All that keeps tensors of these shapes from filling the network exactly; empty where nothing does."""
    wanted = config.parameters
    return [
        *(f"missing {name} {list(wanted[name])}" for name in wanted if name not in shapes),
        *(f"unexpected {name} {list(shapes[name])}" for name in shapes if name not in wanted),
        *(
            f"{name} is {list(shapes[name])}, needs {list(wanted[name])}"
            for name in wanted
            if name in shapes and tuple(shapes[name]) != wanted[name]
        ),
    ]


def check_fit(config: NetworkConfig, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Raises JaxtlError with every complaint on one line: values that are not finite, and variances below 0,
    of which there is no root, included."""
    wrong = complaints(config, {name: array.shape for name, array in arrays.items()})
    wrong += [
        f"{name} holds NaN or infinite values" for name, a in arrays.items() if not np.isfinite(a).all()
    ]
    variances = ((name, a) for name, a in arrays.items() if name.endswith("/moving_variance"))
    wrong += [f"{name} holds variances below 0" for name, a in variances if (np.asarray(a) < 0).any()]
    _refuse(config, wrong, where)


def _refuse(config: NetworkConfig, wrong: list[str], where: str | os.PathLike[str]) -> None:
    if wrong:
        shown = "; ".join(wrong[:6]) + (f"; and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        raise JaxtlError(f"{where}: does not fit {config.label} (width {config.width:g}): {shown}")


def build(config: NetworkConfig, arrays: Mapping[str, np.ndarray], where: str = "weights") -> Network:
    """A model that holds exactly these arrays. Raises JaxtlError unless they fit."""
    check_fit(config, arrays, where)
    model = nnx.merge(*_without_arrays(config), copy=True)
    values = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    # Never the caller's own memory, which JAX would take over on a CPU: arrays of JAX's do not change.
    on_device = jax.device_put(values, may_alias=False)
    for name, array in on_device.items():
        layer, key = name.split("/")
        getattr(getattr(model, layer), key).set_value(array)
    return model


@functools.cache
def _without_arrays(config: NetworkConfig) -> tuple[nnx.GraphDef, nnx.State]:
    """A network's graph and shapes, traced once: a run builds five models, at a tenth of a second in Flax."""
    return nnx.split(nnx.eval_shape(lambda: FAMILIES[config.family].network(config, rngs=None)))


def save_weights(
    path: str | os.PathLike[str],
    config: NetworkConfig,
    arrays: Mapping[str, np.ndarray],
    provenance: Mapping[str, str],
) -> None:
    """Write a safetensors file whose metadata hold the network's config, the digest and the provenance."""
    check_fit(config, arrays, str(path))
    metadata = {
        **provenance,
        "format": FORMAT.format(config.family),
        "config": json.dumps(_recorded(config), sort_keys=True),
        "tensor_digest": tensor_digest(arrays),
    }
    tensors = {name: np.ascontiguousarray(arrays[name], np.float32) for name in sorted(arrays)}
    with replacing(path) as temporary:
        temporary.write_bytes(with_metadata(save(tensors), metadata))


def _recorded(config: NetworkConfig) -> dict[str, Any]:
    """The network's settings; what weights do not say of pixels is left out, as before it could be said."""
    record = asdict(config)
    return record if record["preprocessing"] else {k: v for k, v in record.items() if k != "preprocessing"}


def with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file's bytes with these metadata; equal contents give equal bytes."""
    # The library writes metadata in the order of a randomly seeded hash map; sorted, equal contents give
    # equal bytes. The header is 8 bytes of length and JSON padded with spaces to a multiple of 8.
    length = int.from_bytes(data[:8], "little")
    header = {"__metadata__": dict(sorted(metadata.items())), **json.loads(data[8 : 8 + length])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def load_arrays(
    path: str | os.PathLike[str],
) -> tuple[NetworkConfig, dict[str, np.ndarray], dict[str, str]]:
    """Config, arrays and metadata of a file that `save_weights` wrote.

    Raises JaxtlError where the file is absent, truncated, of another kind, or altered since (its digest
    differs).
    """
    _check_path(path)
    try:
        with safe_open(path, framework="np") as archive:
            metadata = archive.metadata() or {}
            config = _read_config(path, metadata)
            parts = {name: archive.get_slice(name) for name in archive.keys()}  # noqa: SIM118
            _check_header(path, config, parts)
            arrays = {name: archive.get_tensor(name) for name in parts}
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise _unread(Path(path), error) from None
    check_fit(config, arrays, str(path))
    if tensor_digest(arrays) != metadata.get("tensor_digest"):
        raise JaxtlError(f"{path}: its tensors do not match its digest; the file was altered, make it again")
    return config, arrays, metadata


def _check_path(path: str | os.PathLike[str]) -> None:
    check_file(path, "give a file of weights")
    if not is_text(os.fspath(path)):
        raise JaxtlError(f"{readable(path)}: its name is not UTF-8, as names of weights must be; rename it")


def _unread(path: Path, error: Exception) -> JaxtlError:
    """The error for a file that is no safetensors file, which says what it is where its bytes tell."""
    if told := described(path):
        kind, remedy = told
        return JaxtlError(f"{path}: {kind}, not weights of jaxtl; {remedy}")
    hint = "convert other formats with python -m weights_convert"
    return JaxtlError(f"{path}: not a whole safetensors file ({error}); {hint}")


def _check_header(path: str | os.PathLike[str], config: NetworkConfig, parts: Mapping[str, Any]) -> None:
    """Raises JaxtlError, before a tensor is read, for those that the network does not have, or not so."""
    _refuse(config, complaints(config, {name: tuple(part.get_shape()) for name, part in parts.items()}), path)
    if others := [name for name, part in parts.items() if part.get_dtype() != _TYPE]:
        kind = parts[others[0]].get_dtype()
        raise JaxtlError(
            f"{path}: tensor {others[0]} is {kind}, not {_TYPE}; make it with python -m weights_convert"
        )


def _read_config(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> NetworkConfig:
    families = {FORMAT.format(name): family for name, family in FAMILIES.items()}
    stated = metadata.get("format", "")
    family = families.get(stated)
    if family is None and stated.startswith(FORMAT.partition("{")[0]):
        raise JaxtlError(
            f"{path}: weights of another version of jaxtl ({stated}); make them anew by this one"
        )
    if family is None:
        raise JaxtlError(
            f"{path}: a safetensors file, but not one of jaxtl; convert it with: "
            "python -m weights_convert torch"
        )
    try:
        config = family.config(**parsed(metadata["config"]))
        _ = config.layers, config.parameters
        return config
    except JaxtlError as error:
        raise JaxtlError(f"{path}: {error}") from None
    except (KeyError, AttributeError, TypeError, ValueError, ArithmeticError) as error:
        raise JaxtlError(f"{path}: its metadata hold no readable network config ({error})") from None


def load_start(
    path: str | os.PathLike[str] | None = None, model: str | None = None
) -> tuple[NetworkConfig, dict[str, np.ndarray], dict[str, str]]:
    """`load_arrays` of what work starts from.

    Args:
        path: a file of `save_weights`; None for the weights that come with jaxtl.
        model: the network that they must be of, one of `jaxtl.settings.MODELS`; None for any.

    Raises:
        JaxtlError: as `load_arrays`; weights of another network; or a network whose weights do not come with
            jaxtl, and no path.
    """
    check_model(model)
    if path is None and model not in (None, BUNDLED):
        raise JaxtlError(f"model {model}: its weights do not come with jaxtl: {_how_to_get(model)}")
    config, arrays, metadata = load_arrays(imagenet_path() if path is None else path)
    if model not in (None, config.name):
        raise JaxtlError(
            f"{path}: holds {config.label}, not {MODELS[model]}; leave out --model {model}, "
            "or give other weights"
        )
    return config, arrays, metadata


def _how_to_get(model: str) -> str:
    (family,) = (f for f in FAMILIES.values() if model in {config.name for config in f.members})
    library, command, suffix = family.checkpoints
    return (
        f"convert {library}'s checkpoint with python -m weights_convert {command} {model}{suffix} "
        f"{model}.safetensors, and give that with --weights {model}.safetensors"
    )


def wanted_preprocessing(path: str | os.PathLike[str] | None = None) -> str | None:
    """What the weights of a file, or the bundled ones, want of pixels, as in `jaxtl.Images`; None: not said.

    The bundled ones do not say: in the founding experiment their images were scaled to [0, 1], though they
    had been trained on [-1, 1].
    """
    return load_arrays(imagenet_path() if path is None else path)[0].preprocessing


def load_model(path: str | os.PathLike[str] | None = None, model: str | None = None) -> Network:
    """A network with its weights, of the family that the file names.

    Args:
        path: a file of `jaxtl run`, `jaxtl finetune` or `weights_convert`; None for the bundled ImageNet
            weights of MobileNetV2.
        model: the network that it must be, such as "resnet18"; None for whatever the file holds.

    Raises:
        JaxtlError: the file is absent or damaged, or holds another network.
    """
    config, arrays, _ = load_start(path, model)
    return build(config, arrays, str(IMAGENET if path is None else path))


def imagenet_path() -> Path:
    """The bundled weights; their origin stands in `assets/PROVENANCE.md`."""
    return Path(str(resources.files("jaxtl"))) / "assets" / IMAGENET
