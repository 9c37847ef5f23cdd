"""Folders of images: layout, sizes, pixel formats, and what is said of files that cannot be read."""

import numpy as np
import pytest
from PIL import Image

from jaxtl.data import load
from jaxtl.data.decode import decode
from jaxtl.data.resize import resize_image
from jaxtl.errors import JaxtlError

RNG = np.random.default_rng(0)


def colour(height=6, width=8):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def write_set(root, test="test", image=colour):
    """Two classes, two training images and one test image each. Returns what was written, by path."""
    written = {}
    for split, count in (("train", 2), (test, 1)):
        for name in ("dog", "cat"):
            for number in range(count):
                path = root / split / name / f"{number}.png"
                written[path] = image()
                save(path, written[path])
    return written


@pytest.mark.parametrize("test", ["test", "validation", "val"])
def test_classes_are_folders_sorted_by_name(tmp_path, test):
    written = write_set(tmp_path, test)
    train, tested = load(f"folder:{tmp_path}", "train"), load(f"folder:{tmp_path}", "test")
    assert train.class_names == tested.class_names == ("cat", "dog")
    assert train.labels.tolist() == [0, 1, 0, 1]
    assert tested.labels.tolist() == [0, 1]
    order = [tmp_path / "train" / name / f"{number}.png" for number in (0, 1) for name in ("cat", "dog")]
    np.testing.assert_array_equal(train.images, [written[path] for path in order])


def test_images_are_read_at_the_size_that_is_asked_for(tmp_path):
    write_set(tmp_path)
    assert load(f"folder:{tmp_path}").images.shape == (2, 6, 8, 3)
    assert load(f"folder:{tmp_path}", image_size=4).images.shape == (2, 4, 4, 3)


def test_images_of_many_sizes_need_image_size_and_are_resized_to_it(tmp_path):
    written = write_set(tmp_path)
    odd = tmp_path / "train" / "cat" / "0.png"
    written[odd] = colour(11, 5)
    save(odd, written[odd])
    with pytest.raises(JaxtlError, match=r"differ in size .*11x5.*6x8.*give image_size") as caught:
        load(f"folder:{tmp_path}", "train")
    assert str(odd) in str(caught.value)
    images = load(f"folder:{tmp_path}", "train", image_size=7, antialias="off").images
    assert images.shape == (4, 7, 7, 3)
    np.testing.assert_array_equal(images[0], resize_image(written[odd], 7))
    np.testing.assert_array_equal(images[3], resize_image(written[tmp_path / "train" / "dog" / "1.png"], 7))


def test_gray_images_have_one_channel_and_three_among_colour(tmp_path):
    written = write_set(tmp_path, image=lambda: colour()[..., 0])
    assert load(f"folder:{tmp_path}", "train").images.shape == (4, 6, 8, 1)
    save(tmp_path / "train" / "cat" / "0.png", colour())
    images = load(f"folder:{tmp_path}", "train").images
    assert images.shape == (4, 6, 8, 3)
    gray = written[tmp_path / "train" / "dog" / "1.png"]
    np.testing.assert_array_equal(images[3], np.repeat(gray[..., None], 3, axis=2))


def test_jpeg_is_read_and_other_files_are_passed_over(tmp_path):
    write_set(tmp_path)
    save(tmp_path / "train" / "cat" / "2.JPEG", np.full((6, 8, 3), 200, np.uint8))
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "train" / "cat" / "._0.png").write_bytes(b"not one either")
    (tmp_path / "train" / ".cache").mkdir()
    dataset = load(f"folder:{tmp_path}", "train")
    assert dataset.labels.tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_allclose(dataset.images[4], 200, atol=2)


def test_the_first_images_hold_each_class_s_share(tmp_path):
    for split in ("train", "test"):
        for name, count in (("many", 12), ("few", 4)):
            for number in range(count):
                save(tmp_path / split / name / f"{number:02}.png", colour())
    labels = load(f"folder:{tmp_path}").labels
    assert [(labels[:n] == 0).sum() for n in (4, 8, 12, 16)] == [1, 2, 3, 4]


def png(tmp_path, image, **options):
    path = tmp_path / "image.png"
    image.save(path, **options)
    return path


def test_transparent_pixels_are_laid_over_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    path = png(tmp_path, Image.fromarray(rgba))
    np.testing.assert_allclose(decode(path, 3)[0], [[10, 20, 30], [255] * 3, [127] * 3], atol=1)
    gray_alpha = png(tmp_path, Image.fromarray(rgba[..., [0, 3]], "LA"))
    np.testing.assert_allclose(decode(gray_alpha, 1)[0, :, 0], [10, 255, 127], atol=1)


def test_palettes_become_their_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 7, 8, 9])
    expected = [[255, 0, 0], [0, 255, 0], [7, 8, 9]]
    assert decode(png(tmp_path, image), 3)[0].tolist() == expected
    expected[1] = [255, 255, 255]
    assert decode(png(tmp_path, image, transparency=1), 3)[0].tolist() == expected


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [([0, 257, 32896, 65535], np.uint16, [0, 1, 128, 255]), ([False, True], bool, [0, 255])],
    ids=["16 bits", "1 bit"],
)
def test_gray_of_other_depths_fills_the_range(tmp_path, values, dtype, expected):
    path = png(tmp_path, Image.fromarray(np.array([values], dtype)))
    assert decode(path, 1)[0, :, 0].tolist() == expected
    assert decode(path, 3)[0].tolist() == [[value] * 3 for value in expected]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.array([[0.5, 0.25]], np.float32), "floating-point pixels"),
        (np.array([[0, 70000]], np.int32), "beyond 16 bits"),
    ],
)
def test_pixels_of_unknown_range_are_refused(tmp_path, image, message):
    write_set(tmp_path)
    path = tmp_path / "train" / "cat" / "0.tiff"
    save(path, np.resize(image, (6, 8)))
    with pytest.raises(JaxtlError, match=message) as caught:
        load(f"folder:{tmp_path}", "train").images[:]
    assert str(path) in str(caught.value)


def test_unreadable_images_are_all_found_in_one_run(tmp_path):
    write_set(tmp_path)
    for number in range(51):
        (tmp_path / "train" / "dog" / f"x{number:02}.jpg").write_bytes(b"<html>404</html>")
    with pytest.raises(
        JaxtlError, match=r"51 of 57 are unreadable images.*x00\.jpg.*x49\.jpg.*; and 1 more$"
    ) as caught:
        load(f"folder:{tmp_path}", "train")
    assert "\n" not in str(caught.value)


def test_a_truncated_image_is_named(tmp_path):
    write_set(tmp_path)
    path = tmp_path / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(JaxtlError, match="unreadable images") as caught:
        load(f"folder:{tmp_path}", "train").images[:]
    assert str(path) in str(caught.value)


def test_both_splits_must_have_the_same_classes(tmp_path):
    write_set(tmp_path)
    save(tmp_path / "train" / "owl" / "0.png", colour())
    save(tmp_path / "test" / "emu" / "0.png", colour())
    with pytest.raises(
        JaxtlError, match=r"differ in their classes: only .*training .* have owl; only .*test .* have emu"
    ):
        load(f"folder:{tmp_path}", "train")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ([], "holds no images and has no class folders"),
        (["train/cat"], "holds no images"),
        (["train", "test"], "has no class folders"),
        (["train/cat", "test/cat"], "holds no images"),
    ],
)
def test_a_wrong_layout_is_one_clear_line(tmp_path, make, message):
    for name in make:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(JaxtlError, match=message):
        load(f"folder:{tmp_path}", "train")
