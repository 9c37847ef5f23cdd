"""Folders and tables of images: what is found in them, how it is divided, and what is said of it."""

import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from jaxtl.data import load
from jaxtl.errors import JaxtlError

RNG = np.random.default_rng(0)


def picture(value=None):
    if value is None:
        return RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.full((6, 8, 3), value, np.uint8)


def save(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture() if pixels is None else pixels).save(path)
    return path


def write_classes(root, count=10, names=("cat", "dog")):
    for name in names:
        for number in range(count):
            save(root / name / f"{number:02}.png")
    return root


def both(name, **how):
    return load(str(name), "train", **how), load(str(name), "test", **how)


# Folders.


def test_a_bare_path_is_divided_by_a_share_of_each_class(tmp_path):
    write_classes(tmp_path)
    train, test = both(tmp_path)
    assert [np.bincount(side.labels).tolist() for side in (train, test)] == [[8, 8], [2, 2]]
    assert not set(train.ids) & set(test.ids)
    assert set(train.ids) | set(test.ids) == {
        f"{name}/{k:02}.png" for name in ("cat", "dog") for k in range(10)
    }
    assert any("20% of each class are set aside" in note for note in test.notes)
    assert {"test_share": 0.2, "split_seed": 0}.items() <= test.origin.items()
    half = load(str(tmp_path), test_share=0.5)
    assert len(half) == 10
    assert set(load(str(tmp_path)).ids) == set(test.ids)
    assert set(load(str(tmp_path), test_share=0.5, split_seed=1).ids) != set(half.ids)


def test_images_stay_on_their_side_when_others_come(tmp_path):
    before = set(load(str(write_classes(tmp_path, 40)), test_share=0.5).ids)
    save(tmp_path / "cat" / "new.png")
    after = set(load(str(tmp_path), test_share=0.5).ids)
    assert len(before ^ after) <= 2


def test_an_image_alone_in_its_class_is_for_training(tmp_path):
    write_classes(tmp_path)
    save(tmp_path / "owl" / "only.png")
    train, test = both(tmp_path)
    assert "owl/only.png" in train.ids
    assert train.class_names == test.class_names == ("cat", "dog", "owl")
    assert any("1 of 3 classes have no test images: owl" in note for note in test.notes)


@pytest.mark.parametrize(
    "names",
    [("Training", "Testing"), ("train", "valid"), ("TRAIN", "Test"), ("train2017", "val2017")],
)
def test_splits_are_known_by_many_names(tmp_path, names):
    for name, count in zip(names, (3, 2), strict=True):
        write_classes(tmp_path / name, count)
    train, test = both(tmp_path)
    assert (len(train), len(test)) == (6, 4)
    assert test.ids[0] == f"{names[1]}/cat/00.png"


def test_of_test_and_validation_the_one_taken_is_said(tmp_path):
    for name, count in (("train", 3), ("test", 2), ("val", 1)):
        write_classes(tmp_path / name, count)
    test = load(str(tmp_path))
    assert len(test) == 4
    assert any("those of test, not of val (--test-split val" in note for note in test.notes)
    assert len(load(str(tmp_path), test_split="val")) == 2
    with pytest.raises(JaxtlError, match="has test images of its own"):
        load(str(tmp_path), test_share=0.2)
    with pytest.raises(JaxtlError, match="has no split nope; it has"):
        load(str(tmp_path), test_split="nope")


def test_test_images_without_classes_are_passed_over(tmp_path):
    write_classes(tmp_path / "train")
    save(tmp_path / "test" / "1.png")
    train, test = both(tmp_path)
    assert (len(train), len(test)) == (16, 4)
    assert any("passed over: folders test" in note for note in test.notes)


def test_a_set_of_vehicles_may_have_trains(tmp_path):
    write_classes(tmp_path, names=("bus", "car", "train"))
    assert load(str(tmp_path)).class_names == ("bus", "car", "train")


def test_nested_folders_belong_to_their_class_and_a_wrapping_folder_does_not_matter(tmp_path):
    write_classes(tmp_path / "download")
    save(tmp_path / "download" / "cat" / "more" / "deep" / "x.png")
    (tmp_path / "download" / "cat" / "loop").symlink_to(tmp_path / "download" / "cat")
    (tmp_path / "README.txt").touch()
    train, test = both(tmp_path)
    assert train.class_names == ("cat", "dog")
    assert "download/cat/more/deep/x.png" in {*train.ids, *test.ids}
    assert len(train) + len(test) == 21


def test_splits_within_classes_are_taken_together_and_that_is_said(tmp_path):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(5):
                save(tmp_path / name / split / f"{number}.png")
    train, test = both(tmp_path)
    assert len(train) + len(test) == 20
    assert any(note.startswith("folders test and train within classes") for note in train.notes)
    (tmp_path / "cat" / "test").rename(tmp_path / "cat" / "garden")
    (tmp_path / "dog" / "test").rename(tmp_path / "dog" / "garden")
    assert not any("within classes" in note for note in load(str(tmp_path)).notes)


def test_what_is_passed_over_is_counted(tmp_path):
    write_classes(tmp_path)
    for name in ("cat/a.txt", "cat/b.txt", "dog/c.heic", "cat/.hidden.png", "readme.md"):
        (tmp_path / name).write_text("x")
    save(tmp_path / "loose.png")
    (tmp_path / "empty").mkdir()
    (note,) = (note for note in load(str(tmp_path)).notes if note.startswith("passed over"))
    assert "4 files that are no images (2 .txt" in note
    assert "1 image outside" in note
    assert "empty folders empty" in note


def test_composed_and_decomposed_names_are_one_class(tmp_path):
    for form, split in (("NFC", "train"), ("NFD", "test")):
        write_classes(tmp_path / split, 2, (unicodedata.normalize(form, "ärger"), "猫"))
    train, test = both(tmp_path)
    assert train.class_names == test.class_names == ("ärger", "猫")
    assert test.labels.tolist() == [0, 1, 0, 1]


def test_names_that_are_no_utf_8_are_readable(tmp_path):
    write_classes(tmp_path)
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(odd)
    for number in range(3):
        with open(os.path.join(odd, b"n\xe9%d.png" % number), "wb") as stream:
            Image.fromarray(picture(7)).save(stream, "PNG")
    train, test = both(tmp_path, image_size=4)
    assert r"caf\xe9" in train.class_names
    ids = [name for name in (*train.ids, *test.ids) if name.startswith("caf")]
    assert sorted(ids) == [rf"caf\xe9/n\xe9{k}.png" for k in range(3)]
    assert (train.images[np.flatnonzero(train.labels == 0)] == 7).all()
    with pytest.raises(JaxtlError, match=r"caf\\xe9: its path is not UTF-8"):
        load(os.fsdecode(odd))


def test_numbers_are_sorted_as_numbers(tmp_path):
    assert load(str(write_classes(tmp_path, 2, ("10", "9", "200")))).class_names == ("9", "10", "200")


def test_postscript_is_not_run_whatever_its_name(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "cat" / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(JaxtlError, match=r"x\.png \(cannot identify image file"):
        both(tmp_path)


@pytest.mark.parametrize("suffix", ["webp", "gif", "bmp", "tif", "jp2", "pgm", "jpeg"])
def test_formats_are_read_by_their_suffixes(tmp_path, suffix):
    for name in ("cat", "dog"):
        for number in range(2):
            save(tmp_path / name / f"{number}.{suffix}", picture(90)[..., 0])
    assert np.abs(load(str(tmp_path)).images[:].astype(int) - 90).max() <= 2


# Images that cannot be read.


def spoil(root):
    (root / "cat" / "03.png").write_bytes(b"<html>")
    path = root / "dog" / "04.png"
    path.write_bytes(path.read_bytes()[:-70])


def test_all_unreadable_images_are_named_at_once_in_both_splits(tmp_path):
    for split in ("train", "test"):
        spoil(write_classes(tmp_path / split))
    with pytest.raises(JaxtlError, match=r"4 of 40 are unreadable images.*--skip-bad") as caught:
        load(str(tmp_path), "train")
    for split in ("train", "test"):
        assert str(tmp_path / split / "cat" / "03.png") in str(caught.value)
        assert str(tmp_path / split / "dog" / "04.png") in str(caught.value)


def test_unreadable_images_are_left_out_and_listed(tmp_path):
    for split in ("train", "test"):
        write_classes(tmp_path / split)
    spoil(tmp_path / "train")
    train = load(str(tmp_path), "train", skip_bad=True, image_size=4)
    assert len(train) == len(train.images) == 18
    assert [image["id"] for image in train.origin["left_out"]] == ["train/cat/03.png", "train/dog/04.png"]
    assert any("2 unreadable train images left out" in note for note in train.notes)
    # What is bad is made up for.
    assert len(load(str(tmp_path), "train", skip_bad=True, samples=12)) == 12
    assert train.index.tolist() == list(range(18))


def test_only_what_is_asked_for_is_read(tmp_path):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test")
    spoil(tmp_path / "test")
    assert len(load(str(tmp_path), "test", samples=4)) == 4
    assert len(load(str(tmp_path), "train", samples=1000)) == 20


# Tables.


def write_csv(path, rows, header="path,label", separator=","):
    lines = [header, *rows]
    path.write_text("\n".join(line.replace(",", separator) for line in lines) + "\n", encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_lists_images_relative_to_itself(tmp_path, separator):
    rows = []
    for number in range(10):
        save(tmp_path / "pictures" / f"{number}.png", picture(number))
        rows.append(f"pictures/{number}.png,{'ab'[number % 2]},{'train' if number < 6 else 'test'}")
    path = write_csv(tmp_path / "list.csv", rows, "File Name,class,split", separator)
    for name in (path, f"csv:{path}"):
        train, test = both(name)
        assert (len(train), len(test)) == (6, 4)
        assert test.class_names == ("a", "b")
        assert test.ids.tolist() == [f"pictures/{k}.png" for k in (6, 7, 8, 9)]
        assert test.images[:][:, 0, 0, 0].tolist() == [6, 7, 8, 9]


def test_paths_may_be_written_as_on_windows(tmp_path):
    write_classes(tmp_path / "all")
    rows = [f"all\\{name}\\{k:02}.png,{name}" for name in ("cat", "dog") for k in range(10)]
    (tmp_path / "list.csv").write_text("\n".join(("path,label", *rows)))
    train, test = both(tmp_path / "list.csv")
    assert (len(train), len(test), train.class_names) == (16, 4, ("cat", "dog"))


def test_columns_may_be_named(tmp_path):
    save(tmp_path / "x.png")
    rows = [f"x.png,{k},b" for k in range(2)] * 5
    path = write_csv(tmp_path / "t.csv", rows, "wherever,kind,part")
    with pytest.raises(
        JaxtlError, match=r"it has wherever, kind, part: name the one with the image by --image-column"
    ):
        load(str(path))
    columns = {"image_column": "wherever", "label_column": "kind"}
    assert load(str(path), **columns).class_names == ("0", "1")
    with pytest.raises(JaxtlError, match="has no column nope"):
        load(str(path), image_column="wherever", label_column="nope")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line must name the columns"),
        ("path,label\n", "holds no images"),
        ("path,label\na.png\n", "row 2 has 1 cells, the header has 2"),
        ("path,label\na.png,\n", "1 row has nothing in column label, the first is row 1"),
        ("path,label\na.png,x\nb.png,x\n", r"2 of 2 are unreadable images.*a\.png \(no such file\)"),
    ],
)
def test_a_wrong_csv_is_one_line(tmp_path, text, message):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(JaxtlError, match=message) as caught:
        both(path)
    assert "\n" not in str(caught.value)


def test_parquet_holds_paths_or_images(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    files = [save(tmp_path / f"{k}.png", picture(k)) for k in range(10)]
    labels = [k % 2 for k in range(10)]
    parquet.write_table(
        pa.table({"path": [f.name for f in files], "label": labels}), tmp_path / "paths.parquet"
    )
    assert load(str(tmp_path / "paths.parquet")).class_names == ("0", "1")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": f.read_bytes(), "path": f.name} for f in files], kind)
    names = b'{"info": {"features": {"label": {"names": ["odd", "even"], "_type": "ClassLabel"}}}}'
    table = pa.table({"image": images, "label": labels}).replace_schema_metadata({b"huggingface": names})
    (tmp_path / "hub").mkdir()
    parquet.write_table(table.slice(0, 6), tmp_path / "hub" / "train-00000-of-00001.parquet")
    parquet.write_table(table.slice(6), tmp_path / "hub" / "test-00000-of-00001.parquet")
    test = load(str(tmp_path / "hub"), image_size=8)
    assert test.class_names == ("odd", "even")
    assert test.ids.tolist() == ["6.png", "7.png", "8.png", "9.png"]
    assert test.images[:][:, 0, 0, 0].tolist() == [6, 7, 8, 9]


def test_images_in_structs_may_be_called_by_numbers(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    encoded = save(tmp_path / "0.png", picture(0)).read_bytes()
    images = [{"bytes": encoded, "path": number} for number in (None, 0, 7, 8)]
    parquet.write_table(pa.table({"image": images[1:] * 4, "label": [0, 1] * 6}), tmp_path / "t.parquet")
    train = load(str(tmp_path / "t.parquet"), "train", image_size=8)
    assert set(train.ids.tolist()) <= {"0", "7", "8"}
    parquet.write_table(pa.table({"image": images * 3, "label": [0, 1] * 6}), tmp_path / "t.parquet")
    train = load(str(tmp_path / "t.parquet"), "train", image_size=8)
    assert train.ids[0].startswith("row ")


@pytest.mark.parametrize(
    ("image", "label", "words"),
    [
        ({"bytes": "0.png", "path": None}, 0, "column image holds struct.*; give paths, or images"),
        ({"bytes": [1, 2], "path": None}, 0, "column image holds struct"),
        ("0.png", [0, 1], "column label holds list.*; give one class in each row"),
    ],
)
def test_columns_of_other_kinds_are_one_line(tmp_path, image, label, words):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    save(tmp_path / "0.png", picture(0))
    parquet.write_table(pa.table({"image": [image] * 12, "label": [label] * 12}), tmp_path / "t.parquet")
    with pytest.raises(JaxtlError, match=words):
        load(str(tmp_path / "t.parquet"), "train", image_size=8)
