"""From a path that a stranger may have filled to the bytes of one HDF5 file, and what is told about it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxtl.errors import JaxtlError
from jaxtl.models.foreign import check_whole, describe, describe_zip, refuse_folder
from jaxtl.records.members import DAMAGED, PACKED

# MobileNetV2 of width 1.4 with 1000 classes has 25 MB; with Adam's state 75 MB.
MAX_BYTES = 2**30
# Keras stores members uncompressed, and weights hardly compress: more than this is no model.
MAX_EXPANSION = 100
_SMALL = 2**26
_WEIGHTS, _CONFIG, _METADATA = "model.weights.h5", "config.json", "metadata.json"


@dataclass(frozen=True)
class Source:
    """A file of weights.

    Attributes:
        path: as the user gave it.
        sha256: of the file itself, in hex.
        hdf5: the bytes of the HDF5 file, from inside the archive for `.keras`.
        model_config: JSON of the network that the archive holds, None where there is none.
        keras_version: as the archive's metadata state it, None where unknown.
    """

    path: str
    sha256: str
    hdf5: bytes
    model_config: str | None = None
    keras_version: str | None = None


def read_source(path: str | os.PathLike[str]) -> Source:
    """Read a `.h5`, `.weights.h5` or `.keras` file, told apart by content.

    Raises JaxtlError where it is absent, no plain file, empty, too large, or neither HDF5 nor a sound
    Keras archive.
    """
    data = read_file(Path(path), ".h5 or .keras")
    where, digest = str(path), hashlib.sha256(data).hexdigest()
    if data.startswith(b"PK\x03\x04"):
        return _read_archive(where, digest, data)
    if not data.startswith(b"\x89HDF\r\n\x1a\n"):
        kind, remedy = describe(data, Path(path).name)
        raise JaxtlError(f"{where}: {kind}, neither HDF5 nor a Keras archive; {remedy}")
    return Source(where, digest, data)


def read_file(path: Path, wanted: str) -> bytes:
    """All of a file; `wanted` are the suffixes of those that are meant.

    Raises JaxtlError where it is absent, no plain file, empty or too large.
    """
    if path.is_dir():
        raise refuse_folder(path, wanted)
    try:
        if not path.is_file():
            raise JaxtlError(f"{path}: no such file" if not path.exists() else f"{path}: not a plain file")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise JaxtlError(
                f"{path}: {size:,} bytes; weights of a network that jaxtl has stay far below {MAX_BYTES:,}"
            )
        check_whole(path)
        data = path.read_bytes()
    except OSError as error:
        raise JaxtlError(
            f"{path}: cannot be read ({error.strerror}); check the path and its rights"
        ) from None
    if not data:
        raise JaxtlError(f"{path}: an empty file; download or save it again")
    return data


@contextlib.contextmanager
def opened_zip(data: bytes, where: str) -> Iterator[zipfile.ZipFile]:
    """A zip archive, to read members of. Raises JaxtlError where it is broken, there or while it is read."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive
    except JaxtlError:
        raise
    except DAMAGED as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise JaxtlError(f"{where}: a broken zip archive ({reason}); download or save it again") from None


def check_packing(where: str, member: zipfile.ZipInfo) -> None:
    """Raises JaxtlError for a member that is packed as no library packs weights."""
    if member.compress_type not in PACKED:
        # LZMA's header alone may ask for 4 GiB.
        raise JaxtlError(
            f"{where}: member {member.filename} is packed in a way that weights are not; unpack the archive, "
            "and zip it again without compression"
        )


def _read_archive(where: str, digest: str, data: bytes) -> Source:
    with opened_zip(data, where) as archive:
        hdf5 = _member(where, archive, _WEIGHTS, MAX_BYTES)
        config = _member(where, archive, _CONFIG, _SMALL)
        metadata = _member(where, archive, _METADATA, _SMALL)
    return Source(where, digest, hdf5, config.decode("utf-8", "replace"), _keras_version(where, metadata))


def _member(where: str, archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """One member; what the archive declares of it is checked before a byte is unpacked."""
    members = [info for info in archive.infolist() if info.filename == name]
    if len(members) != 1:
        kind, remedy = describe_zip(archive)
        count = f"{len(members)} members named" if members else "no member"
        raise JaxtlError(f"{where}: {kind}, with {count} {name}; {remedy}")
    check_packing(where, members[0])
    size = members[0].file_size
    if size > limit:
        raise JaxtlError(f"{where}: member {name} declares {size:,} bytes, over the limit of {limit:,}")
    if size > _SMALL and size > MAX_EXPANSION * members[0].compress_size:
        raise JaxtlError(f"{where}: member {name} expands over {MAX_EXPANSION}-fold; it is not a Keras model")
    # zipfile never unpacks more than the declared size, and checks the CRC at its end.
    return archive.read(members[0])


def _keras_version(where: str, metadata: bytes) -> str | None:
    try:
        value = json.loads(metadata)
    except (ValueError, RecursionError):
        raise JaxtlError(f"{where}: member {_METADATA} is not JSON; save the model again") from None
    version = value.get("keras_version") if isinstance(value, dict) else None
    return version if isinstance(version, str) else None
