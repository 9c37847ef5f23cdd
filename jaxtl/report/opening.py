"""What a page begins with, as HTML: title, headline, the first two maps. What comes from a run is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from jaxtl.data import short_name
from jaxtl.evaluation.catalogue import (
    FIVE_FOLDS,
    LEAVE_ONE_OUT,
    LINEAR_CKA,
    LOGISTIC_PROBE,
    LOGISTIC_PROBE_FOLDS,
    N_NEIGHBORS,
    RESEED_KEPT,
    RIDGE_PROBE,
    TEST_ACCURACY,
    TRAIN_TO_TEST,
    Metric,
)
from jaxtl.evaluation.outcome import below_probe
from jaxtl.methods import method_label
from jaxtl.records.tables import Score
from jaxtl.report import verdicts
from jaxtl.report.change import finding
from jaxtl.report.markup import bounds, listed, number, percent
from jaxtl.report.stills import legend, still
from jaxtl.report.terms import term
from jaxtl.runs.data import RunData
from jaxtl.runs.folder import RunFolder
from jaxtl.settings import MODELS, STAGES

_DATASETS = {"mnist": "MNIST"}
# What the headline is read from, the best first, and what classifies the images there.
_HEADLINES: dict[Metric, str] = {
    LOGISTIC_PROBE: "a linear classifier, trained on the features of the training images,",
    RIDGE_PROBE: "a linear classifier, trained on the features of the training images,",
    TRAIN_TO_TEST: "a vote of the 10 training images whose features are nearest",
    LEAVE_ONE_OUT: "a vote of the 10 other images whose features are nearest",
    LOGISTIC_PROBE_FOLDS: "a linear classifier, trained on the features of the other images,",
    FIVE_FOLDS: "a vote of the 10 nearest images in other folds",
}
# The method that keeps most neighbours.
_FIRST_MAP = "tsne"


def by_worth(methods: Iterable[str]) -> list[str]:
    """Methods in the order in which a reader who sees one map, or few, should see theirs."""
    return sorted(methods, key=lambda method: method != _FIRST_MAP)


def title(run: RunData) -> str:
    if run.is_comparison:
        return f"What changed in the features of {dataset(run)}"
    return f"What fine-tuning did to the features of {dataset(run)}"


def dataset(run: RunData) -> str:
    """A short name: of a path its last part, whatever is above it."""
    if run.is_comparison:
        return _DATASETS.get(run.config["name"]) or run.config["name"] or _sources(run)
    name = str(run.config.get("dataset", "unknown images"))
    return _DATASETS.get(name) or short_name(name)


def lead(run: RunData) -> str:
    """What was done, in two sentences made of the run's settings."""
    if run.is_comparison:
        return _lead_of_comparison(run)
    config = run.config
    weights = config.get("weights")
    size = config.get("image_size")
    pixels = f", {size} × {size} pixels each," if size else ""
    dimensions = run.features.get("dimensions")
    features = f"the {dimensions:,} features" if dimensions else "the features"
    methods = listed([method_label(method) for method in run.methods])
    network = MODELS.get(run.model, "network")
    text = (
        f"{len(run):,} test images of {dataset(run)}{pixels} went through a {network} "
        f"{'with weights from ' + str(weights) if weights else 'with ImageNet weights'}, and {features} that "
        f"it computes of each were drawn as maps by {methods}. Then "
        f"{_learners(str(config.get('trainable', '')))} learned from "
        f"{_count(config.get('train_samples'))} training images"
    )
    epochs = config.get("epochs")
    text += f" in {epochs} epoch{'s' if epochs != 1 else ''}" if epochs else ""
    return f"<p class='lead'>{escape(text)}, and the same images were mapped again.</p>"


def _lead_of_comparison(run: RunData) -> str:
    before, after = (run.features.get(name) for name in ("dimensions", "dimensions_after"))
    sizes = f"{before:,} before, {after:,} after" if before != after else f"{before:,}"
    classes = len(run.class_names)
    told = f" of {classes:,} class{'es' * (classes != 1)}" if run.labels is not None else ""
    methods = listed([method_label(method) for method in run.methods])
    text = (
        f"Features of {len(run):,} images{told} that were computed elsewhere ({_sources(run)}; dimensions: "
        f"{sizes}) were drawn as maps by {methods} and compared image by image."
    )
    if run.labels is None:
        text += " Their classes are not known, so this page leaves out what needs them."
    return f"<p class='lead'>{escape(text)}</p>"


def _sources(run: RunData) -> str:
    return f"{run.config['before']} and {run.config['after']}"


def _learners(trainable: str) -> str:
    if trainable.isdigit() and trainable != "0":
        return f"the network's last {trainable} layers and a softmax head"
    known = {
        "none": "a softmax head alone",
        "0": "a softmax head alone",
        "all": "the whole network, with a softmax head,",
    }
    return known.get(trainable) or f"the layers from {trainable} on and a softmax head"


def _count(number: int | None) -> str:
    return "all" if number is None else f"{number:,}"


def first_screen(run: RunData, place: int = 0) -> str:
    """The answer in brief: a number before and after, a sentence, two maps, and what it all leaves open.

    Args:
        place: number of the run on its page.
    """
    parts = _headline(run) + _findings(run, place) + _network(run) + _caveat(run)
    method = by_worth([m for m in run.methods if ("after", m) in run.embeddings] or run.methods)[0]
    maps = "".join(still(run, stage, method) for stage in STAGES)
    pictures = (
        f"<div class='pair'>{maps}</div>{legend(run)}<p class='quiet'>Every dot is an image; images whose "
        "features are alike lie close together. <a href='#maps'>All maps"
        "<span class='needs-script on-screen'>, image by image</span></a></p>"
    )
    return f"<div class='first'><div>{parts}</div><div>{pictures}</div></div>"


def headline(run: RunData) -> tuple[Metric, list[Score]] | None:
    """The metric that a page begins with, and its scores of the features before and after."""
    for metric in _HEADLINES:
        pair = [run.score(stage, "features", metric) for stage in STAGES]
        if all(pair):
            return metric, pair
    return None


def _headline(run: RunData) -> str:
    chosen = headline(run)
    if chosen is None:
        return _likeness(run)
    metric, pair = chosen
    sides = "<span class='to' aria-hidden='true'>→</span>".join(
        f"<span class='side {score.stage}'><b>{number(score.value)}</b> {score.stage}"
        f"{bounds(score.low, score.high)}</span>"
        for score in pair
    )
    images = f"{len(run):,} {'' if run.is_comparison else 'test '}images"
    return (
        f"<p class='headline'>{sides}</p><p class='starts'>{term(metric)}: the share of {images} that "
        f"{escape(_HEADLINES[metric])} classifies correctly.</p>"
    )


def _likeness(run: RunData) -> str:
    """Without classes: how alike the features are as a whole."""
    score = run.score("both", "features", LINEAR_CKA)
    if score is None:
        return ""
    return (
        f"<p class='headline'><span class='side'><b>{number(score.value)}</b>"
        f"{bounds(score.low, score.high)}</span></p>"
        f"<p class='starts'>{term(LINEAR_CKA)} of the features before and after: 1 if they differ by no more "
        "than a rotation, about 0 if they have nothing in common.</p>"
    )


def _findings(run: RunData, place: int) -> str:
    told, section = escape(finding(run)), verdicts.claims(run)
    linked = f"<a href='#{section.id(place)}'>{escape(verdicts.tally(run.claims))}</a>" if run.claims else ""
    return f"<p class='finding'>{' '.join(filter(None, (told, linked)))}</p>" if told or linked else ""


def _network(run: RunData) -> str:
    """How well the tuned network itself does, and what to do where that is not well."""
    accuracy = test_accuracy(run)
    if accuracy is None:
        return ""
    count, chosen = _test_images(run), headline(run)
    text = (
        f"<p>Of all {f'{count:,} ' if count else ''}test images, the tuned network itself classifies "
        f"{accuracy[0]:.3f} correctly ({term(TEST_ACCURACY)} after epoch {accuracy[1]:.0f})."
    )
    if chosen is not None:
        which = "all" if len(run) == count else f"{len(run):,}"
        text += f" The numbers above are of a separate classifier on {which} of these images."
    text += "</p>"
    below = below_probe(run.scores, run.history, run.config.get("batch_norm", "keras"))
    return text + (f"<p class='fault'>{escape(below)}</p>" if below else "")


def _caveat(run: RunData) -> str:
    told = "In brackets: 95 % intervals, which say how much a number would vary with other "
    if run.is_comparison:
        return f"<p class='quiet'>{told}images.</p>"
    return (
        f"<p class='quiet'>{told}test images. This is one run with one seed. {escape(_instability(run))}How "
        "much the accuracies vary with the seed is known from several runs only: <code>jaxtl run --seeds 5"
        "</code>.</p>"
    )


def _instability(run: RunData) -> str:
    """What another seed does to a map where the features stay as they are, where the run holds it."""
    score = next((score for score in run.scores if score.metric == RESEED_KEPT), None)
    if score is None:
        return ""
    return (
        f"Another seed's {method_label(score.space)} map of the same features ({score.stage}) keeps "
        f"{percent(score.value)} of an image's {N_NEIGHBORS} nearest. "
    )


def _test_images(run: RunData) -> int | None:
    """How many images the tuned network was tested on; None where the run does not say."""
    if run.path is None:
        return None
    return (RunFolder(run.path).dataset.read_or({}).get("test") or {}).get("images")


def test_accuracy(run: RunData) -> tuple[float, float] | None:
    """Accuracy of the tuned network after its last epoch, and that epoch's number."""
    return (run.history[-1][TEST_ACCURACY], run.history[-1]["epoch"]) if run.history else None
