"""Manifests: TOML files that say what a suite measures.

limit_minutes = 15          # of the whole
device = "cpu"              # or "gpu"
rounds = 3                  # turns of every peer after its warm-up
seconds = 30                # of a row: no further round begins after that
seed = 0
processes = "case"          # fresh ones for each case, or "suite": one a peer for all
sgemm = [1024, 2048]        # sizes of the matrices that measure the machine
stream_mebibytes = 256      # of the arrays that do

[[case]]
name = "tsne"
sizes = [1000, 2000]
peers = ["jaxtl", "openTSNE"]   # without: all that compute on the device
rounds = 5                      # and `seconds`, `with`: over the suite's
with = { ... }                  # arguments over the case's own
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, PEERS, PROCESS_PEERS, peer_names
from jaxtl.errors import JaxtlError

FOLDER = Path(__file__).with_name("manifests")
# Of `benchmarks.peers.quality.of_features`.
COMPARED_FEATURES = 256
SUITES = ("smoke", "cpu", "gpu", "full")


@dataclass(frozen=True)
class Entry:
    """A case at some sizes: `None` alone where the case has none; `seconds` bounds the rounds of a size."""

    name: str
    sizes: tuple[int | None, ...]
    peers: tuple[str, ...]
    rounds: int
    seconds: float
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Manifest:
    name: str
    entries: tuple[Entry, ...]
    limit_minutes: float
    device: str
    seed: int
    processes: str
    sgemm: tuple[int, ...]
    stream_mebibytes: int

    def only(self, names: tuple[str, ...]) -> Manifest:
        """Of the cases named.

        Raises:
            JaxtlError: one that the manifest does not have.
        """
        have = tuple(dict.fromkeys(entry.name for entry in self.entries))
        unknown = [name for name in names if name not in have]
        if unknown or not names:
            raise JaxtlError(
                f"--only: got {', '.join(unknown) or 'nothing'}; the cases of {self.name} are "
                f"{', '.join(have)}"
            )
        return replace(self, entries=tuple(entry for entry in self.entries if entry.name in names))

    def largest(self) -> int:
        """Rows of features that its cases work on or are held against; 0 where none needs any."""
        wanted = [0]
        for entry in self.entries:
            if CASES[entry.name].unit == "points":
                wanted += [size for size in entry.sizes if size]
            elif CASES[entry.name].family == "network":
                wanted.append(COMPARED_FEATURES)
        return max(wanted)


def load_manifest(path: Path) -> Manifest:
    """Read and check one.

    Raises:
        JaxtlError: no such file, not TOML, an unknown key, case or peer, or a value out of range.
    """
    try:
        with path.open("rb") as stream:
            found = tomllib.load(stream)
        return _manifest(path.stem, found)
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such manifest; the suites are {', '.join(SUITES)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise JaxtlError(f"{path}: not TOML: {error}") from None
    except _Wrong as error:
        raise JaxtlError(f"{path}: {error}") from None


def shipped(name: str) -> Path:
    return FOLDER / f"{name}.toml"


class _Wrong(Exception):
    """What is wrong, without the file's name."""


Check = tuple[Callable[[Any], bool], str]


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(map(check, value))


_COUNT: Check = (lambda value: _is_whole(value, 1), "a whole number of at least 1")
_COUNTS: Check = (_is_list_of(lambda value: _is_whole(value, 1)), "a list of whole numbers of at least 1")
_NUMBER: Check = (_is_positive, "a number above 0")
_SUITE_KEYS: dict[str, Check] = {
    "limit_minutes": _NUMBER,
    "device": (lambda value: value in ("cpu", "gpu"), '"cpu" or "gpu"'),
    "rounds": _COUNT,
    "seconds": _NUMBER,
    "seed": (lambda value: _is_whole(value, 0), "a whole number of at least 0"),
    "processes": (lambda value: value in ("case", "suite"), '"case" or "suite"'),
    "sgemm": _COUNTS,
    "stream_mebibytes": _COUNT,
    "case": (_is_list_of(lambda value: isinstance(value, dict)), "[[case]] tables, at least one"),
}
_CASE_KEYS: dict[str, Check] = {
    "name": (lambda value: isinstance(value, str) and value in CASES, f"one of {', '.join(CASES)}"),
    "sizes": _COUNTS,
    "peers": (
        _is_list_of(lambda value: isinstance(value, str) and value in peer_names()),
        f"some of {', '.join(peer_names())}",
    ),
    "rounds": _COUNT,
    "seconds": _NUMBER,
    "with": (lambda value: isinstance(value, dict), "a table of arguments"),
}
_DEFAULTS: dict[str, Any] = {
    "limit_minutes": 60, "device": "cpu", "rounds": 3, "seconds": 60, "seed": 0, "processes": "case",
    "sgemm": [1024, 2048], "stream_mebibytes": 256,
}  # fmt: skip


def _check(where: str, table: Mapping[str, Any], keys: Mapping[str, Check]) -> None:
    for key, value in table.items():
        if key not in keys:
            raise _Wrong(f"{where}unknown key {key!r}; the keys are {', '.join(keys)}")
        right, wanted = keys[key]
        if not right(value):
            raise _Wrong(f"{where}{key}: must be {wanted}, got {value!r}")


def _manifest(name: str, table: Mapping[str, Any]) -> Manifest:
    _check("", table, _SUITE_KEYS)
    given = _DEFAULTS | table
    if "case" not in given:
        raise _Wrong("no [[case]] table; name at least one")
    entries = tuple(_entry(number, each, given) for number, each in enumerate(given["case"], 1))
    _check_rows(entries)
    return Manifest(
        name, entries, given["limit_minutes"], given["device"], given["seed"], given["processes"],
        tuple(given["sgemm"]), given["stream_mebibytes"],
    )  # fmt: skip


def _entry(number: int, table: Mapping[str, Any], suite: Mapping[str, Any]) -> Entry:
    where = f"case {number}: " if "name" not in table else f"case {number} ({table['name']}): "
    _check(where, table, _CASE_KEYS)
    if "name" not in table:
        raise _Wrong(f"{where}name: is missing; it must be one of {', '.join(CASES)}")
    case = CASES[table["name"]]
    if case.unit is None and "sizes" in table:
        raise _Wrong(f"{where}sizes: this case has none; take the line out")
    if case.unit is not None and "sizes" not in table:
        raise _Wrong(f"{where}sizes: are missing; say how many of {case.unit}")
    return Entry(
        table["name"],
        tuple(table.get("sizes", [None])),
        _peers(where, table, suite["device"]),
        table.get("rounds", suite["rounds"]),
        table.get("seconds", suite["seconds"]),
        _arguments(where, table),
    )


def _peers(where: str, table: Mapping[str, Any], device: str) -> tuple[str, ...]:
    """In the order of the case, whatever that of the manifest is."""
    able = [peer for peer in CASES[table["name"]].peers if peer in PROCESS_PEERS or device in PEERS[peer].on]
    chosen = table.get("peers", able)
    for peer in chosen:
        if peer not in able:
            raise _Wrong(
                f"{where}peers: {peer!r} does not have this case on the {device.upper()}; "
                f"{', '.join(able)} do"
            )
    return tuple(peer for peer in able if peer in chosen)


def _arguments(where: str, table: Mapping[str, Any]) -> Mapping[str, Any]:
    given = table.get("with", {})
    known = set(CASES[table["name"]].arguments_for(1024))
    if strange := sorted(set(given) - known):
        names = ", ".join(sorted(known)) or "none"
        raise _Wrong(f"{where}with: unknown argument {strange[0]!r}; this case's are {names}")
    for name, value in given.items():
        # Counts all; `method` and `space` are what makes a case.
        if not _is_whole(value, 1):
            raise _Wrong(f"{where}with: {name}: must be a whole number of at least 1, got {value!r}")
    return given


def _check_rows(entries: tuple[Entry, ...]) -> None:
    seen: set[tuple[str, int | None]] = set()
    for entry in entries:
        for size in entry.sizes:
            if (entry.name, size) in seen:
                raise _Wrong(f"case {entry.name}: size {size} stands twice; a result has it once")
            seen.add((entry.name, size))
