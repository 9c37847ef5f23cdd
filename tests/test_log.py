"""The log of a run: what it holds, that it is added to, and that nothing hangs on it."""

import logging
import re
import warnings
from datetime import datetime
from pathlib import Path

import pytest

from jaxtl.errors import JaxtlError
from jaxtl.machine.log import logged
from jaxtl.progress import Silent

LINE = re.compile(r"(?P<time>\S+) (?P<level>INFO|WARNING|ERROR) +(?P<text>\S.*)")


def lines(path):
    """Level and text of each line, whose time is checked."""
    found = [LINE.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert all(found)
    times = [datetime.fromisoformat(line["time"]) for line in found]
    assert times == sorted(times)
    assert all(time.tzinfo for time in times)
    return [(line["level"], line["text"]) for line in found]


def test_steps_notes_warnings_and_the_end_are_written_down(tmp_path, recwarn):
    log = logged(Silent(), tmp_path / "log.txt")
    log.notify("told before there was a file")
    assert not log.path.exists()
    with log.opened():
        with log.step("Figure"):
            log.notify(f"looks at {Path.home()}/pictures")
            warnings.warn("too few", UserWarning, stacklevel=1)
            logging.getLogger("library").warning("slow")
        with log.attempt("Map") as attempt:
            attempt.failure = "no memory"
    told = lines(log.path)
    assert told[0] == ("INFO", "told before there was a file")
    assert re.match(r"Begun with jaxtl .*cores \d+, .*jax \d+\.\d+", told[1][1])
    assert told[2:4] == [
        ("INFO", "Figure: begun"),
        ("INFO", "looks at ~/pictures"),
    ]
    assert ("WARNING", "library: slow") in told
    assert any(level == "WARNING" and "UserWarning: too few (test_log.py:" in text for level, text in told)
    assert [level for level, text in told if re.search("^Map: ended after .* by no memory$", text)] == [
        "ERROR"
    ]
    assert not any(text.startswith("Map: done") for _, text in told)
    assert re.fullmatch(r"Work: done in [\d.]+ s, memory at most [\d.]+ GiB", told[-1][1])
    # It is still shown as ever.
    assert [str(warning.message) for warning in recwarn] == ["too few"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (JaxtlError("x.npz: damaged"), "JaxtlError: x.npz: damaged"),
        (KeyError("k"), r"KeyError: 'k' \(test_log.py:\d+ test_what_ended_it_is_told\)"),
        (KeyboardInterrupt(), "KeyboardInterrupt: "),
    ],
)
def test_what_ended_it_is_told(tmp_path, error, told):
    log = logged(Silent(), tmp_path / "log.txt")
    with pytest.raises(type(error)), log.opened():
        raise error
    level, text = lines(log.path)[-1]
    assert re.search(f"^Work: ended after .* by {told}".strip(), text)
    assert level == ("ERROR" if isinstance(error, Exception) else "WARNING")


def test_a_second_time_adds_to_it(tmp_path):
    for _ in range(2):
        with logged(Silent(), tmp_path / "log.txt").opened():
            pass
    assert sum(text.startswith("Begun with") for _, text in lines(tmp_path / "log.txt")) == 2


def test_work_goes_on_without_a_file_that_can_be_written(tmp_path):
    (tmp_path / "log.txt").mkdir()
    log = logged(Silent(), tmp_path / "log.txt")
    with log.opened(), log.step("Figure"):
        log.notify("seen")


def test_a_run_has_one(few_run):
    told = [text for _, text in lines(few_run / "log.txt")]
    begun = {text.removesuffix(": begun") for text in told if text.endswith(": begun")}
    done = {text.partition(": done in ")[0] for text in told if ": done in " in text}
    assert {"Report", "Claims"} <= begun
    assert done == begun | {"Work"}
    assert str(few_run.parent) not in (few_run / "log.txt").read_text()
