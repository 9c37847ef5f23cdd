"""Locally linear embedding against scikit-learn's: time, peak memory, and whether the results agree.

Each embedding is computed in a process of its own, ours and theirs in turn, so that a peak of memory is of
one alone and whatever else the machine does falls on both.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np

from benchmarks import machine
from benchmarks.tables import paired_ratio, spread
from benchmarks.workers import Deadline, run_process
from jaxtl.errors import JaxtlError
from jaxtl.files import check_writable, write_json, write_text

VARIANTS = ("standard", "modified")
N_NEIGHBORS = 12
LARGEST = 70_000
_PEERS = ("jaxtl", "sklearn")


@dataclass(frozen=True)
class Sizes:
    """Points, and rounds in which each peer has its turn once."""

    points: tuple[int, ...] = (2000, 10_000)
    rounds: int = 3


def run(out: Path, sizes: Sizes, variants: tuple[str, ...], limit: float) -> list[Path]:
    """Measure; returns the two files, which are written after every size.

    Raises:
        JaxtlError: an unknown variant, a size out of range, a folder that cannot be written, or `limit`
            seconds that are over.
    """
    unknown = [name for name in variants if name not in VARIANTS]
    if unknown or not variants:
        raise JaxtlError(f"--variants: got {', '.join(unknown) or 'nothing'}; they are {', '.join(VARIANTS)}")
    if not all(N_NEIGHBORS < n <= LARGEST for n in sizes.points):
        raise JaxtlError(f"--sizes: must be {N_NEIGHBORS + 1} to {LARGEST} points, MNIST's two splits")
    paths = [out / "lle.json", out / "lle.md"]
    for path in paths:
        check_writable(path)
    deadline = Deadline(limit)
    record = _header()
    with tempfile.TemporaryDirectory(prefix="jaxtl-benchmark-") as folder:
        features = Path(folder) / "features.npy"
        _say(deadline, f"features of {max(sizes.points):,} images")
        run_process([*_this("features"), str(features), str(max(sizes.points))], Path(folder), deadline)
        for n in sizes.points:
            for variant in variants:
                case = _case(features, n, variant, sizes.rounds, deadline)
                record["cases"].append(case)
                record["load_average_after"] = machine.load_average()
                write_json(paths[0], record)
                write_text(paths[1], render(record))
    return paths


def _header() -> dict[str, Any]:
    from jaxtl.runtime import environment

    return {
        "benchmark": "lle",
        "date": machine.now(),
        "git": machine.revision(),
        "machine": environment(),
        "threads": machine.thread_settings(),
        "load_average_before": machine.load_average(),
        "n_neighbors": N_NEIGHBORS,
        "cases": [],
    }


def _case(features: Path, n: int, variant: str, rounds: int, deadline: Deadline) -> dict[str, Any]:
    record: dict[str, Any] = {"points": n, "variant": variant, **{peer: [] for peer in _PEERS}}
    embeddings = {}
    for number in range(rounds):
        for peer in _PEERS:
            folder = Path(tempfile.mkdtemp(dir=features.parent))
            command = [*_this(peer), str(features), str(n), variant]
            done = run_process(command, folder, deadline)
            result = json.loads((folder / "result.json").read_text())
            embeddings[peer] = np.load(folder / "embedding.npy")
            record[peer].append({**result, "process_seconds": done.seconds, "peak_bytes": done.peak_bytes})
            _say(deadline, f"{variant}, {n:,} points, round {number + 1}: {peer} {result['seconds']:.2f} s")
    return record | _agreement(record, embeddings)


def _agreement(record: dict[str, Any], embeddings: dict[str, np.ndarray]) -> dict[str, float]:
    from scipy.linalg import subspace_angles

    ours, theirs = (record[peer][-1]["reconstruction_error"] for peer in _PEERS)
    angles = subspace_angles(*(embeddings[peer].astype(np.float64) for peer in _PEERS))
    return {
        "error_difference": abs(ours / theirs - 1),
        "least_cosine": float(np.cos(angles).min()),
    }


def render(record: dict[str, Any]) -> str:
    """Markdown of what `run` recorded."""
    host, git = record["machine"], record["git"]
    revision = (git["revision"] or "unknown")[:12] + (" with changes" if git["modified"] else "")
    lines = [
        "# Locally linear embedding: jaxtl against scikit-learn",
        "",
        f"{record['date']}, jaxtl {host['jaxtl']} ({revision}), {host['cpu']}, {host['cores']} cores; "
        f"scikit-learn {host['versions']['scikit-learn']}, SciPy {host['versions']['scipy']}. MobileNetV2's "
        f"features of MNIST (1280-d, ImageNet weights), n_neighbors {record['n_neighbors']}, all cores; "
        "every embedding in a process of its own, in turn. Load average "
        f"{record['load_average_before']} before and {record['load_average_after']} after. Seconds are "
        "medians (least..most) of fit_transform alone.",
        "",
        "| points | variant | jaxtl, s | scikit-learn, s | ratio (paired) | peak, GiB: jaxtl / scikit-learn "
        "| reconstruction error differs by | least cosine of subspaces |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in record["cases"]:
        ours, theirs = ([each["seconds"] for each in case[peer]] for peer in _PEERS)
        peaks = [median(each["peak_bytes"] for each in case[peer]) / 2**30 for peer in _PEERS]
        lines.append(
            f"| {case['points']:,} | {case['variant']} | {spread(ours)} | {spread(theirs)} | "
            f"{paired_ratio(ours, theirs):.2f} | {peaks[0]:.2f} / {peaks[1]:.2f} | "
            f"{case['error_difference']:.0e} | {case['least_cosine']:.10f} |"
        )
    return "\n".join(lines) + "\n"


def _say(deadline: Deadline, text: str) -> None:
    click.echo(f"[{deadline.elapsed:7.1f} s] {text}", err=True)


def _this(what: str) -> list[str]:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from benchmarks import lle; lle.work(*sys.argv[2:])"
    return [sys.executable, "-c", code, str(machine.ROOT), what]


def work(what: str, features: str, count: str, variant: str = "") -> None:
    """What a process does: the features, or one embedding, into the current folder."""
    if what == "features":
        np.save(features, _features(int(count)))
        return
    import time

    values = np.load(features)[: int(count)]
    model = _model(what, variant)
    _warm_up(what, variant)
    began = time.perf_counter()
    embedding = model.fit_transform(values)
    seconds = time.perf_counter() - began
    np.save("embedding.npy", embedding)
    result = {"seconds": seconds, "reconstruction_error": float(model.reconstruction_error_)}
    for name in ("eigen_residual_", "n_iter_", "solver_", "engine_"):
        if hasattr(model, name):
            result[name.rstrip("_")] = getattr(model, name)
    Path("result.json").write_text(json.dumps(result))


def _features(count: int) -> np.ndarray:
    from jaxtl.data import load
    from jaxtl.extraction import extract
    from jaxtl.models.weights import load_model

    model, parts = load_model(), []
    for split in ("test", "train"):
        data = load("mnist", split)
        if (left := count - sum(map(len, parts))) > 0:
            parts.append(extract(model, data.take(min(left, len(data)))).values)
    return np.concatenate(parts)


def _model(peer: str, variant: str) -> Any:
    if peer == "jaxtl":
        from jaxtl import LocallyLinearEmbedding

        return LocallyLinearEmbedding(n_neighbors=N_NEIGHBORS, method=variant, random_state=0)
    from sklearn.manifold import LocallyLinearEmbedding

    return LocallyLinearEmbedding(
        n_neighbors=N_NEIGHBORS, method=variant, random_state=0, n_jobs=-1, neighbors_algorithm="brute"
    )


def _warm_up(peer: str, variant: str) -> None:
    # What is imported or started at the first use is not the method's time.
    _model(peer, variant).fit(np.random.default_rng(0).standard_normal((400, 50)))
