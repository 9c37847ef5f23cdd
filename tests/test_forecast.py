"""What maps will take: power laws, the memory that is left, what fits, and the refusal before any work."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from jaxtl.costs import table as costs
from jaxtl.costs.forecast import SHARED
from jaxtl.costs.power_law import PowerLaw, fit
from jaxtl.costs.table import Cost, Costs
from jaxtl.costs.words import spoken
from jaxtl.errors import JaxtlError
from jaxtl.experiment import embeddings
from jaxtl.machine import memory
from jaxtl.runs.folder import RunFolder
from jaxtl.runs.formats import Started
from jaxtl.scaling import reference, trials
from jaxtl.scaling.trials import Trial
from jaxtl.settings import RunConfig
from tests.run_files import older

GIB = 2**30
# Seconds that whole runs took.
RECORDED = Path(__file__).parent / "references" / "runs.json"


def law(coefficient, exponent, sizes=(1000, 2000, 5000, 10_000)):
    return fit(sizes, [coefficient * n**exponent for n in sizes])


def cost(method, backend, seconds=(1e-3, 1.0), memory_=(1000.0, 1.0), baseline=0):
    return Cost(method, backend, law(*seconds), memory_ and law(*memory_), baseline)


@pytest.fixture
def known():
    return Costs(
        (
            cost("pca", "sklearn", memory_=(20_480, 1.0), baseline=100_000_000),
            cost("pca", "jaxtl", memory_=(1e5, 0.5), baseline=100_000_000),
            cost("pca@500", "sklearn", memory_=None, baseline=100_000_000),
            cost("lle", "jaxtl", memory_=(8.0, 2.0)),
            cost("tsne", "opentsne"),
            cost("tsne@5000", "opentsne", memory_=(10.0, 1.0)),
        ),
        "a machine, 2 cores",
        image_seconds=1e-3,
        training_seconds=2e-4,
    )


def test_memory_is_the_laws_and_the_processs_own(known):
    pca = known.of("pca", "sklearn")
    assert pca.bytes_at(10_000).value == pytest.approx(1e8 + 204.8e6, rel=1e-6)
    assert pca.fits(10_000, 400_000_000)
    assert not pca.fits(10_000, 400_000_000, maps=2)
    # (400 - 100) MB / 20480 bytes = 14,648.
    assert pca.largest(400_000_000) == 14_000
    assert pca.largest(50_000_000) == 0
    # (300e6 / 1e5)^2 = 9e6.
    assert known.of("pca", "jaxtl").largest(400_000_000) in (8_900_000, 9_000_000)
    # Where nothing was measured beside the process's own, it is not known to fit.
    assert known.of("pca@500", "sklearn").fits(1_000_000, 400_000_000) is None
    assert known.of("pca@500", "sklearn").fits(1_000_000, 99_000_000) is False


def test_remedies_are_what_would_fit(known):
    n, available = 1_000_000, 8 * GIB

    def would(method, backend, n=n, available=available):
        return known.remedies(known.of(method, backend), n, available)

    assert would("pca", "sklearn") == ("pca", ("jaxtl",), 410_000, 5000)
    assert would("lle", "jaxtl") == ("lle", (), 32_000, 5000)
    assert would("tsne", "opentsne", 100 * n) == ("tsne", (), 8_500_000, 5000)
    assert would("pca", "sklearn").in_study() == (
        "backend jaxtl, landmarks (pca@5000), at most 410,000 images"
    )
    assert would("pca", "sklearn").in_run() == (
        "--backend jaxtl, or --samples 410000, or no pca in --methods and landmarks afterwards (jaxtl reduce "
        "--method pca --set landmarks=5000)"
    )
    # What does not fit is not advised for itself, and its library not for another method.
    assert would("tsne@5000", "opentsne", 1000 * n) == ("tsne", (), 850_000_000, 0)
    assert would("tsne@5000", "opentsne", 1000 * n).in_study() == "at most 850,000,000 images"
    # Few landmarks where memory is small, and none where nothing fits.
    assert would("lle", "jaxtl", available=8_100_000) == ("lle", (), 1000, 1000)
    assert would("pca", "sklearn", available=1000).in_study() == "a machine with more memory"


def test_a_map_that_does_not_fit_is_refused_with_what_would(known):
    assert costs.check_memory(known, "lle", "jaxtl", 10_000, GIB) is None
    assert costs.check_memory(known, "lle", "unknown", 10**9, GIB) is None
    with pytest.raises(JaxtlError) as caught:
        costs.check_memory(known, "lle", "jaxtl", 60_000, 8 * GIB)
    assert str(caught.value) == (
        "lle by jaxtl: a map of 60,000 images would take 26.8 GiB of memory, 8 GiB are available; what would "
        "fit: --samples 32000, or no lle in --methods and landmarks afterwards (jaxtl reduce --method lle "
        "--set landmarks=5000)"
    )
    # What a run cannot change any more is no remedy.
    with pytest.raises(JaxtlError) as caught:
        costs.check_memory(known, "pca", "sklearn", 1_000_000, 8 * GIB, resumed=True)
    assert str(caught.value).partition("what would fit: ")[2] == (
        "--backend jaxtl, or more memory (end other programs), or a new run with --out and --samples 410000"
    )
    with pytest.raises(JaxtlError, match="2 maps at a time of 25,000 images would take 9"):
        costs.check_memory(known, "lle", "jaxtl", 25_000, 8 * GIB, maps=2)


def test_a_doubt_beyond_what_was_measured_is_told():
    noisy = fit([1000, 2000, 5000, 10_000], [1e6, 2.4e6, 4.6e6, 11e6])
    known = Costs((Cost("lle", "jaxtl", law(1, 1), noisy, 0),), "m")
    needed = noisy.at(100_000).value
    assert "may need more" in costs.check_memory(known, "lle", "jaxtl", 100_000, int(1.2 * needed))
    assert costs.check_memory(known, "lle", "jaxtl", 100_000, int(3 * needed)) is None
    assert costs.check_memory(known, "lle", "jaxtl", 9000, int(1.2 * noisy.at(9000).value)) is None


def test_the_networks_time_goes_with_images_and_their_area(known):
    assert costs.network_seconds(known, 100, 1000, 96, "10") == pytest.approx((0.4, 0.8))
    assert costs.network_seconds(known, 100, 1000, 48, "all") == (pytest.approx(0.1), None)
    text = spoken([("features", 20.04), ("fine-tuning", None), ("LLE", 0.123), ("t-SNE", 7200.0)])
    assert text == "features 20 s, LLE 0.12 s, t-SNE 2.0 h"


def test_the_reference_is_whole():
    known = costs.reference()
    assert known.machine
    for cost in known.maps:
        assert cost.seconds.exponent > 0, (cost.method, cost.backend)
        assert cost.seconds.at(10_000).value > cost.seconds.at(2000).value
    for method, backend in (("pca", "sklearn"), ("tsne", "opentsne"), ("lle", "jaxtl")):
        cost = known.of(method, backend)
        assert 0 < cost.seconds.at(2000).value < 1000
        assert GIB / 100 < cost.bytes_at(2000).value < 4 * GIB
    assert known.image_seconds > 0
    assert known.training_seconds > 0
    usual = RunConfig()
    taken = costs.network_seconds(known, 70_000, usual.epochs * 60_000, usual.image_size, usual.trainable)
    assert sum(taken) < 400


def test_small_embeddings_that_a_library_computes_another_way_have_their_own_law():
    small = cost("lle", "jaxtl", seconds=(1e-6, 2.0), memory_=(1e4, 1.0), baseline=100)
    both = replace(cost("lle", "jaxtl", seconds=(1e-9, 2.0), memory_=(1.0, 2.0), baseline=100), smaller=small)
    known = Costs((both,), "m")
    assert both.seconds_at(10_000).value == pytest.approx(100)
    assert both.seconds_at(20_000).value == pytest.approx(0.4)
    assert both.bytes_at(5000).value == pytest.approx(100 + 5e7)
    assert both.bytes_at(30_000).value == pytest.approx(100 + 9e8)
    # (4e8)^0.5 = 20,000; 5e7 / 1e4 = 5,000; where the larger law begins, small ones fit.
    assert both.largest(int(4.001e8) + 100) == 20_000
    assert both.largest(int(5.001e7) + 100) == 5000
    with pytest.raises(JaxtlError, match="--samples 5000"):
        costs.check_memory(known, "lle", "jaxtl", 12_000, int(5.001e7) + 100)


def test_forecasts_of_lle_are_those_of_its_two_ways():
    """As measured: up to 10,000 in the study, beyond as docs/lle.md has it; SuperLU took 33 s at 20,000."""
    lle = costs.reference().of("lle", "jaxtl")
    for n, seconds, mebibytes in (
        (2000, 0.25, 119),
        (10_000, 5.6, 330),
        (20_000, 14, 470),
        (40_000, 51, 1070),
    ):
        assert seconds / 2 < lle.seconds_at(n).value < 2 * seconds
        assert mebibytes / 2 < lle.bytes_at(n).value / 2**20 < 2 * mebibytes


@pytest.fixture
def study(tmp_path):
    """A folder with the trials of a study that was never computed: LLE that takes 8 n^2 bytes."""
    from jaxtl.scaling import plan
    from jaxtl.scaling.settings import Settings

    folder = tmp_path / "study"
    plan.write_config(folder, Settings(), "digest", {"sizes": "1000", "methods": "lle", "backends": "auto"})
    for n in (1000, 2000, 4000):
        trials.save(
            folder / "points",
            Trial(
                "lle",
                "jaxtl",
                n,
                "done",
                seconds=(1e-6 * n**2,),
                baseline=GIB,
                peak=GIB + 8 * n**2,
                machine={"cpu": "A CPU", "cores": 4},
            ),
        )
    (folder / "extraction.json").write_text(json.dumps({"images": 100, "seconds": 4.0, "image_size": 96}))
    return folder


def test_a_study_becomes_a_table_by_one_command(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reference, "training_seconds", lambda run: 5e-4)
    reference.main([str(study), str(tmp_path), str(tmp_path / "reference.json")])
    assert "lle by jaxtl: 16 s at 4,000" in capsys.readouterr().out
    table = costs.read(tmp_path / "reference.json")
    assert table.machine == "A CPU, 4 cores"
    assert isinstance(table.maps[0].seconds, PowerLaw)
    assert table.maps[0].seconds.exponent == pytest.approx(2)
    assert table.maps[0].bytes_at(10_000).value == pytest.approx(GIB + 8e8)
    assert (table.image_seconds, table.training_seconds) == (pytest.approx(0.01), 5e-4)


def test_a_studys_curve_has_two_laws_where_there_are_two_ways(study):
    first = trials.load(study / "points" / "lle_jaxtl_1000.json")
    for n in (12_000, 20_000, 40_000):
        trials.save(study / "points", replace(first, n=n, seconds=(1e-8 * n**2,), peak=GIB + 2 * n**2))
    lle = reference.costs_of(study).maps[0]
    assert (lle.seconds.smallest, lle.smaller.seconds.largest) == (12_000, 4000)
    assert lle.seconds_at(4000).value == pytest.approx(16)
    assert lle.seconds_at(40_000).value == pytest.approx(16)
    assert lle.bytes_at(40_000).value == pytest.approx(GIB + 3.2e9)


def test_a_study_where_more_images_took_less_time_becomes_no_table(study, tmp_path):
    for n in (1000, 2000, 4000):
        trial = trials.load(study / "points" / f"lle_jaxtl_{n}.json")
        trials.save(study / "points", replace(trial, seconds=(1000 / n,)))
    with pytest.raises(SystemExit) as caught:
        reference.main([str(study), str(tmp_path), str(tmp_path / "reference.json")])
    assert str(caught.value) == (
        "lle by jaxtl: seconds go with n^-1.00, less for more images: measured on a busy machine? measure "
        "again"
    )
    assert not (tmp_path / "reference.json").exists()


def test_a_study_of_two_machines_becomes_no_table(study):
    trial = trials.load(study / "points" / "lle_jaxtl_4000.json")
    trials.save(study / "points", replace(trial, machine={"cpu": "A CPU", "cores": 8}))
    with pytest.raises(
        JaxtlError, match=r"of more than one machine \(cores 4 and 8\), which a forecast cannot"
    ):
        reference.costs_of(study)


def test_training_is_timed_by_a_run(tmp_path):
    (tmp_path / "timings.json").write_text(json.dumps({"finetune": 10.0}))
    run = RunFolder(tmp_path)
    run.started.write(Started(RunConfig(trainable="2"), "digest"))
    with pytest.raises(JaxtlError, match="must be a finished run of 48x48 images and the last 10 layers"):
        reference.training_seconds(tmp_path)
    run.started.write(Started(RunConfig(train_samples=500), "digest"))
    row = {"loss": 1.0, "accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.5}
    run.history.write([{"epoch": 1, **row}, {"epoch": 2, **row}])
    assert reference.training_seconds(tmp_path) == pytest.approx(0.01)


def test_forecast_by_a_study(jaxtl, study, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 9 * GIB)
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = jaxtl("scale", "--out", study, "--forecast", 100_000)
    assert (code, err) == (0, "")
    row = next(line for line in out.splitlines() if "LLE" in line)
    assert "2.8 h" in row
    assert "75.5 GiB" in row
    assert "does not fit; would: landmarks (lle@5000), at most 32,000 images" in row
    assert f"By the study in {study} on A CPU, 4 cores" in out
    assert "100,000 is 25 times the largest size measured for every method, 4,000" in out
    assert "fits" in jaxtl("scale", "--out", study, "--forecast", 3000)[1]


def test_forecast_heeds_methods_backends_and_memory_and_refuses_the_rest(jaxtl, study, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for n in (1000, 2000, 4000):
        flat = Trial(
            "pca",
            "jaxtl",
            n,
            "done",
            seconds=(1e-6 * n,),
            baseline=GIB,
            peak=GIB,
            machine={"cpu": "A CPU", "cores": 4},
        )
        trials.save(study / "points", flat)
    forecast = ["scale", "--out", study, "--forecast", 100_000]
    both = jaxtl(*forecast, "--memory-limit", 200)[1]
    assert "200 GiB of memory are available" in both
    assert [line.count("unknown") for line in both.splitlines() if "PCA" in line] == [2]
    assert " fits " in next(line for line in both.splitlines() if "LLE" in line)
    for only in (["--methods", "lle"], ["--methods", "lle,tsne", "--backends", "auto"]):
        code, out, _ = jaxtl(*forecast, *only)
        assert ("LLE" in out, "PCA" in out) == (True, False)
    for given, said in (
        (["--backends", "sklearn"], "no such curve has been measured; there are lle by jaxtl, pca by jaxtl"),
        (["--methods", "umap"], "unknown method 'umap'"),
        (["--sizes", "500"], "--sizes: has no effect with --forecast"),
        (["--dataset", "mnist"], "--dataset: has no effect with --forecast"),
        (["--perplexity", "5"], "--perplexity: has no effect with --forecast"),
        (["--time-limit", "5"], "--time-limit: has no effect with --forecast"),
    ):
        code, out, err = jaxtl(*forecast, *given)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert said in err


def test_forecast_without_a_study_says_whose_curves_it_takes(jaxtl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = jaxtl("scale", "--forecast", 5000)
    assert code == 0
    assert f"By curves measured on another machine, {costs.reference().machine}" in out
    assert list(tmp_path.iterdir()) == []


def test_forecast_of_what_is_no_study_is_refused(jaxtl, tmp_path, study):
    run = tmp_path / "run"
    RunFolder(run).started.write(Started(RunConfig(), "digest"))
    for folder, said in ((tmp_path, "no scaling study"), (run, "no scaling study but something else's")):
        code, _, err = jaxtl("scale", "--out", folder, "--forecast", 5000)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err
    for path in (study / "points").glob("lle_jaxtl_1000.json"):
        path.unlink()
    code, _, err = jaxtl("scale", "--out", study, "--forecast", 5000)
    assert (code, err.count("\n")) == (2, 1)
    assert "no method has been measured at three sizes" in err


def test_a_run_that_would_not_fit_is_refused_before_any_work(jaxtl, few_digits, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "available_memory", lambda: 1000)
    run = ["run", "--dataset", few_digits, "--samples", "all", "--methods", "pca"]
    code, out, err = jaxtl(*run, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert err.startswith("jaxtl: pca by sklearn: a map of 60 images would take ")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_maps_that_are_there_are_not_counted():
    known = Costs((cost("lle", "jaxtl"), cost("tsne", "opentsne")), "m")
    maps = embeddings.Embedder(("lle", "tsne"), embeddings.EmbeddingOptions(), 2000)
    assert maps.expected({"lle": 1}, known) == [("LLE", pytest.approx(2))]
    assert maps.expected({"lle": 2, "tsne": 1}, known) == [
        ("LLE", pytest.approx(4)),
        ("t-SNE", pytest.approx(2)),
    ]


def test_a_run_that_goes_on_is_refused_with_what_it_can_change(jaxtl, few_digits, tmp_path, monkeypatch):
    from jaxtl.experiment import opening

    folder = tmp_path / "run"
    settings = RunConfig(dataset=few_digits, samples=None, methods=("pca",), n_neighbors=5)
    opening.start(settings, folder)
    monkeypatch.setattr(embeddings, "available_memory", lambda: 1000)
    code, _, err = jaxtl("run", "--resume", folder)
    assert (code, err.count("\n")) == (2, 1)
    assert "more memory (end other programs)" in err
    assert "--methods" not in err


def test_a_run_says_what_it_will_take(config, tmp_path):
    from jaxtl.experiment import opening

    work = opening.start(config, tmp_path / "run")
    text = work.forecast().line()
    # Training is known for the last ten layers alone.
    assert re.match(r"Expect at least \d+ s \(fine-tuning is unknown\) in all: compilation ", text)
    assert text.endswith(f"(as on {costs.reference().machine})")
    for name in ("features", "neighbours", "PCA", "t-SNE", "LLE", "scores", "figures and page"):
        assert f"{name} " in text
    assert "depth profile" not in text  # of a run with --no-layers
    # What is done is not told of; files that are put there count in runs without a manifest alone.
    older(tmp_path / "run")
    for output in (
        "history.csv",
        "model.safetensors",
        "embeddings/before_lle.npz",
        "embeddings/after_lle.npz",
    ):
        (tmp_path / "run" / output).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / output).touch()
    left = work.forecast()
    assert not {"LLE", "features", "fine-tuning", "compilation"} & set(dict(left.parts))
    assert left.seconds == pytest.approx(sum(dict(left.parts).values()))


def test_a_run_without_depth_profile_or_fewer_epochs_takes_less():
    whole = planned(RunConfig())
    assert {"compilation", "depth profile", "scores"} <= set(dict(whole.parts))
    assert planned(RunConfig(layers=False)).seconds < whole.seconds
    shorter = dict(planned(RunConfig(epochs=1)).parts)
    assert shorter["fine-tuning"] == pytest.approx(dict(whole.parts)["fine-tuning"] / 5)
    five = whole.times(5, SHARED)
    assert whole.seconds < five.seconds < 5 * whole.seconds
    assert dict(five.parts)["features"] == dict(whole.parts)["features"]


def planned(config):
    from jaxtl.experiment import opening

    return opening.planned(config, Path("nowhere")).forecast()


@pytest.mark.parametrize("recorded", json.loads(RECORDED.read_text())["runs"], ids=lambda run: run["of"])
def test_forecasts_are_within_a_factor_of_two_of_recorded_runs(recorded):
    """Of whole runs on the machine of the reference costs, when it had nothing else to do."""
    expected = planned(RunConfig(**recorded["settings"])).seconds
    assert recorded["seconds"] / 2 < expected < 2 * recorded["seconds"]


def test_a_forecast_of_a_run_writes_nothing(jaxtl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = jaxtl("run", "--forecast")
    assert code == 0
    assert re.search(r"^t-SNE +\d[\d.]* s$", out, re.MULTILINE)
    assert re.search(r"^In all: about \d[\d.]* min, as on AMD EPYC", out, re.MULTILINE)
    code, out, _ = jaxtl("run", "--forecast", "--json", "--seeds", 3)
    taken = json.loads(out)
    assert taken["seconds"] == pytest.approx(sum(taken["parts"].values()))
    code, _, err = jaxtl("run", "--forecast", "--perplexity", "nan")
    assert (code, "--perplexity': 'nan' is not a number" in err) == (2, True)
    assert jaxtl("run", "--forecast", "--resume", "run")[0] == 2
    assert not list(tmp_path.iterdir())
