"""Standard input, output and error of a process that was started without one, as by `jaxtl show RUN >&-`."""

from __future__ import annotations

import os
import sys

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def fill() -> None:
    """Let those that are closed be nothing: what is read ends at once, what is written goes nowhere.

    Else the next file that is opened would take the number of one, and what a library prints would go into
    it. To be called before anything is opened; it imports nothing that Python has not by itself.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) < len(_STREAMS):
        os.set_inheritable(number, True)
    os.close(number)
    for number, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
