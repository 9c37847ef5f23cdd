"""What a comparison of features gives to who asks for it in Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from jaxtl.evaluation.overview import accuracies_of, score_table, verdicts
from jaxtl.plots.shown import plot_stages
from jaxtl.records import summaries
from jaxtl.records.arrays import Embedding, Features
from jaxtl.records.tables import Score
from jaxtl.settings import STAGES


@dataclass(frozen=True, repr=False)
class Comparison(summaries.Told):
    """What `compare` finds.

    Attributes:
        features: "before" and "after", rows in one order, classes numbered alike.
        embeddings: by stage and method, such as ("after", "tsne").
        scores: every number, with its 95 % interval.
        class_scores: rows stage, space, metric, class, value, low, high; none without labels.
        claims: rows id, text, statistic, value, low, high, threshold, direction, verdict, words.
        notes: a line for what was matched, lowered or left out.
        folder: where all of it is kept with figures and a page, if it is.
    """

    features: dict[str, Features]
    embeddings: dict[tuple[str, str], Embedding]
    scores: list[Score]
    class_scores: list[dict[str, str | float | None]]
    claims: list[dict[str, str | float | None]]
    notes: tuple[str, ...]
    folder: Path | None

    def score(self, stage: str, space: str, metric: str) -> Score | None:
        """One number, such as that of "after", "features" and "silhouette"; None where it was not made."""
        wanted = (stage, space, metric)
        return next((s for s in self.scores if (s.stage, s.space, s.metric) == wanted), None)

    def summary(self) -> summaries.Summary:
        """What is shown of it in a notebook: what it is of, and its accuracies, or all numbers."""
        before, after = (self.features[stage] for stage in STAGES)
        n, d = before.values.shape
        rows = [
            ("images", f"{n:,}"),
            ("dimensions", f"{d:,} and {after.values.shape[1]:,}"),
            *summaries.of_rows(before.class_names, before.ids),
            ("claims", verdicts(self.claims)),
            *([("folder", str(self.folder))] if self.folder else []),
        ]
        return summaries.Summary("Comparison", rows, score_table(self.scores))

    def plot(self, width: str | float | None = None) -> Figure:
        """Its embeddings before over after, a column for each method; `width` as of `jaxtl.plot`."""
        return plot_stages(
            "comparison", self.embeddings, accuracies_of(self.scores), tuned=False, width=width
        )

    def __repr__(self) -> str:
        before, after = (self.features[stage].values.shape for stage in STAGES)
        return (
            f"Comparison({before[0]:,} images, {before[1]} and {after[1]} dimensions, "
            f"{len(self.scores)} scores, {len(self.claims)} claims"
            f"{f', {self.folder}' if self.folder else ''})"
        )
