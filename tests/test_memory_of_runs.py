"""Rows on disk, training from them, and what is refused for want of memory."""

import functools

import numpy as np
import pytest

from jaxtl import Dataset, FinetuneConfig, Images, load, load_model
from jaxtl.errors import JaxtlError
from jaxtl.models.weights import arrays_of
from jaxtl.network import batches, footprint, trunk
from jaxtl.network.batches import default_batch_size
from jaxtl.network.finetuning import train_tail
from jaxtl.network.trunk import Trunk, trainable_boundary
from jaxtl.records import rows
from jaxtl.records.rows import StoredRows, disk_takes, first_rows


@functools.cache
def imagenet():
    return load_model()


def stored(array, folder=None):
    rows = StoredRows.empty(array.shape, array.dtype, folder)
    for start in range(0, len(array), 3):
        rows.write(start, array[start : start + 3])
    return rows


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_rows_on_disk_are_indexed_as_an_array_is(dtype, tmp_path):
    array = np.random.default_rng(0).integers(0, 200, (11, 2, 3)).astype(dtype)
    rows = stored(array, tmp_path)
    assert (rows.shape, rows.dtype, rows.ndim, rows.nbytes) == (array.shape, dtype, 3, array.nbytes)
    for key in (slice(2, 7), slice(None), slice(9, 2, -3), [4, 4, 0, 10], np.array([[1, 2], [3, -1]]), 5):
        np.testing.assert_array_equal(rows[key], array[key])
    np.testing.assert_array_equal(np.asarray(first_rows(rows, 4)), array[:4])
    assert rows[:0].shape == (0, 2, 3)


def test_nothing_of_rows_on_disk_is_seen_in_the_folder(tmp_path):
    rows = stored(np.ones((5, 4), np.float32), tmp_path)
    assert not list(tmp_path.iterdir())
    assert rows[:].sum() == 20


def test_a_disk_takes_no_more_than_it_has(tmp_path):
    assert disk_takes(1, tmp_path / "not" / "there" / "yet")
    assert not disk_takes(2**62, tmp_path)


def test_batches_shrink_with_the_area_of_images():
    assert [default_batch_size(Images(size)) for size in (32, 48, 96, 224, 1024)] == [64, 64, 16, 2, 1]


@pytest.mark.parametrize("kept", ["outputs", "images"])
@pytest.mark.slow
def test_training_from_disk_gives_the_bits_of_training_from_memory(kept, tmp_path, monkeypatch):
    model, train, test = imagenet(), load("mnist", "train").take(70), load("mnist", "test").take(20)
    config = FinetuneConfig(trainable="2", epochs=2, batch_size=16)
    frozen = Trunk(model, trainable_boundary(model.config, "2"), Images(32), scratch=tmp_path)
    in_memory = [frozen.source(data.images, kept == "outputs") for data in (train, test)]
    monkeypatch.setattr(batches, "IN_MEMORY", 0)
    if kept == "outputs":
        on_disk = [frozen.source(data.images, True) for data in (train, test)]
        assert isinstance(on_disk[0].x, StoredRows)
    else:
        on_disk = [stored(data.images) for data in (train, test)]
    results = [train_tail(frozen, train, a, test, b, config) for a, b in (in_memory, on_disk)]
    assert results[0][1] == results[1][1]
    for name, values in arrays_of(results[0][0]).items():
        np.testing.assert_array_equal(values, arrays_of(results[1][0])[name], name)


def need(samples, image_size=224):
    model = imagenet()
    frozen = Trunk(model, trainable_boundary(model.config, "10"), Images(image_size))
    return footprint.footprint(frozen, 10, (samples,), FinetuneConfig())


@pytest.mark.parametrize("disk_has_room", [True, False])
def test_memory_hardly_follows_from_the_number_of_images(disk_has_room, monkeypatch):
    monkeypatch.setattr(trunk, "disk_takes", lambda *_: disk_has_room)
    assert need(20_000).total < 3 * 2**30
    assert need(100_000).total - need(20_000).total < 2 * 2**30
    assert need(100, image_size=1024).total < 24 * 2**30


def test_what_is_on_disk_takes_no_memory_and_its_disk_is_told(monkeypatch, tmp_path):
    trunk_here = Trunk(imagenet(), trainable_boundary(imagenet().config, "10"), Images(224), scratch=tmp_path)
    features = 4 * 4 * 1280
    assert need(20_000).total - need(20_000).fixed == 20_000 * features
    assert need(100).total - need(100).fixed == 100 * (features + trunk_here.bytes_per_image())
    # Of the two splits one is in memory.
    taken = 16_000 * trunk_here.bytes_per_image()
    assert trunk_here.bytes_on_disk(16_000, 4_000) == taken
    monkeypatch.setattr(rows, "free_disk", lambda _: 4 * 2**30)
    monkeypatch.setattr(footprint, "free_disk", lambda _: 4 * 2**30)
    assert footprint.disk_notes(trunk_here, (16_000, 4_000)) == [
        "what the frozen layers hand on takes 2.8 GiB of disk until the network is tuned; 4.0 GiB are free"
    ]
    assert not footprint.disk_notes(trunk_here, (500, 500))
    assert trunk_here.keeps(500, 500)
    assert not trunk_here.keeps(30_000, 4_000)
    (note,) = footprint.disk_notes(trunk_here, (30_000, 4_000))
    assert note.startswith(
        "what the frozen layers hand on would take 5.3 GiB of disk, and 4.0 GiB are free: "
    )


def test_what_does_not_fit_is_refused_with_the_number_that_does():
    few, many = need(100), need(5000)

    def smaller():
        return "give a --batch-size of at most 7"

    footprint.check(many, many.total, 5000, "give fewer --samples", smaller)
    with pytest.raises(
        JaxtlError, match=r"^memory: 5,000 images .* need about 2\.\d GiB.* images fit"
    ) as caught:
        footprint.check(many, few.total + 100 * many.per_image, 5000, "give fewer --samples", smaller)
    assert "--samples" in str(caught.value)
    with pytest.raises(JaxtlError, match=r"free: give a --batch-size of at most 7$"):
        footprint.check(many, 2**20, 5000, "give fewer --samples", smaller)


@pytest.fixture
def free(monkeypatch):
    """A function that makes so many bytes be free, of a CPU."""

    def leave(count):
        for module in (batches, footprint):
            monkeypatch.setattr(module, "available_memory", lambda: count)

    return leave


def test_training_is_refused_with_the_batch_that_fits(free):
    free(6 * 2**30)
    frozen = Trunk(imagenet(), trainable_boundary(imagenet().config, "10"), Images(224))
    with pytest.raises(
        JaxtlError, match=r"^memory: .* 6\.0 GiB are free: give a --batch-size of at most [\d,]+$"
    ) as refusal:
        footprint.check_training(frozen, 10, (50_000, 100), FinetuneConfig(batch_size=100_000))
    size = int(str(refusal.value).rsplit(" ", 1)[1].replace(",", ""))
    footprint.check_training(frozen, 10, (50_000, 100), FinetuneConfig(batch_size=size))
    with pytest.raises(JaxtlError):
        footprint.check_training(frozen, 10, (50_000, 100), FinetuneConfig(batch_size=size + size // 10))


def test_images_too_large_are_refused_with_the_size_that_fits(free):
    free(2**30)
    config = imagenet().config
    with pytest.raises(JaxtlError, match=r"free: give an --image-size of at most (\d+)$") as refusal:
        footprint.check_features(config, Images(1024), 10, None, False)
    size = int(str(refusal.value).rsplit(" ", 1)[1])
    footprint.check_features(config, Images(size), 10, None, False)
    free(2**20)
    with pytest.raises(JaxtlError, match=r"a machine with .* is the least"):
        footprint.check_features(config, Images(32), 10, None, False)


def test_training_on_images_too_large_is_refused_with_the_size_that_fits(free):
    free(3 * 2**30)
    whole, config = Trunk(imagenet(), 0, Images(512)), FinetuneConfig(trainable="all", batch_size=8)
    with pytest.raises(
        JaxtlError, match=r"give an --image-size of at most (\d+), or fewer --trainable layers$"
    ) as refusal:
        footprint.check_training(whole, 3, (9, 15), config)
    size = int(str(refusal.value).split(" at most ")[1].split(",")[0])
    footprint.check_training(Trunk(imagenet(), 0, Images(size)), 3, (9, 15), config)


def test_a_cpus_batches_follow_what_is_free(free):
    told = []
    free(64 * 2**30)
    assert batches.batch_size_for(Images(48), None, told.append) == 64
    assert batches.batch_size_for(Images(224), 500, told.append) == 500
    assert not told
    free(2**30)
    size = batches.batch_size_for(Images(224), 500, told.append)
    assert 1 < size < 500
    assert batches.bytes_of_batches(Images(224), size) <= 2**29
    assert told == [f"little memory is free: batches of {size} images instead of 500, which round otherwise"]
    free(0)
    assert batches.batch_size_for(Images(1024), None) == 1


def test_images_made_when_asked_for_are_not_all_made_for_a_selection():
    data = load("infinite:1000", "train").take(5)
    assert isinstance(data, Dataset)
    assert not isinstance(data.images, np.ndarray)
