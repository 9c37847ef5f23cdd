"""What goes where on the terminal: results, progress, JSON; and help that a newcomer can read."""

import io
import json
import re
import shutil
import stat

import click
import numpy as np
import pytest
from rich.console import Console

from jaxtl.cli import results, tables
from jaxtl.cli.main import cli
from jaxtl.evaluation.catalogue import LEAVE_ONE_OUT, LINEAR_CKA
from jaxtl.methods import METHODS
from jaxtl.progress import counted
from jaxtl.records.tables import Score
from jaxtl.runs.folder import RunFolder
from tests.run_files import older


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_finished_run_is_shown_from_its_folder_alone(jaxtl, few_run, few_digits, tmp_path, monkeypatch):
    folder = older(shutil.copytree(few_run, tmp_path / "run"))
    # Without its data set, from anywhere, on a folder that cannot be written.
    for file in ("features", "model.safetensors", "neighbors", "dataset.json"):
        path = folder / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    settings = json.loads((folder / "config.json").read_text())
    settings["dataset"] = "idx:/nowhere/at/all"
    (folder / "config.json").write_text(json.dumps(settings))
    for path in (*folder.rglob("*"), folder):
        path.chmod(stat.S_IRUSR | (stat.S_IXUSR if path.is_dir() else 0))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before = stamps(tmp_path)
    code, out, err = jaxtl("show", folder)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == (
        "idx:/nowhere/at/all, all test images; MobileNetV2; last 2 layers trained, 2 epochs; maps by PCA"
    )
    assert lines[-1] == f"Report: {folder / 'report.html'}"
    # What matters most comes last.
    places = [next(k for k, line in enumerate(lines) if line.startswith(title)) for title in TITLES]
    assert places == sorted(places)
    assert stamps(tmp_path) == before
    for path in (folder, *folder.rglob("*")):
        path.chmod(stat.S_IRWXU)


TITLES = ("Fine-tuning", "Claims", LEAVE_ONE_OUT.label)


def test_all_of_a_run_is_one_json_object(jaxtl, few_run):
    code, out, err = jaxtl("show", few_run, "--json")
    assert (code, err) == (0, "")
    found, run = json.loads(out), RunFolder(few_run)
    assert (found["kind"], found["seeds"]) == ("run", [])
    assert found["settings"]["epochs"] == 2
    assert [Score(**score) for score in found["scores"]] == run.scores.read()
    assert found["claims"] == run.claims.read()
    assert found["files"]["report"] == str(few_run / "report.html")


def test_every_score_is_shown_when_asked_for(jaxtl, few_run):
    assert LINEAR_CKA.label not in jaxtl("show", few_run)[1]
    assert LINEAR_CKA.label in jaxtl("show", few_run, "--all")[1]


def test_seeds_and_what_is_not_finished(jaxtl, few_run, tmp_path):
    several = tmp_path / "several"
    shutil.copytree(few_run, several / "seed-4")
    (several / "seeds.json").write_text(json.dumps({"seeds": [4, 5]}))
    code, out, err = jaxtl("show", several)
    assert (code, out) == (2, "")
    assert err == (
        f"jaxtl: {several}: is not finished (scores.csv is missing); go on with: "
        f"jaxtl run --resume {several}\n"
    )
    for name in ("scores.csv", "claims.json"):
        shutil.copy(few_run / name, several)
    code, out, _ = jaxtl("show", several)
    assert (code, out.partition(" of ")[0]) == (0, "2 seeds")
    assert json.loads(jaxtl("show", several, "--json")[1])["seeds"] == [4, 5]
    code, _, err = jaxtl("score", several)
    assert (code, err.count("\n")) == (2, 1)
    assert f"give the folder of one, such as {several / 'seed-4'}" in err
    code, _, err = jaxtl("show", tmp_path)
    assert (code, "no run folder" in err) == (2, True)


def test_a_damaged_history_costs_no_work(jaxtl, few_run, tmp_path, contents):
    folder = shutil.copytree(few_run, tmp_path / "run")
    (folder / "history.csv").write_text("epoch,loss\n1,0.5\n")
    before = contents(folder)
    code, out, err = jaxtl("score", folder)
    assert (code, out) == (2, "")
    # Not even the first step was begun.
    assert err.count("\n") == 1
    assert err.startswith(f"jaxtl: {folder / 'history.csv'}: ")
    assert contents(folder) == before


def test_what_a_run_did_to_its_images_is_a_sentence():
    counts = {"right": 1500, "fixed": 346, "broken": 26, "wrong": 56}
    by = {"probe": "a classifier"}
    assert tables.change_line({"images": 1928, "probe": counts, "kept": 0.26}, by) == (
        "Of 1,928 images, fine-tuning put 346 right and 26 wrong; 56 were wrong before and after (by a "
        "classifier). On average 2.6 of an image's 10 nearest neighbours were kept."
    )
    assert tables.change_line({}, by) == ""


def test_outcomes_are_counted_from_a_run_s_measures(few_run, tmp_path):
    folder = older(shutil.copytree(few_run, tmp_path / "run"))
    measures = RunFolder(folder).measures
    outcome = np.array([0, 0, 1, 3, 2, 1], np.uint8)
    own = {**measures.read(), "outcome_knn": outcome, "kept": np.full(6, 0.5, np.float32)}
    del own["outcome_probe"]
    measures.write(own)
    change = results.read(folder).change
    assert change == {"images": 6, "knn": {"right": 2, "fixed": 2, "broken": 1, "wrong": 1}, "kept": 0.5}
    measures.write({**own, "outcome_knn": np.full(6, 255, np.uint8)})
    assert "knn" not in results.read(folder).change


CLAIM = {"verdict": "holds", "value": 0.5, "low": 0.4, "high": 0.6, "statistic": "a number of [red] things"}


@pytest.mark.parametrize("width", [80, 110, 200])
def test_a_claim_is_one_line_whatever_the_width(width):
    claims = [{**CLAIM, "text": "t" * length} for length in (5, 57)]
    claims[1] |= {"verdict": "undecided", "value": -0.5}
    console = Console(file=io.StringIO(), width=width)
    console.print(tables.claims_table(claims, width))
    title, *lines = console.file.getvalue().splitlines()
    assert title.strip() == "Claims: ✓ holds 1, ? undecided 1"
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)
    assert re.match(r"✓ +t{5} +0\.500", lines[0])
    assert re.match(r"\? +t{57} +-0\.500", lines[1])
    assert ("[0.400, 0.600]" in lines[0]) == (width > 80)
    assert ("a number of [red] things" in lines[0]) == (width > 100)


def test_of_many_epochs_the_first_and_the_last_are_shown():
    scores = [Score(f"epoch {k}", "model", "loss", 1 / k) for k in range(1, 41)]
    console = Console(file=io.StringIO(), width=80)
    console.print(tables.history_table(scores, every=False))
    first = [line.split()[0] for line in console.file.getvalue().splitlines()[3:]]
    assert first == ["1", "…", *map(str, range(33, 41))]


def test_progress_goes_to_standard_error_and_quiet_means_quiet(jaxtl, files, tmp_path):
    reduce = ["reduce", files / "good.npz", "--method", "pca", "--out"]
    code, out, err = jaxtl(*reduce, tmp_path / "a.npz")
    assert code == 0
    assert out.startswith(f"{tmp_path / 'a.npz'}: PCA by scikit-learn; explained variance 0.")
    assert re.fullmatch(r"✓ PCA of 40 images \d+\.\d s\n", err)
    for words in (["-q", *reduce], [*reduce[:-1], "--quiet", "--out"]):
        code, again, err = jaxtl(*words, tmp_path / "b.npz")
        assert (code, err) == (0, "")
        assert again == out.replace("a.npz", "b.npz")
    # An error is no note.
    code, _, err = jaxtl("-q", *reduce, tmp_path / "b.h5")
    assert (code, err.count("\n")) == (2, 1)
    told = json.loads(jaxtl(*reduce, tmp_path / "b.npz", "--json")[1])
    assert (told["method"], told["params"]["seed"]) == ("pca", 1)


def test_a_file_that_holds_no_network_is_called_what_it_is(jaxtl, files, few_run, tmp_path):
    embedding = few_run / "embeddings" / "after_pca.npz"
    for source, kind in ((files / "good.npz", "features"), (embedding, "an embedding")):
        code, _, err = jaxtl("export", source, "--to", "onnx", "--out", tmp_path / "x.onnx")
        assert (code, err.count("\n")) == (2, 1)
        assert f"{source}: holds {kind} and no network; give a file of weights" in err
        code, _, err = jaxtl("export", source, "--to", "csv", "--out", tmp_path / "x.csv")
        assert f"{source}: holds {kind}; --to csv takes the folder of a run" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["extract", "finetune"])
def test_single_steps_are_checked_against_memory_too(jaxtl, few_digits, tmp_path, monkeypatch, verb):
    from jaxtl.network import footprint

    monkeypatch.setattr(footprint, "available_memory", lambda: 2**20)
    suffix = {"extract": "npz", "finetune": "safetensors"}[verb]
    arguments = [verb, "--dataset", few_digits, "--image-size", 32, "--out", tmp_path / f"x.{suffix}"]
    code, out, err = jaxtl(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert re.match(r"jaxtl: memory: \d+ images of this size need about \d\.\d GiB", err)
    assert not list(tmp_path.iterdir())


def test_the_list_of_commands_is_not_cut(jaxtl, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = jaxtl("--help")[1].splitlines()
    for name, command in cli.commands.items():
        line = next(line for line in lines if line.split()[:1] == [name])
        assert line.endswith(command.short_help)
        assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("verb", sorted(cli.commands))
def test_every_option_says_what_it_does(verb, jaxtl, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = jaxtl(verb, "-h")[1]
    assert max(map(len, out.splitlines())) <= 80
    options = [p for p in cli.commands[verb].params if isinstance(p, click.Option) and not p.hidden]
    for option in options:
        assert len(option.help.split()) >= 4, option.name
        assert not re.match(r"(Of|For) ", option.help) or ":" in option.help, option.name
    flags = {flag for option in options for flag in option.opts}
    assert {"-q", "--quiet"} <= flags


def test_the_settings_of_every_method_are_explained():
    run = {option.name: option for option in cli.commands["run"].params}
    for method in METHODS.values():
        for name in method.settings:
            assert run[name].help.startswith(f"{method.label}: ")
            assert re.search(r"\bFrom \d+ to ", run[name].help), name


def test_results_of_a_pipe_are_never_broken_over_lines(jaxtl, monkeypatch, few_run, tmp_path):
    monkeypatch.delenv("COLUMNS", raising=False)
    folder = shutil.copytree(few_run, tmp_path / ("long" * 40))
    out = jaxtl("show", folder)[1]
    assert f"Report: {folder / 'report.html'}\n" in out
    assert "\x1b" not in out
    assert all(line == line.rstrip() for line in out.splitlines())
    claims = RunFolder(folder).claims.read()
    for claim in claims:
        (line,) = [line for line in out.splitlines() if f" {claim['text']} " in line]
        assert line.endswith(claim["statistic"])


def test_a_shell_can_complete_it(launch, monkeypatch):
    monkeypatch.setenv("_JAXTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "jaxtl sh")
    monkeypatch.setenv("COMP_CWORD", "1")
    out, err = launch("sh").communicate()
    assert (out, err) == ("plain,show\n", "")


@pytest.mark.parametrize(
    ("count", "words", "told"),
    [
        (1, ("epoch",), "1 epoch"),
        (0, ("epoch",), "0 epochs"),
        (2000, ("image",), "2,000 images"),
        (2, ("class", "classes"), "2 classes"),
    ],
)
def test_things_are_counted_as_people_do(count, words, told):
    assert counted(count, *words) == told
