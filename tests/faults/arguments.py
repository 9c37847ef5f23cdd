"""Every option of every command, and what nobody should type there."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import click

from benchmarks.__main__ import cli as benchmarks
from jaxtl.cli.main import cli
from jaxtl.cli.values import Number
from tests.command_lines import words
from weights_convert.__main__ import main as weights_convert

# Each command with what it needs to begin its work, by the program that it is of.
COMMANDS = {
    "jaxtl": {
        "run": "--dataset {few} --out {new}",
        "compare": "{files}/good.npz {files}/no_labels.npz --out {new}",
        "extract": "--dataset {few} --out {new}.npz",
        "finetune": "--dataset {few} --out {new}.safetensors",
        "neighbors": "{files}/good.npz --out {new}.npz",
        "reduce": "{files}/good.npz --method pca --out {new}.npz",
        "plot": "{files}/good.npz --out {new}.png",
        "show": "{files}/empty",
        "check": "{files}/empty",
        "score": "{files}/empty",
        "layers": "{files}/empty",
        "report": "{files}/empty --out {new}.html",
        "export": "{files}/empty --to csv --out {new}.csv",
        "sweep": "--dataset {few} --out {new}",
        "scale": "--dataset {few} --out {new}",
    },
    "benchmarks": {
        **dict.fromkeys(("smoke", "cpu", "full", "gpu"), "--out {new}"),
        "run": "{files}/file --out {new}",
        "table": "{files}/file",
        "compare": "{files}/file {files}/file",
    },
    "weights_convert": {
        "keras": "{files}/text.safetensors {new}.safetensors",
        "torch": "{files}/text.safetensors {new}.safetensors",
    },
}
PROGRAMS = {"jaxtl": cli, "benchmarks": benchmarks, "weights_convert": weights_convert}
# Without options of their own that take anything.
IDLE = {"doctor"}
# Other names of an option, by which messages do not call it.
FORMER = {"--repeats": "--seeds"}
NUMBERS = ("nan", "inf", "-inf", "-1", str(10**20), "9" * 5000, "1e400", "0x10", "ten", "x" * 5000)
BLANK = ("", " ", "\t", "\n")
LONG = ("x" * 5000, "9" * 5000, "/" * 5000, "ä" * 2000)


class Case(NamedTuple):
    """A value of an option that is to be refused."""

    program: str
    command: str
    option: str
    value: str

    @property
    def called(self) -> str:
        """What a message calls the option."""
        return FORMER.get(self.option, self.option)

    def line(self, **names: object) -> list[str]:
        """The arguments of the whole command."""
        given = f"{self.option}={self.value}" if self.option.startswith("--") else self.value
        rest = words(COMMANDS[self.program][self.command], **names)
        return [self.command, *rest, given, *(["second"] if self.option == "--training-features" else [])]


def options(program: str, command: str) -> list[click.Option]:
    """Those of a command that take a value."""
    params = PROGRAMS[program].commands[command].params
    return [p for p in params if isinstance(p, click.Option) and not p.is_flag and not p.is_eager]


def numbers() -> list[Case]:
    """What no option that takes a number may take, and 0 and 10^20 where it may not."""
    cases = []
    for program, command, option in _all():
        if isinstance(option.type, Number):
            values = [value for value in (*NUMBERS, "0") if not _is_allowed(option, value)]
            cases += [Case(program, command, option.opts[0], value) for value in values]
    return cases


def _is_allowed(option: click.Option, value: str) -> bool:
    # 0 is a seed, and 10^20 a learning rate.
    return value in ("0", str(10**20)) and int(value) in option.type.allowed


def blanks() -> list[Case]:
    """Empty values of any option."""
    return [Case(*where, option.opts[0], value) for *where, option in _all() for value in BLANK]


def texts() -> list[Case]:
    """Very long values of options that take no number."""
    return [
        Case(*where, option.opts[0], value)
        for *where, option in _all()
        if not isinstance(option.type, Number)
        for value in LONG
    ]


def random(count: int, seed: int = 0) -> list[Case]:
    """Random values of random options: pieces of numbers, names, paths and what breaks parsers."""
    draw, known = Random(seed), _all()
    pieces = (
        "-",
        "+",
        ".",
        "e",
        "1",
        "9" * 30,
        "nan",
        "inf",
        ",",
        "/",
        "..",
        "@",
        "=",
        ":",
        "~",
        "%s",
        "{}",
        "ß",
        "\udcff",
        "\u202e",
        "\x1b[2J",
        "~nobody/",
    )
    cases = []
    for _ in range(count):
        program, command, option = draw.choice(known)
        value = "".join(draw.choices(pieces, k=draw.randint(1, 6)))
        cases.append(Case(program, command, option.opts[0], value))
    return cases


def _all() -> list[tuple[str, str, click.Option]]:
    return [
        (program, command, option)
        for program, commands in COMMANDS.items()
        for command in commands
        for option in options(program, command)
    ]
