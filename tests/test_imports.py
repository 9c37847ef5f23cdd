"""The house's order: who may import whom, what stays out, and that nothing heavy comes uncalled."""

import ast
import functools
import graphlib
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import jaxtl

ROOT = Path(jaxtl.__file__).parent
# From the lowest floor up: a module imports from lower floors, or from its own without a cycle.
FLOORS = [
    [
        "jaxtl",
        "jaxtl.errors",
        "jaxtl.machine",
        "jaxtl.methods",
        "jaxtl.progress",
        "jaxtl.ranges",
        "jaxtl.records",
        "jaxtl.settings",
    ],
    ["jaxtl.data", "jaxtl.models", "jaxtl.neighbors"],
    ["jaxtl.lle"],
    ["jaxtl.exports", "jaxtl.network", "jaxtl.reduction", "jaxtl.metrics"],
    ["jaxtl.costs", "jaxtl.doctor", "jaxtl.evaluation"],
    ["jaxtl.plots"],
    ["jaxtl.runs", "jaxtl.report"],
    ["jaxtl.experiment", "jaxtl.scaling"],
    ["jaxtl.sweeps"],
    ["jaxtl.cli"],
    ["jaxtl.__main__"],
]
NEVER = {"torch", "tensorflow", "keras", "weights_convert", "benchmarks", "tests"}
HEAVY = {
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "scipy",
    "sklearn",
    "openTSNE",
    "matplotlib",
    "safetensors",
    "tensorflow_datasets",
    "rich",
    "PIL",
    "cuml",
    "cupy",
    "dask",
    "distributed",
    "faiss",
    "pymetis",
}


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


@functools.cache
def imported_names(path):
    """Every module that a file names in an import, within functions too."""
    return frozenset(_imported_names(path))


def _imported_names(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            # `from package import module` names a module; `from module import name` does not.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)


def imports_within(name):
    return {other for other in imported_names(MODULES[name]) if other in MODULES} - {name}


def floor(name):
    levels = [
        level
        for level, rooms in enumerate(FLOORS)
        for room in rooms
        if name == room or (room != "jaxtl" and name.startswith(f"{room}."))
    ]
    assert len(levels) == 1, f"{name} has no floor of its own in this test"
    return levels[0]


def test_there_are_modules_to_look_at():
    assert {"jaxtl.cli.main", "jaxtl.experiment.experiment", "jaxtl.models.ops", "jaxtl.data.idx"} <= set(
        MODULES
    )
    assert "jaxtl.experiment.experiment" in imports_within("jaxtl.cli.run")


def test_imports_go_down():
    upward = [
        f"{name} imports {other}"
        for name in MODULES
        for other in sorted(imports_within(name))
        if floor(other) > floor(name)
    ]
    assert not upward


def test_other_frameworks_stay_out():
    foreign = [
        f"{name} imports {other}"
        for name, path in MODULES.items()
        for other in sorted(imported_names(path))
        if other.partition(".")[0] in NEVER
    ]
    assert not foreign


def test_no_imports_go_round():
    # The package itself imports by name, when asked.
    graph = {name: imports_within(name) - {"jaxtl"} for name in MODULES}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_public_names_are_there():
    assert set(jaxtl.__all__) <= set(dir(jaxtl))
    absent = [name for name in jaxtl.__all__ if getattr(jaxtl, name, None) is None]
    assert not absent


def test_another_name_is_not():
    with pytest.raises(AttributeError, match="no attribute 'extarct'"):
        _ = jaxtl.extarct


@pytest.mark.parametrize(
    "code",
    [
        "import jaxtl",
        "import jaxtl.cli.main",
        *(
            f"import sys; sys.argv[1:] = {args!r}; from jaxtl.cli.main import main; main()"
            for args in (
                [],
                ["--help"],
                ["--version"],
                ["run", "--help"],
                ["scale", "--help"],
                ["sweep", "--help"],
                ["reduce", "-h"],
                ["run", "--sampels"],
            )
        ),
    ],
)
def test_nothing_heavy_is_imported_until_needed(code):
    """What makes `import jaxtl` and the help instant."""
    code = f"try:\n    {code}\nexcept SystemExit:\n    pass\nimport sys\nprint('\\n' + ' '.join(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ended.stdout.splitlines()[-1].split()}
    assert "jaxtl" in loaded
    assert not loaded & HEAVY


def test_no_module_shadows_a_public_name():
    for name in MODULES:
        importlib.import_module(name)
    shadowed = [name for name in jaxtl.__all__ if inspect.ismodule(getattr(jaxtl, name))]
    assert not shadowed
