"""The public names as a user's type checker sees them."""

import ast
import inspect
import os
import subprocess
import sys
import typing
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxtl

ROOT = Path(jaxtl.__file__).parent
PUBLIC = [name for name in jaxtl.__all__ if name != "__version__"]


def test_a_program_that_uses_every_public_name_is_well_typed():
    """And what is wrong in it is refused: its remarks to ignore an error are errors where there is none."""
    command = [sys.executable, "-m", "mypy", "--no-incremental", f"--cache-dir={os.devnull}"]
    ended = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_that_program_uses_every_public_name():
    text = Path(__file__).with_name("consumer.py").read_text(encoding="utf-8")
    nodes = list(ast.walk(ast.parse(text)))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    used |= {node.id for node in nodes if isinstance(node, ast.Name)}
    assert set(jaxtl.__all__) <= used


def test_type_checkers_are_told_the_names_that_there_are():
    assert (ROOT / "py.typed").is_file()
    stub = ast.parse((ROOT / "__init__.pyi").read_text(encoding="utf-8"))
    told, passed_on = {}, []
    for node in (node for node in stub.body if isinstance(node, ast.ImportFrom)):
        home = import_module(node.module)
        for alias in node.names:
            told[alias.asname] = value = getattr(home, alias.name)
            # A type checker that reads this as its own code refuses a name that its module only imports.
            if value.__module__ != node.module:
                passed_on.append(alias.asname)
    assert told == {name: getattr(jaxtl, name) for name in PUBLIC}
    assert not passed_on


@pytest.mark.parametrize("name", PUBLIC)
def test_signatures_are_whole_and_without_any(name):
    for where, function in _functions(name, getattr(jaxtl, name)):
        # Records do not import matplotlib, which is slow, to name what they return.
        hints = typing.get_type_hints(function, localns={"Figure": Figure})
        arguments = set(inspect.signature(function).parameters) - {"self", "cls"}
        assert arguments | {"return"} <= set(hints), where
        unknown = [argument for argument, hint in hints.items() if _holds_any(hint)]
        assert not unknown, f"{where}: {unknown}"


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isclass(getattr(jaxtl, name))])
def test_attributes_are_without_any(name):
    known = getattr(jaxtl, name)
    own = [attribute for attribute in inspect.get_annotations(known) if not attribute.startswith("_")]
    hints = typing.get_type_hints(known) if own else {}
    assert not [attribute for attribute in own if _holds_any(hints[attribute])]


def _functions(name, known):
    """The function itself, or the constructor and the public methods and properties of a class."""
    if not inspect.isclass(known):
        yield name, inspect.unwrap(known)
        return
    for attribute, member in vars(known).items():
        if attribute == "__init__" or not attribute.startswith("_"):
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            function = inspect.unwrap(function)
            if inspect.isfunction(function):
                yield f"{name}.{attribute}", function


def _holds_any(hint):
    if hint is typing.Any:
        return True
    if typing.get_origin(hint) is np.ndarray:
        # NumPy's NDArray leaves the shape open.
        return _holds_any(typing.get_args(hint)[1])
    if getattr(hint, "__module__", "").startswith("numpy"):
        return False
    return any(map(_holds_any, typing.get_args(hint)))
