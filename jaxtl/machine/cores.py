"""Work over all cores: blocks of NumPy in threads, each with one BLAS thread, and graphs of such work.

One pool serves the whole process, and who waits for work takes part in it: work may hand out work of its own,
from any thread, without a deadlock and without more busy threads than cores and callers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple, TypeVar

from threadpoolctl import ThreadpoolController

from jaxtl.machine.host import cpu_count

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")

# Results that may wait to be taken, in parts for each thread.
_AHEAD = 4


class Task(NamedTuple):
    """A piece of work, and the names of the tasks that must have ended before it."""

    name: str
    work: Callable[[], Any]
    needs: tuple[str, ...] = ()


class _Limits:
    """The process's limits: of threads in all, and of BLAS threads with how many are inside of it."""

    most: int | None = None
    lock = threading.Lock()
    inside = 0
    libraries: Any = None
    held: Any = ()


def use_at_most(threads: int | None) -> None:
    """What "all cores" mean in this process from now on, at least 1; None takes all."""
    _Limits.most = threads


def workers(n_jobs: int | None = None) -> int:
    """Threads for a number of jobs as scikit-learn counts them: None and -1 are all cores."""
    if n_jobs not in (None, -1):
        return max(1, int(n_jobs))
    return min(cpu_count(), _Limits.most or cpu_count())


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside, BLAS and OpenMP compute in the thread that calls them.

    BLAS has one limit for the process. It is entered any number of times, from any threads, and ends with the
    last of them: `threadpool_limits` alone, entered by two threads, would be lifted by the first that leaves.
    OpenMP has one for each thread, so each that enters takes its own, and the pool's are held for good.

    Without it a machine of many cores comes to a stand: as many threads as it has cores each call a BLAS that
    calls as many again, and all wait for each other without sleeping.
    """
    with _Limits.lock:
        if not _Limits.inside:
            _Limits.libraries = _libraries()
            blas = _Limits.libraries.select(user_api="blas").lib_controllers
            _Limits.held = [(library, library.num_threads) for library in blas]
            for library in blas:
                _set_threads(library, 1)
        _Limits.inside += 1
        libraries = _Limits.libraries
    try:
        # Selected first: leaving a limit of one kind sets all kinds back to what they were.
        with libraries.select(user_api="openmp").limit(limits=1):
            yield
    finally:
        with _Limits.lock:
            _Limits.inside -= 1
            if not _Limits.inside:
                for library, threads in _Limits.held:
                    _set_threads(library, threads)


def _set_threads(library: Any, threads: int) -> None:
    # threadpoolctl 3.8 ignores, without a word, who sets OpenBLAS's threads while another thread has a limit.
    # Here there is one limit for all of them, under one lock.
    getattr(library, "_real_set_num_threads", library.set_num_threads)(threads)


def _libraries() -> ThreadpoolController:
    # SciPy brings a BLAS of its own and scikit-learn an OpenMP: what is loaded later is not held back.
    import scipy.linalg  # noqa: F401
    import sklearn.neighbors  # noqa: F401

    return ThreadpoolController()


def share(
    work: Callable[[_Part], _Result], parts: Sequence[_Part], workers: int | None = None
) -> list[_Result]:
    """`work` of each part, in order, by the calling thread and whichever of the pool's are free.

    Args:
        workers: threads at most, the caller's among them; None takes all cores.

    Raises what `work` raises first; parts that have not begun are then left out.
    """
    results: list[Any] = [None] * len(parts)
    errors: list[BaseException] = []
    numbers, lock = iter(range(len(parts))), threading.Lock()

    def take() -> int | None:
        with lock:
            return None if errors else next(numbers, None)

    def help_out() -> None:
        while (k := take()) is not None:
            try:
                results[k] = work(parts[k])
            except BaseException as error:
                errors.append(error)

    with one_blas_thread():
        count = min(workers or cpu_count(), len(parts)) - 1
        helpers = [shared_pool().submit(help_out) for _ in range(count)]
        try:
            help_out()
        finally:
            _end(helpers)
    if errors:
        raise errors[0]
    return results


def in_order(
    work: Callable[[_Part], _Result], parts: Sequence[_Part], workers: int | None = None
) -> Iterator[_Result]:
    """`share`, result by result, with few of them waiting: for parts whose results are large."""
    step = _AHEAD * (workers or cpu_count())
    for first in range(0, len(parts), step):
        yield from share(work, parts[first : first + step], workers)


def run(tasks: Sequence[Task], done: Callable[[str], None] = lambda name: None) -> None:
    """Work off a graph of tasks over all cores; of those that are ready the first in order comes first.

    Args:
        tasks: of different names; what a task needs is among them, in any order.
        done: called with the name of each task that has ended, one call at a time.

    Raises what a task raises first; tasks that have not begun are then left out.
    """
    graph = _Graph(tasks, done)
    with one_blas_thread():
        graph.work_off()


class _Graph:
    def __init__(self, tasks: Sequence[Task], done: Callable[[str], None]) -> None:
        self._waiting, self._ended, self._done = list(tasks), set(), done
        self._count, self._running = len(tasks), 0
        self._errors: list[BaseException] = []
        self._changed = threading.Condition()
        self._helpers: list[Future] = []

    def work_off(self) -> None:
        self._call_helpers()
        try:
            while self._left():
                self._help_out()
                with self._changed:
                    self._changed.wait_for(lambda: self._ready() or not self._left() or not self._running)
                    if not self._running and not self._ready() and self._left():
                        names = ", ".join(task.name for task in self._waiting)
                        raise ValueError(f"tasks need each other, or what is not there: {names}")
        except BaseException as error:  # such as Ctrl-C, which reaches the caller's thread alone
            with self._changed:
                self._errors.append(error)
        finally:
            _end(self._helpers)
        if self._errors:
            raise self._errors[0]

    def _left(self) -> bool:
        return not self._errors and len(self._ended) < self._count

    def _ready(self) -> Task | None:
        if self._errors:
            return None
        return next((task for task in self._waiting if self._ended.issuperset(task.needs)), None)

    def _take(self) -> Task | None:
        with self._changed:
            task = self._ready()
            if task:
                self._waiting.remove(task)
                self._running += 1
            return task

    def _help_out(self) -> None:
        while task := self._take():
            try:
                task.work()
            except BaseException as error:
                self._end(task, error)
            else:
                self._end(task, None)

    def _end(self, task: Task, error: BaseException | None) -> None:
        with self._changed:
            self._running -= 1
            if error is None:
                self._ended.add(task.name)
                try:
                    self._done(task.name)
                except BaseException as raised:
                    error = raised
            if error is not None:
                self._errors.append(error)
            self._changed.notify_all()
        self._call_helpers()

    def _call_helpers(self) -> None:
        with self._changed:
            ready = sum(self._ended.issuperset(task.needs) for task in self._waiting)
            self._helpers = [helper for helper in self._helpers if not helper.done()]
            free = cpu_count() - 1 - len(self._helpers)
            wanted = 0 if self._errors else min(ready, free)
            self._helpers += [shared_pool().submit(self._help_out) for _ in range(wanted)]


def _end(helpers: list[Future]) -> None:
    """Call off what has not begun, and wait for the rest; what a helper met, it has told already."""
    for helper in helpers:
        if not helper.cancel():
            helper.exception()


@cache
def shared_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(
        max(1, cpu_count() - 1),
        thread_name_prefix="jaxtl",
        initializer=lambda: _libraries().select(user_api="openmp").limit(limits=1),
    )
