"""`jaxtl compare` and `jaxtl.compare`: anybody's own features, matched row by row, and what follows."""

import csv
import json

import numpy as np
import pytest

import jaxtl
from jaxtl import metrics
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, LINEAR_CKA, LOGISTIC_PROBE
from jaxtl.experiment import comparison
from jaxtl.neighbors import exact_neighbors
from jaxtl.records.arrays import Features
from jaxtl.records.files import read_npz
from jaxtl.runs.folder import RunFolder
from jaxtl.settings import ComparisonConfig
from tests.conftest import BlankFigures
from tests.feature_pairs import AFTER, BEFORE, IDS, LABELS, NAMES, N, labels_of, pair_of, save


@pytest.fixture
def files(tmp_path):
    """A function that writes two npz files with these further arrays each, and gives their paths."""

    def write(before, after):
        one = save(tmp_path / "before.npz", **{"features": BEFORE} | before)
        return one, save(tmp_path / "after.npz", **{"values": AFTER} | after)

    return write


# Rows and classes.


def test_rows_in_any_order_are_matched_by_their_ids(files):
    order = np.random.default_rng(2).permutation(N)
    pair = pair_of(*files({"ids": IDS, "labels": LABELS}, {"values": AFTER[order], "ids": IDS[order]}))
    np.testing.assert_array_equal(pair.before.values, BEFORE)
    np.testing.assert_array_equal(pair.after.values, AFTER)
    np.testing.assert_array_equal(pair.after.labels, LABELS)
    assert pair.after.ids.tolist() == IDS.tolist()
    assert any("different orders" in note for note in pair.notes)


def test_ids_in_either_unicode_spelling_are_one(files):
    import unicodedata

    other = np.array([unicodedata.normalize("NFD", name) for name in IDS])
    assert len(pair_of(*files({"ids": IDS}, {"ids": other})).before.values) == N


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"ids": IDS}, {"ids": np.char.add(IDS, "x")}, "ids disagree"),
        ({"ids": IDS}, {"values": AFTER[:50], "ids": IDS[:50]}, "before.npz has 10 that the other lacks"),
        ({"ids": IDS[np.arange(N) // 2]}, {"ids": IDS}, "30 ids stand there more than once"),
        ({}, {"values": AFTER[:50]}, "60 rows and .* 50: which belong together"),
        (
            {"labels": LABELS},
            {"labels": LABELS[::-1]},
            "labels disagree in 40 of 60 rows, .* 0: '0' in .*, '2' in ",
        ),
        ({"class_names": NAMES}, {"class_names": NAMES[::-1]}, "names differ"),
        ({"labels": LABELS, "class_names": NAMES[:2]}, {}, "labels are 0 to 2 for 2 class names"),
        ({"labels": LABELS + 0.5}, {}, "labels such as 0.5 are no classes"),
        ({"labels": np.where(LABELS, np.nan, 0)}, {}, "40 labels are missing"),
        ({"labels": LABELS[:5]}, {}, "labels are .5. for 60 rows"),
        ({"features": np.where(np.eye(N, 8), np.nan, BEFORE), "ids": IDS}, {}, "in 8 of 60 .* 0 .fotos"),
        ({"features": BEFORE.reshape(N, 2, 2, 2)}, {}, "pool or flatten"),
        ({"features": BEFORE[:, :1]}, {}, "at least 13 rows and 2 columns"),
        ({"features": BEFORE[:12]}, {"values": AFTER[:12]}, "at least 13 rows"),
        ({"features": np.ones((N, 4))}, {}, "all 60 rows are equal"),
        ({"features": np.full((N, 4), 1e300) * np.arange(N)[:, None]}, {}, "exceed what float32 holds"),
        ({"features": BEFORE.astype(str)}, {}, "give numbers"),
        ({"ids": IDS.astype(object)}, {}, "array ids holds Python objects"),
        ({"ids": IDS}, {"ids": np.zeros(N, "V4")}, "ids are .*V4; give text or whole numbers"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_where_and_why(files, before, after, words):
    with pytest.raises(JaxtlError, match=words) as refusal:
        pair_of(*files(before, after))
    assert "\n" not in str(refusal.value)


def test_rows_that_only_one_file_has_are_left_out_where_that_is_asked_for(files):
    pair = pair_of(*files({"ids": IDS}, {"values": AFTER[5:], "ids": IDS[5:]}), common=True)
    np.testing.assert_array_equal(pair.before.values, BEFORE[5:])
    assert any("55 rows that both files have" in note for note in pair.notes)


def test_numbers_and_names_of_the_same_classes_agree(files):
    pair = pair_of(*files({"labels": LABELS, "class_names": NAMES}, {"labels": NAMES[LABELS]}))
    assert labels_of(pair) == NAMES[LABELS].tolist()


def test_class_numbers_may_have_gaps_and_stay_in_their_order(files):
    pair = pair_of(*files({"labels": np.array([1000, 9, 201])[LABELS]}, {}))
    assert pair.before.class_names == ("9", "201", "1000")
    assert labels_of(pair)[:3] == ["1000", "9", "201"]


def test_features_of_jaxtl_and_arrays_are_taken_as_they_are():
    own = Features(
        BEFORE, LABELS.astype("i4"), np.arange(N, dtype="i4"), {"class_names": list(NAMES), "dataset": "pets"}
    )
    read = comparison.read(own, AFTER)
    assert (read.name, read.pair.after.class_names) == ("pets", tuple(NAMES))
    again = comparison.read({"embeddings": BEFORE, "y": LABELS}, AFTER.tolist()).pair
    np.testing.assert_array_equal(again.before.labels, LABELS)


def test_training_features_share_the_classes(files, tmp_path):
    before, after = files({"labels": NAMES[LABELS]}, {})
    train = [
        save(tmp_path / f"t{k}.npz", values=v[:20], labels=np.array(["ours", "été"])[np.arange(20) % 2])
        for k, v in enumerate((BEFORE, AFTER))
    ]
    read = comparison.read(before, after, tuple(train))
    assert (
        read.training.before.class_names == read.pair.before.class_names == ("chat", "chien", "ours", "été")
    )
    assert read.pair.before.labels.tolist()[:3] == [0, 1, 3]
    with pytest.raises(JaxtlError, match="12 dimensions, but the features before have 8"):
        comparison.read(before, after, tuple(train[::-1]))
    unlabelled = save(tmp_path / "u.npz", values=BEFORE), save(tmp_path / "v.npz", values=AFTER)
    with pytest.raises(JaxtlError, match="training features need labels"):
        comparison.read(before, after, unlabelled)


# Whole comparisons.


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """The folder of a comparison with labels and training features, its figures blank."""
    folder = tmp_path_factory.mktemp("labelled")
    order = np.arange(N)[::-1]
    one = save(folder / "b.npz", values=BEFORE, labels=NAMES[LABELS], ids=IDS)
    two = save(folder / "a.npz", values=AFTER[order], labels=NAMES[LABELS[order]], ids=IDS[order])
    train = [
        save(folder / f"t{k}.npz", values=v + 0.1, labels=NAMES[LABELS])
        for k, v in enumerate((BEFORE, AFTER))
    ]
    read = comparison.read(one, two, tuple(train), name="pets")
    config, _ = comparison.settings(read, [], methods=("pca",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "Drawer", BlankFigures)
        comparison.start(read, config, folder / "run").run()
    return folder / "run"


def test_a_comparison_scores_both_files_with_the_metrics_of_a_run(labelled):
    run = RunFolder(labelled)
    scores = {(s.stage, s.space, s.metric): s.value for s in run.scores.read()}
    near = exact_neighbors(AFTER, 10)
    expected = metrics.leave_one_out_knn(near, LABELS).accuracy.value
    assert scores["after", "features", LEAVE_ONE_OUT] == pytest.approx(expected, abs=1e-6)
    assert scores["both", "features", LINEAR_CKA] == pytest.approx(
        metrics.linear_cka(BEFORE, AFTER).debiased.value, abs=1e-6
    )
    assert ("before", "features", LOGISTIC_PROBE) in scores
    assert {row["class"] for row in run.class_scores.read()} == set(NAMES)
    assert [claim["id"] for claim in run.claims.read()] == ["pca-before-poor", "pca-improves"]
    assert run.embeddings["after", "pca"].read().ids.tolist() == IDS.tolist()


def test_its_page_says_what_it_is_of_and_nothing_of_a_network(labelled):
    page = RunFolder(labelled).report.read()
    text = page.partition("<footer>")[0]
    assert "What changed in the features of pets" in text
    assert "dimensions: 8 before, 12 after" in text
    assert "jaxtl compare b.npz a.npz --training-features" in text
    for word in ("MobileNetV2", "fine-tuning", "test image", "ImageNet", "Images are not shown", "epoch"):
        assert word not in text.partition("<h2>Sources")[0].replace("Every number", ""), word
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["runs"][0]
    assert (data["labelled"], data["ids"], data["images"]) == (True, IDS.tolist(), None)


def test_verbs_for_finished_runs_take_it(jaxtl, labelled, tmp_path):
    code, told, _ = jaxtl("run", "--resume", labelled)
    assert (code, "wrong before and right after" in told, "fine-tuning" in told) == (0, True, False)
    assert jaxtl("compare", "--resume", labelled)[0] == 0
    assert jaxtl("report", labelled, "--out", tmp_path / "page.html")[0] == 0
    code, _, told = jaxtl("export", labelled, "--to", "csv", "--out", tmp_path / "t.csv")
    assert (code, told) == (0, "")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["id"] for row in rows] == IDS.tolist()
    assert list(rows[0]) == [
        "index",
        "id",
        "label",
        "class",
        "knn_before",
        "knn_training_before",
        "probe_before",
        "knn_after",
        "knn_training_after",
        "probe_after",
        "trust_before_pca",
        "trust_after_pca",
        "outcome_knn",
        "outcome_probe",
        "kept",
        "moved",
        "kept_pca",
        "before_pca_x",
        "before_pca_y",
        "after_pca_x",
        "after_pca_y",
    ]
    code, _, told = jaxtl("layers", labelled)
    assert (code, "knows of no layers" in told) == (2, True)
    code, _, told = jaxtl("run", "--resume", labelled, "--epochs", 3)
    assert (code, "which has no epochs" in told) == (2, True)


def test_what_is_missing_is_made_again_from_the_folder_alone(labelled, contents, tmp_path, monkeypatch):
    import shutil

    from jaxtl.experiment.folders import resume

    monkeypatch.setattr(comparison, "Drawer", BlankFigures)
    copy = RunFolder(shutil.copytree(labelled, tmp_path / "copy"))
    for file in (copy.scores, copy.measures, copy.neighbors["after"], copy.report):
        file.remove()
    resume(copy.path).run()
    assert contents(copy.path) == contents(labelled)
    copy.features["after"].remove()
    with pytest.raises(
        JaxtlError, match=r"cannot be made again; compare b\.npz and a\.npz into a new folder"
    ):
        resume(copy.path)


def test_settings_of_a_comparison_are_read_as_they_were_written(tmp_path):
    from jaxtl.runs.formats import Started

    started = Started(ComparisonConfig("b.npz", "a.csv", 60, "pets", 3, True, ("lle",), 5.0, 4, seed=7))
    run = RunFolder(tmp_path)
    run.started.write(started)
    assert run.started.read() == started


def test_without_labels_from_the_command_line(jaxtl, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "Drawer", BlankFigures)
    np.save(tmp_path / "b.npy", BEFORE[:20])
    np.save(tmp_path / "a.npy", AFTER[:20])
    out = tmp_path / "run"
    code, _, told = jaxtl("compare", tmp_path / "b.npy", tmp_path / "a.npy", "--methods", "pca", "--out", out)
    assert code == 0, told
    run = RunFolder(out)
    assert "what needs labels is left out" in told
    assert "perplexity is 6.3, the most that 20 rows allow" in told
    assert not run.class_scores.is_there
    assert run.claims.read() == []
    assert run.features["before"].read().labels is None
    assert "labels" not in read_npz(out / "embeddings" / "after_pca.npz", ())[0]
    page = run.report.read()
    assert "Their classes are not known" in page
    assert "Class by class" not in page.partition("<footer>")[0]
    code, _, told = jaxtl("export", out, "--to", "csv", "--out", tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines()[0] == (
        "index,trust_before_pca,trust_after_pca,kept,moved,kept_pca,"
        "before_pca_x,before_pca_y,after_pca_x,after_pca_y"
    )
    assert jaxtl("plot", out / "embeddings" / "after_pca.npz", "--out", tmp_path / "m.png")[0] == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["b.npy"], "give two files of features"),
        (["b.npy", "a.npy", "--labels", "none.txt"], "none.txt: no such file"),
        (["b.npy", "a.npy", "--perplexity", "40"], "perplexity of at most 19.6"),
        (["b.npy", "a.npy", "--methods", "umap"], "the methods are pca"),
        (["b.npy", "a.npy", "--out", "taken"], "holds files already"),
        (["--resume", "nowhere"], "no run folder"),
        (["--resume", "nowhere", "--out", "x"], "give nothing else"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(jaxtl, tmp_path, monkeypatch, args, words):
    monkeypatch.chdir(tmp_path)
    np.save("b.npy", BEFORE)
    np.save("a.npy", AFTER)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    code, _, told = jaxtl("compare", *args)
    assert (code, len(told.splitlines())) == (2, 1)
    assert words in told
    assert not (tmp_path / "runs").exists()


def test_in_python_nothing_is_left_behind_unless_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    compared = jaxtl.compare(BEFORE, {"features": AFTER}, labels=list(NAMES[LABELS]), methods=["pca"], seed=3)
    assert set(compared.embeddings) == {("before", "pca"), ("after", "pca")}
    assert compared.score("after", "pca", LEAVE_ONE_OUT).value > 0.5
    assert compared.score("after", "pca", "luck") is None
    assert (compared.folder, len(compared.claims)) == (None, 2)
    assert repr(compared).startswith("Comparison(60 images, 8 and 12 dimensions, ")
    assert not list(tmp_path.iterdir())
