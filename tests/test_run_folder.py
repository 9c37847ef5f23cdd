"""A run's folder: its files are named in one place, and a damaged one is told of in one line."""

import ast
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import jaxtl as package
from jaxtl.errors import JaxtlError
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT
from jaxtl.experiment import opening
from jaxtl.records.files import read_npz, write_npz
from jaxtl.runs.folder import RunFolder, SeedsFolder, holds_seeds, run_folders
from jaxtl.runs.formats import Averages, Started
from jaxtl.settings import RunConfig
from tests.run_files import older

ROOT = Path(package.__file__).parent
# The one place where files of a run are named, and its neighbour of a study's, whose folder has its own.
ADDRESS, OF_STUDIES = ROOT / "runs" / "folder.py", ROOT / "scaling"
SHARED_WITH_STUDIES = {"config.json", "figures"}


# Names stand in one place.


def names_of_a_run():
    """Names of files, and of folders, that a run or several seeds may hold."""
    files = [*RunFolder("run").files, *SeedsFolder("runs").files]
    names = {Path(file.name).name for file in files}
    folders = {part for file in files for part in Path(file.name).parts[:-1]}
    return names | {"repeats.json"}, folders


def spelled_in(path):
    """Every text constant of a module but those in docstrings, and those that stand beside a slash."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    texts, joined = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            texts.add(node.value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            sides = (node.left, node.right)
            joined |= {side.value for side in sides if isinstance(side, ast.Constant)}
        if isinstance(node, ast.Call) and called(node) in ("Path", "joinpath", "with_name", "glob", "rglob"):
            joined |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return texts, joined


def called(call):
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_path(text, name):
    """Whether a text names a file; a sentence may, to a reader."""
    return name in text and not any(space in text.strip("\n") for space in " \n")


def paths_of_a_run_in(path):
    names, folders = names_of_a_run()
    texts, joined = spelled_in(path)
    spelled = {name for name in names for text in texts if is_path(text, name)}
    spelled |= {folder for folder in folders if folder in joined}
    spelled |= {folder for folder in folders for text in texts if is_path(text, f"{folder}/")}
    spelled |= {"seed-" for text in texts if is_path(text, "seed-")}
    return spelled - (SHARED_WITH_STUDIES if OF_STUDIES in path.parents else set())


def test_no_path_of_a_run_is_spelled_elsewhere():
    spelled = {path: paths_of_a_run_in(path) for path in ROOT.rglob("*.py")}
    assert spelled.pop(ADDRESS) >= {"scores.csv", "embeddings"}
    # The name of a member of Keras's archives.
    assert spelled.pop(ROOT / "exports" / "keras_form.py") == {"config.json"}
    # What `jaxtl finetune` puts beside its weights, in no run.
    assert spelled.pop(ROOT / "network" / "checkpoint.py") == {"checkpoint.npz"}
    assert not {str(path.relative_to(ROOT)): names for path, names in spelled.items() if names}


@pytest.mark.parametrize(
    "code",
    [
        'open(folder / "scores.csv")',
        'open(f"{folder}/claims.json")',
        'folder / "features" / name',
        'f"{folder}/embeddings/{name}"',
        'Path(folder, "neighbors")',
        '[*folder.glob("seed-*")]',
    ],
)
def test_a_path_that_is_spelled_is_found(tmp_path, code):
    (tmp_path / "module.py").write_text(f'"""Of scores.csv."""\n{code}\n')
    assert paths_of_a_run_in(tmp_path / "module.py")


def test_csv_is_read_and_written_in_one_place():
    imports = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import) and any(alias.name == "csv" for alias in node.names)
    }
    assert imports == {"records/tables.py"}


# What a folder knows of itself.


def test_what_is_kept_goes_and_what_is_left_over_is_known(tmp_path):
    run = RunFolder(tmp_path)
    run.averages["before"].write(Averages(np.zeros(2, np.int32), {"relu": np.zeros((2, 3), np.float32)}))
    run.environment.write({"versions": {}})
    (tmp_path / ".scores-abcd1234.csv").touch()
    (tmp_path / ".notes-abcd1234.csv").touch()
    assert run.leftovers() == [tmp_path / ".scores-abcd1234.csv"]
    run.remove_leftovers()
    run.remove_kept()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes-abcd1234.csv", "environment.json"]


def test_a_file_comes_back_as_it_was_written(tmp_path):
    run = RunFolder(tmp_path)
    started = Started(RunConfig(methods=("lle", "pca"), samples=None), "digest")
    run.started.write(started)
    assert run.started.read() == started
    assert run.settings.read()["methods"] == ["lle", "pca"]
    averages = Averages(np.arange(2, dtype=np.int32), {"layer of": np.ones((2, 3), np.float32)})
    run.averages["after"].write(averages)
    again = run.averages["after"].read()
    np.testing.assert_array_equal(again.labels, averages.labels)
    assert again.layers.keys() == {"layer of"}
    assert run.timings.read_or({"run": 1.0}) == {"run": 1.0}


@pytest.mark.parametrize("record", ["seeds.json", "repeats.json"])
def test_a_folder_of_seeds_is_known_by_its_record_of_this_version_and_the_last(tmp_path, record):
    (tmp_path / record).write_text('{"seeds": [3, 5]}')
    assert holds_seeds(tmp_path)
    first, last = run_folders(tmp_path)
    assert (first.path, last.path) == (tmp_path / "seed-3", tmp_path / "seed-5")
    # One of them goes on with the others.
    assert first.go_on == f"go on with: jaxtl run --resume {tmp_path}"
    assert [run.path for run in run_folders(tmp_path / "seed-3")] == [tmp_path / "seed-3"]


# Damaged files.


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "a run"))


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def cut(path):
    """As a full disk would, within the last number."""
    path.write_bytes(path.read_bytes()[:-3])


def without(text):
    def change(path):
        lines = path.read_text().splitlines(keepends=True)
        gone = next(line for line in lines if text in line)
        path.write_text("".join(line for line in lines if line is not gone))

    return change


def replaced(old, new):
    return lambda path: path.write_text(path.read_text().replace(old, new, 1))


def edited(change):
    def edit(path):
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return edit


def array(name, change):
    def edit(path):
        arrays, meta = read_npz(path, ())
        write_npz(path, {**arrays, name: change(arrays[name])}, meta)

    return edit


def one_member(path):
    """An archive that is whole, with all arrays but its first gone."""
    with zipfile.ZipFile(path) as archive:
        first = archive.namelist()[0]
        data = archive.read(first)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(first, data)


FIRST = f'before,features,"{LEAVE_ONE_OUT}",'
# File, how it is damaged, who meets it, and what is said of it.
DAMAGE = [
    ("scores.csv", cut, "report", "has 4 cells of 6"),
    ("scores.csv", halve, "plot", "line "),
    ("scores.csv", without(FIRST), "plot", f"the row of before, features, {LEAVE_ONE_OUT} is missing"),
    ("scores.csv", replaced(f"{FIRST}0", f"{FIRST}x"), "report", "line 3: value is 'x"),
    ("scores.csv", replaced(f"{FIRST}0", f"{FIRST}1e999,0,0\n#"), "report", "line 4 has"),
    ("scores.csv", replaced(FIRST, f"{FIRST}nan,,\nafter,x,x,"), "report", "line 3: value is not finite"),
    ("scores.csv", replaced(",value,", ",worth,"), "report", "columns are missing: value"),
    ("classes.csv", without("before,features,"), "report", "the row of before, features, "),
    ("classes.csv", cut, "report", "is cut off"),
    ("history.csv", without("2,"), "plot", "line 3: epoch 3 stands where 2 belongs"),
    ("history.csv", cut, "report", "is cut off"),
    ("history.csv", replaced("1,", "one,"), "report", "line 2: epoch is 'one', not a number"),
    ("claims.json", edited(lambda r: r["claims"][0].update(value="high")), "report", "value is 'high'"),
    ("claims.json", edited(lambda r: r["claims"][1].pop("words")), "report", "claim 2: it has no words"),
    ("claims.json", edited(lambda r: r.update(claims={})), "report", "there are none"),
    ("timings.json", edited(lambda r: r.update(finetune="long")), "report", "finetune is 'long'"),
    ("timings.json", edited(lambda r: r.update(began=3)), "run --resume", "began is 3"),
    ("timings.json", halve, "run --resume", "not a JSON object"),
    ("environment.json", edited(lambda r: r.update(versions="new")), "report", "'new'"),
    ("measures.npz", halve, "export", "not a readable .npz"),
    ("measures.npz", array("knn_before", lambda a: a[:7]), "export", "has 7 rows for 250 images"),
    ("measures.npz", array("neighbors_after", lambda a: a + 999), "report", "not 0 to 249"),
    ("measures.npz", array("knn_after", lambda a: a.astype(str)), "report", "must hold finite numbers"),
    ("embeddings/after_lle.npz", halve, "report", "not a readable .npz"),
    ("embeddings/after_lle.npz", one_member, "plot", "has no array"),
    ("embeddings/after_lle.npz", array("index", lambda a: a + 1), "export", "of other images"),
    ("embeddings/before_pca.npz", array("coords", lambda a: a * np.nan), "report", "NaN or infinite"),
    ("features/before.npz", halve, "score", "not a readable .npz"),
    ("features/before.npz", array("labels", lambda a: a[:9]), "score", "labels must be int32"),
    ("neighbors/before.npz", array("indices", lambda a: a + 999), "score", "indices must be 0 to 249"),
]
COMMANDS = {
    "report": ("report", "{run}"),
    "score": ("score", "{run}"),
    "plot": ("plot", "{run}", "--out", "{out}"),
    "export": ("export", "{run}", "--to", "csv", "--out", "{out}/table.csv"),
    "run --resume": ("run", "--resume", "{run}"),
}


@pytest.mark.parametrize(("name", "damage", "command", "words"), DAMAGE)
def test_a_damaged_file_is_one_line_that_names_it_and_how_to_go_on(
    jaxtl, copy, contents, tmp_path, name, damage, command, words
):
    """Of a run without a manifest; with one, tests/faults/ damages every file."""
    damage(older(copy) / name)
    before = contents(copy)
    code, _, err = jaxtl(*(word.format(run=copy, out=tmp_path / "out") for word in COMMANDS[command]))
    line = err.strip().splitlines()[-1]
    assert code == 2, err
    assert line.startswith(f"jaxtl: {copy / name}: "), line
    assert words in line
    assert line.endswith(f"; delete it and go on with: jaxtl run --resume '{copy}'"), line
    assert contents(copy) == before


@pytest.mark.slow
def test_to_delete_a_damaged_file_and_go_on_mends_the_run(copy, finished, contents):
    for name in ("claims.json", "embeddings/after_pca.npz", "timings.json"):
        (copy / name).unlink()
    opening.resume(copy).run()
    assert contents(copy) == contents(finished)


def test_settings_that_are_damaged_are_to_be_restored(jaxtl, copy):
    (copy / "config.json").write_text('{"dataset": 3}')
    for command in ("report", "score", "run --resume", "plot"):
        code, _, err = jaxtl(*(word.format(run=copy, out=copy) for word in COMMANDS[command]))
        line = err.strip().splitlines()[-1]
        assert code == 2
        assert line.startswith(f"jaxtl: {copy / 'config.json'}: ")
        assert line.endswith("; restore it from a copy, or start a new run with --out")


def test_a_folder_that_is_none_is_told_of_by_all(jaxtl, tmp_path):
    for command, words in COMMANDS.items():
        code, _, err = jaxtl(*(word.format(run=tmp_path, out=tmp_path / "out") for word in words))
        assert code == 2, command
        assert f"{tmp_path}: no run folder (it has no config.json)" in err


def test_a_record_of_seeds_that_is_damaged_is_one_line(jaxtl, tmp_path):
    (tmp_path / "seeds.json").write_text('{"seeds": ["a", "b"]}')
    for command in ("report", "run --resume"):
        code, _, err = jaxtl(*(word.format(run=tmp_path) for word in COMMANDS[command]))
        assert code == 2
        assert err.strip().startswith(f"jaxtl: {tmp_path / 'seeds.json'}: holds no list of seeds; restore it")


def test_kept_files_of_another_kind_are_named(tmp_path):
    run = RunFolder(tmp_path)
    write_npz(tmp_path / "checkpoint.npz", {"leaf_0000": np.zeros(1)}, {})
    write_npz(tmp_path / "averages_after.npz", {"labels": np.zeros(2), "layer x": np.zeros(2)}, {})
    write_npz(tmp_path / "scores_change.npz", {"scores": np.zeros(0), "class_scores": np.zeros(0)}, {})
    for file in (run.checkpoint, run.averages["after"], run.change_scores):
        with pytest.raises(JaxtlError, match=r"delete it and go on with: jaxtl run --resume") as refusal:
            file.read()
        assert str(refusal.value).startswith(f"{file.path}: ")
