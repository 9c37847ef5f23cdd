"""Manifests: TOML files that say what a suite measures.

limit_minutes = 60          # of the whole; these are what holds where a file says nothing else
part_minutes = 60           # of one of its parts
call_seconds = 1800         # of one call, which is ended then
device = "cpu"              # or "gpu"
rounds = 3                  # turns of every peer after its warm-up
seconds = 60                # of a row: no further round begins after that
seed = 0
processes = "case"          # fresh ones for each case, or "suite": one a peer for all
sgemm = [1024, 2048]        # sizes of the matrices that measure the machine
stream_mebibytes = 256      # of the arrays that do

[[case]]
name = "tsne"
sizes = [1000, 2000]
peers = ["jaxtl", "openTSNE"]   # without: all that compute on the device
part = 1                        # of which part it is; 1 where nothing is said
rounds = 5                      # and `seconds`, `with`: over the suite's
with = { ... }                  # arguments over the case's own
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, COMPARED_FEATURES, PEERS, PROCESS_PEERS, arguments_for, peer_names
from jaxtl.errors import JaxtlError

FOLDER = Path(__file__).with_name("manifests")
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
    part: int = 1

    def arguments_for(self, size: int | None) -> dict[str, Any]:
        return arguments_for(self.name, size) | dict(self.arguments)


@dataclass(frozen=True)
class Manifest:
    """What a suite measures; its fields are those of the file."""

    name: str
    entries: tuple[Entry, ...]
    limit_minutes: float
    part_minutes: float
    call_seconds: float
    device: str
    seed: int
    processes: str
    sgemm: Sequence[int]
    stream_mebibytes: int

    def only(self, names: tuple[str, ...]) -> Manifest:
        """Of the cases and families named, in the manifest's order.

        Raises:
            JaxtlError: one that the manifest does not have.
        """
        cases = tuple(dict.fromkeys(entry.name for entry in self.entries))
        families = tuple(dict.fromkeys(CASES[name].family for name in cases))
        unknown = [name for name in names if name not in cases + families]
        if unknown or not names:
            raise JaxtlError(
                f"--only: got {', '.join(unknown) or 'nothing'}; the cases of {self.name} are "
                f"{', '.join(cases)}; the families {', '.join(families)}"
            )
        kept = (entry for entry in self.entries if {entry.name, CASES[entry.name].family} & set(names))
        return replace(self, entries=tuple(kept))

    def in_part(self, number: int) -> Manifest:
        """A suite of that part's entries, with its number in the name.

        Raises:
            JaxtlError: the manifest has no such part.
        """
        kept = tuple(entry for entry in self.entries if entry.part == number)
        if not kept:
            parts = ", ".join(map(str, sorted({entry.part for entry in self.entries})))
            raise JaxtlError(f"--part: got {number}; the parts of {self.name} are {parts}")
        return replace(self, name=f"{self.name}-{number}", entries=kept, limit_minutes=self.part_minutes)

    def largest(self) -> int:
        """Rows of features that its cases work on or are held against; 0 where none needs any."""
        sizes = [
            size or 0 for entry in self.entries for size in entry.sizes if CASES[entry.name].unit == "points"
        ]
        compared = any(CASES[entry.name].family == "network" for entry in self.entries)
        return max([0, *sizes, COMPARED_FEATURES * compared])


def load_manifest(path: Path) -> Manifest:
    """Read and check one.

    Raises:
        JaxtlError: no such file, not TOML, an unknown key, case or peer, or a value out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JaxtlError(f"{path}: no such manifest; the suites are {', '.join(SUITES)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise JaxtlError(f"{path}: not TOML: {error}") from None
    return _manifest(path, table)


def shipped(name: str) -> Path:
    return FOLDER / f"{name}.toml"


def about(name: str) -> str:
    """What a shipped manifest says of itself, in its first paragraph."""
    return shipped(name).read_text(encoding="utf-8").partition("\n\n")[0].replace("# ", "").replace("\n", " ")


Check = tuple[Callable[[Any], bool], str]


def _is_number(value: Any, kinds: Any = int, least: float = 1) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= least


def _one_of(*names: str) -> Check:
    return lambda value: value in names, f"one of {', '.join(names)}"


def _list_of(check: Callable[[Any], bool], wanted: str) -> Check:
    return lambda value: isinstance(value, list) and bool(value) and all(map(check, value)), wanted


_COUNT: Check = (_is_number, "a whole number of at least 1")
_COUNTS = _list_of(_is_number, "a list of whole numbers of at least 1")
_NUMBER: Check = (lambda value: _is_number(value, int | float, 0) and value > 0, "a number above 0")
_PEERS = _list_of(lambda value: value in peer_names(), f"some of {', '.join(peer_names())}")
_SUITE_KEYS: dict[str, Check] = {
    "limit_minutes": _NUMBER,
    "part_minutes": _NUMBER,
    "call_seconds": _NUMBER,
    "device": _one_of("cpu", "gpu"),
    "rounds": _COUNT,
    "seconds": _NUMBER,
    "seed": (lambda value: _is_number(value, least=0), "a whole number of at least 0"),
    "processes": _one_of("case", "suite"),
    "sgemm": _COUNTS,
    "stream_mebibytes": _COUNT,
    "case": _list_of(lambda value: isinstance(value, dict), "[[case]] tables, at least one"),
}
_CASE_KEYS: dict[str, Check] = {
    "name": _one_of(*CASES),
    "sizes": _COUNTS,
    "peers": _PEERS,
    "part": _COUNT,
    "rounds": _COUNT,
    "seconds": _NUMBER,
    "with": (lambda value: isinstance(value, dict), "a table of arguments"),
}
# What the text at the top says of suites.
_DEFAULTS = tomllib.loads(__doc__.partition("\n\n")[2].partition("[[case]]")[0])


def _check(where: str, table: Mapping[str, Any], keys: Mapping[str, Check]) -> None:
    for key, value in table.items():
        if key not in keys:
            raise JaxtlError(f"{where}unknown key {key!r}; the keys are {', '.join(keys)}")
        right, wanted = keys[key]
        if not right(value):
            raise JaxtlError(f"{where}{key}: must be {wanted}, got {value!r}")


def _manifest(path: Path, table: Mapping[str, Any]) -> Manifest:
    _check(f"{path}: ", table, _SUITE_KEYS)
    given = _DEFAULTS | table
    if "case" not in given:
        raise JaxtlError(f"{path}: no [[case]] table; name at least one")
    entries = tuple(_entry(path, number, case, given) for number, case in enumerate(given["case"], 1))
    rows = [(entry.name, size) for entry in entries for size in entry.sizes]
    for case, size in rows:
        if rows.count((case, size)) > 1:
            raise JaxtlError(f"{path}: case {case}: size {size} stands twice; a result has it once")
    settings = {key: given[key] for key in given.keys() & Manifest.__annotations__.keys()}
    return Manifest(name=path.stem, entries=entries, **settings)


def _entry(path: Path, number: int, table: Mapping[str, Any], suite: Mapping[str, Any]) -> Entry:
    named = f" ({table['name']})" if "name" in table else ""
    where = f"{path}: case {number}{named}: "
    _check(where, table, _CASE_KEYS)
    if "name" not in table:
        raise JaxtlError(f"{where}name: is missing; it must be one of {', '.join(CASES)}")
    case = CASES[table["name"]]
    if not case.unit and "sizes" in table:
        raise JaxtlError(f"{where}sizes: this case has none; take the line out")
    if case.unit and "sizes" not in table:
        raise JaxtlError(f"{where}sizes: are missing; say how many of {case.unit}")
    return Entry(
        table["name"],
        tuple(table.get("sizes", [None])),
        _peers(where, table, suite["device"]),
        table.get("rounds", suite["rounds"]),
        table.get("seconds", suite["seconds"]),
        _arguments(where, table),
        table.get("part", 1),
    )


def _peers(where: str, table: Mapping[str, Any], device: str) -> tuple[str, ...]:
    """In the order of the case, whatever that of the manifest is."""
    able = [peer for peer in CASES[table["name"]].peers if peer in PROCESS_PEERS or device in PEERS[peer].on]
    chosen = table.get("peers", able)
    for peer in chosen:
        if peer not in able:
            raise JaxtlError(
                f"{where}peers: {peer!r} does not have this case on the {device.upper()}; "
                f"{', '.join(able)} do"
            )
    return tuple(peer for peer in able if peer in chosen)


def _arguments(where: str, table: Mapping[str, Any]) -> Mapping[str, Any]:
    given = table.get("with", {})
    # Counts alone: `method` and `space` are what makes a case.
    known = [name for name, value in arguments_for(table["name"], 1024).items() if _is_number(value)]
    for name, value in given.items():
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise JaxtlError(f"{where}with: unknown argument {name!r}; this case's are {names}")
        if not _is_number(value):
            raise JaxtlError(f"{where}with: {name}: must be a whole number of at least 1, got {value!r}")
    return given
