"""The examples run, each in an empty folder, and the documentation builds without a warning."""

import ast
import contextlib
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib import image

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def run_example(name, folder, capsys):
    with contextlib.chdir(folder):
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    return capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_is_and_has_cells(path):
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text))
    assert text.count("\n# %% ") >= 3
    assert len(text.splitlines()) < 80


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_linked_from_the_guide(path):
    assert f"(../examples/{path.name})" in (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_own_features_are_compared(tmp_path, capsys):
    told = run_example("own_features.py", tmp_path, capsys)
    assert told.count("10-NN accuracy, leave one out") == 2
    assert image.imread(tmp_path / "own_features.png").shape[2] == 4


@pytest.mark.slow
def test_own_photos_go_through_the_whole_experiment(tmp_path, capsys):
    told = run_example("own_photos.py", tmp_path, capsys)
    assert "classes 3 (leaning, lying, standing)" in told
    assert (tmp_path / "own_photos.png").is_file()
    assert (tmp_path / "runs" / "photos" / "report.html").is_file()


@pytest.mark.slow
def test_choices_of_what_to_freeze_are_a_table(tmp_path, capsys):
    lines = run_example("choosing_what_to_freeze.py", tmp_path, capsys).splitlines()
    table = {line.split()[0]: [float(cell) for cell in line.split()[1:]] for line in lines[-3:]}
    assert list(table) == ["none", "block_16", "block_14"]
    # More than chance, of ten classes.
    assert all(share > 0.2 for row in table.values() for share in row)


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        str(tmp_path / "read"),
        "docs",
    ]
    here = {**os.environ, "PYTHONPATH": str(ROOT)}
    built = subprocess.run(
        [*command, str(tmp_path / "site")], cwd=ROOT, env=here, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stdout + built.stderr
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    import jaxtl

    missing = [name for name in jaxtl.__all__ if f"jaxtl.{name}" not in reference.replace("</span>", "")]
    assert missing == ["__version__"]
