"""What a benchmark recorded, as Markdown: medians with their ranges, ratios, and quality beside each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

Record = dict[str, Any]
_GIB = 2**30
_SPACES = {"features": "features", "pca": "PCA", "tsne": "t-SNE", "lle": "LLE"}
_PEERS = {"jaxtl": "jaxtl", "keras": "Keras"}


def render(record: Record) -> str:
    """Markdown of the cases that a record holds."""
    lines = [*_heading(record)]
    for name, section in _SECTIONS.items():
        if name in record:
            lines += ["", *section(record)]
    return "\n".join(lines) + "\n"


def spread(samples: Sequence[float], places: int = 2) -> str:
    """`median (min..max)`, or the one sample."""
    if len(samples) == 1:
        return f"{samples[0]:,.{places}f}"
    return f"{median(samples):,.{places}f} ({min(samples):,.{places}f}..{max(samples):,.{places}f})"


def paired_ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Median of the ratios of samples that were taken side by side."""
    return median(a / b for a, b in zip(slower, faster, strict=True))


def _heading(record: Record) -> list[str]:
    machine, versions, git = record["machine"], record["versions"], record["git"]
    revision = (git["revision"] or "unknown")[:12] + (" with changes" if git["modified"] else "")
    names = ("jax", "keras", "tensorflow", "tensorflow-cpu", "scikit-learn", "openTSNE", "numpy")
    threads = ", ".join(f"{name}={value}" for name, value in record["threads"].items())
    lines = [
        "# The founding experiment: jaxtl against Keras",
        "",
        f"{record['date']}, jaxtl {machine['jaxtl']} ({revision}), {machine['cpu']}, {machine['cores']} "
        f"cores, {machine['memory_gib']} GiB; Python {machine['python']}, "
        + ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
        + f". Threads: {threads or 'all cores, the default of each library'}. Load average "
        f"{record['load_average_before']} before and {record['load_average_after']} after. "
        f"All in one run of {record['minutes']} minutes on the CPU, the peers in turn.",
    ]
    if record["sizes"]["quick"]:
        lines += ["", "**A quick run at small sizes: it shows that the benchmark works, not who is faster.**"]
    return lines


def _forward(record: Record) -> list[str]:
    case, flops = record["forward"], record["flops_per_image"]["forward"]
    n, ours, peak = case["images"], case["seconds"]["jaxtl"], median(case["sgemm"]["jax"]["gflops"])
    rows = []
    for name in (name for name in case["seconds"] if name in case["batch_size"]):
        samples, warm_up = case["seconds"][name], case["warm_up"][name]
        rate = flops * n / median(samples) / 1e9
        compiled = warm_up.get("compile_seconds")
        rows.append([
            _PEERS[name.split("_")[0]],
            case["batch_size"][name],
            spread([n / seconds for seconds in samples], 0),
            spread(samples),
            f"{rate:.1f}",
            f"{rate / peak:.0%}",
            f"{median(samples) / median(ours):.2f} / {paired_ratio(samples, ours):.2f}",
            f"{warm_up['seconds']:.2f}" + (f" ({compiled:.2f} compiling)" if compiled else ""),
        ])  # fmt: skip
    columns = [
        "", "batch", "images/s", "seconds", "GFLOP/s", "of sgemm peak", "time / jaxtl's (medians / paired)",
        "first call, s",
    ]  # fmt: skip
    return [
        f"## Forward pass: {n:,} images",
        "",
        f"From images to pooled features in host memory, {_counted(len(ours), 'round')}, median (min..max). "
        f"jaxtl starts from uint8 images as they are stored; Keras's `predict` from resized float32 images, "
        f"which took it another {case['keras_prepare_seconds']:.2f} s before. {flops / 2e6:.1f} M "
        f"multiply-adds an image. The features of the two differ by at most "
        f"{case['largest_difference']:.1e} of the largest one.",
        "",
        *_table(columns, rows),
        "",
        *_breakdown(case),
        "",
        f"The machine's float32 matrix product in the same rounds, GFLOP/s: {_sgemm(case['sgemm'])}.",
    ]


def _breakdown(case: Record) -> list[str]:
    size = case["batch_size"]["jaxtl"]
    per_batch = 1000 / -(-case["images"] // size)
    total, network, products = (
        median(case["seconds"][name]) * per_batch for name in ("jaxtl", "network", "products")
    )
    parts = {
        "matrix products": products,
        "depthwise convolutions, elementwise work, dispatch": network - products,
        "host: batches in and out, folding, record": total - network,
        "`extract`": total,
    }
    rows = [[name, f"{value:.2f}", f"{value / total:.0%}"] for name, value in parts.items()]
    return [
        "Where jaxtl's time goes. The products are timed alone at the network's shapes, the compiled network "
        "on a batch that is on the device; the other rows are differences.",
        "",
        *_table([f"part, batch of {size}", "ms", "share"], rows),
    ]


def _sgemm(rates: Record) -> str:
    names = {"jax": "JAX", "numpy": "NumPy"}
    return "; ".join(
        f"{names[library]} {spread(found['gflops'], 0)} at {found['size']}x{found['size']}"
        for library, found in rates.items()
    )


def _finetune(record: Record) -> list[str]:
    case, sizes = record["finetune"], record["sizes"]
    ours, theirs = case["jaxtl"], case["keras"]
    rows = [
        [str(epoch + 1), *(_epoch(runs, epoch) for runs in (ours, theirs)),
         *(_accuracies(runs, epoch) for runs in (ours, theirs))]
        for epoch in range(sizes["epochs"])
    ]  # fmt: skip
    totals = [[run["seconds"] for run in runs] for runs in (ours, theirs)]
    rows.append(["**all**", *(spread(total, 1) for total in totals), "", ""])
    ratio = median(totals[1]) / median(totals[0])
    return [
        f"## Fine-tuning: {sizes['train_images']:,} images, {_counted(sizes['epochs'], 'epoch')}, batch "
        f"{ours[0]['batch_size']}",
        "",
        f"**Keras takes {ratio:.2f} times as long.** jaxtl: from uint8 images to the tuned model, everything "
        f"compiled anew, {_runs(ours)}. Keras: `fit` alone, {_runs(theirs)}; resizing its images took "
        f"another {case['keras_prepare_seconds']:.1f} s. Both test on {sizes['test_images']:,} images after "
        "each epoch; an epoch's time holds that, and the first one's the compilation.",
        "",
        *_table(["epoch", "jaxtl, s", "Keras, s", "jaxtl, test accuracy", "Keras, test accuracy"], rows),
        "",
        *_training_parts(record),
    ]


def _runs(runs: Sequence[Record]) -> str:
    seeds = ", ".join(str(run["seed"]) for run in runs)
    return f"{_counted(len(runs), 'run')} (seed {seeds})"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _epoch(runs: Sequence[Record], epoch: int) -> str:
    return spread([run["training_seconds"][epoch] + run["testing_seconds"][epoch] for run in runs], 1)


def _accuracies(runs: Sequence[Record], epoch: int) -> str:
    return ", ".join(f"{run['test_accuracy'][epoch]:.4f}" for run in runs)


def _training_parts(record: Record) -> list[str]:
    case, sizes, flops = record["finetune"], record["sizes"], record["flops_per_image"]
    runs = case["jaxtl"]
    images = sizes["train_images"] + sizes["test_images"]
    parts: dict[str, Callable[[Record], float]] = {
        f"frozen layers, {images:,} images": lambda run: run["trunk_seconds"] - run["trunk_compile_seconds"],
        "training": lambda run: sum(_steady(run, "training")),
        "testing": lambda run: sum(_steady(run, "testing")),
        "compiling": lambda run: (
            run["trunk_compile_seconds"]
            + sum(run["training_compile_seconds"])
            + sum(run["testing_compile_seconds"])
        ),
    }
    rows = [[name, spread([part(run) for run in runs], 1)] for name, part in parts.items()]
    peak = median(case["sgemm"]["gflops"])
    epochs = [seconds for run in runs for seconds in _steady(run, "training")]
    rate = flops["training"] * sizes["train_images"] / median(epochs) / 1e9
    trunk = flops["trunk"] * images / median([parts[rows[0][0]](run) for run in runs]) / 1e9
    return [
        *_table(["jaxtl's parts", "s"], rows),
        "",
        f"The layers that learn train at {rate:.1f} GFLOP/s (median of the epochs), {rate / peak:.0%} of "
        f"JAX's sgemm peak of {peak:.0f}; the frozen ones run at {trunk:.1f}, {trunk / peak:.0%}.",
    ]


def _steady(run: Record, part: str) -> list[float]:
    """Seconds of each epoch without compilation."""
    pairs = zip(run[f"{part}_seconds"], run[f"{part}_compile_seconds"], strict=True)
    return [seconds - compiling for seconds, compiling in pairs]


def _whole(record: Record) -> list[str]:
    case, sizes = record["whole"], record["sizes"]
    ours, theirs = case["jaxtl"], case["keras"]
    rows = [
        _compared("wall time, s", ours, theirs, lambda run: run["seconds"], 1),
        _compared("processor time, s", ours, theirs, lambda run: run["cpu_seconds"], 1),
        _compared("peak memory, GiB", ours, theirs, lambda run: run["peak_bytes"] / _GIB, 2),
    ]
    for name, value in _qualities().items():
        cells = [", ".join(f"{value(run):.4f}" for run in runs) for runs in (ours, theirs)]
        rows.append([name, *cells, ""])
    return [
        f"## The whole: {sizes['whole_samples']:,} test images mapped, {sizes['whole_train_images']:,} to "
        f"learn from, {_counted(sizes['epochs'], 'epoch')}",
        "",
        "`jaxtl run` against `benchmarks/plain_keras.py` (Keras and scikit-learn), each a process of its "
        f"own. jaxtl: {_runs(ours)}; Keras: {_runs(theirs)}. jaxtl's run also draws a comparison and a "
        "history, each figure in three formats, and saves features, maps and model.",
        "",
        *_table(["", "jaxtl", "Keras + scikit-learn", "ratio of medians"], rows),
    ]


def _compared(
    name: str, ours: Sequence[Record], theirs: Sequence[Record], value: Callable[[Record], float], places: int
) -> list[str]:
    samples = [[value(run) for run in runs] for runs in (ours, theirs)]
    ratio = median(samples[1]) / median(samples[0])
    return [name, *(spread(each, places) for each in samples), f"{ratio:.2f}"]


def _qualities() -> dict[str, Callable[[Record], float]]:
    found: dict[str, Callable[[Record], float]] = {"test accuracy": lambda run: run["test_accuracy"][-1]}
    for stage in ("before", "after"):
        for space, name in _SPACES.items():
            found[f"10-NN accuracy {stage}, {name}"] = lambda run, stage=stage, space=space: run[
                "knn_accuracy"
            ][stage][space]
    return found


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return ["| " + " | ".join(str(cell) for cell in line) + " |" for line in lines]


_SECTIONS = {"forward": _forward, "finetune": _finetune, "whole": _whole}
