"""The report page as text: what it holds, that it needs nothing else, that it is safe; without a browser."""

import base64
import csv
import dataclasses
import hashlib
import html.parser
import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxtl.report
from jaxtl.errors import JaxtlError
from jaxtl.evaluation import depth
from jaxtl.evaluation.catalogue import DAVIES_BOULDIN, LEAVE_ONE_OUT, LINEAR_CKA
from jaxtl.records.arrays import Embedding, Features
from jaxtl.records.files import write_json, write_npz
from jaxtl.records.tables import Score, save_history, save_scores
from jaxtl.report import RunData, build_page, load_run
from jaxtl.report.payload import fitted
from jaxtl.report.provenance import command
from tests.browser.synthetic import CONFIG, synthetic_run

VOID = {"meta", "link", "input", "br", "path", "circle", "rect"}
NASTY = "</script><img src=x onerror=alert(1)>&amp;\u2028{{data}}"


class Page(html.parser.HTMLParser):
    """A page's elements, with the text that stands in each."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {[tag for tag, _ in self.open]}"

    def handle_starttag(self, tag, attributes):
        element = (tag, dict(attributes), [])
        self.found.append(element)
        if tag not in VOID:
            self.open.append((tag, element))

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes), []))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1][0] == tag, f"</{tag}> within <{self.open[-1][0]}>"
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)
        for _, element in self.open:
            element[2].append(data)

    def all(self, tag):
        return [(attributes, "".join(text)) for name, attributes, text in self.found if name == tag]

    @property
    def data(self):
        return json.loads(next(text for a, text in self.all("script") if a.get("id") == "data"))


@pytest.fixture(scope="module")
def run():
    return synthetic_run(300)


@pytest.fixture(scope="module")
def page(run):
    return Page(build_page([run]))


def unpacked(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def pixels(sheet):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet.partition(",")[2]))))


def section_of(text, name):
    return next(text for a, text in Page(text).all("section") if name in a.get("class", "").split())


def headings(page):
    return [text for _, text in page.all("h2")]


def test_elements_nest_and_ids_are_unique(page):
    ids = [attributes["id"] for _, attributes, _ in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert len(page.all("h1")) == 1


def test_nothing_is_fetched(run):
    text = build_page([run])
    page = Page(text)
    for tag, attributes, _ in page.found:
        for name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            if value := attributes.get(name):
                citation = tag == "a" and value.startswith("https://doi.org/")
                assert citation or value.startswith(("data:", "#")), f"{tag} {name}={value}"
    assert "@import" not in text
    assert not re.search(r"url\(\s*['\"]?(http|//)", text)
    policy = next(
        a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy


def test_key_numbers_and_verdicts_come_before_the_maps(page):
    order = headings(page)
    assert order[:3] == ["Key numbers", "The maps", "Claims, and whether the scores support them"]
    text = " ".join(page.text)
    assert "300 test images of MNIST, 48 × 48 pixels each" in text
    assert "the network's last 10 layers and a softmax head learned from 2,000 training images" in text
    assert "0.900" in text  # the last epoch's test accuracy
    assert "[0.450, 0.550]" in text
    first = next(text for a, text in page.all("section") if "key-numbers" in a.get("class", ""))
    assert "1 claim: 1 holds, 0 do not, 0 undecided" in first
    assert "holds: PCA separates poorly before" in first
    assert "below 0.600" in text


def test_every_section_is_there_when_the_run_holds_its_data(page):
    assert headings(page)[3:] == [
        "How far to trust the maps", "How far apart the classes lie", "Class by class", "Through the layers",
        "What the features promised, and what training gave", "Training",
        "Where the time went", "Every number", "How to repeat it", "Sources",
    ]  # fmt: skip


def test_what_a_run_does_not_hold_is_left_out(run):
    optional = (
        "environment", "timings", "scores", "history", "features", "claims", "class_scores", "layers",
        "measures",
    )  # fmt: skip
    empty = {name: type(getattr(run, name))() for name in optional}
    page = Page(
        build_page([dataclasses.replace(run, **empty, images=None, images_fault="the folder is gone")])
    )
    assert headings(page) == ["The maps", "How far to trust the maps", "How to repeat it", "Sources"]
    text = " ".join(page.text)
    assert "no scores of how faithful" in text
    assert "Images are not shown: the folder is gone." in text
    assert page.data["runs"][0]["images"] is None
    assert page.data["runs"][0]["measures"] == {}
    sections = [text for a, text in page.all("section") if a.get("id") != "maps"]
    assert not re.search(r"\b(nan|None)\b", " ".join(sections))


def test_arrays_come_back_as_they_were(run, page):
    held = page.data["runs"][0]
    assert [(m["stage"], m["method"]) for m in held["maps"]] == [
        (stage, method) for stage in ("before", "after") for method in ("pca", "tsne", "lle")
    ]
    for each in held["maps"]:
        coords = unpacked(each["coords"], "<f4").reshape(-1, 2)
        true = run.embeddings[each["stage"], each["method"]].coords
        # Shifted and scaled alike on both axes: shapes stay.
        scale = np.ptp(true, axis=0) / np.ptp(coords, axis=0)
        assert scale[0] == pytest.approx(scale[1], rel=1e-4)
        assert np.allclose((true - true.mean(0)) / scale, coords - coords.mean(0), atol=1e-3)
    assert np.array_equal(unpacked(held["labels"], "<u4"), run.labels)
    assert np.array_equal(unpacked(held["index"], "<u4"), run.index)
    neighbors = unpacked(held["measures"]["neighbors_after"], "<i4").reshape(-1, 10)
    assert np.array_equal(neighbors, run.measures["neighbors_after"])


def test_views_are_fitted_without_outliers():
    coords = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    coords[7] = (1e6, -1e6)
    placed, outside = fitted(coords)
    inner = np.delete(placed, 7, axis=0)
    assert 0.5 < np.abs(inner).max() < 2.5
    assert outside == (np.abs(placed) > 1).any(axis=1).sum() > 0
    assert np.abs(placed[7]).min() > 1000  # still there, for who asks for all points


def test_a_map_of_one_place_is_no_division_by_zero():
    placed, outside = fitted(np.full((20, 2), 3.0, np.float32))
    assert np.array_equal(placed, np.zeros((20, 2)))
    assert outside == 0


def test_thumbnails_are_the_images(run, page):
    images = page.data["runs"][0]["images"]
    sheet = pixels(page.data["sheets"][images["sheets"][0]])
    columns, width, height = images["columns"], images["width"], images["height"]
    assert (width, height) == (28, 28)
    for row in (0, 39, 40, 299):
        top, left = row // columns * height, row % columns * width
        assert np.array_equal(sheet[top : top + height, left : left + width], run.images[row, ..., 0])


def test_many_images_take_several_sheets(run):
    images = np.repeat(run.images, 6, axis=0)
    labels, index = np.repeat(run.labels, 6), np.arange(1800, dtype=np.int32)
    maps = {key: Embedding(np.repeat(e.coords, 6, axis=0), labels, index, e.method, "sklearn", {})
            for key, e in run.embeddings.items()}  # fmt: skip
    many = dataclasses.replace(run, images=images, labels=labels, index=index, embeddings=maps, measures={})
    data = Page(build_page([many])).data
    keys = data["runs"][0]["images"]["sheets"]
    assert len(keys) == 2
    assert np.array_equal(pixels(data["sheets"][keys[1]])[:28, :28], images[1600, ..., 0])


def test_large_colour_images_become_small_ones(run):
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 1, 3), dtype=np.uint8)
    images = np.tile(images, (1, 90, 150, 1))
    data = Page(build_page([dataclasses.replace(run, images=images)])).data
    held = data["runs"][0]["images"]
    assert (held["width"], held["height"]) == (64, 38)
    sheet = pixels(data["sheets"][held["sheets"][0]])
    middle = sheet[19 :: held["height"], 32 :: held["width"]].reshape(-1, 3)[:300].astype(int)
    assert np.abs(middle - images[:, 0, 0]).mean() < 12  # JPEG halves the resolution of colours


def test_runs_of_the_same_images_share_their_sheets(run):
    data = Page(build_page([run, dataclasses.replace(run, name="another")])).data
    assert len(data["runs"]) == 2
    assert len(data["sheets"]) == 1


def test_names_from_users_are_text_only(run):
    names = (NASTY, *run.class_names[1:])
    nasty = dataclasses.replace(
        run,
        name=NASTY,
        class_names=names,
        config={**run.config, "dataset": f"folder:{NASTY}", "weights": NASTY},
        environment={NASTY: NASTY},
        claims=[{**run.claims[0], "text": NASTY, "words": NASTY, "verdict": NASTY, "statistic": NASTY}],
        class_scores=[{**row, "class": NASTY, "metric": NASTY} for row in run.class_scores],
        layers=[{**row, "layer": NASTY, "metric": NASTY} for row in run.layers],
        scores=[dataclasses.replace(score, metric=NASTY) for score in run.scores],
        images_fault=NASTY,
    )
    text = build_page([nasty, run])
    page = Page(text)
    assert "<img" not in text
    assert not page.all("img")
    assert page.data["runs"][0]["classes"] == list(names)
    assert page.data["runs"][0]["name"] == NASTY
    assert text.count("</script>") == len(page.all("script"))


def test_ten_thousand_digits_are_small_enough_to_send():
    assert len(build_page([synthetic_run(10_000)])) < 15e6


def test_command_repeats_the_settings():
    from jaxtl.cli.run import run

    config = {
        **CONFIG, "dataset": "folder:my images", "samples": None, "learning_rate": 0.000123456789,
        "layers": False,
        "methods": ["pca", "lle"], "deterministic": True, "trainable": "block_14_expand", "seed": 7,
    }  # fmt: skip
    words = shlex.split(command(config))
    assert words[:2] == ["jaxtl", "run"]
    given = run.make_context("run", words[2:]).params
    given["methods"] = given["methods"].split(",")
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
    assert f"{LEAVE_ONE_OUT.label}{LEAVE_ONE_OUT.sentence}0 to 1more" in held
    assert f"{DAVIES_BOULDIN.label}{DAVIES_BOULDIN.sentence}from 0less" in held
    assert "Davies-Bouldin ↓" in section_of(page, "separation")


def test_the_profile_of_a_part_of_the_images_says_so(run):
    assert "of the images." not in section_of(build_page([run]), "depth")
    many = synthetic_run(depth.SAMPLES + 1)
    assert f"Of the first {depth.SAMPLES:,} of the images." in section_of(build_page([many]), "depth")


def test_what_was_promised_stands_beside_what_came(run):
    scores = [Score("before", "features", "LogME", 0.25, 0.2, 0.3)]
    held = section_of(build_page([dataclasses.replace(run, scores=scores)]), "transferability")
    assert "LogMEbefore training0.250 [0.200, 0.300]" in held
    assert "test accuracy of the tuned networkafter training0.900" in held
    untrained = Page(build_page([dataclasses.replace(run, history=[])]))
    assert "What the features promised, and what training gave" not in headings(untrained)


def test_maps_that_flatter_or_mix_are_told_of(run):
    scores = [
        Score(stage, space, metric, value, value - 0.01, value + 0.01)
        for stage, space, metric, value in (
            ("after", "features", "silhouette", 0.2), ("after", "tsne", "silhouette", 0.6),
            ("after", "pca", "silhouette", 0.21), ("after", "features", LEAVE_ONE_OUT, 0.96),
            ("after", "tsne", LEAVE_ONE_OUT, 0.97), ("after", "pca", LEAVE_ONE_OUT, 0.5),
        )
    ]  # fmt: skip
    measures = {"qnx_k": np.array([1, 9, 40]), "qnx_after_tsne": np.array([0.1, 0.5, 0.9])}
    told = section_of(
        build_page([dataclasses.replace(run, scores=scores, measures=measures)]), "faithfulness"
    )
    assert (
        "t-SNE after. Of an image's 9 nearest images on the map, 50 % are among its 9 nearest in the "
        "features." in told
    )
    assert (
        "It draws the classes further apart than they lie in the features (silhouette: 0.600 against 0.200"
        in told
    )
    assert (
        "PCA after. It mixes classes that the features hold apart "
        "(10-NN accuracy, leave one out: 0.500 against 0.960)" in told
    )
    assert told.count("It draws") == told.count("It mixes") == 1


def test_what_moved_through_the_layers_is_told(run):
    accuracies = {"before": (0.5, 0.9, 0.8), "after": (0.5, 0.9, 0.97)}
    layers = [
        {"stage": stage, "layer": name, "metric": LEAVE_ONE_OUT, "value": value, "low": value - 0.01,
         "high": value + 0.01}
        for stage, of in accuracies.items()
        for name, value in zip("abc", of, strict=True)
    ]  # fmt: skip
    layers += [
        {"stage": "both", "layer": name, "metric": LINEAR_CKA, "value": value, "low": None, "high": None}
        for name, value in zip("abc", (1.0, 0.9999999, 0.6), strict=True)
    ]
    told = section_of(build_page([dataclasses.replace(run, layers=layers)]), "depth")
    assert "highest at the end of b, 0.900; at the output it is 0.800: the layers between lose" in told
    assert "left all up to the end of b as it was, and moved c (linear CKA 0.600)" in told
    assert "By 10-NN accuracy, leave one out: at the output it is now 0.970" in told


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
    assert "‘2’ (0.200 to 0.900), ‘3’ (0.700 to 0.900) and ‘0’ (0.500 to 0.600) gain most" in held
    assert "‘1’ gains least (0.900 to 0.800)" in held
    assert (
        "Most mixed before fine-tuning: ‘4’ with ‘9’ (30.0 % of its neighbours), ‘9’ with ‘4’ (20.0 %" in held
    )
    assert "Most mixed after" not in held


def test_runs_side_by_side(run):
    other = dataclasses.replace(run, name="longer", config={**run.config, "epochs": 5}, history=[])
    page = Page(build_page([run, other]))
    table = next(text for a, text in page.all("section") if "comparison" in a.get("class", ""))
    assert "The first 1 row: settings in which the runs differ." in table
    assert "epochs25" in table
    assert "PCA separates poorly before✓ holds✓ holds" in table
    options = [text for _, text in page.all("option")]
    assert options == ["made-up", "longer"]
    shown = [a for a, _ in page.all("div") if "data-run" in a]
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


def test_no_runs_no_page():
    with pytest.raises(JaxtlError, match="at least one run"):
        build_page([])


def test_vendored_files_are_the_published_ones():
    folder = Path(jaxtl.report.__file__).parent / "page" / "vendor"
    rows = re.findall(r"^\| (\S+\.js) \|.*\| ([0-9a-f]{64}) \|$", (folder / "VENDORED.md").read_text(), re.M)
    assert {name for name, _ in rows} == {path.name for path in folder.glob("*.js")}
    for name, digest in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert sum(path.stat().st_size for path in folder.glob("*.js")) < 300_000


# Reading run folders.


@pytest.fixture
def folder(run, tmp_path):
    """A run folder as `jaxtl run` leaves it, with the files that other steps add."""
    folder = tmp_path / "a-run"
    write_json(folder / "config.json", run.config)
    write_json(folder / "environment.json", run.environment)
    write_json(folder / "timings.json", run.timings)
    write_json(folder / "claims.json", {"claims": run.claims})
    save_scores(folder / "scores.csv", run.scores)
    save_history(folder / "history.csv", run.history)
    for (stage, method), embedding in run.embeddings.items():
        embedding.save(folder / "embeddings" / f"{stage}_{method}.npz")
    values = np.zeros((len(run), 8), np.float32)
    Features(values, run.labels, run.index).save(folder / "features" / "before.npz")
    write_npz(folder / "measures.npz", run.measures, {})
    write_table(
        folder / "classes.csv",
        ("stage", "space", "metric", "class", "value", "low", "high"),
        run.class_scores,
    )
    write_table(folder / "layers.csv", ("stage", "layer", "metric", "value", "low", "high"), run.layers)
    return folder


def write_table(path, columns, rows):
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)


def test_a_folder_is_read_whole(run, folder):
    read = load_run(folder)
    assert read.name == "a-run"
    assert read.class_names == run.class_names
    assert read.features["dimensions"] == 8
    assert np.array_equal(read.images, run.images)
    assert read.claims == run.claims
    assert read.layers == run.layers
    assert [row["value"] for row in read.class_scores] == [0.5] * 20
    assert set(read.measures) == set(run.measures)
    assert len(Page(build_page([read])).all("section")) == 13


def test_a_folder_of_an_earlier_version_is_enough(folder):
    for name in (
        "claims.json",
        "classes.csv",
        "layers.csv",
        "measures.npz",
        "timings.json",
        "environment.json",
    ):
        (folder / name).unlink()
    read = load_run(folder)
    assert (read.claims, read.class_scores, read.layers, read.measures) == ([], [], [], {})
    assert "Class by class" not in headings(Page(build_page([read])))


def test_a_run_with_one_method_has_its_maps(folder):
    for path in (folder / "embeddings").glob("*.npz"):
        if "pca" not in path.name:
            path.unlink()
    assert load_run(folder).methods == ["pca"]


def test_images_that_are_gone_are_said_to_be(folder, run):
    write_json(folder / "config.json", {**run.config, "dataset": f"folder:{folder}/gone"})
    read = load_run(folder)
    assert read.images is None
    assert "gone" in read.images_fault
    build_page([read])


def test_images_of_another_order_are_not_shown(folder, run):
    for path in (folder / "embeddings").glob("*.npz"):
        embedding = Embedding.load(path)
        dataclasses.replace(embedding, labels=embedding.labels[::-1].copy()).save(path)
    read = load_run(folder)
    assert read.images is None
    assert "other images" in read.images_fault


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("claims.json", '{"claims": [{"id": "a"}]}', "not a list of claims"),
        ("classes.csv", "stage,space\nbefore,pca\n", "not a table with columns stage, space, metric, class"),
        (
            "layers.csv",
            "stage,layer,metric,value\nbefore,a,b,much\n",
            "not a table with columns stage, layer",
        ),
        ("measures.npz", "no archive", "not a readable .npz"),
    ],
)
def test_damaged_files_are_named(folder, name, text, fault):
    (folder / name).write_text(text)
    with pytest.raises(JaxtlError, match=fault) as caught:
        load_run(folder)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_run_folder(tmp_path):
    with pytest.raises(JaxtlError, match=r"no run folder \(it has no config.json\)"):
        load_run(tmp_path)


def test_a_run_without_maps_cannot_be_shown(folder):
    for path in (folder / "embeddings").glob("*.npz"):
        path.unlink()
    with pytest.raises(JaxtlError, match="holds no maps; go on with: jaxtl run"):
        load_run(folder)


def test_measures_of_other_images_are_refused(run):
    with pytest.raises(JaxtlError, match=r"array knn_before has 7 rows for 300 images"):
        dataclasses.replace(run, measures={"knn_before": np.zeros(7, np.int32)})


def test_maps_of_other_images_are_refused(run):
    other = run.embeddings["after", "pca"]
    moved = dataclasses.replace(other, index=other.index + 1)
    with pytest.raises(JaxtlError, match="map after_pca is of other images"):
        RunData(**{**vars(run), "embeddings": {**run.embeddings, ("after", "pca"): moved}})


def test_the_script_asks_for_nothing_that_the_page_does_not_hold():
    """What can be seen of it without a browser; `tests/browser` looks at all of it."""
    page = Page(build_page([synthetic_run(60)]))
    script = next(text for a, text in page.all("script") if a.get("id") != "data" and "packed" in text)
    made = set(re.findall(r"\bpacked\.(\w+) = ", script))
    asked = set(re.findall(r"\b(?:run|packed)\.(\w+)", script))
    assert asked - made <= set(page.data["runs"][0])
    assert {"maps", "labels", "measures"} <= asked
