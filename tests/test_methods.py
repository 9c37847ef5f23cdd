"""One list of methods: who shows, sets, chooses or computes one takes it from there."""

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import jaxtl
from jaxtl.cli.main import cli
from jaxtl.methods import LIBRARIES, METHODS, library_label, method_label, parameters
from jaxtl.reduction import BACKENDS
from jaxtl.scaling.settings import Settings
from jaxtl.settings import STAGES, RunConfig

ROOT = Path(jaxtl.__file__).parent
LIST = ROOT / "methods.py"
# Not "jaxtl", the name of all; and versions are those of distributions, two of which are called so too.
LABELS = {method.label for method in METHODS.values()} | {"cuML"}


def modules():
    return [path for path in sorted(ROOT.rglob("*.py")) if path != LIST]


def test_every_library_of_a_method_has_a_function():
    assert {name: tuple(table) for name, table in BACKENDS.items()} == {
        name: method.libraries for name, method in METHODS.items()
    }


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_a_row_says_what_is_so(method):
    assert set(method.libraries) <= set(LIBRARIES)
    assert set(method.on_gpu) | set(method.streamed) <= set(method.libraries)
    for library in method.libraries:
        assert set(method.settings) <= set(_keywords(BACKENDS[method.name][library]))


def _keywords(function):
    return {**function.__kwdefaults__}


@pytest.mark.parametrize("settings", [RunConfig(), Settings()])
def test_a_method_is_given_its_own_settings_and_the_seed(settings):
    assert parameters("pca", settings) == {"seed": 1}
    assert parameters("tsne", settings) == {"seed": 1, "perplexity": 30.0}
    assert parameters("lle", settings) == {"seed": 1, "n_neighbors": 12}


def test_what_is_not_in_the_list_is_shown_by_its_name():
    assert (method_label("tsne"), method_label("umap")) == ("t-SNE", "umap")
    assert (library_label("opentsne"), library_label("umap-learn")) == ("openTSNE", "umap-learn")


@pytest.mark.parametrize("verb", ["run", "scale"])
def test_help_has_an_option_for_every_setting_of_a_method(verb):
    text = CliRunner().invoke(cli, [verb, "--help"]).output
    for method in METHODS.values():
        for setting in method.settings:
            option = f"--{setting.replace('_', '-')}"
            assert re.search(rf"{option} \w+\s+{method.label}: ", text)
    assert ",".join(METHODS) in text


def test_labels_stand_in_the_list_alone():
    """As strings of their own: sentences, such as claims and docstrings, may speak of methods."""
    elsewhere = {
        f"{path.relative_to(ROOT)}: {node.value}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and node.value in LABELS
        # Its probes are named by the package that each imports.
        and not (node.value == "cuML" and path.is_relative_to(ROOT / "doctor"))
    }
    assert not elsewhere


@pytest.mark.parametrize("names", [set(METHODS), set(STAGES)], ids=["methods", "stages"])
def test_lists_of_them_stand_once(names):
    """No tuple or list of the methods, or of the stages, and no more, but the one that all read.

    The claims are about the founding experiment's three, whatever methods there are.

    Tables of functions by method (`jaxtl.reduction`) are dicts, and headings of tables have more cells.
    """
    elsewhere = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Tuple | ast.List)
        and {getattr(entry, "value", None) for entry in node.elts} == names
    }
    known = ("settings.py", "evaluation/claims.py") if names == set(METHODS) else ("settings.py",)
    assert not {place for place in elsewhere if not place.startswith(known)}
