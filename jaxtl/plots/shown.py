"""Pictures for who works in Python: of one embedding, of several, or of before and after."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from jaxtl.errors import JaxtlError
from jaxtl.plots.maps import comparison_figure, embedding_figure, stage_figure, stage_title
from jaxtl.records.arrays import Embedding
from jaxtl.settings import STAGES


def plot(
    *embeddings: Embedding,
    title: str | None = None,
    accuracy: float | None = None,
    width: str | float | None = None,
) -> Figure:
    """Embeddings in one figure, side by side; classes have the same colours in each.

    Notebooks show it where it is a cell's last line. It is made without pyplot: no window opens, and neither
    backend nor settings of matplotlib change. `.savefig("map.png", dpi=300)` writes it.

    Args:
        embeddings: one or more, in 2 dimensions, with the same classes.
        title: heads the figure.
        accuracy: of one embedding its 10-NN accuracy, leave one out, 0 to 1, to be told in the picture.
        width: of the figure: "one" or "two" columns of a journal, 89 or 183 mm, or a number of mm.

    Raises:
        JaxtlError: no embedding, one in other than two dimensions, or a width that is none.
    """
    for embedding in embeddings:
        if not isinstance(embedding, Embedding):
            raise JaxtlError(f"plot: takes embeddings, got {type(embedding).__name__}; make one by reduce")
    if len(embeddings) == 1:
        return embedding_figure(embeddings[0], accuracy, title, width)
    return stage_figure(embeddings, "", title=title or "", width=width)


def plot_stages(
    name: str,
    embeddings: Mapping[tuple[str, str], Embedding],
    accuracies: Mapping[str, Mapping[str, float]],
    tuned: bool,
    width: str | float | None = None,
) -> Figure:
    """Before over after, a column for each method that both have; one stage alone as a row.

    Args:
        name: whose embeddings they are, for messages.
        accuracies: by stage and space.
        tuned: whether fine-tuning lies between the stages.
        width: as of `plot`.
    """
    rows = {stage: {m: e for (s, m), e in embeddings.items() if s == stage} for stage in STAGES}
    methods = [method for method in rows["before"] if method in rows["after"]]
    titles = {stage: stage_title(stage) if tuned else stage.capitalize() for stage in STAGES}
    if methods:
        before, after = ([rows[stage][method] for method in methods] for stage in STAGES)
        return comparison_figure(before, after, accuracies, titles, width)
    some = next((stage for stage in STAGES if rows[stage]), None)
    if some is None:
        raise JaxtlError(f"{name}: holds no embeddings to show")
    return stage_figure(list(rows[some].values()), some, accuracies.get(some), titles[some], width)
