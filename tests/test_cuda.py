"""What CUDA offers: the driver's answers, and the wheels that go with it or do not."""

import functools
import json
import os
import sys
import threading

import pytest

from jaxtl.errors import install
from jaxtl.machine import cuda, engines
from jaxtl.machine.cuda import Driver, Fault, Gpu

H200 = Gpu("NVIDIA H200", 150 * 10**9, (9, 0))
V100 = Gpu("Tesla V100", 16 * 10**9, (7, 0))
P100 = Gpu("Tesla P100", 16 * 10**9, (6, 0))
NEW, OLD = Driver((13, 0), (H200,)), Driver((12, 4), (H200,))
BROKEN = Fault("the driver is ill", "heal it", True)


class Library:
    """A driver library: what libcuda.so.1 answers through ctypes."""

    def __init__(self, init=0, attribute=0, gpus=(H200,)):
        self.init, self.attribute, self.gpus = init, attribute, gpus

    def cuInit(self, flags):
        return self.init

    def cuDriverGetVersion(self, version):
        version._obj.value = 12040
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device, index):
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = self.gpus[device.value].name.encode()
        return 0

    def cuDeviceTotalMem_v2(self, memory, device):
        memory._obj.value = self.gpus[device.value].memory
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = self.gpus[device.value].capability[attribute - 75]
        return self.attribute


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS"):
        monkeypatch.delenv(name, raising=False)
    look = cuda.look_for_driver
    look.cache_clear()
    yield
    look.cache_clear()


@pytest.fixture
def given(monkeypatch):
    """A function that sets what the driver answers and which wheels are installed."""

    def give(driver, *wheels):
        monkeypatch.setattr(cuda, "look_for_driver", lambda: driver)
        monkeypatch.setattr(
            cuda, "installed_wheels", lambda names: [name for name in names if name in wheels]
        )

    return give


def test_driver_with_two_gpus():
    answer = cuda.ask_library(Library(gpus=(H200, V100)))
    # It comes through a pipe as JSON.
    assert cuda.judge_answer(json.loads(json.dumps(answer)), True) == Driver((12, 4), (H200, V100))


@pytest.mark.parametrize(
    ("code", "what", "remedy"),
    [
        (100, "finds no GPU", "nvidia-smi"),
        (34, "stub", "LD_LIBRARY_PATH"),
        (101, "names a GPU that is not there", "CUDA_VISIBLE_DEVICES"),
        (304, "operating system", "/dev/nvidia"),
        (802, "fabric manager", "nvidia-fabricmanager"),
        (803, "different versions", "restart"),
        (804, "forward compatibility", "compat"),
        (999, "without a reason", "restart"),
        (777, "cannot be used", "nvidia-smi"),
    ],
)
def test_driver_that_refuses_is_broken(code, what, remedy):
    fault = cuda.judge_answer(cuda.ask_library(Library(init=code)), True)
    assert what in fault.what
    assert f"CUDA error {code}" in fault.what
    assert remedy in fault.remedy
    assert fault.broken


def test_an_error_after_the_first_call_counts_too():
    assert cuda.judge_answer(cuda.ask_library(Library(attribute=999)), True).broken


@pytest.mark.parametrize("library", [Library(init=100), Library(gpus=())])
def test_driver_without_a_card_is_no_fault(library):
    assert cuda.judge_answer(cuda.ask_library(library), False) == cuda.ABSENT
    assert not cuda.ABSENT.broken
    assert cuda.judge_answer(cuda.ask_library(library), True).broken


NOT_FOUND = "libcuda.so.1: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("error", "devices", "kernel", "what", "broken"),
    [
        (NOT_FOUND, False, False, "no NVIDIA GPU", False),
        (NOT_FOUND, True, True, "not the driver's library", True),
        (NOT_FOUND, False, True, "given no GPU", False),
    ],
)
def test_without_the_driver_library(error, devices, kernel, what, broken):
    fault = cuda.fault_without_library(error, devices, kernel)
    assert what in fault.what
    assert fault.broken is broken
    assert fault.remedy


@pytest.mark.skipif(sys.platform != "linux", reason="the loader's words are Linux's")
@pytest.mark.parametrize(
    "error",
    [
        "libnvidia-rm.so: cannot open shared object file: No such file or directory",
        "libcuda.so.1: file too short",
    ],
)
def test_driver_library_that_does_not_load_is_broken(error):
    fault = cuda.fault_without_library(error, False, False)
    assert error in fault.what
    assert fault.broken


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles", "-1,0"])
def test_hidden_gpus_are_absent_and_say_so(hidden, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: None)
    fault = cuda.gpu_fault()
    assert f'CUDA_VISIBLE_DEVICES="{hidden}"' in fault.what
    assert not fault.broken


def test_visible_gpus_are_asked_for_once(monkeypatch):
    answers = [cuda.ask_library(Library())]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(cuda.ctypes, "CDLL", lambda name: None)
    monkeypatch.setattr(cuda, "ask_apart", answers.pop)
    assert cuda.gpu_fault() is None
    assert cuda.driver() == OLD


@pytest.fixture
def sick(monkeypatch, tmp_path):
    """A function that puts code in the place of the question to the driver."""

    def put(code):
        (tmp_path / "sick_driver.py").write_text(f"import ctypes, os\ndef ask():\n    {code}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(cuda, "QUESTION", "sick_driver:ask")

    return put


def test_the_driver_is_asked_in_another_process(sick):
    sick('return {"code": 0, "version": 13020, "gpus": [["A", 5, [7, 5]]]}')
    assert cuda.judge_answer(cuda.ask_apart(), True) == Driver((13, 2), (Gpu("A", 5, (7, 5)),))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("ctypes.string_at(0)", "crashes (its process was ended by SIGSEGV)"),
        ("os._exit(3)", "crashes (its process ended with exit code 3)"),
        ("ctypes.PyDLL(None).sleep(600)", "gives no answer within 1 s"),
        ("raise OSError('libcuda.so.1: file too short')", "fails (libcuda.so.1: file too short)"),
    ],
)
def test_a_driver_that_dies_or_hangs_is_broken(code, words, sick, monkeypatch):
    monkeypatch.setattr(cuda, "SECONDS", 1)
    sick(code)
    fault = cuda.judge_answer(cuda.ask_apart(), True)
    assert words in fault.what
    assert fault.broken


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="needs a machine without an NVIDIA GPU")
def test_without_a_driver_the_question_ends_where_it_loads_the_library():
    assert "fails (libcuda.so.1: " in cuda.judge_answer(cuda.ask_apart(), True).what


def test_faults_of_the_gpu_pass_through(given):
    given(cuda.ABSENT, "cuml-cu13", "jax-cuda13-plugin")
    assert cuda.gpu_fault() == cuda.cuml_fault() == cuda.jax_gpu_fault() == cuda.ABSENT
    assert cuda.driver() is None
    given(BROKEN, "cuml-cu13", "jax-cuda13-plugin")
    assert cuda.gpu_fault() == cuda.cuml_fault() == cuda.jax_gpu_fault() == BROKEN


@pytest.mark.parametrize("look", [cuda.cuml_fault, cuda.jax_gpu_fault])
@pytest.mark.parametrize(
    ("driver", "extra"),
    [(NEW, "cuda13"), (OLD, "cuda12"), (Driver((13, 0), (V100,)), "cuda12"), (BROKEN, "cuda13")],
)
def test_what_is_not_installed_is_absent(look, driver, extra, given):
    given(driver)
    fault = look()
    assert fault.remedy == install(extra)
    assert not fault.broken


@pytest.mark.parametrize(
    ("driver", "wheel"),
    [(NEW, "cuml-cu13"), (NEW, "cuml-cu12"), (OLD, "cuml-cu12"), (Driver((12, 2), (V100,)), "cuml-cu12")],
)
def test_cuml_that_fits(driver, wheel, given):
    given(driver, wheel)
    assert cuda.cuml_fault() is None


@pytest.mark.parametrize(
    ("driver", "wheel", "what", "remedy"),
    [
        (OLD, "cuml-cu13", "this one is for CUDA 12.4", ".[cuda12]"),
        (OLD, "cuml-cu13", "needs a driver for CUDA 13", "580"),
        (Driver((11, 8), (H200,)), "cuml-cu12", "this one is for CUDA 11.8", "535"),
        (
            Driver((13, 0), (V100,)),
            "cuml-cu13",
            "needs compute capability 7.5, Tesla V100 has 7.0",
            "[cuda12]",
        ),
        (Driver((12, 8), (P100,)), "cuml-cu12", "needs compute capability 7.0, Tesla P100 has 6.0", "CPU"),
    ],
)
def test_cuml_that_does_not_fit_is_broken(driver, wheel, what, remedy, given):
    given(driver, wheel)
    fault = cuda.cuml_fault()
    assert wheel in fault.what
    assert what in fault.what
    assert remedy in fault.remedy
    assert fault.broken


def test_no_extra_is_offered_for_a_driver_that_is_too_old_for_both(given):
    given(Driver((11, 8), (H200,)), "cuml-cu13")
    assert ".[" not in cuda.cuml_fault().remedy


def test_two_cumls_are_broken(given):
    given(NEW, "cuml-cu13", "cuml-cu12")
    fault = cuda.cuml_fault()
    assert "cuml-cu13 and cuml-cu12" in fault.what
    assert "fresh virtual environment" in fault.remedy
    assert fault.broken


@pytest.mark.parametrize(
    ("driver", "wheels"),
    [
        (NEW, ["jax-cuda13-plugin"]),
        (OLD, ["jax-cuda12-plugin"]),
        (OLD, ["jax-cuda13-plugin", "jax-cuda12-plugin"]),
        (Driver((12, 8), (P100,)), ["jax-cuda12-plugin"]),
    ],
)
def test_jax_that_fits(driver, wheels, given):
    given(driver, *wheels)
    assert cuda.jax_gpu_fault() is None


def test_jax_with_an_old_driver_is_broken(given):
    given(OLD, "jax-cuda13-plugin")
    fault = cuda.jax_gpu_fault()
    assert "jax-cuda13-plugin needs a driver for CUDA 13" in fault.what
    assert fault.broken


@pytest.mark.parametrize(
    ("platforms", "kept_off"),
    [("cpu", True), ("tpu,cpu", True), ("cuda", False), ("gpu", False), ("cpu, cuda", False), ("", False)],
)
def test_jax_platforms(platforms, kept_off, given, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    given(NEW, "jax-cuda13-plugin")
    fault = cuda.jax_gpu_fault()
    assert (fault is not None) is kept_off
    if kept_off:
        assert f"JAX_PLATFORMS={platforms}" in fault.what
        assert not fault.broken


def test_installed_wheels_are_found_by_their_names():
    assert cuda.installed_wheels({"numpy": 0, "no-such-wheel": 0, "scikit-learn": 0}) == [
        "numpy",
        "scikit-learn",
    ]


def test_every_fault_is_one_line_with_a_remedy():
    for what, remedy in cuda._CODES.values():
        assert what
        assert remedy
        assert "\n" not in what + remedy


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="needs a machine without an NVIDIA GPU")
def test_a_machine_without_a_gpu_has_none_and_nothing_broken():
    for fault in (cuda.gpu_fault(), cuda.cuml_fault(), cuda.jax_gpu_fault()):
        assert not fault.broken


def test_who_asks_while_another_asks_waits_for_its_answer(monkeypatch):
    """The driver takes seconds, and JAX's GPU as long again: they are asked ahead, and once."""
    asked, may_answer = [], threading.Event()

    def look():
        asked.append(threading.current_thread().name)
        may_answer.wait(10)
        return cuda.ABSENT

    monkeypatch.setattr(cuda, "look_for_driver", functools.cache(look))
    monkeypatch.setattr(engines, "_default_engine", functools.cache(engines._default_engine.__wrapped__))
    engines.get_ready()
    threading.Timer(0.1, may_answer.set).start()
    assert engines.default_engine() == "cpu"
    assert cuda.gpu_fault() is cuda.ABSENT
    assert asked == ["engine"]
