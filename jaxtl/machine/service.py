"""The child's side of `jaxtl.machine.process`: `python -m jaxtl.machine.service LIFELINE MODULE...`.

It answers requests: a request a line on standard input, its answers a line each on standard output, all of
them JSON. LIFELINE is the number of a pipe's end to read from, whose other end the parent alone holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import json
import os
import selectors
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxtl.errors import JaxtlError

# What an operating system takes for a number of milliseconds; eleven days.
_LONGEST_WAIT = 1e6


def serve(lifeline: int, preload: list[str]) -> None:
    """Import modules, then answer requests until there are no more."""
    _hear_signals()
    _die_with_parent(lifeline)
    requests, answers = _take_channels()
    with contextlib.suppress(OSError):
        # Where memory runs out, Linux is to end this process and not the one that waits for it.
        Path("/proc/self/oom_score_adj").write_text("1000")
    for name in preload:
        _preload(name)
    _send(answers, {"ready": True})
    for line in requests:
        _send(answers, _answer(json.loads(line), answers))


def readable(source: int, seconds: float) -> bool:
    """Whether there is something to read from a file descriptor, or its end, within the seconds."""
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        return bool(selector.select(min(max(0.0, seconds), _LONGEST_WAIT)))


def _hear_signals() -> None:
    """Let signals end this process, though the one that started it may be deaf to them.

    What a process ignores or blocks, those that it starts ignore and block too: after `nohup`, and in the
    background of a script, that is Ctrl-C. The signal for the end of the parent must come through.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGIO})


def _take_channels() -> tuple[Any, Any]:
    """Standard input and output, which are then nothing and standard error."""
    # What libraries print must not come between the answers.
    requests, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _die_with_parent(lifeline: int) -> None:
    """From now on the end of the parent ends this process, in the middle of C code, too.

    Nothing is ever written to the lifeline, so the kernel's signal for it can only mean that the parent is
    gone. (For the channel of requests it may come late, when a request is already being worked on.) A thread
    that waits for the end would need the interpreter's lock, which a hanging extension may hold; Linux's
    "parent died" signal comes already when the thread that started us ends.
    """
    # What this process starts must not end by it too, nor keep it.
    os.set_inheritable(lifeline, False)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    # macOS ignores this signal unless it is handled.
    signal.signal(signal.SIGIO, signal.SIG_DFL if sys.platform == "linux" else lambda *_: os._exit(1))
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if readable(lifeline, 0):  # it was gone before
        os._exit(1)


def _preload(name: str) -> None:
    try:
        importlib.import_module(name)
    except Exception:
        traceback.print_exc()


def _answer(request: dict[str, Any], answers: Any) -> dict[str, Any]:
    callbacks: dict[str, Callable[[Any], None]] = {
        "progress": lambda fraction: _send(answers, {"progress": float(fraction)}),
        "tell": lambda message: _send(answers, {"told": message}),
    }
    told = {name: callbacks[name] for name in request["callbacks"]}
    try:
        module, _, name = request["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        return {"done": function(**request["arguments"], **told)}
    except JaxtlError as error:
        return {"refused": str(error)}
    except OSError as error:
        return {"oserror": _parts(error)}
    except Exception as error:
        summary = "".join(traceback.format_exception_only(error)).strip()
        memory = isinstance(error, MemoryError)
        return {"failed": summary, "memory": memory, "traceback": f"\n{traceback.format_exc()}"}


def _parts(error: OSError) -> list[Any]:
    """What an OSError is made of, so that it reads the same elsewhere."""
    if error.errno is None:
        return [str(error)]
    filename = [] if error.filename is None else [str(error.filename)]
    return [error.errno, error.strerror or str(error), *filename]


def _send(answers: Any, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:])
