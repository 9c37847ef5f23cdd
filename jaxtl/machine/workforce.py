"""Which workers of Dask's may do tasks, and with what.

Dask does not know whether a worker has the folder and the jaxtl that its client has, nor which cores and
which GPU are its own. A worker that was looked at is given one unit of a resource, which every task asks for.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from functools import partial
from pathlib import Path
from typing import Any

import jaxtl
from jaxtl.errors import JaxtlError
from jaxtl.machine import shares, worker
from jaxtl.machine.connection import Connection
from jaxtl.machine.shares import Share
from jaxtl.machine.signals import at_signal
from jaxtl.progress import Observer, counted

# A network's file system shows after a while what another machine wrote.
_SEEN_SECONDS = 10.0
_TICK = 0.1
# Libraries whose versions numbers can depend on.
_LIBRARIES = (
    *("jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "openTSNE"),
    "scikit-learn-intelex",
)


class Workforce:
    """The workers that may do tasks.

    Args:
        folder: where the tasks' files will be.
        observer: told of workers that are left out, and of what numbers may depend on.
    """

    def __init__(self, connection: Connection, folder: Path, observer: Observer) -> None:
        self._connection, self._observer = connection, observer
        # What is there of the folder's path tells whether it is shared, before it is made.
        path = Path(os.path.abspath(folder))
        self._folder = next(place for place in (path, *path.parents) if place.is_dir())
        self._facts: dict[str, dict[str, Any]] = {}
        self._left_out: set[str] = set()
        # By machine, the workers that share it; one that has gone keeps its place until another takes it.
        self._places: dict[str, list[str]] = {}
        self._shares: dict[str, Share | None] = {}

    def admit(self, strict: bool = False) -> bool:
        """Take workers that have come. Returns whether there are any.

        `strict`: raise JaxtlError for one that cannot do the work; else it is left out, and that is told.
        """
        there = self._connection.there()
        new = sorted(there - self._facts.keys() - self._left_out)
        for address, facts in (self._look_at(new) if new else {}).items():
            if fault := _fault(facts, self._folder):
                if strict:
                    raise JaxtlError(f"--dask {self._connection.dask}: worker {address}{_at(facts)} {fault}")
                self._observer.notify(f"Worker {address}{_at(facts)} is left out: it {fault}")
                self._left_out.add(address)
            else:
                self._facts[address] = facts
                self._place(address, there)
                self._compare(address)
        self._divide(there)
        return bool(new)

    @property
    def count(self) -> int:
        """Workers that do tasks."""
        return len(self._given())

    @property
    def beside(self) -> int:
        """How many of them share a machine, at most."""
        return max((share.beside for share in self._given()), default=1)

    def _given(self) -> list[Share]:
        return [share for share in self._shares.values() if share]

    def told(self) -> str:
        """A line on what does the work, and what of it shows in numbers."""
        sizes = sorted(len(share.cores) for share in self._given())
        if not sizes:
            return f"Dask: {self._connection.dask} has no workers yet; tasks wait for them"
        cores = " to ".join(dict.fromkeys((str(sizes[0]), counted(sizes[-1], "core"))))
        if sizes[0] == sizes[-1]:
            cores = counted(sizes[-1], "core")
        line = f"Dask: {counted(len(sizes), 'worker')}, {cores} each"
        if {*sizes} == {len(shares.cores_here())}:
            return line
        return f"{line}; last digits can depend on the number of cores, which each run records"

    def _look_at(self, addresses: list[str]) -> dict[str, Any]:
        """What each of some workers is, or the error that asking it met; with files to be seen, both ways."""
        token = secrets.token_hex(8)
        mine = worker.probe(self._folder, token)
        arguments = str(self._folder), token, _LIBRARIES
        with at_signal(partial(mine.unlink, missing_ok=True)):
            try:
                mine.write_text(token)
                run = self._connection.client.run
                about = self._connection.ask(
                    run, worker.facts, *arguments, workers=addresses, on_error="return"
                )
                for facts in about.values():
                    _see(facts, token)
                return about
            finally:
                mine.unlink(missing_ok=True)

    def _place(self, address: str, there: set[str]) -> None:
        places = self._places.setdefault(self._facts[address]["machine"], [])
        free = next((k for k, other in enumerate(places) if other not in there), None)
        if free is None:
            places.append(address)
        else:
            places[free] = address

    def _divide(self, there: set[str]) -> None:
        """Give each worker its cores and its GPU, and so leave to work."""
        for places in self._places.values():
            for address, share in shares.divided({name: self._facts[name] for name in places}).items():
                if address not in there or (address in self._shares and self._shares[address] == share):
                    continue
                self._shares[address] = share
                give = self._connection.client.run, worker.give, self._connection.session, share
                self._connection.ask(*give, workers=[address])
                if share is None:
                    self._observer.notify(f"Worker {address} does nothing: its GPU is another worker's")

    def _compare(self, address: str) -> None:
        here, its = worker.versions_here(_LIBRARIES), self._facts[address]["versions"]
        unlike = [
            f"{name} {its.get(name, 'none')} and not {here.get(name, 'none')}"
            for name in {**here, **its}
            if its.get(name) != here.get(name)
        ]
        if unlike:
            self._observer.notify(f"Worker {address} has {', '.join(unlike)}; its numbers may differ")


def _see(facts: Any, token: str) -> None:
    """Look for the file that a worker wrote, and remove it; `fault` where it is not to be seen."""
    if not isinstance(facts, dict) or "wrote" not in facts:
        return
    path, deadline = Path(facts["wrote"]), time.monotonic() + _SEEN_SECONDS
    while True:
        with contextlib.suppress(OSError):
            if path.read_text() == token:
                path.unlink()
                return
        if time.monotonic() > deadline:
            facts["fault"] = "what it writes there is not seen here"
            return
        time.sleep(_TICK)


def _at(facts: Any) -> str:
    return f" on {facts['host']}" if isinstance(facts, dict) else ""


def _fault(facts: Any, folder: Path) -> str:
    """Why a worker cannot do the work, with a remedy; empty where it can."""
    if not isinstance(facts, dict):
        said = " ".join(str(facts).split())[:200]
        return f"cannot be asked ({said}); install jaxtl {jaxtl.__version__} in its environment"
    its = facts["versions"]["jaxtl"]
    if its != jaxtl.__version__:
        return f"has jaxtl {its}, and this is {jaxtl.__version__}; install the same for both"
    if fault := facts.get("fault"):
        return f"has not the folder {folder} that is here ({fault}); take one that all machines share"
    return ""
