"""A store of many files is one array, goes on where it was stopped, and says what it lacks."""

import json
import os
import threading

import numpy as np
import pytest

from jaxtl.errors import JaxtlError
from jaxtl.machine.together import Place
from jaxtl.neighbors import exact_neighbors, neighbors_together
from jaxtl.records import shards

N, D = 1000, 64
META = {"model": "drawn", "class_names": ["a", "b"]}
VALUES = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
ROWS = {"labels": np.arange(N, dtype=np.int32) % 2, "index": np.arange(N, dtype=np.int32), "ids": None}


def write(path, plan, numbers):
    for number in numbers:
        start, stop = plan.bounds(number)
        middle = (start + stop) // 2
        shards.write(path, plan, number, iter([VALUES[start:middle], VALUES[middle:stop]]))


@pytest.fixture
def begun(tmp_path):
    """A store by three processes, and its plan."""
    path = tmp_path / "F.shards"
    return path, shards.begin(path, shards.planned(N, D, 3, META), first=True)


def test_many_files_are_one_array(begun):
    path, plan = begun
    assert plan.count == 2  # of 512 rows: the bytes of each are whole pages
    write(path, plan, range(plan.count))
    shards.complete(path, plan, ROWS)
    features = shards.load(path)
    np.testing.assert_array_equal(features.values, VALUES)
    np.testing.assert_array_equal(features.labels, ROWS["labels"])
    assert features.meta == META
    assert not features.values.flags.writeable
    assert b"".join(file.read_bytes() for file in sorted(path.glob("*.f32"))) == VALUES.tobytes()


def test_it_is_let_go_of_and_opened_again(begun):
    """Each opening takes a place in memory, and gives it back."""
    path, plan = begun
    write(path, plan, range(plan.count))
    shards.complete(path, plan, ROWS)

    def mapped():
        with open("/proc/self/maps") as maps:
            return sum(str(path) in line for line in maps)

    some = shards.load(path).values[3:5]
    assert mapped() == plan.count  # what is cut out of it holds it
    np.testing.assert_array_equal(some, VALUES[3:5])
    del some
    assert mapped() == 0


def test_who_was_stopped_goes_on_with_what_is_missing(begun):
    path, plan = begun
    write(path, plan, [1])
    again = shards.begin(path, shards.planned(N, D, 1, META), first=True)
    assert again == plan  # by as many processes as before or others
    assert shards.left(path, again) == [0]
    with pytest.raises(
        JaxtlError, match=r"is not whole, 1 of 2 files are there; give the same jaxtl extract"
    ):
        shards.load(path)
    write(path, again, [0])
    shards.complete(path, again, ROWS)
    np.testing.assert_array_equal(shards.load(path).values, VALUES)


def test_a_store_of_images_that_were_edited_meanwhile_is_not_gone_on_with(tmp_path):
    path = tmp_path / "F.shards"
    for images, is_first in (("one", True), ("one", False), ("", True)):
        assert shards.begin(path, shards.planned(N, D, 3, META, images), is_first).images == "one"
    with pytest.raises(JaxtlError, match="was begun with other images; restore them, delete it or give"):
        shards.begin(path, shards.planned(N, D, 3, META, "other"), first=True)


def test_the_others_wait_for_the_first_and_the_first_for_the_others(tmp_path):
    path, plan = tmp_path / "F.shards", shards.planned(N, D, 2, META)
    other = threading.Thread(target=lambda: write(path, shards.begin(path, plan, first=False), [1]))
    other.start()
    shards.begin(path, plan, first=True)
    write(path, plan, [0])
    shards.complete(path, plan, ROWS)
    other.join()
    np.testing.assert_array_equal(shards.load(path).values, VALUES)


def test_what_was_begun_with_something_else_is_refused(begun, tmp_path):
    path, _ = begun
    with pytest.raises(JaxtlError, match=r"was begun with model drawn, not other; delete it or give another"):
        shards.begin(path, shards.planned(N, D, 3, {**META, "model": "other"}), first=True)
    more = {**META, "batch_size": 2}
    with pytest.raises(JaxtlError, match=r"was begun with batch_size none, not 2; delete it or give another"):
        shards.begin(path, shards.planned(N, D, 3, more), first=True)
    shards.begin(path.with_name("H.shards"), shards.planned(N, D, 3, more), first=True)
    with pytest.raises(JaxtlError, match=r"was begun with batch_size 2, not none; delete it or give another"):
        shards.begin(path.with_name("H.shards"), shards.planned(N, D, 3, META), first=True)
    with pytest.raises(JaxtlError, match=r"was begun with rows 1000, not 900"):
        shards.begin(path, shards.planned(900, D, 3, META), first=False)
    (tmp_path / "G.shards").mkdir()
    (tmp_path / "G.shards" / "letter.txt").touch()
    with pytest.raises(JaxtlError, match="holds other files; give another path"):
        shards.begin(tmp_path / "G.shards", shards.planned(N, D, 3, META), first=True)


def test_a_damaged_store_is_refused(begun):
    path, plan = begun
    write(path, plan, range(plan.count))
    shards.complete(path, plan, ROWS)
    os.truncate(path / "00001.f32", 100)
    with pytest.raises(JaxtlError, match="is not whole, 1 of 2 files"):
        shards.load(path)
    # Of so many files nobody looks for each.
    plan_of = {"n": 2**50, "d": D, "rows": plan.rows, "meta": {}}
    (path / "plan.json").write_text(json.dumps(plan_of))
    with pytest.raises(JaxtlError, match=r"is not whole, 2 of [\d,]{15,} files"):
        shards.load(path)
    for wrong in ({"n": -1}, {"rows": 7}, {"d": "many"}, {"other": 1}):
        (path / "plan.json").write_text(json.dumps({"n": N, "d": D, "rows": plan.rows, "meta": {}, **wrong}))
        with pytest.raises(JaxtlError, match=r"plan.json: no plan of a store"):
            shards.load(path)


@pytest.mark.parametrize("k", [7, 40])
def test_neighbours_in_a_ring_are_exact(k):
    """Copies among them, and a group far from all others, of which rounding hides the distances."""
    values = VALUES[:331].copy()
    values[40:60], values[200:] = values[3], values[200:] + 5000
    nearest, expected = neighbors_together(values, k), exact_neighbors(values, k, engine="cpu")
    np.testing.assert_array_equal(nearest.indices, expected.indices)
    np.testing.assert_array_equal(nearest.distances, expected.distances)
    values[5, 5] = np.nan
    with pytest.raises(JaxtlError, match="hold NaN or infinite"):
        neighbors_together(values, k)


def test_known_neighbours_are_taken(jaxtl, files, tmp_path):
    nearest, alike = tmp_path / "n.npz", ["reduce", files / "good.npz", "--method", "lle", "--set"]
    assert jaxtl("neighbors", files / "good.npz", "--n-neighbors", 8, "--out", nearest)[0] == 0
    how = [*alike, "n_neighbors=8", "--out"]
    assert jaxtl(*how, tmp_path / "one.npz")[0] == 0
    assert jaxtl(*how, tmp_path / "two.npz", "--neighbors", nearest)[0] == 0
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    code, _, said = jaxtl(
        "reduce", files / "nan.npz", "--method", "pca", "--neighbors", nearest, "--out", nearest
    )
    assert (code, "is --neighbors too" in said) == (2, True)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (("node1:9911", None, 0), r"give all three, or --distributed alone"),
        (("node1:9911", 2, 2), r"^--process-id 2: must be 0 to 1"),
        (("node1", 2, 0), r"^--coordinator node1: must be HOST:PORT, such as node1:9911"),
    ],
)
def test_a_place_among_processes_is_checked(given, fault):
    with pytest.raises(JaxtlError, match=fault):
        Place(*given)


def test_several_processes_need_a_folder(jaxtl, few_digits, tmp_path):
    place = ("--coordinator", "localhost:9911", "--processes", 2, "--process-id", 0)
    code, _, said = jaxtl("extract", "--dataset", few_digits, "--out", tmp_path / "F.npy", *place)
    assert code == 2
    assert "several processes write a folder that ends in .shards" in said
