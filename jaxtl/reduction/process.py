"""Reductions in a process of their own, so that one that hangs or dies does not take a run with it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import defaultdict
from itertools import chain
from typing import Any

from jaxtl.errors import JaxtlError
from jaxtl.machine import cores
from jaxtl.machine.child import Child
from jaxtl.machine.process import Silence
from jaxtl.progress import Progress
from jaxtl.records.arrays import Embedding, Features, Neighbors, Pathlike
from jaxtl.records.files import remove_leftovers
from jaxtl.reduction import reduce
from jaxtl.reduction.choice import on_cpu


class Reducer(contextlib.AbstractContextManager["Reducer"]):
    """A process that reduces features; when it starts, ends and is replaced is told at `Child`.

    Args:
        time_limit: seconds for one call of `reduce`, > 0; may be infinite.
        preload: modules to import at the start, as of `Child`.
    """

    def __init__(self, time_limit: float, preload: tuple[str, ...] = ()) -> None:
        self._time_limit = time_limit
        self._child = Child((__name__, *preload))

    @property
    def pid(self) -> int | None:
        """The number of the process, where there is one."""
        return self._child.pid

    def reduce(
        self,
        features_path: Pathlike,
        out_path: Pathlike,
        method: str,
        backend: str,
        params: dict[str, Any],
        progress: Progress | None = None,
        neighbors_path: Pathlike | None = None,
        threads: int | None = None,
        onto_path: Pathlike | None = None,
    ) -> Embedding:
        """`jaxtl.reduce` of the features in a file to an embedding in another, and that embedding.

        Args:
            features_path: an npz of `Features`.
            out_path: where the embedding goes; whole or not at all.
            method, backend, params: as for `jaxtl.reduce`; params must be what JSON can hold.
            progress: called with the fraction of the work done, from 0 to 1. What it raises ends the work.
            neighbors_path: an npz of `Neighbors` of these features, where they are known.
            threads: that "all cores" (n_jobs -1) are to mean there, since others are at work beside it; None
                means all. It shows in no result.
            onto_path: an npz of the embedding that this one is turned onto, if any.

        Raises:
            JaxtlError: as `jaxtl.reduce`; no result within the time limit; the process died.
            OSError: the embedding cannot be written.
            MemoryError, RuntimeError: any other error, its traceback as the cause.
        """
        arguments = {
            "features": os.path.abspath(features_path),
            "out": os.path.abspath(out_path),
            "method": method,
            "backend": backend,
            "params": params,
            "neighbors": neighbors_path and os.path.abspath(neighbors_path),
            "threads": threads,
            "onto": onto_path and os.path.abspath(onto_path),
        }
        try:
            self._child.call(f"{__name__}:reduce_file", arguments, self._time_limit, progress)
        except Silence as error:
            remedy = "take fewer images, raise --time-limit" if error.late else "take fewer images"
            message = f"{method} ({backend}): {error}; {remedy}{_advice(method, backend)}"
            raise JaxtlError(message) from None
        finally:
            remove_leftovers(out_path)
        return Embedding.load(out_path)

    def interrupt(self) -> None:
        """From another thread: end the process, so that a call of `reduce` raises JaxtlError at once."""
        self._child.interrupt()

    def close(self) -> None:
        """End the process, in the middle of its work too."""
        self._child.close()

    def __exit__(self, *exception: object) -> None:
        self.close()


class Reducers:
    """Processes that are kept for who reduces next, as many as are asked for at a time; any threads may ask.

    Args:
        lasting: whether they outlast the run that starts them, for others to come; who made this closes it.
    """

    def __init__(self, lasting: bool = False) -> None:
        self._lasting, self._lock = lasting, threading.Lock()
        self._idle: dict[str, list[Reducer]] = defaultdict(list)
        self._busy: list[Reducer] = []

    def take(self, kept_for: str, time_limit: float, preload: tuple[str, ...]) -> Reducer:
        """One that is kept for this and has nothing to do, or a new one; other arguments as of `Reducer`."""
        with self._lock:
            idle = self._idle[kept_for]
            reducer = idle.pop() if idle else Reducer(time_limit, preload)
            self._busy.append(reducer)
            return reducer

    def give_back(self, kept_for: str, reducer: Reducer) -> None:
        """It has nothing to do."""
        with self._lock:
            self._busy.remove(reducer)
            self._idle[kept_for].append(reducer)

    def stop(self) -> None:
        """End those that work, in the middle of it; and unless they are lasting all others."""
        with self._lock:
            for reducer in self._busy:
                reducer.interrupt()
        if not self._lasting:
            self.close()

    def close(self) -> None:
        """End those that have nothing to do."""
        with self._lock:
            idle, self._idle = list(chain(*self._idle.values())), defaultdict(list)
        for reducer in idle:
            reducer.close()


def _advice(method: str, backend: str) -> str:
    others = [name for name in on_cpu(method) if name != backend]
    return f" or take --backend {' or '.join(others)}" if others else ""


def reduce_file(
    features: str,
    out: str,
    method: str,
    backend: str,
    params: dict[str, Any],
    neighbors: str | None,
    threads: int | None,
    onto: str | None,
    progress: Progress | None = None,
) -> None:
    """What the process does, with the arguments of `Reducer.reduce`."""
    cores.use_at_most(threads)
    known = Neighbors.load(neighbors) if neighbors else None
    embedding = reduce(
        Features.load(features),
        method,
        backend,
        known_neighbors=known,
        onto=Embedding.load(onto) if onto else None,
        progress=progress,
        **params,
    )
    embedding.save(out)
