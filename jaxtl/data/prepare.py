"""Preparing a TFDS set, which `jaxtl.data.tfds` has done in a process of its own.

So TensorFlow, which TFDS needs for this alone, stays out of the user's process, cannot see its GPU, and
keeps its messages to itself.
"""

from __future__ import annotations

from jaxtl.errors import JaxtlError

_LONGEST = 240


def prepare(name: str, data_dir: str) -> None:
    """Download and write the set `name` as array_record files, which are read without TensorFlow.

    Raises JaxtlError, of one line, for whatever goes wrong.
    """
    try:
        import tensorflow_datasets as tfds

        # Google's bucket of prepared sets has TFRecord files alone.
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        tfds.builder(name, data_dir=data_dir).download_and_prepare(
            file_format="array_record", download_config=config
        )
    except Exception as error:  # a set's own code ran, and may raise anything
        raise JaxtlError(first_line(error)) from error


def first_line(error: BaseException) -> str:
    """An exception on one line: its type and the first line of its message, cut to a readable length."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0].rstrip(' :')}" if lines else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
