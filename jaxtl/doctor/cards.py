"""What only NVIDIA's management library knows of cards: driver version, free memory, who else is there."""

from __future__ import annotations

from jaxtl.machine.process import Silence, run_command

_SECONDS = 20


def on_cards() -> list[str]:
    """What nvidia-smi says of each card and of the processes on them, a line each; nothing without it."""
    cards = _smi("--query-gpu=index,name,driver_version,memory.free,memory.total")
    others = _smi("--query-compute-apps=pid,process_name,used_memory")
    return card_lines(cards, others)


def card_lines(cards: str, others: str) -> list[str]:
    """Lines for people from nvidia-smi's two tables without units; memory there is in MiB."""
    text = []
    for index, name, version, free, total in _rows(cards, 5):
        text.append(f"card {index}: {name}, driver {version}, {_gib(free)} of {_gib(total)} GiB free")
    text += [f"on the cards: process {pid}, {name}, {_gib(used)} GiB" for pid, name, used in _rows(others, 3)]
    return text


def _rows(table: str, columns: int) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.split(",")] for line in table.splitlines()]
    return [row for row in rows if len(row) == columns]


def _gib(mebibytes: str) -> str:
    # "[N/A]" on cards that are divided (MIG).
    return f"{int(mebibytes) / 1024:.1f}" if mebibytes.isdecimal() else "?"


def _smi(query: str) -> str:
    try:
        ended = run_command(["nvidia-smi", query, "--format=csv,noheader,nounits"], _SECONDS)
    except (OSError, Silence):
        return ""
    return "" if ended.code else ended.output
