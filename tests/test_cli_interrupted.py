"""Full disks and Ctrl-C on the command line: one line, how to go on, nothing lost."""

import errno
import os
import shutil
import signal
import time

import pytest

from tests.command_lines import REDUCE, SMALL, words


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_done_and_says_how_to_go_on(launch, few_digits, tmp_path):
    """The system itself refuses files over 4 MB, such as the model."""
    folder = tmp_path / "a run"
    command = words("run --samples all --trainable none --epochs 1 --methods pca")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))"
    process = launch(*command, *SMALL, "--dataset", few_digits, "--out", folder, first=limit)
    _, err = process.communicate()
    assert process.returncode == 2, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == (
        f"jaxtl: {folder}/model.safetensors: File too large; raise the limit on file sizes; "
        f"go on with: jaxtl run --resume '{folder}'"
    )
    kept = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    done = {
        "config.json",
        "manifest.json",
        "log.txt",
        "timings.json",
        "history.csv",
        "features/before.npz",
        "features/train_before.npz",
    }
    # And what was made at the same time.
    beside = {
        "dataset.json",
        "environment.json",
        "neighbors/before.npz",
        "embeddings/before_pca.npz",
        "scores_features_before.npz",
        "scores_embeddings_before.npz",
        "averages_before.npz",
        "layers_before.csv",
    }
    assert done <= kept <= done | beside


@pytest.mark.parametrize("verb", ["extract", "reduce", "plot"])
def test_a_full_disk_spares_the_file_that_was_there(
    jaxtl, monkeypatch, few_digits, files, finished, tmp_path, verb
):
    out = tmp_path / ("out.png" if verb == "plot" else "out.npz")
    out.write_text("from before")

    def fsync(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    command = {
        "extract": ["--dataset", few_digits, *SMALL],
        "reduce": [files / "good.npz", "--method", "pca"],
        "plot": [finished / "embeddings" / "after_pca.npz"],
    }[verb]
    code, _, err = jaxtl(verb, *command, "--out", out)
    assert code == 2
    assert err.splitlines()[-1] == f"jaxtl: {out}: No space left on device; free some space"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["from before"]


@pytest.mark.slow
def test_ctrl_c_tells_how_to_go_on(launch, few_digits, tmp_path):
    folder = tmp_path / "run"
    process = launch(
        "run",
        "--dataset",
        few_digits,
        "--samples",
        60,
        *SMALL,
        "--trainable",
        "none",
        "--epochs",
        100_000,
        "--methods",
        "pca",
        "--out",
        folder,
    )
    while process.poll() is None and not (folder / "checkpoint.npz").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)  # a lost signal is a failure, not a test that never ends
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == f"jaxtl: interrupted; go on with: jaxtl run --resume {folder}"
    assert (folder / "log.txt").read_text().splitlines()[-1].endswith("WARNING Work: interrupted")
    kept = {path.name for path in folder.iterdir()}
    there = {"checkpoint.npz", "config.json", "features", "log.txt", "manifest.json", "timings.json"}
    assert kept >= there
    # What follows from before alone may be there; nothing else, and nothing half.
    assert kept <= {
        "checkpoint.npz",
        "config.json",
        "dataset.json",
        "environment.json",
        "features",
        "log.txt",
        "manifest.json",
        ".jaxtl-lock",  # of a process that is no more
        "timings.json",
        "neighbors",
        "embeddings",
        "scores_features_before.npz",
        "scores_embeddings_before.npz",
        "averages_before.npz",
        "layers_before.csv",
    }


@pytest.mark.slow
def test_ctrl_c_in_a_stage_and_then_to_the_end(jaxtl, monkeypatch, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "run")
    (folder / "scores.csv").unlink()

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jaxtl.experiment.scores.combine", interrupted)
        code, _, err = jaxtl("run", "--resume", folder)
    assert code == 130
    assert err.splitlines()[-1] == f"jaxtl: interrupted; go on with: jaxtl run --resume {folder}"
    assert jaxtl("run", "--resume", folder)[0] == 0
    assert (folder / "scores.csv").read_bytes() == (finished / "scores.csv").read_bytes()


def test_ctrl_c_elsewhere_is_quiet_too(jaxtl, monkeypatch, files, tmp_path):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxtl.reduction.reduce", interrupted)
    code, _, err = jaxtl(*words(REDUCE, files=files, new=tmp_path / "new"))
    assert (code, err.strip()) == (130, "jaxtl: interrupted")
