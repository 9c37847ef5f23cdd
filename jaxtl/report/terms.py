"""What the page says of a number where it is named: what it is, which way is better, why to look at it.

A name opens its explanation by mouse, finger and keyboard, without a script: it is a button of an element
that the browser itself shows and hides.
"""

from __future__ import annotations

import re
from html import escape

from jaxtl.evaluation import catalogue
from jaxtl.evaluation.catalogue import DOWN, METRICS, UP, Metric, headed, label_of
from jaxtl.report.markup import Html

BETTER = {UP: "higher is better", DOWN: "lower is better", "": "neither high nor low is better"}
_TARGET = re.compile(r"popovertarget='about-([a-z0-9-]+)'")
# Of each metric, the question that it answers.
_REASONS = {
    catalogue.FIVE_FOLDS: "Compares with results of scikit-learn, which usually computes it so.",
    catalogue.LEAVE_ONE_OUT: "Shows whether images of one class lie together. Nothing is trained for it, so "
    "features and maps can be compared by it.",
    catalogue.NEIGHBORHOOD_HIT: "Shows how pure neighbourhoods are, where a vote only shows who wins.",
    catalogue.SILHOUETTE: "Shows whether classes are groups with gaps between them. About 0 means that they "
    "touch; from 0.5 on the gaps are plain to see.",
    catalogue.DAVIES_BOULDIN: "Shows the pairs of classes that overlap most, where a mean would hide them.",
    catalogue.CALINSKI_HARABASZ: "Compares spaces with equally many images and classes; its size alone says "
    "nothing.",
    catalogue.NMI: "Shows whether somebody without labels would find the classes as clusters.",
    catalogue.ARI: "Asks the same as mutual information, pair of images by pair, with chance at 0.",
    catalogue.TRAIN_TO_TEST: "Shows how well the features classify new images without any further training.",
    catalogue.RIDGE_PROBE: "Shows how much a linear layer on top could make of the features; quick, exact.",
    catalogue.LOGISTIC_PROBE: "Shows how much a linear layer on top could make of the features. The same "
    "classifier before and after makes the two comparable.",
    catalogue.RIDGE_PROBE_FOLDS: "Shows whether straight lines separate the classes, where no training "
    "images are at hand.",
    catalogue.LOGISTIC_PROBE_FOLDS: "Shows whether straight lines separate the classes, where no training "
    "images are at hand.",
    catalogue.EFFECTIVE_RANK: "Fine-tuning often makes features simpler: they then use fewer directions.",
    catalogue.PARTICIPATION_RATIO: "Like the rank, but led by the few strongest directions.",
    catalogue.INTRINSIC_DIMENSION: "If it is far above 2, no flat map can keep all neighbourhoods.",
    catalogue.ZEROS: "Shows how many features stay silent for an image.",
    catalogue.HOYER: "Shows whether few features respond strongly or many weakly.",
    catalogue.TRUSTWORTHINESS: "Low: the map shows false neighbours.",
    catalogue.CONTINUITY: "Low: the map tears neighbours apart.",
    catalogue.SHEPARD: "Low: large distances in the map say nothing about the features.",
    catalogue.QNX_AUC: "One number for how many neighbours a map keeps, at all scales.",
    catalogue.LOG_ME: "Ranks networks for a task before anybody trains them.",
    catalogue.H_SCORE: "Ranks networks for a task before anybody trains them.",
    catalogue.LINEAR_CKA: "Shows how much the features changed as a whole.",
    catalogue.PROCRUSTES: "Shows how much they changed beyond a mere rotation.",
    catalogue.LOSS: "Shows whether the network still learns.",
    catalogue.ACCURACY: "Far above that of test images: the network has learned its images by heart.",
    catalogue.TEST_LOSS: "Rises when the network becomes too sure of wrong answers.",
    catalogue.TEST_ACCURACY: "Shows how good the tuned network is at its task.",
    catalogue.KL_DIVERGENCE: "What t-SNE minimises. It compares t-SNE maps of the same features only.",
    catalogue.RECONSTRUCTION_ERROR: "What LLE minimises. It compares LLE maps of the same features only.",
    catalogue.EXPLAINED_VARIANCE: "Low: most of what tells images apart is not in the PCA map.",
}


def term(key: str, arrow: bool = False) -> Html:
    """A metric's label, which opens its explanation; its plain name where the catalogue does not know it.

    Args:
        key: of the metric, as files name it.
        arrow: whether an arrow after the label says which way is better.
    """
    text = escape(headed(key) if arrow else label_of(key))
    if key not in METRICS:
        return Html(text)
    return Html(f"<button type='button' class='term' popovertarget='about-{_slug(key)}'>{text}</button>")


def explanations(page: str) -> str:
    """The explanations of all terms that a page's HTML names, as HTML."""
    asked = set(_TARGET.findall(page))
    return "".join(_explanation(metric) for metric in METRICS.values() if _slug(metric) in asked)


def reason(key: str) -> str:
    """Why to look at a metric, in a sentence or two; "" where nothing is said."""
    return _REASONS.get(key, "")


def _explanation(metric: Metric) -> str:
    told = [
        metric.sentence,
        f"Range: {metric.range}; {BETTER[metric.better]}.",
        reason(metric),
    ]
    text = "".join(f"<p>{escape(sentence)}</p>" for sentence in told if sentence)
    slug = _slug(metric)
    return (
        f"<div popover class='about' id='about-{slug}' role='dialog' aria-labelledby='named-{slug}'>"
        f"<p class='name' id='named-{slug}'>{escape(metric.label)}</p>{text}</div>"
    )


def _slug(key: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")
