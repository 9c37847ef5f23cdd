"""Names that strangers chose: shown escaped, never obeyed by a terminal, a spreadsheet or a figure."""

import contextlib
import csv
import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import jaxtl
from jaxtl.cli import screen, tables
from jaxtl.errors import JaxtlError, shown
from jaxtl.machine.terminal import Terminal
from jaxtl.plots.maps import embedding_figure
from jaxtl.plots.style import save
from jaxtl.records.documents import parsed
from jaxtl.records.files import write_json
from jaxtl.records.tables import (
    CLASS_COLUMNS,
    load_class_scores,
    read_columns,
    save_class_scores,
    write_table,
)
from jaxtl.runs.manifest import Manifest, stamp
from tests.faults.kept_files import sign
from tests.faults.outcomes import check_line

quick = settings(derandomize=True, deadline=None, max_examples=60, database=None)
# Of all of Unicode hypothesis would make a table first, for seconds.
texts = st.text("ab1 ,;'\"=+-@\t\r\n\x00\x1b\x9b\u202e\u2028\ufeff\u200déλ語👩", max_size=12)
beginnings = st.sampled_from(("", "'", "''", "=", "+", "-", "@", "\t", "\r", "\n", "＝", "'=", "-1", "+1e3"))
EVIL = "a\x1b[2J\u202eb\nc\x9b\u2028"


@quick
@given(texts)
def test_what_is_shown_is_one_line_and_shown_again_the_same(text):
    assert shown(shown(text)) == shown(text)
    check_line(f"x{shown(text)}")
    assert str(JaxtlError(text)) == shown(text)


def test_letters_of_all_scripts_are_shown_as_they_are():
    for name in ("naïve", "日本語", "mi\u200cxam", "👩\u200d🔬", "$x$ [bold]"):
        assert shown(name) == name
    assert shown(EVIL) == r"a\x1b[2J\u202eb\nc\x9b\u2028"


@quick
@given(st.text('{}[]":,01eE-.a\\u \ud800\ufeff', max_size=30) | st.binary(max_size=30))
def test_whatever_is_no_json_object_is_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert isinstance(parsed(text), dict)


@quick
@given(st.lists(st.builds(str.__add__, beginnings, texts).filter(bool), min_size=1, max_size=5, unique=True))
def test_names_come_back_from_tables_in_which_none_is_a_formula(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("t") / "classes.csv"
    row = {"stage": "after", "space": "pca", "metric": "m", "value": 0.5, "low": -0.25, "high": None}
    save_class_scores(path, [{**row, "class": name} for name in names])
    assert [row["class"] for row in load_class_scores(path)] == names
    cells = [cell for line in csv.reader(io.StringIO(path.read_text(), newline="")) for cell in line]
    formulas = [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))]
    assert all(np.isfinite(float(cell)) for cell in formulas)
    assert set(CLASS_COLUMNS) <= set(cells)


def test_a_table_that_jaxtl_reads_as_anybody_s_has_the_names_that_were_written(tmp_path):
    names = ["=1+1", "'=x", "-2", "@a", "plain", "'quoted'"]
    write_table(tmp_path / "t.csv", ("label", "value"), [(name, -0.5) for name in names])
    assert read_columns(tmp_path / "t.csv") == {"label": names, "value": ["-0.5"] * len(names)}


def test_markup_and_control_characters_do_nothing_on_a_terminal(capsys):
    name = f"[bold]x[/bold] [/] :smile: {EVIL}"
    out = io.StringIO()
    terminal = Terminal(Console(file=out, width=200))
    terminal.notify(name)
    with terminal.step(name):
        pass
    screen.print_table(screen.results(), tables.score_table([]))
    rows = [tables.Score("before", name, name, 0.5), tables.Score("after", name, name, 0.25)]
    screen.print_table(screen.results(), tables.number_table(rows))
    screen.print_json({"name": name})
    screen.tell(name)
    printed = capsys.readouterr()
    for text in (out.getvalue(), printed.out, printed.err):
        assert "[bold]x[/bold] [/] :smile: " in text
        for line in text.splitlines():
            check_line(line or "-")
    start = printed.out.index("{")
    assert json.loads(printed.out[start:])["name"] == name


def test_names_are_text_in_figures(tmp_path):
    name = f"_x $x_{{$ <b>& {EVIL}"
    values = np.random.default_rng(0).normal(size=(20, 2))
    embedding = jaxtl.Embedding(values, np.arange(20) % 2, method=name, meta={"class_names": [name, "b"]})
    save(embedding_figure(embedding, title=name), tmp_path / "m.svg")
    drawn = [text for text in ElementTree.parse(tmp_path / "m.svg").getroot().itertext() if "x_{" in text]
    assert len(drawn) >= 3  # title, map, key
    assert all(shown(name)[:20] in text for text in drawn)
    assert shown(name) in repr(embedding)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside"])
def test_a_manifest_that_names_what_lies_elsewhere_is_none(tmp_path, name):
    (tmp_path / "outside").write_text("x")
    (tmp_path / "run").mkdir()
    known = [{"sha256": stamp(tmp_path / "outside").sha256, "bytes": 1}]
    for step in ({"files": {name: known}}, {"files": {}, "inputs": {name: known[0]["sha256"]}}):
        write_json(tmp_path / "run" / "manifest.json", {"sources": {}, "steps": {"scores": step}})
        sign(tmp_path / "run" / "manifest.json")
        with pytest.raises(JaxtlError, match="lies elsewhere"):
            Manifest(tmp_path / "run" / "manifest.json").state(name)
