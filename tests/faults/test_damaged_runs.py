"""Every file of a finished run damaged in every way: made again to the same bytes, or refused in one line."""

import csv
import dataclasses
import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.experiment import opening, seeds
from jaxtl.runs.figures import draw
from jaxtl.runs.folder import RunFolder
from tests.command_lines import words
from tests.faults.damaged_runs import DAMAGES, OF_TIMES, Tally, files_of, is_one_line
from tests.faults.outcomes import no_longer_than
from tests.faults.swaps import SWAPS
from tests.run_files import Notes, stamps

# Files that nothing makes again, and what is damaged of the record itself.
REFUSED = {"config.json", "manifest.json"}
# Without a manifest nothing is compared; a page and a picture that are not there are not told of.
UNTOLD = {"manifest.json", "report.html", "figures/comparison.png"}
COMMANDS = {
    "show": "show {run}",
    "report": "report {run} --out {out}/page.html",
    "export": "export {run} --to csv --out {out}/table.csv",
    "parquet": "export {run} --to parquet --out {out}/table.parquet",
    "projector": "export {run} --to tensorboard --out {out}/projector",
    "export network": "export {run} --to onnx --out {out}/network.onnx",
    "plot": "plot {run} --out {out}/figures",
    "score": "score {run}",
    "report again": "report {run}",
    "plot again": "plot {run}",
    "layers": "layers {run}",
    "resume": "run --resume {run}",
    "resume sweep": "sweep --resume {run}",
}
# Those that work in the folder, with what they make there of the others: numbers, not pictures.
WORKERS = {
    "score": ("scores.csv", "classes.csv", "claims.json", "measures.npz", "images.csv"),
    "report again": (),
    "plot again": (),
    "layers": ("layers.csv",),
    "resume": (),
    "resume sweep": (),
}
# Of a combination of a sweep.
TIMED = ("training_seconds", "seconds", "peak_memory_gib")
# Of all tries of the long form, every so manieth; a try of a worker takes seconds.
EVERY = int(os.environ.get("JAXTL_TEST_EVERY", "1"))
# Of a folder of many runs, what is damaged of each: all of one run is damaged by itself.
OF_RUNS = (
    *("config.json", "manifest.json", "dataset.json", "scores.csv", "claims.json", "measures.npz"),
    *("history.csv", "features/after.npz", "embeddings/after_pca.npz", "model.safetensors"),
)
QUICK = [
    ("embeddings/after_pca.npz", "flip"),
    ("figures/after.png", "empty"),
    ("environment.json", "delete"),
    ("environment.json", "cut"),
    ("timings.json", "cut"),
    ("dataset.json", "flip"),
]


@pytest.fixture
def damaged(few_run, tmp_path, without_figures):
    """A function of a file, a damage and another run: a copy of `few_run` with that file damaged."""

    def make(name, damage, other=None):
        folder = tmp_path / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(few_run, folder)
        (DAMAGES | SWAPS)[damage](folder / name, other and other / name)
        return folder

    with without_figures():
        yield make


def resumed(folder, whole):
    """What came of a resumed run: "made again", "refused" or what is wrong, and the lines that it said."""
    notes = Notes()
    try:
        opening.resume(folder, observer=notes).run()
    except (JaxtlError, OSError) as error:
        one_line = "\n" not in str(error) and str(folder) in str(error)
        return ("refused" if one_line else f"says {error}"), notes.said
    names = [name for name in files_of(whole) if name not in OF_TIMES]
    wrong = [name for name in names if (folder / name).read_bytes() != (whole / name).read_bytes()]
    strange = set(files_of(folder)) ^ set(files_of(whole))
    return ("made again" if not wrong and not strange else f"differs: {wrong} {strange}"), notes.said


@pytest.mark.parametrize(("name", "damage"), QUICK)
def test_a_damaged_file_is_made_again_and_nothing_else(damaged, few_run, name, damage):
    folder = damaged(name, damage)
    before = stamps(folder)
    came, said = resumed(folder, few_run)
    assert came == "made again"
    assert any(name in line for line in said), said
    together = {name, *(f"figures/after.{kind}" for kind in ("svg", "pdf") if "after.png" in name)}
    again = {file for file, stamp in stamps(folder).items() if stamp != before.get(file)}
    assert again <= together | OF_TIMES


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_says_what_a_run_is_is_not_guessed(damaged, few_run, jaxtl, name):
    for damage in ("flip", "cut", "empty"):
        folder = damaged(name, damage)
        for command in (["run", "--resume", folder], ["show", folder], ["check", folder]):
            code, _, said = jaxtl(*command)
            assert code == (1 if command[0] == "check" and name == "config.json" else 2), said
            assert code == 1 or is_one_line(said, folder)


def test_who_reads_a_damaged_file_refuses_it(damaged, few_run, jaxtl, tmp_path):
    # Whole by itself, and of this run's images: nothing but the manifest tells.
    folder = damaged("scores.csv", "flip")
    table = (few_run / "scores.csv").read_text()
    (folder / "scores.csv").write_text(table.replace("0.1", "0.2"))
    shutil.copy(few_run / "embeddings/after_pca.npz", folder / "embeddings/before_pca.npz")
    for command in ("show", "report", "export"):
        code, _, said = jaxtl(*words(COMMANDS[command], run=folder, out=tmp_path))
        assert code == 2
        assert "is not what the run wrote" in said
        assert f"jaxtl check {folder} --accept" in said
        assert is_one_line(said, folder)
    with pytest.raises(JaxtlError, match="is not what the run wrote"):
        draw(RunFolder(folder), "comparison")


def test_a_deleted_table_is_missed(damaged, jaxtl):
    code, out, said = jaxtl("show", damaged("claims.json", "delete"))
    assert (code, out) == (2, "")
    assert "is not finished (claims.json is missing); go on with: jaxtl run --resume" in said


def test_a_file_of_another_run_is_not_taken(damaged, few_run, jaxtl, tmp_path):
    folder = damaged("environment.json", "flip")
    shutil.copy(few_run / "environment.json", folder)
    shutil.copy(few_run / "embeddings/after_pca.npz", folder / "embeddings/after_lle.npz")
    code, _, said = jaxtl("report", folder, "--out", tmp_path / "page.html")
    assert code == 2
    assert "after_lle.npz: is not recorded; it is no file of this run: move it away" in said
    assert "embeddings/after_lle.npz: is not recorded" in jaxtl("check", folder)[1]


def test_a_run_that_is_killed_as_it_begins_begins_or_goes_on(few, tmp_path, killed_at):
    for writes in itertools.count():
        folder = tmp_path / str(writes)
        with killed_at(writes) as done:
            opening.start(few, folder)
        begun = (folder / "config.json").exists()
        again = opening.resume(folder) if begun else opening.start(few, folder)
        assert all(file.is_intact for file in (again.folder.started, again.folder.dataset))
        if done:
            break
    assert writes > 2


# What hangs on what.


def test_an_edit_that_is_accepted_is_kept_and_what_hangs_on_it_is_made_again(damaged, few_run, jaxtl):
    folder = damaged("environment.json", "flip")
    record = json.loads((few_run / "environment.json").read_text())
    (folder / "environment.json").write_text(json.dumps({**record, "cpu": "an abacus"}))
    assert jaxtl("check", folder)[0] == 1
    code, out, _ = jaxtl("check", folder, "--accept")
    assert code == 1
    assert "environment.json: taken as it stands" in out
    assert "report.html: was made of other files, as environment.json is another one now" in out
    notes = Notes()
    opening.resume(folder, observer=notes).run()
    assert "Report: made again, as environment.json changed" in notes.said
    assert "an abacus" in (folder / "report.html").read_text()
    assert jaxtl("check", folder)[0] == 0


def of_set(**change):
    return "dataset.json", lambda record: {**record, **change}


def of_measures(name, factor, plus):
    return "measures.npz", lambda arrays: {**arrays, name: arrays[name] * factor + plus}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (of_set(shown=-1), "shown is -1"),
        (of_set(shown="x"), "shown is 'x'"),
        (of_set(shown=[]), "shown is []"),
        (of_set(shown={"images": True}), "shown says that images is True"),
        (of_set(test={"images": 60, "contents": 5}), "test says that contents is 5"),
        (of_measures("qnx_k", 0, 0), "array qnx_k holds 0 to 0, not whole numbers from 1 on"),
        (of_measures("qnx_k", -1, 0), "not whole numbers from 1 on"),
        (of_measures("qnx_after_pca", -1, 0), "not shares, 0 to 1"),
        (of_measures("knn_after", -1, -1), "not whole numbers from 0 on"),
        (of_measures("confusion_after_features", 1, np.float32(2)), "not shares, 0 to 1"),
    ],
)
def test_what_is_out_of_range_is_neither_accepted_nor_shown(copied_few, jaxtl, tmp_path, edit, words):
    name, change = edit
    path = copied_few / name
    if path.suffix == ".json":
        path.write_text(json.dumps(change(json.loads(path.read_text()))))
    else:
        with np.load(path) as arrays:
            changed = change(dict(arrays))
        np.savez(path, **changed)
    before = stamps(copied_few)
    for command in (["check", copied_few, "--accept"], ["report", copied_few, "--out", tmp_path / "p.html"]):
        code, _, said = jaxtl(*command)
        assert (code, len(said.splitlines())) == (2, 1)
        assert words in said
        assert stamps(copied_few) == before
        (copied_few / "manifest.json").unlink(missing_ok=True)
        before = stamps(copied_few)


def test_check_says_how_every_file_stands(few_run, jaxtl, tmp_path):
    code, out, said = jaxtl("check", few_run)
    assert (code, said) == (0, "")
    told = {line.partition(": ")[0]: line.partition(": ")[2] for line in out.splitlines()[:-1]}
    assert told == dict.fromkeys(set(files_of(few_run)) - {"manifest.json"}, "ok")
    folder = Path(shutil.copytree(few_run, tmp_path / "run"))
    (folder / "notes.txt").write_text("mine")
    (folder / "history.csv").unlink()
    (folder / "measures.npz").write_bytes(b"no")
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    code, out, _ = jaxtl("check", folder, "--json")
    record = json.loads(out)
    assert (code, record["ok"]) == (1, False)
    states = {file["name"]: file["state"] for file in record["files"]}
    assert {name: state for name, state in states.items() if state != "ok"} == {
        "notes.txt": "strange",
        "history.csv": "missing",
        "measures.npz": "changed",
    }
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    # What cannot be read is not taken.
    code, _, said = jaxtl("check", folder, "--accept")
    assert code == 2
    assert "measures.npz: not a readable .npz file" in said


def test_a_run_without_a_manifest_is_taken_as_it_stands(few_run, jaxtl, tmp_path):
    folder = Path(shutil.copytree(few_run, tmp_path / "run"))
    (folder / "manifest.json").unlink()
    assert "has no manifest" in jaxtl("check", folder)[2]
    before, notes = stamps(folder), Notes()
    opening.resume(folder, observer=notes).run()
    assert any("has no manifest; 29 files are taken as they stand" in line for line in notes.said), notes.said
    after = stamps(folder)
    assert after.pop("manifest.json")
    assert after == before
    assert jaxtl("check", folder)[0] == 0


@pytest.mark.parametrize("damage", ["flip", "delete"])
@pytest.mark.parametrize("command", ["parquet", "report"])
def test_a_damaged_record_of_the_images_is_not_taken_for_images_that_are_gone(
    damaged, jaxtl, tmp_path, command, damage
):
    folder = damaged("dataset.json", damage)
    (tmp_path / "out").mkdir()
    code, _, said = jaxtl(*words(COMMANDS[command], run=folder, out=tmp_path / "out"))
    assert code == 2
    assert is_one_line(said, folder), said
    assert list((tmp_path / "out").iterdir()) == []


def test_scores_that_cannot_be_written_take_no_others_away(few_run, jaxtl, tmp_path):
    folder = Path(shutil.copytree(few_run, tmp_path / "run"))
    (folder / "claims.json").unlink()
    os.mkfifo(folder / "claims.json")
    code, _, said = jaxtl("score", folder)
    assert code == 2
    assert "claims.json: Is a named pipe" in said
    assert bytes_of(folder) == {k: v for k, v in bytes_of(few_run).items() if k != "claims.json"}


# The long form.


@pytest.fixture(scope="module")
def other_run(few_config, without_figures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "run"
    with without_figures():
        opening.start(dataclasses.replace(few_config, seed=few_config.seed + 1), folder).run()
    return folder


@pytest.mark.slow
def test_every_file_damaged_in_every_way_is_made_again_or_refused(damaged, few_run, other_run):
    tally = Tally()
    for name in files_of(few_run):
        for damage in (*DAMAGES, *SWAPS):
            same = (other_run / name).read_bytes() == (few_run / name).read_bytes()
            if damage == "exchange" and same:
                continue
            with no_longer_than(120):
                came, said = resumed(damaged(name, damage, other_run), few_run)
            # What lies in a folder is nobody's to delete; what only has a file's name is not replaced.
            no_file = damage in ("folder", "pipe", "endless")
            fine = came == "made again" or (came == "refused" and (name in REFUSED or no_file))
            tally.note(came if fine else "failed", f"{name} {damage}: {came} {said}")
    tally.close("Damaged files, resumed")


def layered(config, folder, jaxtl):
    opening.start(dataclasses.replace(config, layers=True), folder).run()


def of_seeds(config, folder, jaxtl):
    seeds.start(dataclasses.replace(config, epochs=1), 2, folder).run()


def compared(config, folder, jaxtl):
    rng, labels = np.random.default_rng(config.seed), np.arange(60, dtype=np.int32) % 4
    for name in ("a", "b"):
        values = (rng.normal(size=(60, 6)) + 3 * np.eye(4, 6)[labels]).astype(np.float32)
        np.savez(folder.with_name(f"{name}.npz"), values=values, labels=labels)
    given = [folder.with_name(f"{name}.npz") for name in ("a", "b")]
    assert jaxtl("compare", *given, "--methods", "pca", "--out", folder)[0] == 0


def swept(config, folder, jaxtl):
    how = f"--image-size 32 --trainable none,2 --epochs 1 --seed {config.seed} --seeds 1 --out {folder}"
    assert jaxtl("sweep", "--dataset", config.dataset, *how.split())[0] == 0


KINDS = {
    "run": (None, [*COMMANDS][:10]),
    "layered": (layered, ["layers"]),
    "seeds": (of_seeds, ["show", "report", "report again", "resume"]),
    "comparison": (compared, ["show", "report", "export", "plot", "score", "report again", "resume"]),
    "sweep": (swept, ["show", "report again", "resume sweep"]),
}
CASES = [(kind, command) for kind, (_, commands) in KINDS.items() for command in commands]


@pytest.fixture
def both(request, few_config, few_run, other_run, jaxtl, without_figures, once):
    """A function of a kind: a folder, and another one of it."""

    def made(kind, number):
        make, config = KINDS[kind][0], dataclasses.replace(few_config, seed=few_config.seed + number)

        def write(folder):
            with without_figures():
                make(config, folder / "whole", jaxtl)

        return once(f"damaged-{kind}-{number}", lambda path: (path.mkdir(), write(path))) / "whole"

    return lambda kind: (few_run, other_run) if kind == "run" else (made(kind, 0), made(kind, 1))


def damaged_of(folder):
    """The files of a folder that are damaged."""
    names, below = files_of(folder), ("runs/", "seed-")
    runs = {name.rpartition(next(of for of in OF_RUNS if name.endswith(of)))[0] for name in names
            if name.startswith(below) and name.endswith(OF_RUNS)}  # fmt: skip
    first = min(runs, default="")
    return [
        name
        for name in names
        if not name.startswith((*below, "shared/")) or name in {f"{first}{of}" for of in OF_RUNS}
    ]


def bytes_of(folder):
    """What tells of no times, and is no picture."""
    left_out = (*OF_TIMES, ".png", ".svg", ".pdf")
    return {name: _untimed(folder / name) for name in files_of(folder) if not name.endswith(left_out)}


def _untimed(path):
    """What a file holds; a sweep's tables without the seconds and memory of its runs, and their words."""
    data = path.read_bytes()
    try:
        if path.name == "combinations.csv":
            return [_without(row, *TIMED) for row in csv.DictReader(data.decode().splitlines())]
        if path.name == "combinations.json":
            record = json.loads(data)
            return _without(record, "words") | {"rows": [_without(row, *TIMED) for row in record["rows"]]}
    except (ValueError, TypeError, KeyError, AttributeError):  # of one that is damaged
        pass
    return data


def _without(record, *names):
    return {name: value for name, value in record.items() if name not in names}


def _differs(other, file):
    return other.exists() and other.read_bytes() != file.read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "command"), CASES)
def test_every_damaged_file_is_refused_or_not_read(both, jaxtl, tmp_path, without_figures, kind, command):
    """Never a traceback; never another answer than that of the whole folder, nor other numbers left in it."""
    run, out, (whole, other) = tmp_path / "run", tmp_path / "out", both(kind)

    def answer():
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        with without_figures():
            code, printed, said = jaxtl(*words(COMMANDS[command], run=run, out=out))
        made = {path.name: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
        return code, printed, made, said

    def copied():
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)

    copied()
    expected, right, tally = answer(), bytes_of(whole), Tally()
    assert expected[0] == 0, expected
    again = command.startswith("resume")
    tries = itertools.product(damaged_of(whole), (*DAMAGES, *SWAPS))
    if command in WORKERS or command == "plot":  # which take seconds, and pictures are alike
        few = ("flip", "delete", "exchange", "pipe")
        tries = (
            (name, damage)
            for name, damage in tries
            if damage in few and (name == "figures/after.png" or not name.endswith(("png", "svg", "pdf")))
        )
    for name, damage in itertools.islice(tries, 0, None, EVERY):
        if damage == "exchange" and not _differs(other / name, whole / name):
            continue
        copied()
        (DAMAGES | SWAPS)[damage](run / name, other / name)
        before = {**right, name: None if not (run / name).is_file() else b"" if damage == "endless"
                  else _untimed(run / name)}  # fmt: skip
        with no_longer_than(120):
            code, printed, made, said = answer()
        untold = name.endswith(tuple(UNTOLD)) and damage in ("delete", *SWAPS)
        (run / name).unlink() if (run / name).is_symlink() else None
        now = bytes_of(run)
        strange = [of for of in right if now.get(of) not in (right[of], before[of])]
        strange += [of for of in WORKERS.get(command, ()) if code == 0 and now.get(of) != right[of]]
        if again and code == 0:
            strange += [of for of in right if now.get(of) != right[of]]
        if not strange and code == 2 and is_one_line(said, run):
            tally.note("refused")
        elif not strange and code == 0 and (printed == expected[1] or again) and made == expected[2]:
            tally.note("answered")
        elif not strange and code == 0 and untold:
            tally.note("not told")
        elif command == "resume sweep" and damage == "pipe" and f"failed: {run / name}: Is a named" in said:
            tally.note("told")  # of a combination; the others are done
        else:
            tally.note("failed", f"{name} {damage}: {code} {strange} {said[-400:]}")
    tally.close(f"Damaged files of a {kind}, {command}")
