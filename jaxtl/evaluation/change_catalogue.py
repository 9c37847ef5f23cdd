"""The part of the catalogue that compares before and after, image by image: kept, moved, fixed, broken.

`jaxtl.evaluation.catalogue` has all of it, too; metrics are added here as there.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtl.evaluation import sources
from jaxtl.evaluation.metric import DOWN, N_NEIGHBORS, UP, Metric

_SHARE = (0, 1)
_SIZES = (5, N_NEIGHBORS, 20, 50)


class Keeping(NamedTuple):
    """Metrics of k nearest neighbours: the share that is kept, and what it is by chance."""

    kept: Metric
    chance: Metric


def _keeping(k: int) -> Keeping:
    told = f"mean share of an image's {k} nearest before that are among its {k} nearest after"
    chance = f"what the share of {k} nearest kept is where before and after have nothing in common"
    cited = sources.LEE_VERLEYSEN, sources.BOGGUST, sources.SIVARAMAN
    return Keeping(
        Metric(f"{k} nearest kept", told, _SHARE, "", *cited),
        Metric(f"{k} nearest kept, chance", chance, _SHARE, "", sources.LEE_VERLEYSEN),
    )


KEEPING = {k: _keeping(k) for k in _SIZES}
KEPT = KEEPING[N_NEIGHBORS].kept
MOVED = Metric(
    "moved from its neighbours",
    "mean share of other images that are nearer to an image after than one of its 10 nearest before is: 0 "
    "where these are the nearest still, 0.5 by chance",
    _SHARE,
    "",
    sources.MANN_WHITNEY,
    sources.VENNA_KASKI_2001,
)


class Outcomes(NamedTuple):
    """Metrics of what became of images that one classifier names before and after."""

    right: Metric
    fixed: Metric
    broken: Metric
    wrong: Metric
    gained: Metric
    p_value: Metric


def _outcomes(name: str, by: str) -> Outcomes:
    cited, test = sources.WILSON, sources.MCNEMAR
    return Outcomes(
        Metric(
            f"still right, {name}",
            f"share of images classified correctly before and after by {by}",
            _SHARE,
            UP,
            cited,
        ),
        Metric(
            f"fixed, {name}",
            f"share of images classified wrongly before and correctly after by {by}",
            _SHARE,
            UP,
            cited,
        ),
        Metric(
            f"broken, {name}",
            f"share of images classified correctly before and wrongly after by {by}",
            _SHARE,
            DOWN,
            cited,
        ),
        Metric(
            f"still wrong, {name}",
            f"share of images classified wrongly before and after by {by}",
            _SHARE,
            DOWN,
            cited,
        ),
        Metric(
            f"accuracy gained, {name}",
            f"share of images fixed minus the share broken, by {by}",
            (-1, 1),
            UP,
            sources.BONETT_PRICE,
        ),
        Metric(
            f"McNemar's p, {name}",
            "probability of so uneven numbers of images fixed and broken where either is as likely as the "
            f"other, by {by}",
            _SHARE,
            "",
            test,
        ),
    )


KNN_OUTCOMES = _outcomes("10-NN", "the 10 nearest training images, or other images where there are none")
PROBE_OUTCOMES = _outcomes("logistic probe", "a logistic regression trained on training images")
# Of before and after together, image by image.
CHANGE = (*(metric for pair in KEEPING.values() for metric in pair), MOVED, *KNN_OUTCOMES, *PROBE_OUTCOMES)
# Which are no numbers to average over seeds.
P_VALUES = (KNN_OUTCOMES.p_value, PROBE_OUTCOMES.p_value)
