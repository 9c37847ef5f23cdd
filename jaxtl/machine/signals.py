"""How a process of the command line ends: at a signal, in the middle of anything, or when its work is done.

Python turns Ctrl-C into an exception wherever the main thread happens to be: in an import, whose library then
says something else or nothing; in the callback of a weak reference, where it is dropped; in what runs at the
exit. So nothing is raised here. All files are written whole or not at all, and a run goes on after a kill at
any moment: a signal ends the process as a kill would, after a line that says so.

Who imports jaxtl in Python is not asked how to take signals: there Ctrl-C is KeyboardInterrupt, as ever.
"""

from __future__ import annotations

# What `signal` makes its names of. That one imports enum, functools and more: a Ctrl-C meanwhile would be a
# traceback, and all that is imported here is there already as Python starts.
import _signal as signal
import _thread
import os
import sys
import time

TYPE_CHECKING = False  # as in typing, which imports as much
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

# What each is called in the line that it leaves.
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
# For what is to be done first, such as removing what is half written.
_LAST_SECONDS = 5.0
# A second signal later than that is of somebody who does not want to wait.
_PATIENCE = 1.0
# For a process that is just being started.
_SPAWN_SECONDS = 1.0
# Shows the cursor, which bars hide, and clears the line that they stand in, or that holds "^C".
_CLEAR = b"\x1b[?25h\r\x1b[2K"

# Held while a process is being started and not yet told to `kill_at_end`.
spawning = _thread.allocate_lock()
# Held for good by the thread that ends the process.
_leaving = _thread.allocate_lock()
_pressed: list[float] = []
_ended_by: list[int] = []
_groups: set[int] = set()
_first: list[Callable[[], object]] = []
_words: list[Callable[[], str]] = []


def hear() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP end this process with a line, and code 130, 143 or 129.

    What the process was started deaf to, as by `nohup` or in the background of a script, it stays deaf to. To
    be called by the main thread, before anything that takes time.
    """
    # Of a process that is deaf to the ends of others the kernel keeps no exit codes.
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A thread hears them, since the main one may be deep in a library; the kernel's handler writes to it.
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    numbers = [number for number in _WORDS if signal.getsignal(number) != signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, _press)
    try:
        _thread.start_new_thread(_watch, (heard, numbers))
    except RuntimeError:  # no library of those that compute could work either
        _write(b"jaxtl: no thread can be started; raise the limit on processes (ulimit -u)\n")
        os._exit(2)


def leave(code: int) -> NoReturn:
    """End the process, all output written, and nothing else done: not even the libraries' last wishes.

    They would wait for compilations that nobody needs, or be interrupted in the middle of them.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:  # nobody reads any longer
            code = code or 1
        except (OSError, ValueError) as error:
            _write(f"jaxtl: what it has to say cannot be written: {error}\n".encode())
            code = code or 2
    end_by_signal()
    _leaving.acquire()
    os._exit(code)


def end_by_signal() -> None:
    """Where a signal is ending the process, wait for that.

    Nobody is then to see the processes die that it started; what else fails meanwhile is not worth a word.
    """
    while _ended_by:
        time.sleep(1)


class at_signal:
    """Inside, a signal that ends the process has a function called first, from another thread.

    It must be short, and cope with whatever the other threads are at. What it raises is passed over.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def __enter__(self) -> None:
        _first.append(self._function)

    def __exit__(self, *exception: object) -> None:
        _first.remove(self._function)


def tell(words: Callable[[], str]) -> None:
    """From now on a signal's line ends with what `words` gives then, such as "; go on with: ..."."""
    _words[:] = [words]


def called(number: int = signal.SIGINT) -> str:
    """What a signal does to the work, as its line has it, such as "interrupted"."""
    return _WORDS[number]


def ended_by() -> str:
    """`called` of the signal that is ending the process; empty where none is."""
    return called(_ended_by[0]) if _ended_by else ""


def kill_at_end(group: int) -> None:
    """A signal that ends this process is to kill this group of processes."""
    _groups.add(group)


def forget(group: int) -> None:
    """The group has ended: its number may become another's."""
    _groups.discard(group)


def _press(number: int, frame: FrameType | None) -> None:
    # In the main thread. The thread that watches does it all, unless what is to be done first hangs.
    _pressed.append(time.monotonic())
    if _pressed[-1] - _pressed[0] > _PATIENCE:
        _end(number)


def _watch(source: int, numbers: list[int]) -> None:
    while (number := os.read(source, 1)[0]) not in numbers:
        pass
    if _leaving.acquire(False):
        _ended_by.append(number)
        _do_first()
        _end(number)


def _do_first() -> None:
    done = _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        for function in reversed(_first):
            _try(function)
        done.release()

    try:
        _thread.start_new_thread(work, ())
    except RuntimeError:  # no thread more may be: then by this one, at the risk that it hangs
        work()
    done.acquire(timeout=_LAST_SECONDS)


def _end(number: int) -> NoReturn:
    """Say it, and end this process with those that it started."""
    _ended_by.append(number)
    said = [] if not _words else _try(_words[0])
    line = f"jaxtl: {called(number)}{said or ''}\n".encode(errors="backslashreplace")
    _write(_CLEAR + line if os.isatty(2) else line)
    spawning.acquire(timeout=_SPAWN_SECONDS)
    for group in list(_groups):
        _try(os.killpg, group, signal.SIGKILL)
    os._exit(128 + number)


def _try(function: Callable[..., object], *args: object) -> object:
    """What a function returns; nothing keeps this process from its end."""
    try:
        return function(*args)
    except Exception:
        return None


def _write(line: bytes) -> None:
    # Not by sys.stderr, whose lock another thread may hold. A terminal that hung up takes nothing.
    _try(os.write, 2, line)
