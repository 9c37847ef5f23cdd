"""Commands on finished runs: the page, scores and layers once more."""

import shutil

import numpy as np
import pytest

from jaxtl.records.arrays import Features
from tests.run_files import older


def test_report_of_one_run_and_of_two(jaxtl, finished, tmp_path):
    out = tmp_path / "both.html"
    code, printed, _ = jaxtl("report", finished, finished, "--out", out)
    assert (code, printed.strip()) == (0, str(out))
    assert out.read_text(encoding="utf-8").lower().startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no run folder"),
        (["RUN", "--out", "page.txt"], "must end in .html"),
        ([], "Missing argument 'RUN...'"),
    ],
)
def test_report_refuses_in_one_line(jaxtl, finished, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, said = jaxtl("report", *(finished if word == "RUN" else word for word in arguments))
    assert code == 2
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_numbers_are_had_again_from_a_finished_run(jaxtl, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    scores = (folder / "scores.csv").read_bytes()
    (folder / "scores.csv").write_text("spoiled")
    code, said, _ = jaxtl("score", folder)
    assert code == 0, said
    assert (folder / "scores.csv").read_bytes() == scores
    assert "trustworthiness" in said
    assert "Before, PCA separates" in said


def test_numbers_that_cannot_be_had_again_leave_those_there_are(jaxtl, finished, contents, tmp_path):
    folder = older(shutil.copytree(finished, tmp_path / "run"))
    path = folder / "features" / "after.npz"
    features = Features.load(path)
    features.values[7, 3] = np.nan
    features.save(path)
    before = contents(folder)
    code, _, said = jaxtl("score", folder)
    assert code == 2
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"jaxtl: {path}: NaN or infinite features in 1 of 250 rows, the first in row 7")
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["embeddings/after_tsne.npz", "scores.csv"])
def test_a_run_that_is_not_finished_has_no_page(jaxtl, finished, name, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    for path in (name, "report.html"):
        (folder / path).unlink()
    code, _, said = jaxtl("report", folder)
    assert code == 2
    assert said.strip() == (
        f"jaxtl: {folder}: is not finished ({name} is missing); go on with: jaxtl run --resume {folder}"
    )
    assert not (folder / "report.html").exists()


def test_layers_of_a_run_without_them_are_refused(jaxtl, finished):
    code, _, said = jaxtl("layers", finished)
    assert code == 2
    assert "was made with --no-layers" in said
