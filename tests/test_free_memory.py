"""How much memory is left, as the system and its control groups tell."""

import pytest

from jaxtl.machine import memory

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A function that writes files of a made-up Linux."""
    monkeypatch.setattr(memory, "ROOT", tmp_path)

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def test_what_the_system_calls_available_is(system):
    system(proc__meminfo="MemTotal: 9 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n")
    assert memory.available_memory() == 2048 * 1024


def test_a_control_group_leaves_less_and_files_do_not_count(system):
    system(
        proc__meminfo="MemAvailable: 99999999 kB\n",
        proc__self__cgroup="0::/user/job\n",
        sys__fs__cgroup__user__memory_dot_max=f"{8 * GIB}\n",
        sys__fs__cgroup__user__memory_dot_current=f"{5 * GIB}\n",
        sys__fs__cgroup__user__memory_dot_stat=f"anon 1\ninactive_file {GIB}\nactive_file {GIB}\n",
        sys__fs__cgroup__user__job__memory_dot_max="max\n",
        sys__fs__cgroup__user__job__memory_dot_current=f"{GIB}\n",
    )
    assert memory.available_memory() == 5 * GIB
    assert memory.physical_memory() == 8 * GIB


def test_a_control_group_of_version_1_leaves_less_too(system):
    group = "sys__fs__cgroup__memory__job__memory_dot_"
    system(
        proc__meminfo="MemAvailable: 99999999 kB\n",
        proc__self__cgroup="7:cpu,memory:/job\n",
        **{f"{group}limit_in_bytes": f"{4 * GIB}\n", f"{group}usage_in_bytes": f"{3 * GIB}\n"},
        **{f"{group}stat": f"cache 5\ntotal_inactive_file {GIB}\ntotal_active_file {GIB}\n"},
    )
    assert (memory.available_memory(), memory.physical_memory()) == (3 * GIB, 4 * GIB)


def test_where_nothing_tells_it_is_all_of_the_machines(system, monkeypatch):
    monkeypatch.setattr(memory, "physical_memory", lambda: 7 * GIB)
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.available_memory() == 7 * GIB


def test_macos_tells_in_pages():
    text = "Mach: (page size of 16384 bytes)\nPages free: 10.\nPages inactive: 5.\nPages speculative: 1.\n"
    assert memory.free_by_vm_stat(text) == 16 * 16384
    assert memory.free_by_vm_stat("nonsense") == -1
