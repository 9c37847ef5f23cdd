"""What a row of the catalogue holds."""

from __future__ import annotations

from math import inf

from jaxtl.evaluation.sources import Source

UP, DOWN = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"
# Of all metrics that look at nearest neighbours, but for those that look at every number of them.
N_NEIGHBORS = 10


class Metric(str):
    """A metric's key, as it stands in files, with what is to be said of it.

    Attributes:
        definition: what it is, a sentence without its subject.
        least, most: its range; infinite where it has no bound.
        better: UP where more is better, DOWN where less is, "" where neither is.
        sources: the works that propose it; none where there is nothing to propose, as of seconds.
        label: its name on screens and pages; the key where no other is given.
        short: a name for where there is hardly room, such as under a small picture.
    """

    definition: str
    least: float
    most: float
    better: str
    sources: tuple[Source, ...]
    label: str
    short: str

    def __new__(
        cls,
        key: str,
        definition: str,
        bounds: tuple[float, float],
        better: str,
        *cited: Source,
        label: str = "",
        short: str = "",
    ) -> Metric:
        metric = super().__new__(cls, key)
        metric.definition, metric.better, metric.sources = definition, better, cited
        metric.least, metric.most = bounds
        metric.label = label or key
        metric.short = short or metric.label
        METRICS[key] = metric
        return metric

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        # In another process, and as a copy, it is its key.
        return str, (str(self),)

    @property
    def headed(self) -> str:
        """The label with an arrow that says which way is better, for the head of a row."""
        return f"{self.label} {self.better}".rstrip()

    @property
    def sentence(self) -> str:
        """The definition as a sentence."""
        return f"{self.definition[0].upper()}{self.definition[1:]}."

    @property
    def range(self) -> str:
        """Such as "0 to 1", "from 0" or "any number"."""
        if self.least == -inf:
            return "any number"
        return f"from {self.least:g}" if self.most == inf else f"{self.least:g} to {self.most:g}"


METRICS: dict[str, Metric] = {}
"""By key, in the order in which they stand in files and tables."""
