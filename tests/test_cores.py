"""Work over all cores: in order, nested, with errors, as a graph, and with one BLAS thread each."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from threadpoolctl import ThreadpoolController, threadpool_info, threadpool_limits

from jaxtl.machine import cores
from jaxtl.machine.cores import Task, in_order, one_blas_thread, run, share

# Long enough for another thread to get its turn on a busy machine, and no test waits for more than a few.
_MOMENT = 0.02


@pytest.fixture
def many_cores(monkeypatch):
    """A pool of four threads, and a fifth that calls, whatever the machine has."""
    monkeypatch.setattr(cores, "cpu_count", lambda: 5)
    cores.shared_pool.cache_clear()
    yield
    cores.shared_pool().shutdown()
    cores.shared_pool.cache_clear()


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("workers", [None, 1, 2, 9])
@pytest.mark.parametrize("spread", [share, in_order])
def test_results_are_in_order(spread, workers, many_cores):
    def work(part):
        time.sleep(_MOMENT if part % 7 == 0 else 0)
        return part**2

    assert list(spread(work, range(45), workers)) == [part**2 for part in range(45)]
    assert list(spread(work, [], workers)) == []


def test_no_more_workers_than_asked_for(many_cores):
    seen = set()

    def work(part):
        time.sleep(_MOMENT / 10)
        seen.add(threading.get_ident())

    share(work, range(30), workers=1)
    assert seen == {threading.get_ident()}
    share(work, range(30), workers=2)
    assert len(seen) <= 2


def test_few_results_wait_to_be_taken(many_cores):
    begun = []
    results = in_order(begun.append, range(1000))
    next(results)
    assert len(begun) <= 4 * 5
    results.close()


def test_shared_work_shares_its_own_without_a_deadlock(many_cores):
    def deeper(depth):
        return sum(share(deeper, [depth - 1] * 3)) if depth else 1

    assert sum(share(deeper, [3] * 20)) == 20 * 27


def test_nested_work_takes_the_free_cores(many_cores):
    together = threading.Barrier(4)

    def outer(part):
        # Passes only when four threads are in it at once, of which one is the outer's.
        return share(lambda _: together.wait(timeout=60), range(4)) if part else []

    assert sorted(share(outer, [0, 1])[1]) == [0, 1, 2, 3]


def test_an_error_is_raised_and_what_has_not_begun_left_out(many_cores):
    begun = []

    def work(part):
        begun.append(part)
        if part == 3:
            raise ValueError("three")
        time.sleep(_MOMENT)

    with pytest.raises(ValueError, match="three"):
        share(work, range(1000))
    assert len(begun) < 100
    assert share(len, ["ab"]) == [2]  # the pool is as it was


def test_ctrl_c_in_the_caller_ends_the_work(many_cores):
    caller, begun = threading.get_ident(), []

    def work(part):
        begun.append(part)
        if threading.get_ident() == caller:
            raise KeyboardInterrupt
        time.sleep(_MOMENT)

    with pytest.raises(KeyboardInterrupt):
        share(work, range(1000))
    with pytest.raises(KeyboardInterrupt):
        run([Task(str(k), lambda k=k: work(k)) for k in range(200)])
    assert len(begun) < 200


def test_tasks_wait_for_what_they_need(many_cores):
    ended, told = [], []

    def task(name, *needs):
        def work():
            assert set(needs) <= set(ended)
            time.sleep(_MOMENT)
            ended.append(name)

        return Task(name, work, needs)

    run(
        [task("page", "map", "score"), task("score", "map"), task("map", "features"), task("features")],
        told.append,
    )
    assert ended == told == ["features", "map", "score", "page"]


def test_of_tasks_that_are_ready_the_first_comes_first(monkeypatch):
    monkeypatch.setattr(cores, "cpu_count", lambda: 1)
    order = []
    run([Task(name, lambda name=name: order.append(name)) for name in "cab"])
    assert order == ["c", "a", "b"]


def test_tasks_that_need_nothing_run_at_once(many_cores):
    together = threading.Barrier(5)
    run([Task(str(k), lambda: together.wait(timeout=60)) for k in range(5)])


@pytest.mark.parametrize("tasks", [[("a", "b"), ("b", "a")], [("a", "nothing")], [("a", "a"), ("b",)]])
def test_a_graph_that_cannot_be_worked_off_is_named(tasks, many_cores):
    with pytest.raises(ValueError, match=r"tasks need each other, or what is not there: a"):
        run([Task(name, lambda: None, tuple(needs)) for name, *needs in tasks])


def test_a_task_that_fails_leaves_the_rest_out(many_cores):
    done = []

    def fail():
        raise ValueError("no features")

    with pytest.raises(ValueError, match="no features"):
        run([Task("features", fail), Task("map", lambda: done.append("map"), ("features",))])
    with pytest.raises(ValueError, match="told"):
        run([Task("a", lambda: None), Task("b", lambda: done.append("b"), ("a",))], fail_when_told)
    assert not done


def fail_when_told(name):
    raise ValueError("told")


def test_the_limit_ends_with_the_last_that_leaves():
    with threadpool_limits(2):
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        assert blas_threads() == {1}
        first.__exit__(None, None, None)
        assert blas_threads() == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == {2}


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_the_limit_holds_whoever_enters_and_leaves_and_whatever_is_limited_within():
    """A limit of OpenMP alone, or of scikit-learn's own, in another thread, must not lift BLAS's."""
    seen, entered, leave = [], threading.Event(), threading.Event()

    def hold():
        with one_blas_thread():
            entered.set()
            leave.wait(60)

    def limit_within():
        with one_blas_thread(), ThreadpoolController().limit(limits=1, user_api="openmp"):
            seen.append(blas_threads())
        KMeans(2, n_init=1).fit(np.random.default_rng(0).normal(size=(50, 3)))
        seen.append(blas_threads())

    with threadpool_limits(2):
        holder = threading.Thread(target=hold)
        holder.start()
        entered.wait(60)
        for _ in range(3):
            in_thread(limit_within)
        # The one that entered first leaves; another that is inside keeps the limit.
        with one_blas_thread():
            leave.set()
            holder.join()
            in_thread(limit_within)
            seen.append(blas_threads())
        assert seen == [{1}] * len(seen)
        assert blas_threads() == {2}


def test_openmp_computes_in_the_thread_that_calls_wherever_that_is(many_cores):
    """OpenMP's limit is each thread's own, and k-means' clusters depend on how many there are."""
    before = _openmp_effective_n_threads()
    shares = share(
        lambda _: (time.sleep(_MOMENT), threading.get_ident(), _openmp_effective_n_threads()), range(20)
    )
    assert len({thread for _, thread, _ in shares}) > 1
    assert {count for _, _, count in shares} == {1}
    entered, left = threading.Event(), threading.Event()

    def hold():
        with one_blas_thread():
            entered.set()
            left.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    entered.wait(60)
    with one_blas_thread():
        assert _openmp_effective_n_threads() == 1
    left.set()
    other.join()
    assert _openmp_effective_n_threads() == before


def test_a_blas_that_is_loaded_later_is_held_back():
    code = """
import sys
from threadpoolctl import threadpool_info
from jaxtl.machine.cores import one_blas_thread
assert "sklearn" not in sys.modules and "scipy" not in sys.modules
with one_blas_thread():
    import scipy.linalg, sklearn.neighbors
    assert {each["num_threads"] for each in threadpool_info()} == {1}, threadpool_info()
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "2"})
