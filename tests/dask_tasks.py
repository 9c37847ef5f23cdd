"""Functions that tests give to workers as tasks."""

import os
import signal
import time
from pathlib import Path

from jaxtl.errors import JaxtlError


def write(observer, path, text, seconds=0.0):
    """Leave a file; say which process did it, with which cores and variables."""
    with observer.step(f"Writing {text}") as progress:
        Path(f"{path}.begun").write_text(str(os.getpid()))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.02)
            progress(0.5)
        Path(path).write_text(text)
    observer.notify(f"wrote {text}")
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {
        "process": os.getpid(),
        "cores": sorted(os.sched_getaffinity(0)),
        "environment": {name: os.environ.get(name) for name in names},
    }


def refuse(observer, words):
    raise JaxtlError(words)


def fail(observer, words):
    raise RuntimeError(words)


def die_once(observer, path):
    """Die without a word, but not where that was done before."""
    if not Path(path).exists():
        Path(path).touch()
        os._exit(9)
    return "lived"


def kill_itself(observer):
    os.kill(os.getpid(), signal.SIGKILL)
