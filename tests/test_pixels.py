"""Images in files, read one by one: size, shrinking, orientation, transparency, fit, and what is not read."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxtl.data import decode
from jaxtl.data.files import ImageFiles, Reading, joined, read
from jaxtl.data.preprocess import preprocess
from jaxtl.errors import JaxtlError
from jaxtl.settings import Images, RunConfig, images_of

RNG = np.random.default_rng(0)
# EXIF orientation -> how upright pixels are stored under it.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def smooth(height=40, width=60):
    small = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def save(path, pixels, **options):
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


def files(folder, count, **reading):
    paths = [save(folder / f"{number}.png", smooth()) for number in range(count)]
    return ImageFiles(tuple(paths), Reading(**reading))


def test_images_are_indexed_as_an_array_is(tmp_path):
    images = files(tmp_path, 6, image_size=8)
    whole = np.asarray(images)
    assert (images.shape, images.dtype, images.ndim, images.nbytes) == (
        whole.shape,
        whole.dtype,
        4,
        whole.nbytes,
    )
    for key in (slice(1, 4), slice(None, None, -2), [5, 0, 0], np.array([[1, -1]]), 3):
        np.testing.assert_array_equal(images[key], whole[key])
    with pytest.raises(IndexError):
        images[6]
    with pytest.raises(TypeError):
        images[0, 1]


def test_a_selection_reads_its_own_files_alone(tmp_path):
    images = files(tmp_path, 4, image_size=8)
    for path in images.paths[2:]:
        path.unlink()
    assert np.asarray(images.first(2)).shape == (2, 8, 8, 3)
    with pytest.raises(JaxtlError, match=r"unreadable images.*2\.png.*3\.png"):
        images[:]


def test_a_file_gives_the_same_pixels_whatever_the_others_are(tmp_path):
    path, other = save(tmp_path / "a.jpg", smooth()), save(tmp_path / "b.png", smooth(33, 21))
    alone = ImageFiles((path,), Reading(16))[0]
    np.testing.assert_array_equal(ImageFiles((other, path), Reading(16))[1], alone)


def test_images_of_many_sizes_need_image_size(tmp_path):
    paths = save(tmp_path / "a.png", smooth()), save(tmp_path / "b.png", smooth(33, 21))
    with pytest.raises(JaxtlError, match=r"b\.png: images differ in size \(40x60 and 33x21.*give image_size"):
        ImageFiles(paths, Reading())[:]


def test_shrinking_averages_what_each_new_pixel_covers(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, 0::4] = stripes[:, 1::4] = 255
    path = save(tmp_path / "stripes.png", stripes)
    shifted = save(tmp_path / "shifted.png", np.roll(stripes, 1, 1))

    def moved(antialias):
        reading = Reading(8, antialias=antialias)
        difference = read(path, reading).astype(int) - read(shifted, reading)
        return np.abs(difference[:, 1:-1]).max()

    assert moved(antialias=True) < 10
    assert moved(antialias=False) > 100


@pytest.mark.parametrize(("height", "width", "size"), [(64, 40, 24), (30, 50, 64)])
def test_arrays_and_files_are_averaged_alike(tmp_path, height, width, size):
    pixels = smooth(height, width)
    file = read(save(tmp_path / "image.png", pixels), Reading(size)).astype(float)
    array = np.asarray(preprocess(pixels[None], size, "unit", antialias=True))[0] * 255
    np.testing.assert_allclose(file, array, atol=1.01)


def test_a_large_jpeg_decoded_in_part_is_near_the_whole(tmp_path):
    path = save(tmp_path / "large.jpg", smooth(1200, 1600), quality=95)
    whole = save(tmp_path / "large.png", np.asarray(Image.open(path)))
    difference = read(path, Reading(48)).astype(int) - read(whole, Reading(48))
    assert np.abs(difference).mean() < 1


@pytest.mark.parametrize("orientation", sorted(STORED))
def test_photos_are_turned_upright(tmp_path, orientation):
    upright, exif = smooth(), Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "photo.png", STORED[orientation](upright), exif=exif)
    images = ImageFiles((path,), Reading())
    np.testing.assert_array_equal(images[0], upright)
    np.testing.assert_array_equal(read(path, Reading(orientation=False)), STORED[orientation](upright))


def test_a_damaged_orientation_is_passed_over(tmp_path):
    path = save(tmp_path / "photo.jpg", smooth(), exif=b"Exif\0\0MM\0*\xff\xff")
    assert read(path, Reading(8)).shape == (8, 8, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_transparency_is_the_same_however_many_rows_are_laid_on_white_at_a_time(mode, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (97, 61, 4), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image = image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)
    if mode in ("P", "RGB", "L"):
        image.info["transparency"] = image.getpixel((5, 5))
    file = io.BytesIO()
    image.save(file, "PNG")
    overlay = image.convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", overlay.size, "white"), overlay)
    monkeypatch.setattr(decode, "_BAND", 1000)
    for channels, expected in ((3, whole.convert("RGB")), (1, whole.convert("L"))):
        read = decode.decode(file.getvalue(), channels)
        np.testing.assert_array_equal(read, np.asarray(expected).reshape(97, 61, channels))


def test_transparency_is_laid_on_white_or_dropped(tmp_path):
    rgba = np.full((6, 6, 4), (10, 20, 30, 0), np.uint8)
    path = save(tmp_path / "clear.png", rgba)
    assert (read(path, Reading(6)) == 255).all()
    assert read(path, Reading(6, alpha="drop"))[0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize("array", [False, True])
def test_fit_stretches_crops_or_pads(tmp_path, array):
    pixels = np.full((20, 40, 3), 200, np.uint8)
    pixels[:, :10] = 50  # what a crop leaves out
    path = save(tmp_path / "wide.png", pixels)

    def fitted(fit, size=20):
        if array:
            return np.rint(np.asarray(preprocess(pixels[None], size, "unit", True, fit))[0] * 255)
        return read(path, Reading(size, fit=fit))

    assert (fitted("crop") == 200).all()
    assert (fitted("crop", 10) == 200).all()
    stretched, padded = fitted("stretch"), fitted("pad")
    assert (stretched[:, :4] == 50).all()
    assert (stretched[:, 6:] == 200).all()
    assert (padded[:5] == 0).all()
    assert (padded[15:] == 0).all()
    assert (padded[5:15, 6:] == 200).all()


def test_gray_and_colour_have_the_channels_asked_for(tmp_path):
    gray = save(tmp_path / "gray.png", smooth()[..., 0])
    one, three = read(gray, Reading(16, channels=1)), read(gray, Reading(16))
    np.testing.assert_array_equal(np.repeat(one, 3, axis=2), three)


def test_two_sets_in_files_are_joined_unread(tmp_path):
    images = files(tmp_path, 4, image_size=8)
    together = joined(images.first(1), images)
    assert isinstance(together, ImageFiles)
    np.testing.assert_array_equal(together[1:], images[:])


def test_settings_are_checked_and_older_runs_keep_theirs():
    with pytest.raises(JaxtlError, match="fit must be one of stretch, crop, pad, got 'zoom'"):
        RunConfig(fit="zoom")
    assert RunConfig(fit="crop").images.fit == "crop"
    older = images_of({"image_size": 96, "preprocessing": "unit"})
    assert older == Images(96, "unit", antialias="off", orientation="stored")
