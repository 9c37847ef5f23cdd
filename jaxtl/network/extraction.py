"""Images through a network with fixed statistics: the pooled features of each, in memory or in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxtl.errors import JaxtlError
from jaxtl.machine.bars import with_bar
from jaxtl.machine.devices import Precision
from jaxtl.machine.together import Rank
from jaxtl.models import ops
from jaxtl.models.network import Network
from jaxtl.models.weights import arrays_of, tensor_digest
from jaxtl.network.batches import advance, default_batch_size, taken_at_once
from jaxtl.network.blocks import average_layers
from jaxtl.network.engine import chosen_engine, named_engine
from jaxtl.network.layers import run_layers
from jaxtl.progress import Notify, Progress
from jaxtl.records import given, shards, store
from jaxtl.records.arrays import Features, Pathlike
from jaxtl.records.dataset import Dataset
from jaxtl.settings import Images

# Images at a time where features are streamed: whole batches for any platform, 80 MiB of features.
STREAMED = 16_384


@with_bar("Features")
def extract(
    model: Network,
    dataset: Dataset | ArrayLike,
    images: Images = Images(),
    *,
    layer: str | None = None,
    batch_size: int | None = None,
    precision: Precision = "highest",
    engine: str = "auto",
    progress: Progress | bool | None = None,
    notify: Notify | None = None,
) -> Features:
    """Global-average-pooled features of every image, of the last layer or another.

    Args:
        model: with or without a head, which plays no part.
        dataset: n images of any size; they are resized bilinearly. Or images alone, as of
            `Dataset.from_arrays`, whose features then have no labels.
        images: input size and scaling; by default the scaling that the weights want.
        layer: whose output is averaged over its pixels, such as "block_13_expand_relu"; names are those of
            `[layer.name for layer in model.config.layers]`. By default the last before the head.
        batch_size: most images per step; None takes what is fastest on the platform. A CPU takes larger ones
            in pieces of that size. It does not change results beyond float32 rounding.
        precision: "highest" is float32; "tf32" and "bf16" are faster on GPUs and less exact: see
            `jaxtl.models.ops`.
        engine: what computes them: "jax"; "litert", "openvino" or "onnxruntime" on a CPU, where the extra of
            that name is installed; "auto" is the first of LiteRT and OpenVINO that is installed, on a CPU at
            precision "highest", and else JAX. They differ by float32 rounding.
        progress: True shows a bar; or what is called with the fraction done, 0 to 1.
        notify: called with one line when a batch did not fit into memory and smaller ones follow.

    Returns:
        Features with float32 values [n, channels of the layer]; by default [n, model.config.features]. `meta`
        names the layer.

    Raises:
        JaxtlError: an unknown precision or layer, the head for a layer, an engine that cannot compute it, or
            arrays that are no images.
    """
    images, progress = images.settled(model.config.preprocessing), progress or None
    how = {"precision": precision, "engine": chosen_engine(engine, precision)}
    told = {"progress": progress, "notify": notify}
    if not isinstance(dataset, Dataset):
        own = extract(model, _alone(dataset), images, layer=layer, batch_size=batch_size, **how, **told)
        meta = {name: value for name, value in own.meta.items() if name != "class_names"}
        return Features(own.values, None, own.index, meta)
    if layer not in (None, model.config.pooling):
        averages = extract_layers(model, dataset, [layer], images, batch_size=batch_size, **how, **told)
        return features_of(model, dataset, images, averages[layer], layer=layer, batch_size=batch_size, **how)
    pooled = run_layers(model, 0, model.config.pooled, dataset.images, images, batch_size, **how, **told)
    return features_of(model, dataset, images, pooled.x, batch_size=batch_size, **how)


def _alone(images: ArrayLike) -> Dataset:
    """Images without labels as a set that has some, which mean nothing."""
    pixels = given.pictures("extract", images)
    if pixels.ndim == 3 and pixels.shape[2] in (1, 3, 4):
        raise JaxtlError(f"extract: images are {list(pixels.shape)}, which is one; give images[None]")
    if not pixels.ndim or not len(pixels):
        raise JaxtlError(f"extract: images are {list(pixels.shape)}, and none; give [n, height, width, 3]")
    return Dataset.from_arrays(pixels, np.zeros(len(pixels), np.int32))


def stream(
    model: Network,
    images_of: Callable[[int, int], np.ndarray],
    n: int,
    images: Images = Images(),
    *,
    first: int = 0,
    batch_size: int | None = None,
    precision: Precision = "highest",
    engine: str = "auto",
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> Iterator[np.ndarray]:
    """`extract` piece by piece, for features or images that do not fit into memory together.

    Args:
        images_of: uint8 images of the rows from a number to another, exclusive.
        n, first: rows `first` to n, exclusive.
        images, batch_size, precision, engine, progress, notify: as of `extract`.

    Yields float32 [some, model.config.features], in order.
    """
    images, engine = images.settled(model.config.preprocessing), chosen_engine(engine, precision)
    for start in range(first, n, STREAMED):
        stop = min(start + STREAMED, n)

        def tell(fraction: float, start: int = start, stop: int = stop) -> None:
            advance(progress, (start - first + (stop - start) * fraction) / (n - first))

        how = {"progress": tell, "precision": precision, "engine": engine, "notify": notify}
        yield run_layers(model, 0, model.config.pooled, images_of(start, stop), images, batch_size, **how).x


def extract_to_store(
    path: Pathlike, model: Network, dataset: Dataset, images: Images = Images(), **how: Any
) -> None:
    """`extract` to a store on disk (`jaxtl.records.store`), piece by piece: neither all images nor all
    features are ever in memory. Arguments as of `extract`; raises OSError where the store cannot be written.
    """
    how = _with_engine(how)
    meta = _meta(model, dataset, images, how)
    pieces = stream(model, lambda start, stop: dataset.images[start:stop], len(dataset), images, **how)
    d = model.config.features
    store.write(path, pieces, dataset.labels, dataset.index, meta, d, dataset.ids)


def extract_to_shards(
    path: Pathlike,
    model: Network,
    dataset: Dataset,
    images: Images = Images(),
    *,
    told: str = "",
    rank: Rank = Rank(),
    progress: Progress | None = None,
    **how: Any,
) -> None:
    """`extract_to_store` to a store of many files (`jaxtl.records.shards`); each process writes some of them.

    Files that are there already are kept, if they are of the same images: `told` tells these from others.
    Other arguments as of `extract`.

    Raises:
        JaxtlError: a store that was begun with something else.
        OSError: a file cannot be written.
    """
    how = _with_engine(how)
    meta = _meta(model, dataset, images, how)
    plan = shards.planned(len(dataset), model.config.features, rank.count, meta, told)
    plan = shards.begin(path, plan, rank.is_first)
    mine = [number for number in shards.left(path, plan) if number % rank.count == rank.number]
    for done, number in enumerate(mine):
        start, stop = plan.bounds(number)

        def tell(fraction: float, done: int = done) -> None:
            advance(progress, (done + fraction) / len(mine))

        given = {"first": start, "progress": tell, **how}
        pieces = stream(model, lambda start, stop: dataset.images[start:stop], stop, images, **given)
        shards.write(path, plan, number, pieces)
    if rank.is_first:
        rows = {"labels": dataset.labels, "index": dataset.index, "ids": dataset.ids}
        shards.complete(path, plan, rows)


def _with_engine(how: dict[str, Any]) -> dict[str, Any]:
    return how | {"engine": chosen_engine(how.get("engine", "auto"), how.get("precision", "highest"))}


def _meta(model: Network, dataset: Dataset, images: Images, how: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of features that are still to be made."""
    none, precision = np.zeros((1, model.config.features), np.float32), how.get("precision", "highest")
    own = {"engine": how["engine"], "batch_size": how.get("batch_size")}
    return features_of(model, dataset.take(1), images, none, precision, **own).meta


def extract_layers(
    model: Network,
    dataset: Dataset,
    layers: Sequence[str],
    images: Images = Images(),
    *,
    batch_size: int | None = None,
    precision: Precision = "highest",
    engine: str = "auto",
    progress: Progress | None = None,
    notify: Notify | None = None,
) -> dict[str, np.ndarray]:
    """Global averages of several layers' outputs, all from one pass; arguments as of `extract`.

    Args:
        layers: names of layers of the backbone, such as "block_3_project_BN" or "layer3.1.add".

    Returns:
        For each layer, in the network's order, float32 [n, its channels].

    Raises:
        JaxtlError: an unknown layer or precision, or a layer of the head.
    """
    ops.check(precision, None)
    for name in layers:
        if model.config.position(name) >= model.config.pooled - 1:
            last = model.config.backbone_layers[-1].name
            raise JaxtlError(f"layer {name}: has no pixels to average; take {last} or one before it, or none")
    images = images.settled(model.config.preprocessing)
    positions = {model.config.position(name) + 1 for name in layers}
    how = {"precision": precision, "engine": chosen_engine(engine, precision), "notify": notify}
    return average_layers(model, 0, positions, dataset.images, images, batch_size, progress, **how)


def features_of(
    model: Network,
    dataset: Dataset,
    images: Images,
    values: np.ndarray,
    precision: Precision = "highest",
    engine: str = "jax",
    layer: str | None = None,
    batch_size: int | None = None,
) -> Features:
    """Pooled values with the record of where they come from."""
    usual = default_batch_size(images, engine)
    meta = {
        "model": f"{model.config.name} width {model.config.width:g}",
        "layer": layer or model.config.pooling,
        "weights_digest": tensor_digest(arrays_of(model)),
        "dataset": dataset.name,
        "split": dataset.split,
        "class_names": list(dataset.class_names),
        "image_size": images.image_size,
        "preprocessing": images.settled(model.config.preprocessing).preprocessing,
        "precision": precision,
        **({} if engine == "jax" else {"engine": named_engine(engine)}),
        # A few images at a time round otherwise than many.
        **({} if taken_at_once(batch_size, usual) == usual else {"batch_size": batch_size}),
        **_pixels(dataset, images),
    }
    return Features(values, dataset.labels, dataset.index, meta, dataset.ids)


def _pixels(dataset: Dataset, images: Images) -> dict[str, str]:
    """How pixels were read, where that is not as ever: arrays, resized as Keras does it."""
    is_usual = isinstance(dataset.images, np.ndarray) and images.pixels == Images().pixels
    return {} if is_usual else images.pixels
