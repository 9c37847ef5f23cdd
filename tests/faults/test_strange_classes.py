"""A whole run whose classes, images and folder have names that do harm elsewhere: text throughout."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxtl.records.tables import harmless
from tests.faults.outcomes import command

NAMES = (
    "=1+1",
    "'=2",
    "-rf",
    "@SUM(A1)",
    "\u202eevil",
    "two\nlines",
    "a\ttab",
    "<script>alert(1)</script>",
    "[red]x[/] [/]",
    "$x_{$",
    "\x1b[2Jgone",
    "é" * 60,
)


@pytest.fixture
def pictures(tmp_path):
    """A table of 10 images of each class, which noise tells apart; with the cells of a spreadsheet's."""
    rng, rows = np.random.default_rng(0), []
    (tmp_path / "=pictures").mkdir()
    for k, name in enumerate(NAMES):
        for number in range(10):
            path = f"=pictures/=cmd|{k}-{number}.png"
            pixels = rng.integers(0, 20, (16, 16, 3)) + 18 * k
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / path)
            rows.append((harmless(path), harmless(name), "test" if number > 5 else "train"))
    out = io.StringIO()
    csv.writer(out).writerows([("path", "label", "split"), *rows])
    (tmp_path / "t.csv").write_text(out.getvalue(), newline="")
    return f"csv:{tmp_path / 't.csv'}"


def cells(path):
    return [cell for row in csv.reader(io.StringIO(path.read_text(), newline="")) for cell in row]


@pytest.mark.slow
def test_names_are_text_from_the_first_to_the_last(pictures, tmp_path):
    run, out = tmp_path / "[bold]run %s {x}", tmp_path / "out"
    out.mkdir()
    command(
        *("run", "--dataset", pictures, "--image-size", 32, "--trainable", "none", "--epochs", 1),
        *("--methods", "pca", "--no-layers", "--seeds", 1, "--out", run),
    )
    record = json.loads(command("show", run, "--json"))
    assert record
    for words in (["show", run, "--all"], ["check", run], ["score", run], ["plot", run]):
        command(*words)
    for to in ("csv", "parquet"):
        command("export", run, "--to", to, "--out", out / f"e.{to}")
    command("export", run, "--to", "tensorboard", "--out", out / "projector")
    command("report", run, "--out", out / "page.html")
    for table in (*run.glob("*.csv"), out / "e.csv"):
        assert all(cell.startswith("'") or harmless(cell) == cell for cell in cells(table)), table
    with (out / "e.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    told = {row["class"].removeprefix("'") if row["class"][:2] != "''" else row["class"][1:] for row in rows}
    assert told == set(NAMES)
    lines = (out / "projector" / "metadata.tsv").read_text().split("\n")
    assert len({line.count("\t") for line in lines[:-1]}) == 1
    page = (out / "page.html").read_text()
    assert "<script>alert(1)" not in page
    assert "\u202e" not in (run / "log.txt").read_text()


@pytest.mark.slow
def test_a_finished_run_is_read_under_any_name(few_run, tmp_path, jaxtl):
    """Moved by its user, to names that no new run is given."""
    for name in (b"caf\xe9", "a\u202eb".encode(), b"a\nb", b"-rf", b"~", b"*?[x]", b"x" * 200):
        run = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
        shutil.copytree(few_run, run)
        for words in (
            ["show", run, "--all"],
            ["show", run, "--json"],
            ["check", run],
            ["score", run],
            ["report", run],
            ["plot", run],
            ["export", run, "--to", "csv", "--out", run / "t.csv"],
            ["export", run, "--to", "csv", "--out", tmp_path / "t.csv"],
            ["run", "--resume", run],
            ["reduce", run / "features" / "after.npz", "--method", "pca", "--out", run.with_suffix(".npz")],
            ["plot", run / "embeddings" / "after_pca.npz", "--out", run.with_suffix(".png")],
        ):
            code, _, said = jaxtl(*words)
            assert code in (0, 2), said
            assert code == 0 or said.splitlines()[-1].startswith("jaxtl: "), said
            assert "Traceback" not in said
