"""Commands that are struck by a signal at a moment of their life, and what became of them."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# As pip writes the program that it installs.
INSTALLED = "import sys\nfrom jaxtl.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())"
PROGRAMS = {"module": ["-m", "jaxtl"], "script": ["-c", INSTALLED]}
# What a user is never to see.
CRIES = ("Traceback", "Exception ignored", "Fatal", "Segmentation", "terminate called", "core dumped")
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
# Before jaxtl's first line, Python alone decides what a signal does.
BEFORE, ENDED, DONE = "before jaxtl began", "one line", "done already"
_MARK = "JAXTL_TESTS_STRUCK"
_SECONDS = 60


@dataclass
class Outcome:
    """What became of a command.

    Attributes:
        kind: `BEFORE`, `ENDED`, `DONE`, or what is wrong.
        left: command lines of processes that it left running.
    """

    kind: str
    code: int
    errors: str
    seconds: float
    left: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        return self.kind in (BEFORE, ENDED, DONE) and not self.left


@dataclass
class Life:
    """A command under way."""

    process: subprocess.Popen
    mark: str
    began: float

    @property
    def hears(self) -> bool:
        """Whether jaxtl hears signals: Python itself hears no SIGTERM."""
        with contextlib.suppress(OSError, IndexError):
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            return bool(int(re.findall(r"SigCgt:\s*(\w+)", status)[0], 16) >> (signal.SIGTERM - 1) & 1)
        return False

    def has_loaded(self, library: str) -> bool:
        """Whether a shared library of such a name is in its memory."""
        with contextlib.suppress(OSError):
            return library in Path(f"/proc/{self.process.pid}/maps").read_text()
        return False

    def descendants(self) -> dict[int, str]:
        """Numbers and command lines of all processes that it started, and of what these started."""
        living = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.mark.encode() in (folder / "environ").read_bytes():
                    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if state not in "ZX" and int(folder.name) != self.process.pid:
                        living[int(folder.name)] = words
        return living


def begin(words: str, program: str = "module", code: str = "") -> Life:
    """Start a command of jaxtl; or Python code instead."""
    mark = f"{_MARK}={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    process = subprocess.Popen(
        [sys.executable, *(["-c", code] if code else PROGRAMS[program]), *shlex.split(words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {name: value},
        start_new_session=True,
    )
    return Life(process, mark, time.monotonic())


def after(seconds: float) -> Callable[[Life], bool]:
    """A moment: so long after the beginning."""
    return lambda life: time.monotonic() - life.began >= seconds


def wait_for(life: Life, moment: Callable[[Life], bool]) -> None:
    while life.process.poll() is None and not moment(life):
        time.sleep(0.0005)


def strike(
    life: Life, moment: Callable[[Life], bool], numbers: tuple[int, ...] = (signal.SIGINT,), pause: float = 0
) -> Outcome:
    """Send signals, one after another, when the moment has come, and see how the command ends."""
    process = life.process
    wait_for(life, moment)
    heard, ended = life.hears, process.poll() is not None
    for number in numbers:
        with contextlib.suppress(ProcessLookupError):
            if process.poll() is None:
                os.kill(process.pid, number)
        time.sleep(pause)
    struck = time.monotonic()
    try:
        _, errors = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
        return Outcome("signal lost", process.returncode, errors, _SECONDS, _left(life))
    seconds = time.monotonic() - struck
    # Of two that come together, the kernel may hand over the second first.
    number = next((n for n in numbers if process.returncode == 128 + n), numbers[0])
    kind = _kind(process.returncode, errors, number, heard, ended)
    return Outcome(kind, process.returncode, errors, seconds, _left(life))


def _left(life: Life) -> list[str]:
    """What lives on; a moment is given to what was killed."""
    end = time.monotonic() + 5
    while (left := life.descendants()) and time.monotonic() < end:
        time.sleep(0.05)
    return list(left.values())


def _kind(code: int, errors: str, number: int, heard: bool, ended: bool) -> str:
    cries = [cry for cry in CRIES if cry in errors]
    last = errors.splitlines()[-1] if errors.strip() else ""
    if ended or (code == 0 and heard and not cries):
        return DONE if code == 0 else f"failed by itself, {code}: {last}"
    if not heard and code != 128 + number:
        return BEFORE if code != 0 else "signal lost"
    if cries:
        return cries[0]
    if code != 128 + number:
        return f"exit code {code}: {last}"
    if not last.startswith(f"jaxtl: {WORDS[signal.Signals(number)]}"):
        return f"another line: {last}"
    return ENDED
