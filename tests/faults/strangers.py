"""Ways into jaxtl for files that somebody made or damaged: a valid one of each kind, and what reads it."""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

import jaxtl
from tests.faults.mutations import mutate
from tests.faults.outcomes import Tally
from tests.faults.swaps import SWAPS

# Who checks a run as a whole by digests would refuse all that is changed; runs of before have none.
WHOLE = ("manifest.json",)
# Of all tries, those in which what stands there is no file at all.
_SWAPPED = 0.03
CLASSES = ("alpha", "beta", "gamma", "delta")


@dataclass(frozen=True)
class Way:
    """A kind of file: `make` writes a valid one into a folder, `read` takes it in.

    Attributes:
        names: of the files of the folder that are changed, one a time; all where there are none.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path], object]
    names: tuple[str, ...] = ()


def attack(way: Way, scratch: Path, tries: Iterable[int], seed: int = 0) -> Iterator[Tally]:
    """Read changed files, the same for the same numbers and seed; counts before each try and at the end."""
    tally = Tally()
    whole, folder = scratch / f"{way.name}-whole", scratch / f"{way.name}-changed"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir(parents=True)
    way.make(whole)
    names = way.names or tuple(sorted(str(f.relative_to(whole)) for f in whole.rglob("*") if f.is_file()))
    for number in tries:
        yield tally
        rng = random.Random(f"{way.name} {seed} {number}")
        name = rng.choice(names)
        link(whole, folder)
        if rng.random() < _SWAPPED:
            SWAPS[rng.choice(list(SWAPS))](folder / name)
        else:
            changed = mutate(rng, name, (whole / name).read_bytes())
            (folder / name).unlink()
            (folder / name).write_bytes(changed)
        tally.attempt(lambda: way.read(folder), f"{way.name} {seed} {number}, {name}")
    yield tally


def link(whole: Path, folder: Path) -> None:
    """A folder of links to another's files: quick, and what is large is not copied."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in whole.rglob("*"):
        if file.is_file() and file.name not in WHOLE:
            link = folder / file.relative_to(whole)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())


# Records and features that somebody else computed.


def meta() -> dict[str, object]:
    return {
        "class_names": list(CLASSES),
        "model": "mobilenet_v2",
        "layer": "pool",
        "dataset": "mnist",
        "image_size": 48,
    }


def _features() -> jaxtl.Features:
    rng = np.random.default_rng(0)
    labels = np.arange(20, dtype=np.int32) % 4
    return jaxtl.Features(rng.normal(size=(20, 5)), labels, meta=meta(), ids=[f"{k}.png" for k in range(20)])


def embedding() -> jaxtl.Embedding:
    features = _features()
    return jaxtl.Embedding(
        features.values[:, :2],
        features.labels,
        method="tsne",
        backend="sklearn",
        params={"perplexity": 5.0, "seed": 0},
        diagnostics={"kl_divergence": 0.5},
        meta=meta(),
        ids=features.ids,
    )


def _neighbors(folder: Path) -> None:
    from jaxtl.records.arrays import Neighbors

    Neighbors(np.tile(np.arange(3, dtype=np.int32), (5, 1)), np.ones((5, 3), np.float32)).save(
        folder / "n.npz"
    )


def shown_whole(record: object) -> str:
    return repr(record) + record._repr_html_()


def _read_neighbors(folder: Path) -> object:
    from jaxtl.records.arrays import Neighbors

    return shown_whole(Neighbors.load(folder / "n.npz"))


def _store(folder: Path) -> None:
    from jaxtl.records import store

    features = _features()
    store.write(folder / "f.npy", [features.values], features.labels, features.index, features.meta, 5)


def _read_store(folder: Path) -> object:
    from jaxtl.records import store

    return shown_whole(store.load(folder / "f.npy"))


def _given(suffix: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        from jaxtl.data.feature_files import read_features
        from jaxtl.data.pairs import paired

        other = read_features(folder / f"a{suffix}")
        return paired(other, read_features(folder / f"b{suffix}"), "pair")

    return read


def _write_given(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        features = _features()
        columns = {f"f{k}": features.values[:, k] for k in range(5)}
        for name in "ab":
            path = folder / f"{name}{suffix}"
            if suffix == ".npz":
                names = np.array(features.class_names)
                np.savez(
                    path,
                    features=features.values,
                    labels=features.labels,
                    ids=features.ids,
                    class_names=names,
                )
            elif suffix == ".npy":
                np.save(path, features.values)
            elif suffix == ".csv":
                head = ",".join(("id", "label", *columns))
                rows = zip(features.ids, features.labels, *columns.values(), strict=True)
                path.write_text("\n".join((head, *(",".join(map(str, row)) for row in rows), "")))
            else:
                import pyarrow as pa
                from pyarrow import parquet

                vectors = pa.array(list(features.values), pa.list_(pa.float32()))
                table = {"id": features.ids.tolist(), "label": features.labels, "vector": vectors}
                parquet.write_table(pa.table(table), path)

    return make


def _labels(folder: Path) -> None:
    (folder / "labels.txt").write_text("\n".join(CLASSES * 5))
    np.save(folder / "labels.npy", np.arange(20) % 4)


def _read_labels(folder: Path) -> object:
    from jaxtl.data.feature_files import read_labels

    return [read_labels(folder / name) for name in ("labels.txt", "labels.npy")]


# Sets of images.


def _pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), np.uint8)


_FORMS = {
    "PNG": (".png", "RGB", {}),
    "png16": (".png", "I;16", {}),
    "palette": (".png", "P", {}),
    "bits": (".png", "1", {}),
    "gray-alpha": (".png", "LA", {}),
    "animated": (".png", "RGBA", {"save_all": True}),
    "JPEG": (".jpg", "RGB", {"exif": True}),
    "cmyk": (".jpg", "CMYK", {}),
    "GIF": (".gif", "P", {"save_all": True}),
    "BMP": (".bmp", "RGB", {}),
    "TIFF": (".tif", "RGB", {"compression": "tiff_lzw"}),
    "tiff16": (".tif", "I;16", {}),
    "tiff-cmyk": (".tif", "CMYK", {}),
    "tiff-pages": (".tif", "L", {"save_all": True}),
    "WEBP": (".webp", "RGBA", {}),
    "PPM": (".ppm", "RGB", {}),
    "JPEG2000": (".jp2", "RGB", {}),
    "SGI": (".sgi", "RGB", {}),
    "QOI": (".qoi", "RGB", {}),
    "AVIF": (".avif", "RGB", {}),
}


def encoded(form: str, pixels: np.ndarray) -> bytes:
    """An image file of a form of `_FORMS`."""
    from PIL import Image

    suffix, mode, options = _FORMS[form]
    image = Image.fromarray(pixels)
    image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    if options.get("exif"):
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {"exif": exif}
    if options.get("save_all"):
        options = {"save_all": True, "append_images": [image.rotate(90)]}
    out = io.BytesIO()
    kinds = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF"}
    image.save(out, kinds.get(suffix, form), **options)
    return out.getvalue()


def _folder(folder: Path) -> None:
    pictures = cycle(_pictures())
    for name in CLASSES[:2]:
        (folder / name).mkdir()
        for form, (suffix, _, _) in _FORMS.items():
            (folder / name / f"{form}{suffix}").write_bytes(encoded(form, next(pictures)))


def read_images(name: Callable[[Path], str], **options: object) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        dataset = jaxtl.load(name(folder), "train", **options)
        return shown_whole(dataset), np.asarray(dataset.images).sum()

    return read


def _image_table(folder: Path) -> None:
    rows = ["path,label,split"]
    for number, pixels in enumerate(_pictures()):
        (folder / f"{number}.png").write_bytes(encoded("PNG", pixels))
        rows.append(f"{number}.png,{CLASSES[number % 4]},{'test' if number > 7 else 'train'}")
    (folder / "t.csv").write_text("\n".join((*rows, "")))


def _image_parquet(folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    images = [{"bytes": encoded("PNG", pixels), "path": f"{k}.png"} for k, pixels in enumerate(_pictures())]
    table = {"image": images, "label": [k % 4 for k in range(len(images))]}
    known = {"info": {"features": {"label": {"names": list(CLASSES)}}}}
    schema = pa.table(table).replace_schema_metadata({"huggingface": json.dumps(known)})
    parquet.write_table(schema, folder / "t.parquet")


def _arrays(folder: Path) -> None:
    labels = np.array([CLASSES[k % 4] for k in range(16)])
    ids = np.array([f"{k}.png" for k in range(16)])
    np.savez(folder / "t.npz", images=_pictures(), labels=labels, ids=ids, class_names=np.array(CLASSES))


def idx(folder: Path) -> None:
    for prefix in ("train", "t10k"):
        header = struct.pack(">IIII", 0x803, 16, 8, 8)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + _pictures()[..., 0].tobytes())
        labels = bytes(k % 4 for k in range(16))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 16) + labels)
    (folder / "classes.txt").write_text("\n".join(CLASSES))


# Weights.


def _weights(folder: Path) -> None:
    from jaxtl.models.mobilenet_v2 import MobileNetV2Config
    from jaxtl.models.weights import save_weights
    from tests.random_weights import random_arrays

    config = MobileNetV2Config(0.35, classes=4)
    save_weights(folder / "w.safetensors", config, random_arrays(config), {"source": "random"})


def _read_weights(folder: Path) -> object:
    from jaxtl.models.weights import load_arrays

    return load_arrays(folder / "w.safetensors")


def _hdf5(folder: Path) -> None:
    import h5py

    from jaxtl.models.mobilenet_v2 import MobileNetV2Config
    from tests.random_weights import random_arrays

    layers = {"class_name": "Rescaling", "config": {"scale": 1 / 127.5, "offset": -1.0}}
    with h5py.File(folder / "w.h5", "w") as file:
        for name, array in random_arrays(MobileNetV2Config(0.35)).items():
            file[f"model_weights/{name.split('/')[0]}/{name}:0"] = array
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": {"layers": [layers]}})


def _convert(folder: Path) -> object:
    from weights_convert.keras import convert

    return convert(folder / "w.h5", folder / "out.safetensors")


WAYS = (
    Way(
        "features",
        lambda f: _features().save(f / "f.npz"),
        lambda f: shown_whole(jaxtl.Features.load(f / "f.npz")),
    ),
    Way(
        "embedding",
        lambda f: embedding().save(f / "e.npz"),
        lambda f: shown_whole(jaxtl.Embedding.load(f / "e.npz")),
    ),
    Way("neighbors", _neighbors, _read_neighbors),
    Way("store", _store, _read_store),
    *(
        Way(f"given{suffix}", _write_given(suffix), _given(suffix))
        for suffix in (".npz", ".npy", ".csv", ".parquet")
    ),
    Way("labels", _labels, _read_labels),
    Way("folder", _folder, read_images(lambda f: f"folder:{f}", image_size=8, skip_bad=True)),
    Way("folder-strict", _folder, read_images(lambda f: f"folder:{f}", image_size=8)),
    Way("csv", _image_table, read_images(lambda f: f"csv:{f / 't.csv'}", image_size=8), ("t.csv",)),
    Way("parquet", _image_parquet, read_images(lambda f: f"parquet:{f / 't.parquet'}", image_size=8)),
    Way("arrays", _arrays, read_images(lambda f: f"arrays:{f / 't.npz'}")),
    Way("idx", idx, read_images(lambda f: f"idx:{f}")),
    Way("weights", _weights, _read_weights),
    Way("keras.h5", _hdf5, _convert),
)
