"""What comes of a call: an answer with meaning, or one line; all else is a failure."""

import dataclasses
import warnings
from collections import Counter

import numpy as np

from jaxtl import JaxtlError
from jaxtl.metrics import Estimate

# (call, outcome) of all calls of this process.
COUNTS = Counter()


class Meaningless(AssertionError):
    """An answer that says nothing: numbers that are not finite, or an interval without its value."""


class Told:
    """A call that says what it was given where it fails."""

    def __init__(self, call, given):
        self.call, self.given = call, given

    def __call__(self, *args, **named):
        try:
            return self.call(*args, **named)
        except JaxtlError:
            raise
        except Exception as error:
            raise AssertionError(f"{self.given}: {type(error).__name__}: {error}") from error


def answer(name, call, *args, **named):
    """What the call answers, None where it refuses. Raises what it raises beyond that, and Meaningless."""
    COUNTS[name, "tried"] += 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = call(*args, **named)
        check(name, result)
    except JaxtlError as error:
        COUNTS[name, "refused"] += 1
        if len(str(error).splitlines()) != 1 or len(str(error)) > 500:
            raise Meaningless(f"{name}: refused in more than a line: {error}") from error
        return None
    except UserWarning as warning:
        # What jaxtl itself warns of begins with the method that it is about.
        if not str(warning).startswith(("lle: ", "tsne: ", "pca: ")):
            raise
        COUNTS[name, "warned"] += 1
        return None
    COUNTS[name, "answered"] += 1
    return result


def check(where, result):
    """Raises Meaningless unless all numbers of it, at any depth, are finite and in order."""
    if isinstance(result, Estimate):
        value, low, high = (np.asarray(part, np.float64) for part in result)
        if not (np.isfinite(value).all() and (low <= value + 1e-9).all() and (value <= high + 1e-9).all()):
            raise Meaningless(f"{where}: {result}")
        if not np.isfinite([low, high]).all():
            raise Meaningless(f"{where}: {result}")
    elif isinstance(result, float | np.floating):
        if not np.isfinite(result):
            raise Meaningless(f"{where}: {result}")
    elif isinstance(result, np.ndarray):
        if result.dtype.kind == "f" and not np.isfinite(result).all():
            raise Meaningless(f"{where}: {np.count_nonzero(~np.isfinite(result))} numbers are not finite")
    elif isinstance(result, tuple | list):
        for k, part in enumerate(result):
            names = getattr(result, "_fields", None)
            check(f"{where}.{names[k] if names else k}", part)
    elif isinstance(result, dict):
        for name, part in result.items():
            check(f"{where}.{name}", part)
    elif dataclasses.is_dataclass(result):
        check(where, vars(result))


def table():
    """Lines of the counts, one for each call and one for all."""
    kinds = ("tried", "refused", "answered", "warned", "failed")
    names = sorted({name for name, _ in COUNTS})
    rows = [(name, *(COUNTS[name, kind] for kind in kinds)) for name in names]
    rows.append(("all", *(sum(row[k] for row in rows) for k in range(1, len(kinds) + 1))))
    return [f"{'':34}" + "".join(f"{kind:>10}" for kind in kinds)] + [
        f"{row[0]:34}" + "".join(f"{count:>10,}" for count in row[1:]) for row in rows
    ]
