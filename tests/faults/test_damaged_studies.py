"""What stands in a study's folder is what the study wrote: made again, or refused in one line."""

import itertools
import json
import shutil
from pathlib import Path

import pytest

from jaxtl.errors import JaxtlError
from jaxtl.records.files import write_text
from jaxtl.runs import check
from jaxtl.scaling import study
from jaxtl.scaling.folder import StudyFolder
from tests.faults.damaged_runs import DAMAGES, Tally, is_one_line
from tests.faults.outcomes import no_longer_than
from tests.faults.swaps import SWAPS
from tests.run_files import stamps
from tests.studies import LIMITS

GRID = study.Grid("40,80,120", "pca,lle,pca@50")
# What is measured cannot be made again as it was; the settings have a digest of their own.
MEASURED = ("points/pca", "points/lle_", "config.json", "manifest.json")


@pytest.fixture(autouse=True)
def blank_figures(monkeypatch):
    """Drawing takes as long as all the rest."""
    monkeypatch.setattr(study, "save_figure", lambda figure, path: write_text(path, "blank"))


class Told(study.Silent):
    def __init__(self):
        self.said = []

    def notify(self, text):
        self.said.append(text)


def goes_on(folder):
    told = Told()
    study.prepare(folder, {}, GRID, LIMITS, told).run()
    return told.said


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*.*")
        if path.is_file()
    }


def came_of(folder, whole):
    """What came of a study that went on: "made again", "refused" or what is wrong."""
    try:
        goes_on(folder)
    except JaxtlError as error:
        return "refused" if "\n" not in str(error) and str(folder) in str(error) else f"says {error}"
    made = files_of(folder)
    # Pictures and tables tell of seconds, as trials that were made again do.
    same = [name for name in whole if name.startswith(("features.", "maps/", "points/features_"))]
    wrong = [name for name in same if made.get(name) != whole[name]]
    faults = [standing for standing in check.look(folder, StudyFolder(folder)) if not standing.is_fine]
    return f"differs: {wrong} {faults}" if wrong or faults or set(made) != set(whole) else "made again"


def test_all_that_a_study_wrote_is_recorded(finished_study, jaxtl):
    code, out, said = jaxtl("check", finished_study)
    assert (code, said) == (0, "")
    named = {line.partition(":")[0] for line in out.splitlines()[:-1]}
    assert named == set(files_of(finished_study)) - {"manifest.json"}
    assert {line.partition(": ")[2] for line in out.splitlines()[:-1]} == {"ok"}


def test_what_follows_is_made_again_and_a_line_says_why(copied_study):
    before = files_of(copied_study)
    for name, change in (
        ("maps/lle_jaxtl_80.npz", "flip"),
        ("features.npy", "cut"),
        ("points/features_40.json", "delete"),
        ("extraction.json", "cut"),
    ):
        DAMAGES[change](copied_study / name, None)
    said = goes_on(copied_study)
    assert [line for line in said if "features.npy is not what the run wrote" in line]
    assert [line for line in said if "maps/lle_jaxtl_80.npz is not what the run wrote" in line]
    assert [line for line in said if "points/features_40.json is missing" in line]
    after = files_of(copied_study)
    for name in (
        "maps/lle_jaxtl_80.npz",
        "features.npy",
        "points/features_40.json",
        "points/pca_sklearn_40.json",
    ):
        assert after[name] == before[name], name
    assert goes_on(copied_study) == []


@pytest.mark.parametrize("name", ["features.npy", "points/features_80.json", "maps/lle_jaxtl_80.npz"])
@pytest.mark.parametrize("swap", ["pipe", "folder"])
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(copied_study, name, swap):
    SWAPS[swap](copied_study / name)
    # As it stands, where nobody wrote down what it was.
    (copied_study / "manifest.json").unlink()
    with no_longer_than(60), pytest.raises(JaxtlError, match=r"a (named pipe|folder)") as caught:
        goes_on(copied_study)
    assert "\n" not in str(caught.value)
    assert str(copied_study / name) in str(caught.value)


def test_a_measurement_that_was_edited_is_refused_or_accepted(copied_study, jaxtl):
    trial = copied_study / "points" / "pca_sklearn_80.json"
    record = json.loads(trial.read_text())
    trial.write_text(json.dumps({**record, "seconds": [1e-9]}))
    (copied_study / "points" / "pca_sklearn_90.json").write_text(json.dumps({**record, "n": 90}))
    before = stamps(copied_study)
    for command in (["scale", "--out", copied_study], ["scale", "--out", copied_study, "--forecast", 1000]):
        code, _, said = jaxtl(*command)
        assert code == 2
        assert is_one_line(said, copied_study)
        assert "is not what the run wrote; restore it, or delete it" in said
    assert stamps(copied_study) == before
    code, out, _ = jaxtl("check", copied_study)
    assert code == 1
    assert "points/pca_sklearn_90.json: is not recorded" in out
    assert f"Make them again: jaxtl scale --out {copied_study}" in out
    (copied_study / "points" / "pca_sklearn_90.json").unlink()
    assert jaxtl("check", copied_study, "--accept")[0] == 0
    assert jaxtl("scale", "--out", copied_study, "--forecast", 1000)[0] == 0


def test_images_that_changed_are_refused_and_paths_are_absolute(few_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(few_digits.removeprefix("idx:"), "digits")
    grid = study.Grid("40", "pca")
    study.prepare(Path("study"), {"dataset": "idx:digits", "image_size": 32}, grid, LIMITS)
    monkeypatch.chdir("/")
    study.prepare(tmp_path / "study", {"dataset": f"idx:{tmp_path}/digits"}, grid, LIMITS)
    labels = tmp_path / "digits" / "train-labels-idx1-ubyte"
    data = labels.read_bytes()
    labels.write_bytes(data[:8] + data[:7:-1])
    before = stamps(tmp_path / "study")
    with pytest.raises(
        JaxtlError, match=r"holds other images or names than when .* was started; restore them"
    ):
        study.prepare(tmp_path / "study", {}, grid, LIMITS)
    assert stamps(tmp_path / "study") == before


def test_a_study_without_a_manifest_is_taken_as_it_stands(copied_study, jaxtl):
    (copied_study / "manifest.json").unlink()
    assert "has no manifest" in jaxtl("check", copied_study)[2]
    assert jaxtl("scale", "--out", copied_study, "--forecast", 1000)[0] == 0
    before = files_of(copied_study)
    (said,) = goes_on(copied_study)
    assert f"has no manifest; {len(before)} files are taken as they stand" in said
    after = files_of(copied_study)
    assert all(
        after[name] == before[name] for name in before if name.startswith(("points", "maps", "features"))
    )
    assert jaxtl("check", copied_study)[0] == 0


def test_a_study_that_is_killed_as_it_begins_begins_again(few_digits, tmp_path, killed_at):
    grid, given = study.Grid("40", "pca"), {"dataset": few_digits, "image_size": 32}
    for writes in itertools.count():
        folder = tmp_path / str(writes)
        with killed_at(writes) as done:
            study.prepare(folder, given, grid, LIMITS)
        study.prepare(folder, given, grid, LIMITS)
        assert {path.name for path in folder.iterdir()} == {"config.json", "manifest.json"}
        if done:
            break
    assert writes > 2


@pytest.mark.parametrize(
    "command", ["show", "report", "score", "layers", "plot", "run --resume", "compare --resume", "export"]
)
def test_a_study_is_no_run_and_it_is_said_how_it_goes_on(finished_study, jaxtl, command):
    to = ["--to", "csv", "--out", "table.csv"] if command == "export" else []
    told = f"is a scaling study, no run; go on with: jaxtl scale --out {finished_study}"
    code, _, said = jaxtl(*command.split(), finished_study, *to)
    assert code == 2
    assert said == f"jaxtl: {finished_study}: {told}\n"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_file_of_a_study_damaged_in_every_way(finished_study, tmp_path):
    tally, whole = Tally(), files_of(finished_study)
    for name in whole:
        for damage in ("flip", "cut", "empty", "delete"):
            folder = tmp_path / "study"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(finished_study, folder)
            DAMAGES[damage](folder / name, None)
            came = came_of(folder, whole)
            fine = came == "made again" or (came == "refused" and name.startswith(MEASURED))
            tally.note(came if fine else "failed", f"{name} {damage}: {came}")
    tally.close("Damaged files of a study")
