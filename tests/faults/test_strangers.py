"""Files that somebody made or damaged are read or refused in one line: nothing else, in little memory."""

import pytest

from tests.faults.campaign import survived
from tests.faults.kept_files import KEPT, signed_ways
from tests.faults.run_folders import run_ways, study_ways
from tests.faults.strangers import WAYS, attack

# Bytes that a small file may take; those of libraries that are imported at the first try are among them.
MOST_MEMORY = 2**29
# Of ways into a run's folder: what costs little.
QUICK = ("load_run", "show-texts")
# Tries of the long form. Pictures and pages of a run take a second each.
LONG = {"plot": 40, "report": 60, "export": 100, "show": 200}


def check(tally):
    assert not tally.counts["failed"], str(tally)
    assert tally.most_memory[0] < MOST_MEMORY, str(tally)


# Of these, what takes long to begin is tried in the long form alone.
SHORT = [way for way in (*WAYS, *KEPT) if way.name not in ("folder", "weights", "keras.h5", "sweep", "kept")]


@pytest.mark.parametrize("way", SHORT, ids=[way.name for way in SHORT])
def test_changed_files_are_answered_or_refused_in_one_line(way, tmp_path):
    *_, tally = attack(way, tmp_path, range(8))
    assert tally.counts["tried"] == 8
    check(tally)


def test_records_that_are_signed_again_are_answered_or_refused_in_one_line(few_run, tmp_path):
    for way in signed_ways(few_run):
        *_, tally = attack(way, tmp_path, range(8))
        check(tally)


@pytest.mark.parametrize("name", QUICK)
def test_a_run_with_a_changed_file_is_answered_or_refused_in_one_line(name, few_run, tmp_path):
    way = next(way for way in run_ways(few_run) if way.name == name)
    *_, tally = attack(way, tmp_path, range(8))
    check(tally)


def test_a_study_with_a_changed_file_is_answered_or_refused_in_one_line(finished_study, tmp_path):
    way = next(way for way in study_ways(finished_study) if way.name == "forecast")
    *_, tally = attack(way, tmp_path, range(12))
    check(tally)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_ten_thousand_changed_files(finished, finished_study, tmp_path, capsys):
    whole, ways = None, (*WAYS, *KEPT, *signed_ways(finished), *run_ways(finished))
    ways = (*ways, *study_ways(finished_study))
    for way in ways:
        tally = survived(way, tmp_path, LONG.get(way.name, 600), seed=1)
        with capsys.disabled():
            print(f"\n{way.name}: {tally}", flush=True)
        whole = whole.take(tally) if whole else tally
    check(whole)
    assert whole.counts["tried"] >= 10_000
