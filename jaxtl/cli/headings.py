"""How help is laid out: options under headings, commands by what they are for, no line cut short."""

from __future__ import annotations

import re

import click

OTHERS = "Options"
# Options by their parameters' names; what stands nowhere here stands under `OTHERS`, last.
_OPTIONS = {
    "Where it is written": ("out", "history", "resume"),
    "The images": (
        "dataset",
        "split",
        "samples",
        "train_samples",
        "test_share",
        "split_seed",
        "train_split",
        "test_split",
        "image_column",
        "label_column",
        "split_column",
        "skip_bad",
    ),
    "The features": ("training_features", "labels", "common", "name"),
    "From image to pixels": ("image_size", "preprocessing", "antialias", "fit", "orientation", "alpha"),
    "The network": ("model", "weights"),
    "Fine-tuning": ("trainable", "epochs", "batch_size", "learning_rate", "batch_norm"),
    "The study": ("sizes", "backends", "memory_limit"),
    "The maps": ("methods", "method", "parameters", "perplexity", "n_neighbors", "backend", "time_limit"),
    "The scores": ("layers",),
    "How it is computed": ("seed", "seeds", "precision", "deterministic", "compilation_cache"),
}
_HEADING = {name: heading for heading, names in _OPTIONS.items() for name in names}
_COMMANDS = {
    "The whole experiment": ("run", "compare", "scale"),
    "A finished run": ("show", "check", "report", "score", "layers", "plot", "export"),
    "Single steps": ("extract", "finetune", "reduce"),
    "This machine": ("doctor",),
}


# Ranges as click writes them, and as people do.
_RANGES = {
    r"\b(\S+)<=x<=(\S+)\b": r"\1 to \2",
    r"\b(\S+)<x<(\S+)\b": r"between \1 and \2",
    r"\bx>=(\S+)\b": r"from \1",
    r"\bx>(\S+)\b": r"above \1",
}


def _spoken(text: str) -> str:
    for written, words in _RANGES.items():
        text = re.sub(written, words, text)
    return text


class Command(click.Command):
    """A verb whose help shows its options under headings, where there are many."""

    _FEW = 8

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (*_OPTIONS, OTHERS)}
        params = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for param in params:
            if record := param.get_help_record(ctx):
                heading = _HEADING.get(param.name or "", OTHERS) if len(params) > self._FEW else OTHERS
                sections[heading].append((record[0], _spoken(record[1])))
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class Group(click.Group):
    """The program: its commands by what they are for, in the order in which a user needs them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in _COMMANDS.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for heading, names in _COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(name.ljust(width), self.commands[name].short_help or "") for name in names]
                )
