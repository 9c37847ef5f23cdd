"""What pyproject.toml requires is what is imported: nothing is missing, and nothing stands there in vain.

An import is allowed where an installation has its library: in `jaxtl` that of a dependency, and within a
function that of an extra, for those who installed it; elsewhere that of the extra which the folder needs.
"""

import ast
import functools
import itertools
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PUBLISHED = ("jaxtl", "weights_convert")
OURS = {*PUBLISHED, "benchmarks", "tests"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
# What a library is imported as, where that is not its name in lower case with underscores.
IMPORTED_AS = {
    "jax": {"jax", "jaxlib"},
    "scikit-learn": {"sklearn", "joblib"},
    "opentsne": {"openTSNE"},
    "pillow": {"PIL"},
    "scikit-learn-intelex": {"daal4py", "sklearnex"},
    "tensorflow-cpu": {"tensorflow"},
    "faiss-cpu": {"faiss"},
    "cuml-cu12": {"cuml"},
    "cuml-cu13": {"cuml"},
    "cupy-cuda12x": {"cupy"},
    "cupy-cuda13x": {"cupy"},
}
# The extras whose libraries a folder may import, beside the dependencies.
OF_FOLDER = {
    "jaxtl": {
        "convert",
        "cuda12",
        "cuda13",
        "dask",
        "faiss",
        "hf",
        "intelex",
        "litert",
        "metis",
        "onnx",
        "onnxruntime",
        "openvino",
        "parquet",
    },
    "weights_convert": {"convert"},
    "benchmarks": {"bench", "cuda13"},
    "tests": {"test", "browser", "bench", "hf"},
    "examples": set(),
}
# Called as programs or by the settings of other tools; or needed by TFDS, which does not require it.
NEVER_IMPORTED = {
    "docs": {"furo", "myst-parser"},
    "test": {"hatchling", "mypy", "pytest-timeout", "pytest-xdist", "ruff"},
    "tfds": {"importlib_resources"},
}
# Peers that only make the references which tests keep: nobody needs them to run the tests.
MAKES_REFERENCES = {"timm", "transformers"}


@functools.cache
def modules_of(extra=None):
    """What an installation with an extra, or without one, can import of libraries that are named in it."""
    modules = set()
    for need in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        name, further = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", need).groups()
        if name == "jaxtl":
            modules |= set().union(*map(modules_of, further.split(",")))
        else:
            modules |= imported_as(name)
    return modules


def imported_as(name):
    plain = name.lower()
    return IMPORTED_AS.get(plain, {plain.replace("-", "_")})


@functools.cache
def imports_of(path):
    """The libraries that a file imports, each with whether it does so where the module is loaded."""
    return set(_imports(ast.parse(path.read_text(encoding="utf-8")), True))


def _imports(node, at_once):
    for name in names_of(node):
        yield name, at_once
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, at_once and not isinstance(node, FUNCTIONS) and not is_for_types(node))


def is_for_types(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def names_of(node):
    """The libraries that a statement imports, or a call of pytest's that does so if it can."""
    modules = []
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        modules = [node.module]
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
        modules = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
    return {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - OURS


def imports_in(*folders):
    """Every import of some folders: the file, the library, and whether it is imported at once."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name, at_once in imports_of(path):
                # A test may import another module of its folder.
                if not path.with_name(f"{name}.py").is_file():
                    yield path.relative_to(ROOT).as_posix(), name, at_once


@pytest.mark.parametrize("folder", OF_FOLDER)
def test_what_is_imported_is_required(folder):
    allowed = modules_of().union(*map(modules_of, OF_FOLDER[folder]))
    allowed |= MAKES_REFERENCES if folder == "tests" else set()
    assert {(path, name) for path, name, _ in imports_in(folder) if name not in allowed} == set()


def test_an_extra_is_imported_when_it_is_needed():
    """Not where a module is loaded: who has not installed it uses all the rest."""
    imports = imports_in(*PUBLISHED)
    assert {(path, name) for path, name, at_once in imports if at_once and name not in modules_of()} == set()


def test_every_dependency_is_imported_by_the_packages():
    used = {name for _, name, _ in imports_in(*PUBLISHED)}
    assert [need for need in PROJECT["dependencies"] if not imported_as(name_of(need)) & used] == []


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_an_extra_brings_is_used(extra):
    used = {name for _, name, _ in imports_in(*OF_FOLDER, "docs")}
    needs = {name_of(need) for need in EXTRAS[extra]} - {"jaxtl"}
    assert {name for name in needs if not imported_as(name) & used} == NEVER_IMPORTED.get(extra, set())


def name_of(need):
    return re.match(r"[\w.-]+", need)[0]


def test_every_library_has_one_lowest_version():
    """Which `tests/installed.py lowest` tries."""
    bounds = {}
    for need in {*PROJECT["dependencies"], *itertools.chain(*EXTRAS.values())}:
        if not need.startswith("jaxtl["):
            name, bound = re.match(r"([\w.-]+)(?:\[\w+\])?((?:>=|~=)[\d.]+)(?:;|$)", need).groups()
            assert bounds.setdefault(name, bound) == bound
