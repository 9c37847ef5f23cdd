"""What the tests of the benchmarks share: the command line, manifests, and records made by hand."""

import sys

from benchmarks import __main__ as command_line
from benchmarks import suite
from benchmarks.cases import OURS

MACHINE = {
    "jaxtl": "0.1.0",
    "cpu": "Abacus",
    "cores": 2,
    "memory_gib": 4.0,
    "python": "3.11.0",
    "devices": ["cpu: beads"],
}


def written(folder, text):
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
    try:
        command_line.main()
    except SystemExit as end:
        return end.code
    return 0


def row(peer=OURS, seconds=(2.0, 3.0, 4.0), quality=None, **extra):
    measured = {
        "case": "tsne",
        "size": 1000,
        "peer": peer,
        "arguments": {"n": 1000},
        "count": 1000,
        "state": "done",
        "reason": "",
        "first_seconds": 5.0,
        "compile_seconds": None,
        "seconds": list(seconds),
        "calls": [1] * len(seconds),
        "quality": quality or {},
        "work": None,
        "memory": {"peak_bytes": 3 * 2**30, "resting_bytes": 2**30},
    }
    return measured | extra


def record_of(*rows):
    return {
        "benchmark": "suite",
        "format": suite.FORMAT,
        "suite": "mine",
        "date": "2030-01-02T03:04:05+00:00",
        "git": {"revision": "0123456789abcdef", "modified": True, "changes": "ab"},
        "device": "cpu",
        "manifest": {"seed": 0},
        "threads": {"OMP_NUM_THREADS": "2"},
        "minutes": 12.5,
        "machine": MACHINE,
        "devices": ["cpu: beads"],
        "load_average_before": 0.1,
        "load_average_after": 1.9,
        "ceilings": [{"flops": 90e9, "bytes": 10e9}, {"flops": 100e9, "bytes": 8e9}],
        "peers": {OURS: {"versions": {"jax": "1.2.3"}, "settings": {"threads": 2}}},
        "rows": list(rows),
    }
