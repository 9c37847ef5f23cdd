"""More ways in: what a stopped run keeps, stores of many files, sweeps, and what carries its own digest.

A record with a digest is signed again after it was changed, as whoever means harm would.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

import jaxtl
from jaxtl.errors import JaxtlError
from jaxtl.records.documents import digest_of, parsed
from jaxtl.records.files import write_json
from tests.faults.outcomes import command
from tests.faults.strangers import CLASSES, WHOLE, Way, embedding, idx, link, meta, read_images, shown_whole

SCORES = [("before", "pca", "trustworthiness", 0.5), ("after", "pca", "trustworthiness", 0.75)]


def _shards(folder: Path) -> None:
    from jaxtl.records import shards

    d, n = 2**12, 20
    store = folder / "f.shards"
    plan = shards.begin(store, shards.planned(n, d, 4, meta()), first=True)
    values = np.random.default_rng(0).normal(size=(n, d)).astype(np.float32)
    for number in range(plan.count):
        start, stop = plan.bounds(number)
        shards.write(store, plan, number, iter([values[start:stop]]))
    rows = {"labels": np.arange(n, dtype=np.int32) % 4, "index": np.arange(n, dtype=np.int32)}
    shards.complete(store, plan, {**rows, "ids": np.array([f"{k}.png" for k in range(n)])})


def _read_shards(folder: Path) -> object:
    from jaxtl.records import shards

    return shown_whole(shards.load(folder / "f.shards"))


def _zipped(folder: Path) -> None:
    idx(folder)
    for path in sorted(folder.glob("*ubyte")):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()


def _kept(folder: Path) -> None:
    """What a run keeps until it is finished."""
    from jaxtl.evaluation.measures import StageMeasures
    from jaxtl.network.training import Checkpoint
    from jaxtl.records.tables import CLASS_COLUMNS, HISTORY_COLUMNS, LayerRow, Score, save_layers
    from jaxtl.runs.folder import RunFolder
    from jaxtl.runs.formats import Averages

    run, rng = RunFolder(folder), np.random.default_rng(0)
    history = [dict(zip(HISTORY_COLUMNS, (k, 0.5, 0.5, 0.5, 0.5), strict=True)) for k in (1, 2)]
    leaves = [rng.normal(size=(3, 4)).astype(np.float32), np.array(7, np.int32)]
    run.checkpoint.write(Checkpoint(leaves, history))
    labels = np.arange(20, dtype=np.int32) % 4
    for file in run.averages.values():
        file.write(Averages(labels, {"block_1": rng.normal(size=(20, 5)).astype(np.float32)}))
    rows = [LayerRow("before", layer, "knn", 0.5, 0.4, 0.6) for layer in ("block_1", "block_2")]
    save_layers(run.layers_before.path, rows)
    cells = (("before", "pca", "hit", name, 0.5, 0.4, 0.6) for name in CLASSES)
    of_class = [dict(zip(CLASS_COLUMNS, row, strict=True)) for row in cells]
    part = StageMeasures(
        [Score(*score, 0.1, 0.9) for score in SCORES],
        of_class,
        {"knn_before": labels},
        {"pca": labels > 1},
        {"pca": np.ones((2, 3, 4), np.int64)},
        ["one is left out"],
    )
    for file in (*run.stage_scores.values(), run.change_scores):
        file.write(part)
    run.reseeded.write(embedding())


def _read_run(folder: Path) -> object:
    from jaxtl.runs.folder import RunFolder

    return [file.read_or(None) for file in RunFolder(folder).files]


# Of several runs.


def _several(folder: Path) -> None:
    from jaxtl.records.tables import Score, save_scores

    write_json(folder / "seeds.json", {"seeds": [0, 1, 2]})
    save_scores(folder / "scores.csv", [Score(*score, 0.1, 0.9) for score in SCORES])
    claim = dict.fromkeys(("id", "text", "statistic", "direction", "verdict", "words"), "x")
    numbers = {"value": 0.5, "threshold": 0.25, "low": None, "high": 1.0, "values": [0.5, 1.0], "held_in": 2}
    write_json(folder / "claims.json", {"claims": [{**claim, **numbers}]})


def _read_several(folder: Path) -> object:
    from jaxtl.runs.folder import SeedsFolder

    return [file.read_or(None) for file in SeedsFolder(folder).files]


def _sweep(folder: Path) -> None:
    from jaxtl.metrics.estimates import Estimate
    from jaxtl.runs.formats import Predictions, save_predictions
    from jaxtl.sweeps.rows import SweepRow
    from jaxtl.sweeps.settings import Asked, Grid

    asked = Asked(jaxtl.RunConfig(dataset="mnist"), Grid(("none", "2"), (32, 48)), 2)
    write_json(folder / "sweep.json", asked.as_record())
    names = [one.name for one in asked.grid.combinations]
    known = ("test_accuracy", "probe_before", "probe_after", "knn_before", "knn_after")
    numbers = dict.fromkeys(known, Estimate(0.5, 0.4, 0.6))
    done = SweepRow(names[0], "none", 32, None, "done", "", 2, 9, **numbers, seconds=2.0, peak_memory_gib=0.5)
    better = dataclasses.replace(done, name=names[1], behind=Estimate(0.1, -0.1, 0.2), multiply_adds=3)
    rows = [done, better, *(SweepRow(name, "2", 48, None) for name in names[2:])]
    record = {"rows": [row.as_record() for row in rows], "words": ["a line"], "test_images": 60}
    write_json(folder / "combinations.json", record)
    save_predictions(folder / "p.npz", Predictions(np.arange(9) % 3, np.zeros((2, 9), np.int32)))


def _read_sweep(folder: Path) -> object:
    from jaxtl.runs.folder import SweepFolder
    from jaxtl.runs.formats import load_predictions
    from jaxtl.sweeps.result import read_sweep
    from jaxtl.sweeps.settings import Asked

    sign(folder / "sweep.json")
    found, named = read_sweep(folder), load_predictions(folder / "p.npz")
    try:
        asked = Asked.of_record(SweepFolder(folder).asked.read())
    except (TypeError, KeyError) as error:  # which who goes on with a sweep expects
        raise JaxtlError(str(error)) from None
    return shown_whole(found), repr(asked), named, command("show", folder), command("show", folder, "--json")


def sign(path: Path) -> None:
    """Give a record the digest that it has with what it says now; what is no record stays as it is."""
    if not path.is_file():  # a device has no end
        return
    try:
        record = parsed(path.read_bytes())
        record.pop("digest", None)
        write_json(path, {**record, "digest": digest_of(record)})
    except (ValueError, RecursionError):
        pass


def signed_ways(run: Path) -> tuple[Way, ...]:
    """Records of a finished run that carry a digest."""

    def make(name: str) -> Callable[[Path], None]:
        def made(folder: Path) -> None:
            link(run, folder)
            record = json.loads((run / name).read_text())
            del record["digest"]
            (folder / name).unlink(missing_ok=True)
            # Under another name, since what is called a manifest is left out where files are linked.
            (folder / f"signed-{name}").write_text(json.dumps(record))

        return made

    def read(name: str, look: Callable[[Path], object]) -> Callable[[Path], object]:
        def taken(folder: Path) -> object:
            (folder / f"signed-{name}").rename(folder / name)
            sign(folder / name)
            return look(folder)

        return taken

    def started(folder: Path) -> object:
        from jaxtl.runs.folder import RunFolder

        return repr(RunFolder(folder).started.read())

    def looked(folder: Path) -> object:
        from jaxtl.runs import check

        return check.look(folder)

    return (
        Way("settings", make("config.json"), read("config.json", started), ("signed-config.json",)),
        Way("manifest", make(*WHOLE), read(*WHOLE, looked), ("signed-manifest.json",)),
    )


KEPT = (
    Way("shards", _shards, _read_shards),
    Way("idx.gz", _zipped, read_images(lambda f: f"idx:{f}")),
    Way("kept", _kept, _read_run),
    Way("seeds", _several, _read_several),
    Way("sweep", _sweep, _read_sweep),
)
