"""What a scaling study refuses in one line."""

import json
import shutil

import pytest

from jaxtl.errors import JaxtlError
from jaxtl.scaling import study
from tests.studies import LIMITS, stamps


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--n-neighbors", 6], "was made with n_neighbors 5, not 6, which all its trials share"),
        (["--seed", 2], "was made with seed 1, not 2"),
        (["--dataset", "mnist"], "not mnist, which all its trials share"),
        (["--sizes", "40,many"], "sizes: 'many' is not a whole number; give some such as 500,1000,2000"),
        (["--sizes", "5"], "sizes: 5 is outside 22 to 1,000,000; leave it out"),
        (["--sizes", "131"], "has 130 images, training and test together; take smaller sizes (only"),
        (["--methods", "pca,umap"], "unknown method 'umap'; the methods are pca, tsne, lle, and"),
        (["--methods", "pca@3"], "unknown method 'pca@3'"),
        (["--methods", "pca@120"], "pca@120: no size is above its landmarks; add a larger one to --sizes"),
        (["--methods", "tsne"], "size 40: tsne: perplexity 30 needs 91 rows, the features have 40"),
        (["--backends", "torch"], "unknown backend 'torch'"),
        (["--backends", "cuml"], "backend cuml cannot work"),
        (["--time-limit", "0"], "--time-limit"),
        (["--dataset", "infinite:99"], "not infinite:99"),
    ],
)
def test_what_cannot_go_on_is_refused_in_one_line(jaxtl, finished_study, given, said):
    before = stamps(finished_study)
    code, out, err = jaxtl("scale", "--out", finished_study, *given)
    assert (code, out) == (2, "")
    assert err.startswith("jaxtl: ")
    assert err.count("\n") == 1
    assert said in err
    assert stamps(finished_study) == before


def test_other_folders_are_left_alone(jaxtl, tmp_path, study_arguments):
    (tmp_path / "thesis.txt").write_text("words")
    code, _, err = jaxtl(*study_arguments, "--out", tmp_path)
    assert (code, err) == (
        2,
        f"jaxtl: {tmp_path}: holds something else than a study; give a new folder with --out\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_edited_settings_and_damaged_trials_are_refused(copied_study, jaxtl):
    config = copied_study / "config.json"
    config.write_text(config.read_text().replace('"seed": 1', '"seed": 3'))
    code, _, err = jaxtl("scale", "--out", copied_study)
    assert code == 2
    assert "was edited since the study started" in err
    config.write_text(config.read_text().replace('"seed": 3', '"seed": 1'))
    trial = copied_study / "points" / "pca_sklearn_40.json"
    trial.write_text("{}")
    code, _, err = jaxtl("scale", "--out", copied_study)
    assert (code, err.count("\n")) == (2, 1)
    assert "not a trial of a study" in err


def test_what_was_asked_for_may_be_edited_but_sensibly(copied_study, jaxtl):
    config = copied_study / "config.json"
    text = config.read_text()
    for edited in (
        text.replace('"sizes": ', '"size": '),
        text.replace('"sizes": "40,80,120"', '"sizes": 40'),
        json.dumps(json.loads(text) | {"asked": ["40"]}),
    ):
        config.write_text(edited)
        code, _, err = jaxtl("scale", "--out", copied_study)
        assert (code, err.count("\n")) == (2, 1)
        assert "asked must have sizes, methods, backends, each a text or null" in err


def test_a_study_of_endless_digits_says_how(jaxtl, tmp_path):
    code, _, err = jaxtl("scale", "--dataset", "infinite:1000000", "--out", tmp_path / "new")
    said = "dataset infinite:1000000: a study of endless digits is --dataset mnist with larger --sizes"
    assert (code, err) == (2, f"jaxtl: {said}\n")
    assert not (tmp_path / "new").exists()


def test_a_disk_too_small_is_refused_before_work(few_digits, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    with pytest.raises(JaxtlError, match=r"features of 60 images need 0.3 GiB of disk, 0.0 GiB are free"):
        study.prepare(tmp_path / "new", {"dataset": few_digits}, study.Grid("60", "pca"), LIMITS)
