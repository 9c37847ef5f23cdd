"""JSON of whoever wrote it, and the parts of schemas: what stands under which name, checked as it is read.

A check takes a value and says what is wrong with it, or nothing: `number(3)` gives "", `number("3")` gives
"is '3'".
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Check = Callable[[Any], str]
# A record of a run is some kilobytes; that of millions of images left out of a set is the largest.
LARGEST = 2**28
# Lists and objects within each other; jaxtl writes five.
_DEEPEST = 40
_DIGITS = 19
# Letters of a value that an error shows.
_SHOWN = 80


def parsed(data: bytes | str) -> dict[str, Any]:
    """A JSON object. Raises ValueError, whose text says why it is none, for whatever else the bytes are.

    A mark of the byte order before it is passed over. Refused are names that stand there twice, numbers of
    more than 19 digits, halves of letters, and what is nested deeper than any record.
    """
    if len(data) > LARGEST:
        raise ValueError(f"it has {len(data):,} bytes")
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data.removeprefix("\ufeff")
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_int=_whole_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"it is a {type(value).__name__}")
    _check_parts(value)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        # Counted at once: a stranger's file may have as many names as its bytes allow.
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"{brief(twice)} stands there twice")
    return record


def _whole_number(digits: str) -> int:
    if len(digits.removeprefix("-")) > _DIGITS:
        raise ValueError(f"a whole number has {len(digits):,} digits")
    return int(digits)


def _check_parts(value: Any) -> None:
    """Raises ValueError for what is nested too deeply, or for texts that no file can hold."""
    level, depth = [value], 0
    while level:
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        inner: list[Any] = []
        for part in level:
            if isinstance(part, str):
                part.encode("utf-8")  # UnicodeEncodeError is a ValueError
            elif isinstance(part, dict):
                inner += [*part, *part.values()]
            elif isinstance(part, list):
                inner += part
        level, depth = inner, depth + 1


def brief(value: object) -> str:
    """A value as an error shows it."""
    if isinstance(value, str | bytes | list | tuple | dict) and len(value) > _SHOWN:
        value = (
            value[:_SHOWN] if isinstance(value, str | bytes | list | tuple) else dict(list(value.items())[:3])
        )
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _is(what: Callable[[Any], bool]) -> Check:
    return lambda value: "" if what(value) else f"is {brief(value)}"


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


number = _is(is_number)
positive = _is(lambda value: is_number(value) and value > 0)
share = _is(lambda value: is_number(value) and 0 <= value <= 1)
# A number that may be infinite, or none.
real = _is(lambda value: isinstance(value, int | float) and not isinstance(value, bool))
whole = _is(lambda value: isinstance(value, int) and not isinstance(value, bool))
count = _is(lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0)
text = _is(lambda value: isinstance(value, str) and "\0" not in value)
truth = _is(lambda value: isinstance(value, bool))


def anything(value: Any) -> str:
    return ""


def within(least: int, most: int) -> Check:
    return lambda value: whole(value) or ("" if least <= value <= most else f"is {value}")


def one_of(*values: Any) -> Check:
    return _is(lambda value: not isinstance(value, list | dict) and value in values)


def one_like(pattern: re.Pattern[str]) -> Check:
    """A text that is, as a whole, of a pattern."""
    return _is(lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None)


def or_none(check: Check) -> Check:
    return lambda value: "" if value is None else check(value)


def either(*checks: Check) -> Check:
    return lambda value: "" if any(not check(value) for check in checks) else f"is {brief(value)}"


def list_of(check: Check) -> Check:
    def fault(values: Any) -> str:
        if not isinstance(values, list):
            return f"is {brief(values)}"
        wrong = ((place, check(value)) for place, value in enumerate(values, 1))
        return next((f"has a part {place} that {said}" for place, said in wrong if said), "")

    return fault


def record_of(
    required: Mapping[str, Check], known: Mapping[str, Check] | None = None, others: Check | None = None
) -> Check:
    """An object that has the required names, and may have the known ones; `others` is asked of the rest."""

    def fault(value: Any) -> str:
        if not isinstance(value, dict):
            return f"is {brief(value)}"
        if lacking := [name for name in required if name not in value]:
            return f"has no {lacking[0]}"
        checks = {**(known or {}), **required}
        said = fault_of(value, (checks.get(name, others or plain) for name in value))
        return f"says that {said}" if said else ""

    return fault


def fault_of(record: Mapping[str, Any], checks: Iterable[Check]) -> str:
    """The first fault of a record's values, each with a check, after its name."""
    for (name, value), check in zip(record.items(), checks, strict=True):
        if said := check(value):
            return f"{brief(name)[1:-1]} {said}"
    return ""


def plain(value: Any) -> str:
    """Anything that JSON knows, whose numbers are finite."""
    if isinstance(value, dict):
        return next(filter(None, map(plain, value.values())), "")
    if isinstance(value, list):
        return next(filter(None, map(plain, value)), "")
    return f"is {value}" if isinstance(value, float) and not math.isfinite(value) else ""


def digest_of(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record as JSON, however its names are ordered."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
