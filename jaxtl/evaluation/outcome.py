"""What is worth saying of how a training ended: a network below its own features, tests that lag behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtl.evaluation.catalogue import ACCURACY, LOGISTIC_PROBE, TEST_ACCURACY
from jaxtl.records.tables import Score

# Of an accuracy: what is this much lower is far lower.
FAR = 0.05


def below_probe(scores: Sequence[Score], history: Sequence[Mapping[str, float]], batch_norm: str) -> str:
    """A sentence, with what to do, where the tuned network tells classes worse than its features did; or "".

    Args:
        scores: of the run, or of its features.
        history: a row an epoch, as of `jaxtl.records.tables.load_history`.
        batch_norm: as of `jaxtl.settings.FinetuneConfig`.
    """
    probe = next(
        (s for s in scores if (s.stage, s.space, s.metric) == ("before", "features", LOGISTIC_PROBE)), None
    )
    if probe is None or not history:
        return ""
    low = probe.value if probe.low is None else probe.low
    last = history[-1]
    if last[TEST_ACCURACY] > low - FAR:
        return ""
    has_learnt = last[ACCURACY] > last[TEST_ACCURACY] + FAR
    if batch_norm == "keras" and has_learnt:
        remedy = (
            "The moving statistics of its batch normalisations lag behind: try --batch-norm recalibrated, or "
            "frozen."
        )
    else:
        remedy = "Try more --epochs, a smaller --learning-rate, or fewer layers that learn (--trainable)."
    return (
        f"The tuned network classifies {last[TEST_ACCURACY]:.3f} of the test images correctly, a linear "
        f"classifier on the features before fine-tuning {probe.value:.3f}. {remedy}"
    )


def lagging(history: Sequence[Mapping[str, float]], batch_norm: str) -> str:
    """Why epochs were tested far worse than they trained, where some were; or ""."""
    # The last is tested with what was recalibrated.
    tested = history[:-1] if batch_norm == "recalibrated" else history
    late = [f"{row['epoch']:.0f}" for row in tested if row[ACCURACY] - row[TEST_ACCURACY] > FAR]
    if batch_norm == "frozen" or not late:
        return ""
    return (
        f"{_at_the_end_of(late, len(history))}, {TEST_ACCURACY.label} is far below training accuracy: batch "
        "normalisation uses each batch's own statistics in training and moving averages in tests, and these "
        "follow slowly. Keras does the same."
    )


def _at_the_end_of(late: Sequence[str], epochs: int) -> str:
    if late == ["1"] and epochs > 1:
        return "At the end of the first epoch only"
    return f"At the end of epoch{'s' * (len(late) > 1)} {', '.join(late)}"
