"""A scheduler of Dask's: one that is there, or one with workers on this machine as long as it is used."""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from jaxtl.errors import JaxtlError, install
from jaxtl.machine import shares
from jaxtl.machine.signals import at_signal
from jaxtl.progress import counted

_LOCAL = "local"
_CONNECT_SECONDS = 10.0
# For workers that a cluster is getting as it is asked; those that come later are used as they come.
_FIRST_WORKER_SECONDS = 10.0


class Connection:
    """A client of a scheduler.

    Attributes:
        client: Dask's.
        dask: the scheduler as the user named it.
        session: a text of this connection alone.
    """

    def __init__(self, client: Any, dask: str) -> None:
        self.client, self.dask, self.session = client, dask, secrets.token_hex(4)

    def wait(self, count: int) -> None:
        """Wait a moment for so many workers."""
        with contextlib.suppress(TimeoutError):
            self.client.wait_for_workers(count, timeout=_FIRST_WORKER_SECONDS)

    def there(self) -> set[str]:
        """Addresses of the workers that the scheduler has. Raises JaxtlError where it no longer answers."""
        return set(self.ask(self.client.nthreads))

    def ask(self, question: Callable[..., Any], *args: Any, **how: Any) -> Any:
        """What Dask answers. Raises JaxtlError where its scheduler no longer does."""
        try:
            return question(*args, **how)
        except (OSError, TimeoutError, RuntimeError) as error:
            if self.client.status == "running":
                raise
            raise self.lost() from error

    def lost(self) -> JaxtlError:
        return JaxtlError(f"--dask {self.dask}: its scheduler has gone; start it again")


@contextlib.contextmanager
def connected(dask: str) -> Iterator[tuple[Connection, int]]:
    """A connection as long as the block is entered, and how many workers there will be at least.

    Args:
        dask: as of `jaxtl.machine.cluster.executor`.

    Raises JaxtlError where Dask is not installed, or nobody answers.
    """
    count = local_count(dask)
    if find_spec("distributed") is None:
        raise JaxtlError(f"--dask {dask}: Dask is not installed; {install('dask')}")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        where = dask if count is None else stack.enter_context(_local_cluster(count))
        yield Connection(stack.enter_context(_client(where, dask)), dask), count or 1


def local_count(dask: str) -> int | None:
    """N of "local:N"; None for an address. Raises JaxtlError for another N than this machine can use."""
    kind, _, text = dask.partition(":")
    if kind != _LOCAL:
        return None
    gpus = shares.gpus_here()
    most, what = (len(gpus), "GPU") if gpus else (len(shares.cores_here()), "core")
    count = int(text) if text.isdecimal() and len(text) < 9 else 0
    if not 1 <= count <= most:
        raise JaxtlError(
            f"--dask {dask}: must be local:N, N from 1 to {most}, as this machine has {counted(most, what)}; "
            "or the address of a Dask scheduler, such as tcp://host:8786"
        )
    return count


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, Dask logs nothing here: what is worth knowing of its workers is told otherwise."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado", "asyncio")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _local_cluster(count: int) -> Iterator[Any]:
    """Workers on this machine, which end with this process however that ends."""
    import dask.config
    import distributed

    make: Any = distributed.LocalCluster
    if shares.gpus_here() and find_spec("dask_cuda"):
        make = import_module("dask_cuda").LocalCUDACluster
    scratch = tempfile.mkdtemp(prefix="jaxtl-dask-")
    remove = partial(shutil.rmtree, scratch, ignore_errors=True)
    settings = {
        "distributed.logging": {"distributed": "critical"},
        # Dask would set numbers of threads, in this process too.
        "distributed.nanny.pre-spawn-environ": {},
    }
    # Python's keeper of semaphores, which outlives a signal, would have its say after our last line.
    quiet = "ignore:resource_tracker"
    sys.warnoptions.append(quiet)
    with contextlib.ExitStack() as stack:
        stack.callback(sys.warnoptions.remove, quiet)
        stack.callback(remove)
        stack.enter_context(dask.config.set(settings))
        stack.enter_context(at_signal(remove))
        try:
            cluster = make(
                n_workers=count,
                threads_per_worker=1,
                local_directory=scratch,
                # What needs memory are children, at which Dask does not look.
                memory_limit=0,
                silence_logs=logging.CRITICAL,
                # By itself it would take one port, which another cluster may have.
                dashboard_address=None,
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            )
        except (OSError, RuntimeError, TimeoutError) as error:
            said = " ".join(str(error).split())
            raise JaxtlError(
                f"--dask {_LOCAL}:{count}: its workers do not start ({said}); take fewer, or leave it out"
            ) from error
        yield stack.enter_context(cluster)


@contextlib.contextmanager
def _client(where: Any, dask: str) -> Iterator[Any]:
    import distributed

    try:
        client = distributed.Client(where, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise JaxtlError(
            f"--dask {dask}: no scheduler answers ({said}); start one with: dask scheduler, or take local:N"
        ) from None
    with client:
        yield client
