"""A metric has its names in one place, with what it is and who proposed it; a number has one value."""

import ast
import csv
import io
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import jaxtl
from jaxtl.cli.tables import score_table
from jaxtl.evaluation import catalogue
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, METRICS
from jaxtl.experiment.scores import profile, profile_before
from jaxtl.records.arrays import Features
from jaxtl.records.tables import load_scores
from jaxtl.report import build_page, load_run
from jaxtl.runs.figures import draw
from jaxtl.runs.folder import RunFolder
from jaxtl.runs.formats import Averages
from tests.run_files import older

ROOT = Path(jaxtl.__file__).parent
# Columns and fields of many things, which code has to name; and what is a word like any other.
PLAIN = {"loss", "accuracy", "test_loss", "test_accuracy", "seconds", "bytes", "trust"}
# Metrics are functions below the catalogue, whose errors begin with what they are functions of.
BELOW = ROOT / "metrics"
HOME = {ROOT / "evaluation" / f"{name}.py" for name in ("catalogue", "change_catalogue", "sources")}


def texts(tree):
    """String constants but for docstrings, with their lines."""
    documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    docs = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, documented) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs:
            yield node.lineno, node.value


def spelled(tree):
    """Lines in which a name of a metric is spelled, with the name."""
    names = {name for metric in METRICS.values() for name in (str(metric), metric.label, metric.short)}
    names = names - PLAIN | {"10-NN"}
    for line, text in texts(tree):
        yield from ((line, name) for name in sorted(names) if name in text)


def test_no_name_of_a_metric_is_spelled_elsewhere():
    files = [path for path in sorted(ROOT.rglob("*.py")) if path not in HOME and BELOW not in path.parents]
    assert len(files) > 80
    places = [
        f"{path.relative_to(ROOT.parent)}:{line}: {name}"
        for path in files
        for line, name in spelled(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not places


@pytest.mark.parametrize(
    "code",
    ['title = f"{n} images, 10-NN accuracy {value}"', 'scores["silhouette"]', 'LABEL = "mean linear CKA"'],
)
def test_such_a_name_would_be_found(code):
    assert [line for line, _ in spelled(ast.parse(f'"""About linear CKA."""\n\n{code}'))][:1] == [3]


@pytest.mark.parametrize("metric", METRICS.values(), ids=str)
def test_a_metric_says_what_it_is(metric):
    assert metric.label
    assert len(metric.definition) > 20
    assert not metric.definition.endswith(".")
    assert metric.least < metric.most
    assert metric.better in (catalogue.UP, catalogue.DOWN, "")
    costs = {catalogue.SECONDS, *(key for key in METRICS if key.startswith("bytes"))}
    history = {catalogue.LOSS, catalogue.ACCURACY, catalogue.TEST_LOSS, catalogue.TEST_ACCURACY}
    assert bool(metric.sources) == (metric not in costs | history)


def test_labels_are_told_apart():
    labels = [metric.label for metric in METRICS.values()]
    assert len(set(labels)) == len(labels)


def test_the_catalogue_is_light():
    code = "import sys, jaxtl.evaluation.catalogue; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "jax", "sklearn", "scipy", "rich"} & set(loaded.split())


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def scores(finished):
    return {(s.stage, s.space, s.metric): s for s in load_scores(finished / "scores.csv")}


def test_every_number_on_file_is_in_the_catalogue_and_within_its_range(finished):
    rows = table(finished / "scores.csv") + table(finished / "classes.csv")
    for row in rows:
        metric = METRICS[row["metric"]]
        for name in ("value", "low", "high"):
            if row[name]:
                assert metric.least <= float(row[name]) <= metric.most, row


def test_rows_stand_in_the_order_of_the_catalogue(finished):
    places = list(METRICS)
    for name in ("scores.csv", "classes.csv"):
        rows = table(finished / name)
        for row, following in pairwise(rows):
            promised = following["metric"] in catalogue.TRANSFERABILITY
            if (row["stage"], row["space"]) == (following["stage"], following["space"]) and not promised:
                assert places.index(row["metric"]) <= places.index(following["metric"])


def test_a_claim_about_a_score_has_its_value_and_interval(finished, scores):
    claims = {claim["id"]: claim for claim in json.loads((finished / "claims.json").read_text())["claims"]}
    for id_, key in {
        "pca-before-poor": ("before", "pca", LEAVE_ONE_OUT),
        "lle-before-poor": ("before", "lle", LEAVE_ONE_OUT),
        "tsne-before-local": ("before", "tsne", catalogue.TRUSTWORTHINESS),
        "tsne-before-global": ("before", "tsne", catalogue.SILHOUETTE),
        "tsne-after-clusters": ("after", "tsne", catalogue.CLUSTERS_MATCHED),
    }.items():
        claim, score = claims[id_], scores[key]
        assert (claim["value"], claim["low"], claim["high"]) == (score.value, score.low, score.high)
        assert METRICS[key[2]].label in claim["statistic"]


def test_the_profile_s_last_layer_has_the_scores_of_the_features(finished, scores, tmp_path):
    folder = older(shutil.copytree(finished, tmp_path / "run"))
    run = RunFolder(folder)
    for stage in ("before", "after"):
        features = Features.load(folder / "features" / f"{stage}.npz")
        # Averages of another pass differ in the last bits.
        averages = {"first": features.values[:, :4], "out_relu": features.values * np.float32(1 + 1e-6)}
        run.averages[stage].write(Averages(features.labels, averages))
    profile_before(str(folder), seed=1)
    profile(str(folder), seed=1)
    compared = set()
    for row in run.layers.read():
        if row.layer == "out_relu" and (score := scores.get((row.stage, "features", row.metric))):
            assert row[3:] == (score.value, score.low, score.high), row
            compared.add(row.metric)
    assert compared == {LEAVE_ONE_OUT, catalogue.EFFECTIVE_RANK, catalogue.LINEAR_CKA}


def test_pictures_page_and_terminal_say_the_same_accuracy_in_the_same_digits(finished, scores):
    console = Console(width=200, file=io.StringIO())
    console.print(score_table(list(scores.values())))
    shown = console.file.getvalue()
    assert LEAVE_ONE_OUT.label in shown
    page = build_page([load_run(finished)])
    assert f"{LEAVE_ONE_OUT.label}; 250 test images" in page
    for stage in ("before", "after"):
        for axes, method in zip(draw(RunFolder(finished), stage).axes, ("pca", "tsne", "lle"), strict=False):
            score = scores[stage, method, LEAVE_ONE_OUT]
            value, low, high = (f"{part:.3f}" for part in (score.value, score.low, score.high))
            assert axes.get_title().endswith(f"{LEAVE_ONE_OUT.label}: {value}")
            assert f"{value} [{low}, {high}]" in shown
            assert f"{value} <span class='bounds'>[{low}, {high}]</span>" in page


def test_an_earlier_version_s_files_are_read_by_today_s_names(finished, tmp_path):
    folder = older(shutil.copytree(finished, tmp_path / "earlier"))
    text = (folder / "scores.csv").read_text().replace(f'"{catalogue.FIVE_FOLDS}"', "10-NN accuracy")
    (folder / "scores.csv").write_text(text)
    (folder / "layers.csv").write_text(
        "stage,layer,metric,value,low,high\n"
        "before,a,10-NN accuracy,0.5,0.4,0.6\nafter,a,10-NN accuracy,0.7,0.6,0.8\n"
        "before,a,ridge probe accuracy,0.5,0.4,0.6\nafter,a,ridge probe accuracy,0.5,0.4,0.6\n"
        "before,a,effective rank,5,4,6\nafter,a,effective rank,5,4,6\nboth,a,CKA,0.9,0.8,1\n"
    )
    run = load_run(folder)
    assert run.score("before", "pca", catalogue.FIVE_FOLDS)
    assert {row["metric"] for row in run.layers} <= set(METRICS)
    assert (
        LEAVE_ONE_OUT.label
        in draw(RunFolder(folder), "layers").axes[0].get_legend().get_texts()[0].get_text()
    )
