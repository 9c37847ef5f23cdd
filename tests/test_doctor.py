"""The doctor: what it finds on this machine, and what it makes of machines that are not here."""

import importlib
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

import jaxtl.reduction.choice as choice_of_backend
from jaxtl.doctor import cards, probes
from jaxtl.doctor import report as doctor
from jaxtl.doctor.cards import card_lines
from jaxtl.doctor.clashes import clashes
from jaxtl.doctor.probes import Probe, try_library
from jaxtl.errors import install
from jaxtl.machine import cuda
from jaxtl.machine.cuda import Driver, Fault, Gpu

H200 = Driver((13, 0), (Gpu("NVIDIA H200", 150 * 2**30, (9, 0)),))
BROKEN = Fault("the driver is ill", "heal it", True)
WORKING = {
    "CPU libraries": Probe("CPU libraries", 0.5, {"NumPy": "2.4"}),
    "JAX": Probe("JAX", 1.5, {"version": "0.10.2", "devices": "gpu: NVIDIA H200"}),
    "CuPy": Probe("CuPy", 1.0, {"version": "14.2.0"}),
    "cuML": Probe("cuML", 2.0, {"version": "26.10.00"}),
    "LiteRT": Probe("LiteRT", 2.0, {"version": "2.3.0"}),
    "OpenVINO": Probe("OpenVINO", 2.0, {"version": "2026.4.1"}),
    "ONNX Runtime": Probe("ONNX Runtime", 2.0, {"version": "1.32.0"}),
    "scikit-learn-intelex": Probe("scikit-learn-intelex", 2.0, {"version": "2026.2.0"}),
}
WHEELS = {
    "jax": "0.10.2",
    "jaxlib": "0.10.2",
    "jax-cuda13-plugin": "0.10.2",
    "jax-cuda13-pjrt": "0.10.2",
    "cuml-cu13": "26.10.0",
    "cupy-cuda13x": "14.2.0",
    "nvidia-cublas": "13.1.0",
    "nvidia-nvjitlink": "13.0.88",
    "nvidia-cudnn-cu13": "9.15.0",
}
ON_CPU = Probe("JAX", 1.5, {"version": "0.10.2", "devices": "cpu"})


@pytest.fixture
def machine(monkeypatch):
    """A function that makes the doctor see another machine; without arguments, one where all is well."""

    def build(driver=H200, wheels=WHEELS, probes=(), fault=None):
        seen = WORKING | {probe.name: probe for probe in probes}
        asked = []
        monkeypatch.delenv("JAX_PLATFORMS", raising=False)
        monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
        monkeypatch.setattr(cuda, "look_for_driver", lambda: driver)
        monkeypatch.setattr(
            cuda, "installed_wheels", lambda names: [name for name in names if name in wheels]
        )
        monkeypatch.setattr(doctor, "distributions", lambda: dict(wheels))
        monkeypatch.setattr(doctor, "try_library", lambda name: asked.append(name) or seen[name])
        monkeypatch.setattr(doctor, "on_cards", list)
        choice = SimpleNamespace(name="cuml", why="a GPU and cuML are there", fault=fault)
        monkeypatch.setattr(choice_of_backend, "choose", lambda method, backend="auto": choice, raising=False)
        return asked

    return build


def pairs(faults):
    return [(fault.what, fault.remedy) for fault in faults]


def test_this_machine(jaxtl, monkeypatch):
    """The real thing on a machine without a GPU; with one, all that holds there too."""
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    code, out, err = jaxtl("doctor")
    assert (code, err) == (0, "")
    text = out.splitlines()
    assert any(line.startswith("JAX ") and "works" in line for line in text)
    assert any(line.startswith("auto, features and fine-tuning: JAX on cpu") for line in text)
    for stage in ("PCA", "t-SNE", "LLE", "neighbours"):
        assert any(line.startswith(f"auto, {stage}: ") for line in text)
    assert "environment: JAX_PLATFORMS=cpu" in text
    assert text[-1] == "all that is installed works"


def test_a_healthy_gpu(machine, jaxtl):
    asked = machine()
    code, out, _ = jaxtl("doctor")
    assert code == 0
    assert asked == ["CPU libraries", "JAX", "CuPy", "cuML"]
    for line in (
        "NVIDIA driver: for CUDA 13.0",
        "GPU 0: NVIDIA H200, 150.0 GiB, compute capability 9.0",
        "nvidia-cublas: 13.1.0",
        "cuML 26.10.00: works (in 2.0 s)",
        "auto, features and fine-tuning: JAX on gpu: NVIDIA H200 (the GPU that JAX finds)",
        "auto, t-SNE: cuml (a GPU and cuML are there)",
    ):
        assert line in out.splitlines()
    assert "problem" not in out
    assert "warning" not in out


def test_json_holds_the_same(machine, jaxtl, monkeypatch):
    machine(BROKEN, WHEELS | {"nvidia-cublas-cu12": "12.9"})
    monkeypatch.setenv("XLA_FLAGS", "--xla_x=1")
    code, out, _ = jaxtl("doctor", "--json")
    held = json.loads(out)
    assert (code, held["healthy"]) == (1, False)
    assert held["problems"] == [{"what": "the driver is ill", "remedy": "heal it", "broken": True}]
    assert held["environment"]["XLA_FLAGS"] == "--xla_x=1"
    assert held["libraries"] == WHEELS | {"nvidia-cublas-cu12": "12.9"}
    assert [probe["name"] for probe in held["probes"]] == ["CPU libraries", "JAX"]
    assert [choice["stage"] for choice in held["choices"]][-1] == "neighbours"
    text = "\n".join(doctor.lines(doctor.examine()))
    for fault in held["problems"] + held["warnings"]:
        assert fault["what"] in text
        assert fault["remedy"] in text


def test_plugin_without_a_gpu_is_healthy(machine, jaxtl):
    # JAX then says a traceback on its standard error, of libraries that want a driver.
    said = "RuntimeError: Unable to load cuPTI. Is it installed?"
    asked = machine(cuda.ABSENT, probes=[Probe("JAX", 1.5, {"devices": "cpu"}, said=said)])
    code, out, _ = jaxtl("doctor")
    assert code == 0
    assert asked == ["CPU libraries", "JAX"]
    assert "note: cuml-cu13, jax-cuda13-plugin: installed, but no NVIDIA GPU in this machine" in out
    assert "cuPTI" not in out


def test_gpu_without_its_libraries_is_healthy(machine):
    wheels = {"jax": "0.10.2", "jaxlib": "0.10.2"}
    asked = machine(wheels=wheels, probes=[ON_CPU])
    report = doctor.examine()
    assert report.healthy
    assert asked == ["CPU libraries", "JAX"]
    assert f"JAX has no CUDA plugin installed; {install('cuda13')}" in report.notes
    assert f"cuML is not installed; {install('cuda13')}" in report.notes


def test_engines_of_a_cpu_that_are_installed(machine):
    """LiteRT is what "auto" takes, else OpenVINO, which needs onnx as well, for its graphs."""
    engines = {"openvino": "2026.4.1", "onnxruntime": "1.32.0"}
    machine(cuda.ABSENT, engines | {"jax": "0.10.2"}, [ON_CPU])
    assert doctor.examine().choices[0].stage == "features and fine-tuning"
    asked = machine(cuda.ABSENT, engines | {"jax": "0.10.2", "onnx": "1.20"}, [ON_CPU])
    report = doctor.examine()
    assert asked == ["CPU libraries", "JAX", "OpenVINO", "ONNX Runtime"]
    assert [(choice.stage, choice.by) for choice in report.choices[:2]] == [
        ("features and frozen layers", "OpenVINO"),
        ("fine-tuning", "JAX on cpu"),
    ]
    fastest = {"ai-edge-litert": "2.3.0", "flatbuffers": "25.12"}
    wheels = engines | fastest | {"jax": "0.10.2", "onnx": "1.20"}
    asked = machine(cuda.ABSENT, wheels, [ON_CPU])
    assert doctor.examine().choices[0].by == "LiteRT"
    assert asked[2:] == ["LiteRT", "OpenVINO", "ONNX Runtime"]
    # It is taken all the same, so that OpenVINO is nobody's choice.
    machine(cuda.ABSENT, wheels, [ON_CPU, Probe("LiteRT", 2.0, {}, "ImportError: libc")])
    assert doctor.examine().choices[0].stage == "features and fine-tuning"
    ill = Probe("OpenVINO", 2.0, {}, "ImportError: libtbb")
    machine(cuda.ABSENT, engines | {"jax": "0.10.2", "onnx": "1.20"}, [ON_CPU, ill])
    report = doctor.examine()
    assert report.choices[0].stage == "features and fine-tuning"
    assert report.problems[0].remedy.endswith("or take --engine jax")


def test_a_library_of_maps_that_is_installed(machine):
    wheels = {"jax": "0.10.2", "scikit-learn-intelex": "2026.2.0"}
    asked = machine(cuda.ABSENT, wheels, [ON_CPU])
    assert doctor.examine().healthy
    assert asked == ["CPU libraries", "JAX", "scikit-learn-intelex"]
    machine(cuda.ABSENT, wheels, [ON_CPU, Probe("scikit-learn-intelex", 2.0, {}, "ImportError: libtbb")])
    report = doctor.examine()
    assert report.problems[0].what == "scikit-learn-intelex: ImportError: libtbb"
    assert report.problems[0].remedy.endswith("or take --backend opentsne")


def test_jax_platforms_that_keeps_jax_off_the_gpu_is_healthy(machine, monkeypatch):
    machine(probes=[ON_CPU])
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    report = doctor.examine()
    assert report.healthy
    assert report.choices[0].why == "JAX_PLATFORMS=cpu keeps JAX off the GPU"


@pytest.mark.parametrize(
    ("build", "what", "remedy"),
    [
        ({"driver": BROKEN}, "the driver is ill", "heal it"),
        ({"driver": Driver((12, 4), H200.gpus)}, "cuml-cu13 needs a driver for CUDA 13", ".[cuda12]"),
        ({"driver": Driver((12, 4), H200.gpus)}, "jax-cuda13-plugin needs a driver for CUDA 13", "580"),
        (
            {"probes": [Probe("cuML", 9.0, {}, "ImportError: libcudart")]},
            "cuML: ImportError",
            ".[cuda13]",
        ),
        ({"probes": [Probe("CuPy", 9.0, {}, "no result within 120 s")]}, "CuPy: no result", ".[cuda13]"),
        ({"probes": [Probe("CuPy", 9.0, {}, "OutOfMemoryError: x")]}, "CuPy: OutOfMemory", "other processes"),
        (
            {"probes": [Probe("JAX", 9.0, {}, "its process was ended by SIGSEGV")]},
            "JAX: its process was ended",
            ".[cuda13]",
        ),
        (
            {"probes": [Probe("JAX", 1.0, {"devices": "cpu"}, said="RuntimeError: no cuPTI")]},
            "JAX finds no GPU, though its plugin and the driver are there: RuntimeError: no cuPTI",
            ".[cuda13]",
        ),
        ({"fault": Fault("the choice met a wall", "go round", True)}, "the choice met a wall", "go round"),
    ],
)
def test_what_does_not_work_is_said_with_a_remedy(build, what, remedy, machine, jaxtl):
    machine(**build)
    code, out, err = jaxtl("doctor")
    assert (code, err) == (1, "")
    text = out.splitlines()
    places = [at for at, line in enumerate(text) if line.startswith(f"problem: {what}")]
    assert len(places) == 1
    assert text[places[0] + 1].startswith("  remedy: ")
    assert remedy in text[places[0] + 1]


def test_one_cause_is_one_problem(machine):
    machine(BROKEN, fault=BROKEN)
    assert doctor.examine().problems == [BROKEN]


def test_jax_platforms_that_jax_cannot_have(machine, monkeypatch):
    machine(cuda.ABSENT, probes=[Probe("JAX", 1.0, {}, "AssertionError")])
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    expected = ("JAX does not work with JAX_PLATFORMS=cuda: AssertionError", "unset JAX_PLATFORMS")
    assert pairs(doctor.examine().problems) == [expected]


def test_reducers_that_do_not_load_are_a_problem_and_no_traceback(machine, jaxtl, monkeypatch):
    machine()

    def broken(method, backend="auto"):
        raise ImportError("numpy.core is broken\nreally")

    monkeypatch.setattr(choice_of_backend, "choose", broken, raising=False)
    code, out, err = jaxtl("doctor")
    assert (code, err) == (1, "")
    assert "problem: jaxtl cannot load its reducers: ImportError: really" in out


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (
            {"nvidia-cublas-cu12": "12.9.1"},
            "cublas is installed twice: nvidia-cublas 13.1.0, nvidia-cublas-cu12",
        ),
        ({"nvidia-cudnn-cu12": "9.10"}, "cudnn is installed twice"),
        ({"cuml-cu12": "26.10.0"}, "cuml-cu12 and cuml-cu13 are both installed"),
        ({"cupy-cuda12x": "14.2.0"}, "cupy-cuda12x and cupy-cuda13x are both"),
        ({"cupy": "14.2.0"}, "cupy and cupy-cuda13x are both"),
        ({"jax-cuda12-plugin": "0.10.2"}, "jax-cuda12-plugin and jax-cuda13-plugin are both"),
        ({"jax-cuda13-pjrt": "0.9.0"}, "jax-cuda13-pjrt 0.9.0 is installed beside jaxlib 0.10.2"),
    ],
)
def test_clashing_distributions(extra, words):
    (lines,) = clashes(WHEELS | extra, "")
    assert words in lines.what
    assert lines.remedy
    assert not lines.broken


def test_no_clash():
    assert clashes(WHEELS, "") == []
    assert clashes({"numpy": "2.4.6", "nvidia-ml-py": "13.0"}, "/no/such/folder:") == []


def test_an_unequal_plugin_gets_the_command_that_mends_it():
    (lines,) = clashes(WHEELS | {"jax-cuda13-plugin": "0.9.0"}, "")
    assert lines.remedy == 'pip install --upgrade "jax[cuda13]==0.10.2"'


def library_folder(path, *names):
    path.mkdir(parents=True)
    for name in names:
        (path / name).touch()
    return str(path)


def test_library_path_before_the_wheels(tmp_path):
    folder = library_folder(tmp_path / "cuda", "libcublasLt.so.12", "libnvJitLink.so.12.4.99", "libz.so.1")
    (lines,) = clashes(WHEELS, folder)
    assert folder in lines.what
    assert "nvidia-cublas, nvidia-nvjitlink" in lines.what
    assert lines.remedy == f"take {folder} out of LD_LIBRARY_PATH"
    assert clashes({"numpy": "2.4.6"}, folder) == []


def test_the_same_library_in_two_folders(tmp_path):
    first = library_folder(tmp_path / "a", "libcusolver.so.11", "libcufft.so.11")
    second = library_folder(tmp_path / "b", "libcusolver.so.12")
    (lines,) = clashes({}, f"{first}:{second}:{first}")
    assert lines.what == f"LD_LIBRARY_PATH: cusolver is in {first} and in {second}"


@pytest.mark.parametrize(("name", "count"), [("stubs", 1), ("compat", 1), ("lib64", 0)])
def test_another_driver_library_on_the_path(name, count, tmp_path):
    folder = library_folder(tmp_path / name, "libcuda.so.1")
    assert len(clashes(WHEELS, folder)) == count


def test_clashes_alone_are_warnings(machine, jaxtl, monkeypatch, tmp_path):
    machine()
    monkeypatch.setenv("LD_LIBRARY_PATH", library_folder(tmp_path / "cuda", "libcudnn.so.9"))
    code, out, _ = jaxtl("doctor")
    assert code == 0
    assert "warning: LD_LIBRARY_PATH: " in out


def test_cards_and_who_is_on_them():
    cards = "0, NVIDIA H200, 580.82.07, 142000, 143771\n1, NVIDIA H200, 580.82.07, [N/A], [N/A]\nFailed\n"
    assert card_lines(cards, "4242, /usr/bin/python3, 1024\n") == [
        "card 0: NVIDIA H200, driver 580.82.07, 138.7 of 140.4 GiB free",
        "card 1: NVIDIA H200, driver 580.82.07, ? of ? GiB free",
        "on the cards: process 4242, /usr/bin/python3, 1.0 GiB",
    ]
    assert card_lines("", "") == []


@pytest.fixture
def library(monkeypatch, tmp_path):
    """A function that puts code in the place of what cuML does."""

    def become(code):
        (tmp_path / "tried.py").write_text(f"import os, sys, time\ndef use():\n    {code}\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(probes._FUNCTIONS, "cuML", "tried:use")

    return become


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('one\\ntwo\\n')", "two"),
        ("raise OSError('libcublas.so.13: file too short')", "OSError: libcublas.so.13: file too short"),
        ("open('/no/such')", "FileNotFoundError: [Errno 2] No such file or directory: '/no/such'"),
        ("os.kill(os.getpid(), 11)", "its process was ended by SIGSEGV"),
        (
            "print('so ill', file=sys.stderr, flush=True); os.abort()",
            "its process was ended by SIGABRT (so ill)",
        ),
        ("raise SystemExit(7)", "its process ended with exit code 7"),
        ("time.sleep(30)", "no result within 1 s"),
    ],
)
def test_a_library_that_fails_does_so_in_its_own_process(code, error, library, monkeypatch):
    monkeypatch.setattr(probes, "SECONDS", 1)
    library(code)
    probe = try_library("cuML")
    assert probe.error == error
    assert probe.facts == {}


def test_a_library_takes_no_memory_beforehand_ignores_the_folder_and_may_print(
    library, monkeypatch, tmp_path
):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path / "here")
    library("print('a remark\\n'); return {'is': os.environ['XLA_PYTHON_CLIENT_PREALLOCATE']}")
    probe = try_library("cuML")
    assert (probe.facts, probe.error, probe.said) == ({"is": "false"}, "", "a remark")


def test_nvidia_smi_is_asked_for_cards_and_processes(monkeypatch, tmp_path):
    smi = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cards.on_cards() == []
    smi.write_text(
        "#!/bin/sh\ncase $1 in --query-gpu*) echo '0, A, 580, 1024, 2048';; *) echo '7, p, 512';; esac\n"
    )
    smi.chmod(0o755)
    assert cards.on_cards() == [
        "card 0: A, driver 580, 1.0 of 2.0 GiB free",
        "on the cards: process 7, p, 0.5 GiB",
    ]
    smi.write_text("#!/bin/sh\necho 'NVML cannot be had'; exit 9\n")
    assert cards.on_cards() == []


def test_names_of_distributions_are_normal():
    versions = doctor.distributions()
    assert versions["scikit-learn"]
    assert versions["opentsne"]


def test_every_library_has_its_function():
    assert set(probes._FUNCTIONS) == set(WORKING)
    for path in probes._FUNCTIONS.values():
        module, _, name = path.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_help_is_there_without_a_look_at_the_machine():
    code = "import sys; sys.argv[1:] = ['doctor', '-h']; from jaxtl.cli.main import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0
    assert "--json" in ended.stdout
