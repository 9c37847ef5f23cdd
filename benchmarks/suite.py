"""A suite at work: every case of a manifest, at every size, its peers in turn, A B A B.

Each peer has a process of its own, and never do two compute at once: whatever else the machine does falls on
all of them. What fails, hangs or is missing costs its own row only. The record is written after every round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks import machine
from benchmarks.cases import CASES, OURS, PEERS, Case
from benchmarks.manifest import Entry, Manifest
from benchmarks.processes import Processes
from benchmarks.workers import ENVIRONMENT, GPU_ENVIRONMENT, Deadline, Worker
from jaxtl.errors import JaxtlError
from jaxtl.machine.host import versions

FORMAT = 1
Record = dict[str, Any]
Row = dict[str, Any]
# What is over sooner is done again within the same turn, and its median counts.
TURN_SECONDS = 0.3
_MOST_CALLS = 20
# To import JAX and to find its devices.
_DESCRIBE_SECONDS = 300.0
_NOT_INSTALLED = "not installed"


def begin(manifest: Manifest, deadline: Deadline, environment: Mapping[str, Any]) -> Record:
    """A record of the run without any row yet; `environment` is what `describe_machine` gives."""
    host = dict(environment)
    return {
        "benchmark": "suite",
        "format": FORMAT,
        "suite": manifest.name,
        "date": machine.now(),
        "git": machine.revision(),
        "device": manifest.device,
        "manifest": asdict(manifest),
        "devices": host.pop("devices"),
        "machine": host,
        "threads": machine.thread_settings(),
        "load_average_before": machine.load_average(),
        "limit_minutes": deadline.seconds / 60,
        "minutes": 0.0,
        "ceilings": [],
        "peers": {},
        "rows": [],
    }


def describe_machine(device: str) -> dict[str, Any]:
    """Hardware, devices and versions, as a run of jaxtl records them, "cpu" or "gpu"."""
    with Worker("jaxtl.machine.devices", Deadline(_DESCRIBE_SECONDS), _environment(device)) as worker:
        return worker.call("environment")


def _environment(device: str) -> Mapping[str, str]:
    return GPU_ENVIRONMENT if device == "gpu" else ENVIRONMENT


def run(manifest: Manifest, record: Record, deadline: Deadline, save: Callable[[Record], None]) -> None:
    """Measure all that the record does not hold yet, and save it after every round.

    Args:
        manifest: says what.
        record: of `begin`, or of a run that was stopped; it is filled.
        deadline: what has not begun by then is recorded as not run.
        save: writes the record to a file.
    """
    with tempfile.TemporaryDirectory(prefix="jaxtl-benchmark-") as folder, ExitStack() as stack:
        suite = Suite(manifest, record, deadline, Path(folder), save)
        stack.callback(suite.dismiss)
        if all(suite.holds(entry, size) for entry in manifest.entries for size in entry.sizes):
            return
        suite.measure_machine()
        suite.prepare()
        for entry in manifest.entries:
            for size in entry.sizes:
                suite.measure(entry, size)
            if manifest.processes == "case":
                suite.dismiss()
        suite.measure_machine()


@dataclass
class Suite:
    """The peers' processes and the record that fills; arguments as of `run`, and a folder for files."""

    manifest: Manifest
    record: Record
    deadline: Deadline
    folder: Path
    write: Callable[[Record], None]

    def __post_init__(self) -> None:
        self.environment = _environment(self.manifest.device)
        self._processes = Processes(self.folder, self.environment)
        self._workers: dict[str, Worker] = {}

    def say(self, text: str) -> None:
        click.echo(f"[{self.deadline.elapsed:7.1f} s] {text}", err=True)

    def save(self) -> None:
        self.record["minutes"] = round(self.deadline.elapsed / 60, 2)
        self.record["load_average_after"] = machine.load_average()
        self.write(self.record)

    def measure_machine(self) -> None:
        """What it reaches, now; left out where the time is over."""
        arguments = {"sizes": list(self.manifest.sgemm), "mebibytes": self.manifest.stream_mebibytes}
        if rates := self._ask("benchmarks.machine", "ceilings", self.environment, **arguments):
            self.record["ceilings"].append(rates)
        self.save()

    def prepare(self) -> None:
        """The features that embeddings, neighbours and metrics work on, by jaxtl itself."""
        if n := self.manifest.largest():
            # On the CPU whatever the suite's device is: they judge the GPU's features too.
            self._ask(PEERS[OURS].module, "write_data", ENVIRONMENT, folder=str(self.folder), n=n)

    def _ask(self, module: str, function: str, environment: Mapping[str, str], **arguments: Any) -> Any:
        """A process's answer; None where it has none, since what does not need it goes on."""
        if not self.deadline.left:
            return None
        self.say(f"{function.replace('_', ' ')}: {arguments}")
        try:
            with Worker(module, self._call_deadline(), environment) as worker:
                return worker.call(function, **arguments)
        except (JaxtlError, RuntimeError) as error:
            self.say(f"{function.replace('_', ' ')}: failed: {_reason(error)}")
            return None

    def holds(self, entry: Entry, size: int | None) -> bool:
        """Whether the record has all peers of a case at a size; what was not installed may be so by now."""
        settled = {
            row["peer"]
            for row in self.record["rows"]
            if (row["case"], row["size"], row["arguments"]) == (entry.name, size, entry.arguments_for(size))
            and row["state"] in ("done", "absent", "failed")
            and not row["reason"].startswith(_NOT_INSTALLED)
        }
        return settled == set(entry.peers)

    def measure(self, entry: Entry, size: int | None) -> None:
        """All peers of a case at a size; not again where the record holds them all."""
        if self.holds(entry, size):
            return
        case, arguments = CASES[entry.name], entry.arguments_for(size)
        own = (entry.name, size)
        self.record["rows"] = [row for row in self.record["rows"] if (row["case"], row["size"]) != own]
        rows = {peer: _new_row(entry.name, size, peer, case, arguments) for peer in entry.peers}
        self.record["rows"] += rows.values()
        self.say(f"{entry.name}{'' if size is None else f', {size:,}'}: {', '.join(rows)}")
        if case.warm:
            for row in rows.values():
                self._turn(case, row, 0, warm_up=True)
        began = time.monotonic()
        for number in range(entry.rounds):
            if number and time.monotonic() - began > entry.seconds:
                break
            for row in rows.values():
                self._turn(case, row, number)
            self.save()
        for row in rows.values():
            row["state"] = "done" if row["state"] == "stopped" and row["seconds"] else row["state"]
        _share_work(list(rows.values()))
        self.save()

    def _turn(self, case: Case, row: Row, number: int, warm_up: bool = False) -> None:
        """One sample of a peer: the median of its calls in this turn."""
        if row["state"] != "stopped":
            return
        if not self.deadline.left:
            if not row["seconds"]:
                row.update(state="not run", reason="out of time")
            return
        try:
            calls = self._calls(case, row, number, once=warm_up)
        except (JaxtlError, RuntimeError) as error:
            self._give_up(row, error)
            return
        if warm_up:
            row["first_seconds"] = calls[0]["seconds"]
            row["compile_seconds"] = calls[0].get("compile_seconds")
            if "parts" in calls[0]:
                row["first_parts"] = calls[0]["parts"]
        else:
            _add(row, calls)

    def _calls(self, case: Case, row: Row, number: int, once: bool) -> list[Row]:
        arguments = dict(row["arguments"])
        if case.seeded:
            arguments["seed"] = self.manifest.seed + number
        calls, began = [], time.monotonic()
        while not calls or (
            not once and time.monotonic() - began < TURN_SECONDS and len(calls) < _MOST_CALLS
        ):
            calls.append(self._call(case, row, arguments))
        return calls

    def _call(self, case: Case, row: Row, arguments: Mapping[str, Any]) -> Row:
        if case.family == "processes":
            # Nothing else may hold memory or a core meanwhile.
            self.dismiss()
            return self._processes.call(row["case"], row["peer"], self._call_deadline(), arguments)
        worker = self._worker(row["peer"])
        worker.deadline = self._call_deadline()
        return worker.call(case.function or row["case"], **arguments)

    def _worker(self, name: str) -> Worker:
        """The peer's process; where it has none yet, it gets one, with the features in it."""
        if name not in self._workers:
            peer = PEERS[name]
            environment = {**self.environment, **peer.environment}
            self._workers[name] = worker = Worker(peer.module, self._call_deadline(), environment)
            now = {"versions": versions(peer.libraries), "settings": worker.call("settings")}
            if (known := self.record["peers"].setdefault(name, now)) != now:
                raise JaxtlError(
                    f"{name} was measured with {known} before, and now is {now}; give another --out"
                )
            if (self.folder / "features.npy").exists():
                worker.call("open_data", folder=str(self.folder))
        return self._workers[name]

    def _call_deadline(self) -> Deadline:
        return Deadline(min(self.manifest.call_seconds, self.deadline.left))

    def _give_up(self, row: Row, error: Exception) -> None:
        """The row says why; the process, which may hang or be spoilt, ends."""
        if worker := self._workers.pop(row["peer"], None):
            worker.close()
        reason = _reason(error)
        row.update(state=_state(reason), reason=reason.removeprefix("ImportError: "))
        if reason.startswith("ModuleNotFoundError") and row["peer"] in PEERS:
            missing = reason.partition("'")[2].partition("'")[0]
            row["reason"] = f"{_NOT_INSTALLED}: {missing}; pip install {PEERS[row['peer']].install}"
        elif isinstance(error, JaxtlError) and not self.deadline.left:
            row.update(state="not run", reason="out of time")
        self.say(f"{row['case']}: {row['peer']}: {row['reason']}")

    def dismiss(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


def _new_row(name: str, size: int | None, peer: str, case: Case, arguments: Mapping[str, Any]) -> Row:
    """One that stands as stopped until it is done."""
    what = {"case": name, "size": size, "peer": peer, "arguments": dict(arguments)}
    state = {"count": case.count(arguments), "state": "stopped", "reason": ""}
    found = {"seconds": [], "calls": [], "quality": {}, "memory": {}}
    return what | state | dict.fromkeys(("first_seconds", "compile_seconds", "work")) | found


def _add(row: Row, calls: list[Row]) -> None:
    """A round's calls to a row: their median, the quality of the last, the most memory of all."""
    ordered = sorted(calls, key=lambda call: call["seconds"])
    row["seconds"].append(ordered[(len(ordered) - 1) // 2]["seconds"])
    row["calls"].append(len(calls))
    last = calls[-1]
    for name, value in last.get("quality", {}).items():
        row["quality"].setdefault(name, []).append(value)
    for call in calls:
        for name, value in call.get("memory", {}).items():
            pick = min if name == "resting_bytes" else max
            row["memory"][name] = pick(row["memory"].get(name, value), value)
    row["work"] = last.get("work") or row["work"]
    if "parts" in last:
        row["parts"] = last["parts"]
    if row["first_seconds"] is None and "compile_seconds" in last:
        # Every call compiles anew, and the clock runs.
        row["compile_seconds"] = last["compile_seconds"]


def _share_work(rows: list[Row]) -> None:
    """What is to be computed is the same for all, also for those that do not count it."""
    counted = [row["work"] for row in rows if row["work"]]
    for row in rows:
        if row["seconds"] and counted:
            row["work"] = row["work"] or counted[0]


def _reason(error: Exception) -> str:
    """The error's own line: the last one of a program's output."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]


def _state(reason: str) -> str:
    """Absent is what a peer does not have; anything else went wrong."""
    signs = ("ModuleNotFoundError", "ImportError", "AttributeError: module 'benchmarks.peers.")
    return "absent" if reason.startswith(signs) else "failed"
