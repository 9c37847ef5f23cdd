"""What the page tells in words: the command, sources, and what the numbers say."""

import dataclasses
import shlex

import numpy as np
import pytest

from jaxtl.evaluation import depth
from jaxtl.evaluation.catalogue import DAVIES_BOULDIN, LEAVE_ONE_OUT, LINEAR_CKA
from jaxtl.records.tables import Score
from jaxtl.report import build_page
from jaxtl.report.provenance import command, step_title
from tests.browser.synthetic import CONFIG, synthetic_run
from tests.reading_pages import Page, headings


@pytest.fixture(scope="module")
def run():
    return synthetic_run(300)


def section_of(text, name):
    return next(text for a, text in Page(text).all("section") if name in a.get("class", "").split())


def test_command_repeats_the_settings():
    from jaxtl.cli.run import run

    config = {
        **CONFIG,
        "dataset": "folder:my images",
        "samples": None,
        "learning_rate": 0.000123456789,
        "layers": False,
        "methods": ["pca", "lle"],
        "deterministic": True,
        "trainable": "block_14_expand",
        "seed": 7,
    }
    words = shlex.split(command(config))
    assert words[:2] == ["jaxtl", "run"]
    given = run.make_context("run", words[2:]).params
    given["methods"] = list(given["methods"])
    given["preprocessing"] = given["preprocessing"] or "unit"  # where neither user nor weights decide
    for name, value in config.items():
        if "digest" not in name:
            assert given[name] == value, name


def test_command_leaves_defaults_out():
    assert command({**CONFIG, "samples": 2000, "train_samples": None, "epochs": 5}) == "jaxtl run"


def test_only_what_was_used_is_cited(run):
    own = dataclasses.replace(
        run,
        embeddings={key: e for key, e in run.embeddings.items() if key[1] == "lle"},
        config={**run.config, "weights": "mine.safetensors", "dataset": "tfds:cifar10"},
    )
    sources = Page(build_page([own])).all("ol")[0][1]
    assert "MobileNetV2" in sources
    assert "locally linear" in sources
    assert not any(word in sources for word in ("ImageNet", "LeCun", "t-SNE", "Pearson"))


def test_sources_of_measures_are_those_of_the_run(run):
    held = {"silhouette": "Rousseeuw", "trustworthiness": "Venna", "LogME": "You"}
    for metric, author in held.items():
        one = dataclasses.replace(run, scores=[s for s in run.scores if s.metric == metric])
        sources = Page(build_page([one])).all("ol")[0][1]
        assert author in sources
        assert not any(other in sources for other in set(held.values()) - {author})


def test_every_metric_shown_is_explained(run):
    scores = [Score("after", "tsne", metric, 0.5) for metric in (LEAVE_ONE_OUT, DAVIES_BOULDIN)]
    page = build_page([dataclasses.replace(run, scores=scores, layers=[])])
    held = section_of(page, "scores")
    assert f"{LEAVE_ONE_OUT.label}{LEAVE_ONE_OUT.sentence}0 to 1higher is better" in held
    assert f"{DAVIES_BOULDIN.label}{DAVIES_BOULDIN.sentence}from 0lower is better" in held
    assert "Davies-Bouldin ↓" in section_of(page, "separation")


def test_the_profile_of_a_part_of_the_images_says_so(run):
    assert "of the images." not in section_of(build_page([run]), "depth")
    many = synthetic_run(depth.SAMPLES + 1)
    assert f"with the first {depth.SAMPLES:,} of the images." in section_of(build_page([many]), "depth")


def test_what_was_promised_stands_beside_what_came(run):
    scores = [Score("before", "features", "LogME", 0.25, 0.2, 0.3)]
    held = section_of(build_page([dataclasses.replace(run, scores=scores)]), "transferability")
    assert "LogME ↑before training0.250 [0.200, 0.300]" in held
    assert "test accuracy ↑after training0.900" in held
    untrained = Page(build_page([dataclasses.replace(run, history=[])]))
    assert "What the features promised, and what training gave" not in headings(untrained)


def test_maps_that_flatter_or_mix_are_told_of(run):
    scores = [
        Score(stage, space, metric, value, value - 0.01, value + 0.01)
        for stage, space, metric, value in (
            ("after", "features", "silhouette", 0.2),
            ("after", "tsne", "silhouette", 0.6),
            ("after", "pca", "silhouette", 0.21),
            ("after", "features", LEAVE_ONE_OUT, 0.96),
            ("after", "tsne", LEAVE_ONE_OUT, 0.97),
            ("after", "pca", LEAVE_ONE_OUT, 0.5),
        )
    ]
    measures = {"qnx_k": np.array([1, 9, 40]), "qnx_after_tsne": np.array([0.1, 0.5, 0.9])}
    measures["qnx_after_pca"] = np.array([0.1, 0.2, 0.9])
    told = section_of(
        build_page([dataclasses.replace(run, scores=scores, measures=measures)]), "faithfulness"
    )
    assert (
        "t-SNE after. Of an image's 9 nearest neighbours in the features, 50 % are among its 9 nearest on "
        "the map." in told
    )
    assert (
        "It draws the classes further apart than they lie in the features (silhouette: 0.600 on the map, "
        "0.200 there)" in told
    )
    assert (
        "It mixes classes that the features keep apart "
        "(10-NN accuracy, leave one out: 0.500 on the map, 0.960 there)" in told
    )
    assert (
        "t-SNE after: trust near neighbourhoods in part (50 % of the 9 nearest kept), not gaps or sizes of "
        "clusters. PCA after: do not trust near neighbourhoods (20 % of the 9 nearest kept)." in told
    )
    assert "at random would keep 3.0 %" in told
    assert told.count("It draws") == told.count("It mixes") == 1


def test_what_moved_through_the_layers_is_told(run):
    accuracies = {"before": (0.5, 0.9, 0.8), "after": (0.5, 0.9, 0.97)}
    layers = [
        {
            "stage": stage,
            "layer": name,
            "metric": LEAVE_ONE_OUT,
            "value": value,
            "low": value - 0.01,
            "high": value + 0.01,
        }
        for stage, of in accuracies.items()
        for name, value in zip("abc", of, strict=True)
    ]
    layers += [
        {"stage": "both", "layer": name, "metric": LINEAR_CKA, "value": value, "low": None, "high": None}
        for name, value in zip("abc", (1.0, 0.9999999, 0.6), strict=True)
    ]
    told = section_of(build_page([dataclasses.replace(run, layers=layers)]), "depth")
    assert "highest at the end of b: 0.900; at the output it is 0.800. The layers between lose" in told
    assert (
        "left everything up to the end of b as it was, and changed what comes out at the output (c)" in told
    )
    assert "similarity (linear CKA, 1 = unchanged) 0.600." in told
    assert "After it, 10-NN accuracy, leave one out, is 0.970 at the output" in told


def test_blocks_have_their_place_in_words(run):
    names = ("Conv1_relu", "block_1_project_BN", "block_2_add", "out_relu")
    row = {"stage": "before", "metric": LEAVE_ONE_OUT, "low": None, "high": None}
    layers = [{**row, "layer": name, "value": v} for name, v in zip(names, (0.1, 0.9, 0.5, 0.4), strict=True)]
    told = section_of(build_page([dataclasses.replace(run, layers=layers)]), "depth")
    assert "highest at the end of block 1 of 2 (block_1_project_BN): 0.900" in told


def test_steps_are_called_as_in_the_terminal(few_config, tmp_path):
    """Save for the library and the number of epochs, which their names do not say."""
    from jaxtl.experiment import opening

    steps = opening.start(few_config, tmp_path / "run").steps
    assert steps
    for step in steps:
        assert set(step_title(step.name).split(", ")) <= set(step.title.split(", ")), step.name


def test_gains_and_mixed_pairs_are_told_in_words(run):
    values = {
        "before": {"0": 0.5, "1": 0.9, "2": 0.2, "3": 0.7},
        "after": {"0": 0.6, "1": 0.8, "2": 0.9, "3": 0.9},
    }
    rows = [
        {"stage": stage, "space": "features", "metric": LEAVE_ONE_OUT, "class": name, "value": value}
        for stage, of in values.items()
        for name, value in of.items()
    ]
    shares = np.eye(10)
    shares[4, 9], shares[9, 4], shares[3, 5] = 0.3, 0.2, 0.1
    measures = {"confusion_before_features": shares, "confusion_after_features": np.full((10, 10), np.nan)}
    held = section_of(build_page([dataclasses.replace(run, class_scores=rows, measures=measures)]), "classes")
    assert "‘2’ (0.200 to 0.900), ‘3’ (0.700 to 0.900) and ‘0’ (0.500 to 0.600) gained most" in held
    assert "‘1’ lost most (0.900 to 0.800)" in held
    assert (
        "The most mixed classes before fine-tuning: of the neighbours of ‘4’, 30 % are ‘9’; of the "
        "neighbours of ‘9’, 20 % are ‘4’" in held
    )
    assert "mixed classes after" not in held


def test_runs_side_by_side(run):
    other = dataclasses.replace(run, name="longer", config={**run.config, "epochs": 5}, history=[])
    page = Page(build_page([run, other]))
    table = next(text for a, text in page.all("section") if "comparison" in a.get("class", ""))
    assert "Settings in which the runs differ" in table
    assert "epochs25" in table
    assert "PCA separates poorly before✓ holds✓ holds" in table
    options = [text for _, text in page.all("option")]
    assert options == ["made-up", "longer"]
    assert headings(page)[0] == "How the runs differ"
    assert len(page.all("h1")) == 1
    shown = [a for a, _ in page.all("div") if "data-run" in a and "id" not in a]
    assert {a["data-run"] for a in shown if "hidden" not in a} == {"0"}
    assert {a["data-run"] for a in shown if "hidden" in a} == {"1"}


def test_too_many_classes_for_tables(run):
    names = tuple(f"class {k}" for k in range(60))
    many = dataclasses.replace(run, class_names=names, measures={}, class_scores=run.class_scores)
    text = " ".join(Page(build_page([many])).text)
    assert "60 classes are too many to show here" in text


def test_numbers_that_are_none_leave_gaps(run):
    """A training that diverged, a layer without a value, a class without members."""
    nan = float("nan")
    history = [{**row, "loss": nan, "test_loss": nan} for row in run.history]
    shares = np.full((10, 10), nan)
    odd = dataclasses.replace(
        run,
        history=history,
        layers=[{**row, "value": nan} for row in run.layers],
        class_scores=[{**row, "value": None} for row in run.class_scores],
        measures={**run.measures, "confusion_before_features": shares},
        claims=[{**run.claims[0], "value": None, "low": None, "high": None, "threshold": None}],
    )
    page = Page(build_page([odd]))
    charts = [value for _, attributes, _ in page.found for value in attributes.values() if value]
    assert not any("nan" in value for value in charts)
    assert "Training" in headings(page)
    assert "Through the layers" not in headings(page)
