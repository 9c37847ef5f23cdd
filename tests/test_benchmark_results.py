"""What a record comes to: tables, shares of limits, qualities, and two runs compared."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command_line
from benchmarks import measures, processes, tables
from benchmarks.cases import OURS
from benchmarks.workers import Deadline
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import FIVE_FOLDS
from jaxtl.records.tables import HISTORY_COLUMNS, Score, save_history, save_scores
from tests.benchmarking import record_of, row, run_main

ROOT = Path(command_line.__file__).parent.parent


SLOWER = row(
    "openTSNE", (4.0, 9.0, 8.0), {"trustworthiness": [0.9], "kl_divergence": [0.5]}, first_seconds=None
)
BEST = {"trustworthiness": [0.95], "kl_divergence": [1.0]}


def test_tables_hold_medians_ranges_ratios_limits_and_quality():
    ours = row(quality=BEST, compile_seconds=0.5, work={"flops": 75e9, "bytes": 1e9})
    text = tables.render(
        record_of(ours, SLOWER, row("scikit-learn", (), state="absent", reason="not | here"))
    )
    for line in (
        # 75 GFLOP in 3 s are 25 of 100.
        "| `tsne` | 1,000 | **jaxtl** | 3.00 (2.00..4.00) s | 333 points |  | 5.00 s (500 ms) "
        "| 3.00 GiB, 2.00 above rest | 25.0% (arithmetic) | trustworthiness 0.95, kl_divergence 1 |",
        # Round by round 2, 3 and 2.
        "| `tsne` | 1,000 | openTSNE | 8.00 (4.00..9.00) s | 125 points | 2.00 (2.00..3.00) |  "
        "| 3.00 GiB, 2.00 above rest |  | trustworthiness 0.9 (**worse**), kl_divergence 0.5 (**better**) |",
        "| `tsne` | 1,000 | scikit-learn | absent | not \\| here |",
        "The machine at its best in this run: float32 product 100 GFLOP/s, copy 10.0 GB/s.",
    ):
        assert line in text.splitlines()
    assert "jaxtl 0.1.0 (0123456789ab with changes), Abacus, 2 cores, 4.0 GiB; cpu: beads; Python" in text
    assert "Threads: OMP_NUM_THREADS=2." in text


def test_a_reduced_precision_has_a_limit_of_its_own():
    limit = {"flops": 10.0, "flops tf32": 40.0, "bytes": 2.0}
    fast = row(seconds=[2.0], work={"flops": 20, "bytes": 1})
    assert measures.share_of_limit(fast, limit) == (pytest.approx(1), "arithmetic")
    assert measures.share_of_limit(fast, limit, "tf32") == (pytest.approx(0.25), "arithmetic")


def test_shipped_results_can_still_be_read(monkeypatch, capsys):
    for name in ("cpu", "whole"):
        assert run_main(monkeypatch, "table", ROOT / "benchmarks" / "results" / f"{name}.json") == 0
        assert f"# Benchmark `{name}`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("run/timings.json", '{"finetune": 54.1, "peak_memory_gib": 2.4}', "s: finetune 54.1"),
        (
            "scores.json",
            '{"after": {}, "seconds": {"fit": 371.0, "maps after": 42.0}}',
            "s: fit 371.0, maps after 42.0",
        ),
    ],
)
def test_steps_of_whole_processes_are_told(name, text, said, tmp_path, monkeypatch):
    code = (
        f"import pathlib; p = pathlib.Path({name!r}); p.parent.mkdir(exist_ok=True); p.write_text({text!r})"
    )
    monkeypatch.setattr(processes, "JAXTL_COMMAND", (sys.executable, "-c", code))
    monkeypatch.setattr(processes, "judge", lambda folder: {"test_accuracy": 0.9})
    done = processes.Processes(tmp_path, {}).call("run", OURS, Deadline(60), {"samples": 9})
    parts = {"parts": done["parts"], "first_parts": done["parts"]}
    lines = tables.render(record_of(row(case="run", size=60_000, **parts))).splitlines()
    assert [line.partition(", s: ")[0][-10:] for line in lines if line.endswith(said)] == [
        "first call",
        "last round",
    ]


def test_a_run_that_is_cut_tells_how_far_it_came(tmp_path, monkeypatch):
    code = "import pathlib, time; p = pathlib.Path('run'); p.mkdir(); "
    code += "(p / 'timings.json').write_text('{\"trunk_test\": 3.5}'); time.sleep(600)"
    monkeypatch.setattr(processes, "JAXTL_COMMAND", (sys.executable, "-c", code))
    with pytest.raises(JaxtlError, match=r"not done within .*; seconds so far: trunk test 3\.5$"):
        processes.Processes(tmp_path, {}).call("run", OURS, Deadline(2), {"samples": 9})


def test_accuracies_of_a_run_and_of_the_plain_script_are_the_same_numbers(tmp_path):
    spaces = ("features", "pca", "tsne", "lle")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (ours / "run").mkdir(parents=True)
    theirs.mkdir()
    stages = {
        stage: {space: 0.5 + number / 10 for number, space in enumerate(spaces)}
        for stage in ("before", "after")
    }
    rows = [
        Score(stage, space, FIVE_FOLDS, value)
        for stage, seconds in stages.items()
        for space, value in seconds.items()
    ]
    save_scores(ours / "run" / "scores.csv", rows)
    save_history(ours / "run" / "history.csv", [dict.fromkeys(HISTORY_COLUMNS, 1) | {"test_accuracy": 0.9}])
    (theirs / "scores.json").write_text(json.dumps({"test_accuracy": [0.8, 0.9], **stages}))
    assert processes.judge(ours) == processes.judge(theirs)


def test_the_nearer_limit_counts():
    limit = {"flops": 10.0, "bytes": 2.0}
    share = measures.share_of_limit(row(seconds=[4.0], work={"flops": 10, "bytes": 4}), limit)
    assert share == (pytest.approx(0.5), "memory")
    assert measures.share_of_limit(row(), limit) is None
    assert measures.share_of_limit(row(work={"flops": 1, "bytes": 1}), {}) is None


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"kl_divergence": [1.0]}, {"kl_divergence": [1.02]}, "better"),
        ({"kl_divergence": [1.0]}, {"kl_divergence": [1.009]}, None),
        ({"test_accuracy": [0.90, 0.96]}, {"test_accuracy": [0.90]}, None),
        ({"knn_accuracy after, pca": [0.5]}, {"knn_accuracy after, pca": [0.6]}, "worse"),
        ({"mean": [0.5]}, {"mean": [0.6]}, None),
    ],
)
def test_quality_differs_beyond_tolerance_and_spread_only(ours, theirs, expected):
    judgement = measures.judged(row(quality=ours), row(quality=theirs))
    assert judgement == ({} if expected is None else {next(iter(ours)): expected})


@pytest.mark.parametrize(
    ("samples", "expected"),
    [([123.4], "123 s"), ([12.34], "12.3 s"), ([0.5, 0.25], "375 (250..500) ms"), ([2.5e-5], "25.0 µs")],
)
def test_durations_have_three_digits(samples, expected):
    assert measures.duration(samples) == expected


# Comparing.


def noisy(middle, seed, rounds=7, noise=0.03):
    return list(middle * np.exp(noise * np.random.default_rng(seed).standard_normal(rounds)))


@pytest.fixture
def compared(monkeypatch, capsys, tmp_path):
    """A function of two lists of rows and options: what `compare` prints, or its error."""

    def run(before, after, *options):
        paths = [tmp_path / "before.json", tmp_path / "after.json"]
        for path, rows in zip(paths, (before, after), strict=True):
            path.write_text(json.dumps(record_of(*rows)))
        code = run_main(monkeypatch, "compare", *paths, *options)
        captured = capsys.readouterr()
        return captured.out if code == 0 else captured.err

    return run


@pytest.mark.parametrize(
    ("factor", "noise", "said"),
    [
        (1.3, 0.03, r"tsne, 1,000, jaxtl *\| 2\.\d+ sec *\| 2\.\d+ sec: 1\.\d\dx slower"),
        (1 / 1.3, 0.03, r"x faster"),
        (1.03, 0.003, r"not significant"),  # certain, and less than the threshold
        (1.0, 0.03, r"not significant"),
    ],
)
def test_pyperf_tells_what_got_slower_from_noise(factor, noise, said, compared):
    before, after = noisy(2.0, 1, noise=noise), noisy(2.0 * factor, 2, noise=noise)
    out = compared([row(seconds=before)], [row(seconds=after)])
    assert "The machine itself, after / before: matrix product 1.00, bandwidth 1.00." in out
    assert re.search(said, out)


def test_a_slower_machine_cancels_against_a_peer(compared):
    before = [row(seconds=noisy(2.0, 1)), row("openTSNE", noisy(4.0, 2))]
    after = [row(seconds=noisy(3.0, 3)), row("openTSNE", noisy(6.0, 4))]
    assert compared(before, after).count("slower") > 2
    assert "not significant (1): tsne, 1,000, jaxtl" in compared(before, after, "--against", "openTSNE")
    refused = compared(before, after, "--against", "cuML")
    assert "no shared row of 'cuML'; there are jaxtl, openTSNE" in refused


def test_worse_quality_is_told(compared):
    worse = row(quality={"trustworthiness": [0.8], "kl_divergence": [1.0]})
    out = compared([row(quality=BEST)], [worse])
    assert "| tsne, 1,000, jaxtl | trustworthiness | 0.95 | 0.8 | worse |" in out
    assert "kl_divergence" not in out


def test_single_rounds_and_other_arguments_are_not_compared(compared):
    assert "jaxtl" not in compared([row(seconds=[1.0])], [row(seconds=[9.0])])
    assert "no row in common" in compared([row()], [row(arguments={"n": 5})])
