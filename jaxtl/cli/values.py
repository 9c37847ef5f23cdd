"""What options take, read and checked as it is typed: before a command imports or writes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jaxtl.errors import JaxtlError
from jaxtl.ranges import RANGES, Range, shown
from jaxtl.records.places import check_folder
from jaxtl.settings import PREPROCESSING, mean_and_deviation


class Folder(click.Path):
    """A folder that is there or may be made; nothing that only has its name, such as a pipe."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            check_folder(value)
        except JaxtlError as error:
            self.fail(str(error), param, ctx)
        return super().convert(value, param, ctx)


class Number(click.ParamType):
    """A number within a range.

    Attributes:
        words: the range as the help tells it; empty where the option's own words do.
    """

    def __init__(self, allowed: Range, tell: bool = True) -> None:
        self.allowed, self.name = allowed, "integer" if allowed.whole else "number"
        self.words = str(allowed).removeprefix("a whole number ").removeprefix("a number ") if tell else ""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        # A default of the code's own is a number already.
        if not isinstance(value, str):
            return value
        try:
            return self.allowed.read(value)
        except JaxtlError as error:
            self.fail(str(error), param, ctx)


class Count(click.ParamType):
    """A number of images, or "all"; None stands for all."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        if value is None or isinstance(value, int):
            return value
        if value.lower() == "all":
            return None
        allowed = RANGES["samples"]
        try:
            # Not what `int` takes besides, such as 1_000.
            return allowed.read(value if value.isdecimal() else "")
        except JaxtlError:
            self.fail(f"{shown(value)} is neither {allowed} nor all", param, ctx)


class Names(click.ParamType):
    """Names with commas between, at least one, each taken once: a tuple."""

    name = "NAME,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        if not names:
            self.fail(f"{shown(value)} names none", param, ctx)
        return names


class Numbers(click.ParamType):
    """Numbers within a range, with commas between, at least one, each taken once: a tuple."""

    name = "N,..."

    def __init__(self, allowed: Range) -> None:
        self._names, self._number, self.words = Names(), Number(allowed), f"each {Number(allowed).words}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        parts = self._names.convert(value, param, ctx)
        return tuple(dict.fromkeys(self._number.convert(part, param, ctx) for part in parts))


class Preprocessing(click.ParamType):
    """A preprocessing as in `jaxtl.settings.Images`."""

    name = "|".join((*PREPROCESSING, "MEAN/DEVIATION"))

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            mean_and_deviation(value)
        except JaxtlError as error:
            self.fail(str(error).removeprefix("preprocessing: "), param, ctx)
        return value
