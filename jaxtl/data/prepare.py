"""Prepare a TFDS set: a script that `jaxtl.data.tfds` runs as a process of its own.

So TensorFlow, which TFDS needs for this alone, stays out of the user's process, cannot see its GPU, and
keeps its messages to itself. The last line on standard output is the error, if there is one.
"""

from __future__ import annotations

import sys

_LONGEST = 240


def first_line(error: BaseException) -> str:
    """An exception on one line: its type and the first line of its message, cut to a readable length."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0].rstrip(' :')}" if lines else type(error).__name__
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def main(name: str, data_dir: str) -> None:
    """Download and write the set `name` as array_record files, which are read without TensorFlow."""
    import tensorflow_datasets as tfds

    # Google's bucket of prepared sets has TFRecord files alone.
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    tfds.builder(name, data_dir=data_dir).download_and_prepare(
        file_format="array_record", download_config=config
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except Exception as error:  # a set's own code ran, and may raise anything: the caller reports it
        print(f"\n{first_line(error)}")
        sys.exit(1)
