"""How help is laid out: options under headings, commands by what they are for, no line cut short."""

from __future__ import annotations

import click

OTHERS = "Options"
_HELP = ["-h", "--help"]
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
    "The maps": (
        "methods",
        "method",
        "parameters",
        "perplexity",
        "n_neighbors",
        "backend",
        "time_limit",
        "neighbors",
    ),
    "The scores": ("layers",),
    "How it is computed": (
        "seed",
        "seeds",
        "precision",
        "engine",
        "deterministic",
        "devices",
        "compilation_cache",
    ),
    "Many processes": ("coordinator", "processes", "process_id", "distributed", "dask"),
}
_HEADING = {name: heading for heading, names in _OPTIONS.items() for name in names}
_COMMANDS = {
    "The whole experiment": ("run", "compare", "sweep", "scale"),
    "A finished run": ("show", "check", "report", "score", "layers", "plot", "export"),
    "Single steps": ("extract", "finetune", "neighbors", "reduce"),
    "This machine": ("doctor",),
}


def _with_range(text: str, words: str) -> str:
    """An option's help with its range among what stands in brackets at the end."""
    if not words:
        return text
    return f"{text[:-1]}; {words}]" if text.endswith("]") else f"{text}  [{words}]"


class Command(click.Command):
    """A verb whose help shows its options under headings, where there are many; nothing given is empty."""

    _FEW = 8

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        # Not as the context has it: click keeps the first answer, whichever program it was given in.
        return _HELP

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Here, since an empty path would be the working directory, and an empty name as none.
        typed, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for param in self.get_params(ctx):
            value = typed.get(param.name or "")
            values = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(text, str) and not text.strip() for text in values):
                raise click.BadParameter("is empty; give a value, or leave it out", ctx, param)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (*_OPTIONS, OTHERS)}
        params = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for param in params:
            if record := param.get_help_record(ctx):
                heading = _HEADING.get(param.name or "", OTHERS) if len(params) > self._FEW else OTHERS
                words = getattr(param.type, "words", "")
                sections[heading].append((record[0], _with_range(record[1], words)))
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class Group(click.Group):
    """The program: its commands by what they are for, in the order in which a user needs them."""

    get_help_option_names = Command.get_help_option_names

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in _COMMANDS.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.list_commands(ctx)))
        for heading, names in _COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(name.ljust(width), self.commands[name].short_help or "") for name in names]
                )
