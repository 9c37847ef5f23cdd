"""A study's curves as a table of costs: for forecasts, and for the one that comes with jaxtl.

`python -m jaxtl.scaling.reference STUDY RUN` writes jaxtl/assets/reference.json anew: embeddings and features
from a study's folder, training from that of a run with default settings, both made on the same machine.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

from jaxtl.costs.table import REFERENCE, Cost, Costs
from jaxtl.costs.words import duration
from jaxtl.errors import JaxtlError
from jaxtl.machine.identity import MACHINE, differing, spoken
from jaxtl.records.files import write_json
from jaxtl.reduction.choice import parse_libraries
from jaxtl.runs.folder import RunFolder
from jaxtl.scaling.curves import Curve, read_curves
from jaxtl.scaling.folder import StudyFolder
from jaxtl.scaling.plan import parse_methods


def costs_of(study: Path) -> Costs:
    """The costs of a study's folder. Raises JaxtlError where no curve has the trials for a power law."""
    curves = read_curves(study)
    measured = tuple(_cost(curve) for curve in curves if curve.seconds is not None)
    if not measured:
        raise JaxtlError(
            f"{study}: no method has been measured at three sizes, which a forecast needs; add some with: "
            f"jaxtl scale --out {study} --sizes N,..."
        )
    taken = StudyFolder(study).extraction()
    if mixed := differing([trial.machine for curve in curves for trial in curve.done], MACHINE):
        raise JaxtlError(
            f"{study}: its trials are of more than one machine ({spoken(mixed)}), which a forecast "
            "cannot take together; make a study on one in a new folder"
        )
    seconds = None
    if taken:
        seconds = taken["seconds"] / taken["images"] * (48 / taken["image_size"]) ** 2
    return Costs(measured, _machine(curves), seconds)


def chosen(known: Costs, methods: str | None, backends: str | None) -> tuple[Cost, ...]:
    """Those of some methods by some backends, with commas between; None and "auto" take all.

    Raises JaxtlError for a name that is unknown, and where nothing is left.
    """
    names = {method.name for method in parse_methods(methods)} if methods is not None else None
    libraries = parse_libraries(backends) if backends is not None else ["auto"]
    curves = tuple(
        cost
        for cost in known.maps
        if (names is None or cost.method in names) and ("auto" in libraries or cost.backend in libraries)
    )
    if not curves:
        there = ", ".join(f"{cost.method} by {cost.backend}" for cost in known.maps)
        raise JaxtlError(f"forecast: no such curve has been measured; there are {there}")
    return curves


def _cost(curve: Curve) -> Cost:
    baseline = max((trial.baseline or 0) for trial in curve.done)
    smaller = curve.smaller and Cost(curve.method, curve.backend, *curve.smaller, baseline)
    return Cost(curve.method, curve.backend, curve.seconds, curve.memory, baseline, smaller)


def _machine(curves: list[Curve]) -> str:
    done = next(trial for curve in curves for trial in reversed(curve.done))
    about = done.machine
    several = f"{about['beside']} at a time" if about.get("beside", 1) > 1 else ""
    parts = about.get("cpu"), f"{about.get('cores')} cores", about.get("device"), several
    return ", ".join(filter(None, parts))


def training_seconds(run: Path) -> float:
    """Of one image in one epoch of a finished run with the default network. Raises JaxtlError for another."""
    folder = RunFolder(run)
    folder.check()
    config, taken = folder.started.read().config, folder.timings.read().get("finetune")
    if taken is None or config.trainable != "10" or config.image_size != 48:
        raise JaxtlError(f"{run}: must be a finished run of 48x48 images and the last 10 layers")
    images = config.train_samples or _default_training_images(config.dataset)
    return taken / (images * len(folder.history.read()))


def _default_training_images(dataset: str) -> int:
    from jaxtl.data import load

    return len(load(dataset, "train"))


def _check_growth(costs: Costs) -> None:
    """Raises JaxtlError where a method took no longer for more images, which no quiet machine finds."""
    for cost in costs.maps:
        if cost.seconds.exponent <= 0:
            raise JaxtlError(
                f"{cost.method} by {cost.backend}: seconds go with n^{cost.seconds.exponent:.2f}, less for "
                "more images: measured on a busy machine? measure again"
            )


def as_record(costs: Costs) -> dict[str, Any]:
    """What `jaxtl.costs.table.read` reads."""
    return asdict(costs)


def main(arguments: list[str]) -> None:
    if not 1 <= len(arguments) <= 3:
        sys.exit("usage: python -m jaxtl.scaling.reference STUDY [RUN [OUT.json]]")
    study, run, out = [Path(argument) for argument in arguments] + [None] * (3 - len(arguments))
    try:
        costs = costs_of(study)
        _check_growth(costs)
        if run is not None:
            costs = replace(costs, training_seconds=training_seconds(run))
    except JaxtlError as error:
        sys.exit(str(error))
    target = out or Path(str(resources.files("jaxtl") / "assets" / REFERENCE))
    write_json(target, as_record(costs))
    for cost in costs.maps:
        law = cost.seconds
        print(f"{cost.method} by {cost.backend}: {duration(law.at(law.largest).value)} at {law.largest:,.0f}")
    print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
