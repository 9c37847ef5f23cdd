"""Compiled programs: with which of XLA's options, and ahead of their first call.

Tracing a function keeps Python busy, compiling it does not: what will be needed can be compiled in threads
while other work goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial, wraps
from typing import Any

import jax
from jax.sharding import Mesh

from jaxtl.machine.host import cpu_count
from jaxtl.machine.mesh import by_rows, mesh, named_by_rows, place, placed

Options = dict[str, bool | int | str]

# What a GPU's programs are compiled with. Seen on an H100, JAX 0.11.2: the frozen layers, batches of 1024,
# compile in 2.3 s instead of 30 and pass 479,000 images a second instead of 510,000; a training step on 32
# compiles in 1.1 s instead of 12.5 and takes 222 us instead of 148. A first run gains 40 s and loses 0.7.
_GPU_OPTIONS: Options = {
    # Products by cuBLAS: Triton's are compiled one by one.
    "xla_gpu_enable_triton_gemm": False,
    # No kernel is timed against others while compiling: seconds saved, and the same choice every time.
    "xla_gpu_autotune_level": 0,
}
# What a CUDA graph may hold. XLA's default leaves out loops; without them, every step is launched kernel by
# kernel from the host.
_IN_GRAPHS = ("FUSION", "CUBLAS", "CUBLASLT", "CUSTOM_CALL", "CUDNN", "DYNAMIC_SLICE_FUSION", "CONDITIONAL")
# Loops in graphs crashed at their second execution until openxla/xla#35760, of December 2025.
_LOOPS_IN_GRAPHS_SINCE = (0, 9)
# Forms of the convolutions that cuDNN computes, which must be tuned: untuned they were 2 to 20 times slower.
_TUNED_FORMS = ("xla", "mixed")

_chosen: Options | None = None


def options(loops_in_graphs: bool = True) -> Options:
    """XLA's options for this platform's programs; on anything but a GPU there are none.

    What the environment's XLA_FLAGS set is left to them.

    Args:
        loops_in_graphs: whether CUDA graphs hold loops, where JAX's version can.
    """
    if _chosen is not None:
        return _chosen
    if jax.default_backend() != "gpu":
        return {}
    with_loops = loops_in_graphs and _loops_in_graphs()
    graphs = ",".join([*_IN_GRAPHS, "WHILE"] if with_loops else _IN_GRAPHS)
    ours = {**_GPU_OPTIONS, "xla_gpu_enable_command_buffer": graphs}
    set_already = {flag.lstrip("-").partition("=")[0] for flag in os.environ.get("XLA_FLAGS", "").split()}
    return {name: value for name, value in ours.items() if name not in set_already}


@contextlib.contextmanager
def chosen(others: Mapping[str, bool | int | str]) -> Iterator[None]:
    """Inside, programs are compiled with these options; for comparisons, in one thread at a time."""
    global _chosen
    before, _chosen = _chosen, dict(others)
    try:
        yield
    finally:
        _chosen = before


def _options_of(static: tuple) -> Options:
    """Of a program for these static arguments, of which one may be the convolutions' form, or hold it."""
    forms = (getattr(value, "form", value) for value in static)
    return {} if _chosen is None and any(form in _TUNED_FORMS for form in forms) else options()


def _loops_in_graphs() -> bool:
    return jax.version.__version_info__[:2] >= _LOOPS_IN_GRAPHS_SINCE


def jit(
    function: Callable | None = None,
    *,
    rows: tuple[str, ...] = (),
    static_argnames: tuple[str, ...] = (),
    **how: Any,
) -> Callable:
    """`jax.jit` whose programs are not tuned on a GPU, for functions that are not called by compiled ones.

    The platform is asked at the first call, and not where a function is defined.

    Args:
        rows: names of arguments, arrays whose rows are divided where several devices are in use
            (`jaxtl.machine.mesh.by_rows`); without them one device computes.
    """
    if function is None:
        return partial(jit, rows=rows, static_argnames=static_argnames, **how)

    @cache
    def jitted(on_gpu: bool, over: Mesh | None) -> Callable:
        untuned = {name: value for name, value in options().items() if name in _GPU_OPTIONS}
        taken = function if over is None else named_by_rows(function, over, rows, static_argnames)
        given = {"static_argnames": static_argnames, **how}
        return jax.jit(taken, compiler_options=untuned if on_gpu and untuned else None, **given)

    @wraps(function)
    def call(*args: Any, **named: Any) -> Any:
        return jitted(jax.default_backend() == "gpu", mesh() if rows else None)(*args, **named)

    return call


class Program:
    """A function of arrays, compiled once for every shape and every value of its static arguments.

    Args:
        function: what `jax.jit` takes.
        static: how many arguments, the first ones, are hashable values that the program is made for.
        donate: numbers of the arguments whose memory the results may take over.
        rows: numbers of the arguments whose rows are divided where several devices are in use, as many as
            `jaxtl.machine.mesh.rounded_up` gives; all others are whole on every device.
        gives_rows: whether the results' rows are divided, too; then of `rows` each device computes its own
            alone. Else results are whole on every device.
        devices: a function that gives the devices that compute; by default those in use here.
    """

    def __init__(
        self,
        function: Callable,
        static: int = 0,
        donate: tuple[int, ...] = (),
        rows: tuple[int, ...] = (),
        gives_rows: bool = False,
        devices: Callable[[], Mesh | None] = mesh,
    ) -> None:
        how = {"static_argnums": tuple(range(static)), "donate_argnums": donate}
        self._jit = partial(jax.jit, **how)
        self.jitted = self._jit(function)
        self._function, self._static, self._rows, self._gives_rows = function, static, rows, gives_rows
        self._devices = devices
        self._lock = threading.Lock()
        self._compiled: dict[Any, _Compilation] = {}

    def __call__(self, *args: Any) -> Any:
        """The function's result. Compiles it where nobody has, and waits for one who does."""
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(args[self._static :])):
            return self.jitted(*args)
        over, arrays = self._devices(), args[self._static :]
        if over is not None:
            arrays = placed(arrays, self._places(over, len(args)))
        return self._find(args).executable()(*arrays)

    def prepare(self, *args: Any) -> None:
        """Trace the function here and now, and have it compiled in a thread.

        Args:
            args: as for a call, arrays or `jax.ShapeDtypeStruct`s.
        """
        compilation = self._find(args)
        compilation.lower()
        _compile_soon(compilation)

    def _find(self, args: tuple) -> _Compilation:
        leaves, structure = jax.tree.flatten(args[self._static :])
        shapes = tuple((leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype)) for leaf in leaves)
        over = self._devices()
        where = jax.default_backend(), jax.config.jax_default_device, over
        static = args[: self._static]
        chosen = _options_of(static)
        key = static, structure, shapes, tuple(chosen.items()), where
        with self._lock:
            if key not in self._compiled:
                abstract = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*shape) for shape in shapes])
                jitted = self.jitted if over is None else self._over(over, len(args))
                self._compiled[key] = _Compilation(lambda: jitted.lower(*static, *abstract), chosen)
            return self._compiled[key]

    def _over(self, over: Mesh, count: int) -> Any:
        """The function of so many arguments, over several devices."""

        # Never the function itself: what JAX traced of one it keeps, and takes for other devices, too.
        def of_shares(*args: Any) -> Any:
            function = partial(self._function, *args[: self._static])
            if not (self._rows and self._gives_rows):
                return function(*args[self._static :])
            divided = tuple(number in self._rows for number in range(self._static, count))
            return by_rows(function, over, divided)(*args[self._static :])

        places = {"in_shardings": self._places(over, count), "out_shardings": place(over, self._gives_rows)}
        return self._jit(of_shares, **places)

    def _places(self, over: Mesh, count: int) -> tuple[Any, ...]:
        return tuple(place(over, number in self._rows) for number in range(self._static, count))


class _Compilation:
    """One executable, made by whoever needs it first."""

    def __init__(self, lower: Callable[[], Any], options: Options) -> None:
        self._lock = threading.RLock()
        self._lower, self._options = lower, options
        self._lowered = self._executable = None

    def lower(self) -> None:
        with self._lock:
            if self._lowered is None and self._executable is None:
                self._lowered = self._lower()

    def executable(self) -> Callable:
        """Compiles it, waits for another thread that does, or has it already."""
        if self._executable is None:
            with self._lock:
                if self._executable is None:
                    self.lower()
                    self._executable = compile_with(self._lowered, self._options)
                    self._lowered = None
        return self._executable


def compile_with(lowered: Any, options: Options) -> Callable:
    if options:
        try:
            return lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:
            # Another version of XLA may know other options: without them it is slower, and as right.
            _say_once(f"compiled without options for GPUs: {str(error).splitlines()[0]}")
    return lowered.compile()


@cache
def _say_once(line: str) -> None:
    logging.getLogger("jaxtl").warning(line)


# Programs to be compiled, and how many threads are at it. They are no daemons, since XLA cannot be left in
# the middle of its work when the process ends, and stop where the main thread has ended.
_waiting: deque[_Compilation] = deque()
_threads = 0
_threads_lock = threading.Lock()


def _compile_soon(compilation: _Compilation) -> None:
    global _threads
    with _threads_lock:
        _waiting.append(compilation)
        if _threads >= max(1, cpu_count() - 1):
            return
        _threads += 1
    threading.Thread(target=_compile_waiting, name="compile").start()


def _compile_waiting() -> None:
    global _threads
    while True:
        with _threads_lock:
            if not _waiting or not threading.main_thread().is_alive():
                _threads -= 1
                return
            compilation = _waiting.popleft()
        # Who calls it is told what is wrong.
        with contextlib.suppress(Exception):
            compilation.executable()
