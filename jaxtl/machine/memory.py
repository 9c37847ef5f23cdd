"""Memory: what a process can take, of the machine and of control groups above it, and what processes have."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxtl.machine.process import run_command

ROOT = Path("/")
# What the kernel gives back where it is asked for, by the names of versions 2 and 1.
_GIVEN_BACK = ("inactive_file", "active_file", "slab_reclaimable")
_GIVEN_BACK_TOTAL = ("total_inactive_file", "total_active_file")


class _Shared:
    """Processes that do the same as this one, beside it."""

    count = 1


def share_among(count: int) -> None:
    """Let `available_memory` give this process's part only, where so many, at least 1, work side by side."""
    _Shared.count = max(1, count)


def shared_among() -> int:
    """How many processes share this machine's memory with this one, itself among them."""
    return _Shared.count


def physical_memory() -> int:
    """Bytes of memory of this machine, or of a control group above this process that allows less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    groups = [f"{group}/memory.max" for group in _unified_groups()]
    groups += [f"{group}/memory.limit_in_bytes" for group in _memory_groups()]
    limits = [int(text) for group in groups if (text := _read(group).strip()).isdigit()]
    return min([total, *limits])


def available_memory() -> int:
    """Bytes that this process can still take without swapping or being killed.

    The least of what the system calls available, what each control group above this process leaves (version
    1 and 2), and what the process's own limits leave (`ulimit -v`, `-d`); cache of files counts as available,
    as the kernel gives it back. Where none is known (macOS has `vm_stat`), all of the machine's memory.
    """
    known = [*_system(), *_left_by_groups(), *_left_by_limits()]
    return min([count for count in known if count >= 0] or [physical_memory()]) // _Shared.count


def largest_count(needed: Callable[[int], int], most: int, available: int) -> int:
    """The largest count, up to `most`, whose bytes are available; 0 where none is.

    `needed`: bytes by the count; they do not fall as it grows.
    """
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle) <= available else (low, middle - 1)
    return low


def spoken_bytes(count: int) -> str:
    """As messages tell them: such as "3.4 GiB"."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:,.0f} MiB"


def peak_memory() -> int:
    """Bytes of the largest resident size that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Let `resident("VmHWM")` begin anew, where the system can."""
    with contextlib.suppress(OSError):
        (ROOT / "proc/self/clear_refs").write_text("5")


def resident(name: str) -> int | None:
    """Bytes of a line of this process's /proc/self/status, such as "RssAnon"; None where there is none."""
    with contextlib.suppress(ValueError, IndexError):
        return int(_read("proc/self/status").split(f"{name}:", 1)[1].split(None, 1)[0]) * 1024
    return None


def process_group(leader: int) -> list[int]:
    """The processes of a group; the leader alone where the system does not tell."""
    members = [leader]
    for entry in (ROOT / "proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # After the name, which may hold anything: state, parent, group.
            group = int(entry.read_text().rpartition(")")[2].split()[2])
            if group == leader and int(entry.parent.name) != leader:
                members.append(int(entry.parent.name))
    return members


def private_memory(pid: int) -> int:
    """Bytes resident of a process that are no file's: 0 for one that is gone."""
    if sys.platform == "darwin":
        return int(run_command(["ps", "-o", "rss=", "-p", str(pid)]).output.strip() or 0) * 1024
    lines = _read(f"proc/{pid}/status").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:"))) * 1024


def _left_by_groups() -> Iterator[int]:
    for group in _unified_groups():
        # Above the lower of the two a process is not killed, but slowed down to a standstill.
        for limit in ("memory.max", "memory.high"):
            yield from _left(group, limit, "memory.current", _GIVEN_BACK)
    for group in _memory_groups():
        yield from _left(group, "memory.limit_in_bytes", "memory.usage_in_bytes", _GIVEN_BACK_TOTAL)


def _left_by_limits() -> Iterator[int]:
    for limit, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, taken = resource.getrlimit(limit)[0], resident(used)
        if most != resource.RLIM_INFINITY and taken is not None:
            yield max(0, most - taken)


def _system() -> Iterator[int]:
    info = _read("proc/meminfo")
    for line in info.splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    if not info and sys.platform == "darwin":
        yield free_by_vm_stat(run_command(["vm_stat"]).output)


def free_by_vm_stat(text: str) -> int:
    """Bytes free, inactive and speculative, of macOS's report in pages; -1 where it is not one."""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        page = int(text.split("page size of ", 1)[1].split()[0])
        pages = (lines[f"Pages {kind}"] for kind in ("free", "inactive", "speculative"))
        return page * sum(int(count.strip(" .")) for count in pages)
    except (IndexError, KeyError, ValueError):
        return -1


def _unified_groups() -> Iterator[str]:
    """Folders of the control groups of version 2 above this process."""
    path = next((line[3:] for line in _read("proc/self/cgroup").splitlines() if line.startswith("0::")), None)
    return _upward("sys/fs/cgroup", path)


def _memory_groups() -> Iterator[str]:
    """Folders of the control groups of version 1."""
    lines = (line.split(":", 2) for line in _read("proc/self/cgroup").splitlines())
    path = next((parts[2] for parts in lines if len(parts) == 3 and "memory" in parts[1].split(",")), None)
    return _upward("sys/fs/cgroup/memory", path)


def _upward(root: str, path: str | None) -> Iterator[str]:
    # In a container the path is the host's and need not be there; its own group is then at the root.
    parts = [part for part in (path or "").split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        yield "/".join([root, *parts[:count]])


def _left(group: str, limit: str, usage: str, given_back: tuple[str, ...]) -> Iterator[int]:
    most, used = _read(f"{group}/{limit}").strip(), _read(f"{group}/{usage}").strip()
    if most.isdigit() and used.isdigit():
        pairs = (line.split() for line in _read(f"{group}/memory.stat").splitlines())
        cached = sum(int(pair[1]) for pair in pairs if pair[0] in given_back)
        yield max(0, int(most) - int(used) + cached)


def _read(path: str) -> str:
    try:
        return (ROOT / path).read_text()
    except OSError:
        return ""
