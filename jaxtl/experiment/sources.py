"""What a run is made from, images and weights: recorded when it starts, and compared when it goes on."""

from __future__ import annotations

from jaxtl.experiment import checks
from jaxtl.experiment.shared import Shared
from jaxtl.experiment.standing import Standing
from jaxtl.progress import Notify
from jaxtl.runs.dataset import expected, identities, kept, points, recorded
from jaxtl.runs.folder import RunFolder
from jaxtl.runs.formats import Started
from jaxtl.runs.manifest import stamp


def record_images(run: RunFolder, shared: Shared) -> None:
    """Write down what the images are; of those given in Python, keep those that are embedded."""
    run.dataset.write(recorded(shared.train, shared.test, shared.sample))
    if shared.is_given:
        run.images.write(kept(shared.sample.images))


def digests(run: RunFolder) -> dict[str, str]:
    """Of settings, weights and images, by name."""
    known = {"settings": stamp(run.started.path).sha256}
    if weights := run.started.read().weights_digest:
        known["weights"] = weights
    return known | identities(run.dataset.read_or({}))


def check(run: RunFolder, shared: Shared, started: Started, standing: Standing, notify: Notify) -> None:
    """Raises JaxtlError, before anything is written, for images or weights that are not those of the run.

    Where nothing that is left needs them, they need not be there any more. What is recorded of the images is
    written again where that is lost.
    """
    lost = _is_lost(run)
    shared.expect(expected(run.manifest.sources) if lost else run.dataset.read_or({}))
    if lost or any(step.of_images for step in standing.left({})):
        # Loading them compares them.
        _ = shared.train, shared.test
        checks.check_weights(run, started, shared)
    if lost:
        record_images(run, shared)
        if run.manifest.is_there:
            notify(f"{run.dataset.name}: written again, as it was not what the run wrote")
        run.manifest.forget([run.dataset.name, run.images.name])
    elif shared.is_given and run.manifest.is_there and not run.images.is_intact:
        run.images.write(kept(shared.sample.images))
        run.manifest.forget([run.images.name])
    if run.manifest.stamps(run.images.name):
        run.images.check_intact()


def _is_lost(run: RunFolder) -> bool:
    """Whether the record of the images is to be written again. Raises JaxtlError where nobody knows it."""
    if not run.manifest.is_there:
        # Killed between its first two files. Runs of before there was such a record are left as they are.
        return not (run.dataset.is_there or run.environment.is_there)
    lost = run.dataset.is_lost
    if lost and "test" not in run.manifest.sources:
        run.dataset.check_intact()
    return lost


def count_points(run: RunFolder, shared: Shared, samples: int | None) -> int:
    """How many images are embedded, by the run's record where there is one: they need not be there."""
    known = None
    if not shared.is_given and run.dataset.is_intact:
        known = points(run.dataset.read(), samples)
    return known or len(shared.sample)
