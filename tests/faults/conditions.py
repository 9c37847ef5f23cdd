"""What a command may be started under that nobody thought of: closed, gone, narrow, small or ignored."""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.struck import CRIES

_SECONDS = 900
# A user of a container, of whom nothing is known but a number, and whose files are those of who starts this.
_NOBODY = ("unshare", "--user", "--map-user=12345")
# Another user than root, who may have no more processes, and may read and write what root may.
_OTHER = (
    *("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"),
    *("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"),
)
# With folders of its own where all others' are.
_WITHOUT_SHARED_MEMORY = (
    *("unshare", "--mount", "sh", "-c"),
    'mount -t tmpfs -o ro,size=4k none /dev/shm && exec "$@"',
    "sh",
)
# Of the environment, what numbers hang on, and where this jaxtl is.
_KEPT = ("PYTHONPATH", "JAX_", "OPENBLAS_", "OMP_", "XLA_")


# What a process does before it becomes the command; not in a fork of this one, which has threads.
_BECOMES = "import os, resource, signal, sys, tempfile\n{}\nos.execv(sys.argv[1], sys.argv[1:])"


def closed(*numbers: int) -> str:
    return f"[os.close(number) for number in {numbers}]"


def limited(what: str, most: int) -> str:
    return f"resource.setrlimit(resource.RLIMIT_{what}, ({most}, {most}))"


_GONE = "os.chdir(tempfile.mkdtemp()); os.rmdir(os.getcwd())"
_DEAF = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
_BLOCKED = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())"


@dataclass(frozen=True)
class Condition:
    """How a command is started.

    Attributes:
        before: Python that its process runs before it becomes the command.
        variables: of the environment; None takes one away.
        codes: how it may end.
        reads: bytes of its output that are read before the pipe is closed; None reads all.
        output: a file that standard output goes to.
        columns: of a terminal that it is started in.
        words: of the program that starts it.
        limits_last: whether `before` is for who that program has started.
    """

    before: str = ""
    variables: dict[str, str | None] = field(default_factory=dict)
    codes: tuple[int, ...] = (0,)
    reads: int | None = None
    output: str | None = None
    columns: int | None = None
    words: tuple[str, ...] = ()
    limits_last: bool = False


CONDITIONS = {
    "no input": Condition(closed(0)),
    "no output": Condition(closed(1)),
    "no errors": Condition(closed(2)),
    "nothing open": Condition(closed(0, 1, 2)),
    "output that nobody reads": Condition(codes=(0, 1), reads=0),
    "output that is read by a line": Condition(codes=(0, 1), reads=20),
    "output on a full device": Condition(codes=(0, 2), output="/dev/full"),
    "deaf to its children's ends": Condition(_DEAF),
    "all signals blocked": Condition(_BLOCKED),
    "no folder to stand in": Condition(_GONE, codes=(0, 2)),
    "rights for nobody": Condition("os.umask(0o777)"),
    "40 files": Condition(limited("NOFILE", 40), codes=(0, 2)),
    "12 files": Condition(limited("NOFILE", 12), codes=(0, 1, 2)),
    "64 files": Condition(limited("NOFILE", 64), codes=(0, 2)),
    "no process more": Condition(limited("NPROC", 1), codes=(2,), words=_OTHER, limits_last=True),
    "3 processes and threads": Condition(
        limited("NPROC", 3), codes=(0, 2, 130), words=_OTHER, limits_last=True
    ),
    "30 processes and threads": Condition(limited("NPROC", 30), codes=(0, 2), words=_OTHER, limits_last=True),
    "60 MB of addresses": Condition(limited("AS", 60 * 2**20), codes=(2,)),
    "300 MB of addresses": Condition(limited("AS", 300 * 2**20), codes=(2,)),
    "600 MB of addresses": Condition(limited("AS", 600 * 2**20), codes=(0, 2)),
    "1 GB of addresses": Condition(limited("AS", 2**30), codes=(0, 2)),
    "8 GB of addresses": Condition(limited("AS", 2**33), codes=(0, 2)),
    "no shared memory": Condition(words=_WITHOUT_SHARED_MEMORY),
    "files of 1 KB": Condition(limited("FSIZE", 1024), codes=(0, 2)),
    "no core files": Condition(limited("CORE", 0)),
    "nobody's user": Condition(variables={"HOME": None, "USER": None}, words=_NOBODY),
    "no home": Condition(variables={"HOME": None}),
    "a home that is not there": Condition(variables={"HOME": "/nowhere/at/all", "XDG_CACHE_HOME": None}),
    "an empty environment": Condition(
        variables=dict.fromkeys((name for name in os.environ if not name.startswith(_KEPT)), None)
    ),
    "no folder for temporary files": Condition(variables={"TMPDIR": "/nowhere/at/all"}),
    "a terminal of 1 column": Condition(columns=1),
    "a terminal of 20 columns": Condition(columns=20),
    "a terminal of 0 columns": Condition(columns=0),
    "a dumb terminal": Condition(variables={"TERM": "dumb"}, columns=80),
    "COLUMNS=1": Condition(variables={"COLUMNS": "1"}),
    "COLUMNS=0": Condition(variables={"COLUMNS": "0"}),
    "COLUMNS=many": Condition(variables={"COLUMNS": "many", "LINES": "-1"}),
    "NO_COLOR": Condition(variables={"NO_COLOR": "", "FORCE_COLOR": "1"}),
    "another zone": Condition(variables={"TZ": "nonsense/nowhere"}),
    "a locale that is not there": Condition(variables={"LC_ALL": "xx_YY.nothing", "LANGUAGE": "de"}),
    "Python in development": Condition(variables={"PYTHONDEVMODE": "1", "PYTHONTRACEMALLOC": "1"}),
    "a date that is none": Condition(variables={"SOURCE_DATE_EPOCH": "yesterday"}),
    "threads that are no number": Condition(variables={"OMP_NUM_THREADS": "many"}),
}


@dataclass(frozen=True)
class Ending:
    """How a command ended: its exit code, what it wrote, and what is wrong with that."""

    code: int
    out: bytes
    errors: str

    def fault(self, condition: Condition) -> str:
        if self.code not in condition.codes:
            return f"exit code {self.code}"
        if cries := [cry for cry in CRIES if cry in self.errors]:
            return cries[0]
        last = (self.errors.splitlines() or [""])[-1]
        if self.code == 2 and self.errors and not last.startswith("jaxtl: "):
            return f"another line: {last[:200]}"
        return ""


def under(condition: Condition, words: list[str]) -> Ending:
    """A command of jaxtl to its end, under a condition."""
    variables = {**os.environ, **condition.variables}
    command = [sys.executable, "-m", "jaxtl", *words]
    before = [sys.executable, "-I", "-c", _BECOMES.format(condition.before)] if condition.before else []
    around = (*condition.words, *before) if condition.limits_last else (*before, *condition.words)
    command = [*around, *command]
    how = {
        "env": {name: value for name, value in variables.items() if value is not None},
        "start_new_session": True,
    }
    if condition.columns is not None:
        return _in_a_terminal(command, condition.columns, how)
    if condition.output:
        with Path(condition.output).open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, **how
            )
    else:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **pipes, **how)
    if condition.reads is not None:
        if condition.reads:
            process.stdout.read(condition.reads)
        process.stdout.close()
        process.stdout = None
    try:
        out, errors = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, errors = process.communicate()
        return Ending(-99, out or b"", "it did not end")
    return Ending(process.returncode, out or b"", errors.decode(errors="replace"))


def _in_a_terminal(command: list[str], columns: int, how: dict[str, object]) -> Ending:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, **how)
    os.close(theirs)
    said = bytearray()

    def read() -> None:
        try:
            while some := os.read(ours, 1 << 16):
                said.extend(some)
        except OSError:  # how Linux says that the other side is closed
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        code = process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        code = -99
    reader.join(10)
    os.close(ours)
    return Ending(code, bytes(said), said.decode(errors="replace"))


def is_possible(condition: Condition) -> bool:
    """Whether this machine can bring it about."""
    if not condition.words:
        return True
    tried = [*condition.words, "true"]
    return shutil.which(tried[0]) is not None and not subprocess.run(tried, capture_output=True).returncode
