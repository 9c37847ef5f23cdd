"""Files made by hand to do harm: what each kind of reader says of them, and that nothing is paid for them."""

import io
import json
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

import jaxtl
from jaxtl.data.decode import MOST_PIXELS, decode
from jaxtl.data.feature_files import read_features
from jaxtl.errors import JaxtlError
from jaxtl.records.documents import parsed
from jaxtl.records.files import read_json_object, read_npz
from tests.faults.mutations import archived

VALUES, LABELS = np.ones((20, 3), np.float32), np.zeros(20, np.int32)


def npy(array, **changes):
    """An array's file; `changes` are written into its header, whatever follows."""
    out = io.BytesIO()
    np.lib.format.write_array(out, array)
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **changes}
    text = f"{header!r}\n".encode()
    body = out.getvalue()[10 + int.from_bytes(out.getvalue()[8:10], "little") :]
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def zeros(nbytes):
    """An array's file of so many bytes that pack into few."""
    return npy(np.zeros(0, np.uint8), shape=(nbytes,)) + bytes(nbytes)


PICKLED = npy(np.zeros(1), descr="|O")
GOOD = ("values.npy", npy(VALUES)), ("labels.npy", npy(LABELS))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([("values.npy", npy(VALUES, shape=(10**9, 1000)))], "asks for float32 .1000000000, 1000."),
        ([("values.npy", npy(VALUES, shape=(2, 3)))], "24 bytes, and 240 are there"),
        ([("values.npy", npy(VALUES, shape=(10**17, 10**17)))], "which no array has"),
        ([("values.npy", npy(VALUES, descr="|S0", shape=(2**40,)))], "which no array has"),
        ([("values.npy", npy(VALUES, descr="<U1000000"))], "bytes, and 240 are there"),
        ([("values.npy", npy(VALUES, shape=(-20, -3)))], "header is damaged"),
        ([("values.npy", npy(VALUES, descr=[("a", "<f4")]))], "kind that is not read"),
        ([("values.npy", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535)], "header is cut off or damaged"),
        ([("values.npy", PICKLED)], "Python objects"),
        ([*GOOD, GOOD[0]], "array values: it stands there twice"),
        ([("x/values.npy", npy(VALUES))], r"has no array values \(it has x/values\)"),
        ([GOOD[0], ("labels.npy", npy(np.zeros(20, "M8[s]")))], "not an integer type"),
        ([GOOD[0], ("ids.npy", npy(np.full(20, 2**31 - 1, np.int32), descr="<U1"))], "no text"),
        ([*GOOD, ("meta.npy", npy(np.array('{"a": 1, "a": 2}')))], "'a' stands there twice"),
    ],
)
def test_an_archive_that_lies_is_one_line(tmp_path, parts, words):
    (tmp_path / "f.npz").write_bytes(archived(parts))
    with pytest.raises(JaxtlError, match=words) as refusal:
        jaxtl.Features.load(tmp_path / "f.npz")
    assert str(refusal.value).startswith(f"{tmp_path / 'f.npz'}: ")
    assert len(str(refusal.value)) < 500


def test_an_archive_of_more_members_than_any_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxtl.records.members._MOST", 1)
    (tmp_path / "f.npz").write_bytes(archived([*GOOD]))
    with pytest.raises(JaxtlError, match="it holds 2 members"):
        jaxtl.Features.load(tmp_path / "f.npz")


def test_only_what_is_wanted_is_read(tmp_path):
    others = ("extra.npy", PICKLED), ("../up.npy", b"no array"), ("bomb.npy", zeros(2**24))
    path = tmp_path / "f.npz"
    path.write_bytes(archived([*GOOD, *others], zipfile.ZIP_DEFLATED))
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(jaxtl.Features.load(path).values, VALUES)
        np.testing.assert_array_equal(read_features(path).values, VALUES)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_an_array_that_swells_is_refused_before_it_does(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxtl.records.members._LARGE", 2**24)
    (tmp_path / "f.npz").write_bytes(archived([("values.npy", zeros(2**25))], zipfile.ZIP_DEFLATED))
    tracemalloc.start()
    try:
        with pytest.raises(JaxtlError, match=r"would become 33,5.*: no measured array"):
            read_npz(tmp_path / "f.npz", ("values",))
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keeps", [True, False])
def test_a_text_that_stands_in_every_row_is_refused_before_it_does(tmp_path, monkeypatch, keeps):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("jaxtl.data.parquet._LARGE", 2**24)
    column = pa.DictionaryArray.from_arrays(np.zeros(20_000, np.int32), ["x" * 2**16])
    table = pa.table({"path": column, "label": column})
    parquet.write_table(table, tmp_path / "t.parquet", store_schema=keeps)
    with pytest.raises(JaxtlError, match=r"would become more than 16,777,216"):
        jaxtl.load(f"parquet:{tmp_path / 't.parquet'}", "train")
    assert pa.default_memory_pool().max_memory() < 2**29


def test_what_memory_cannot_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxtl.machine.memory.available_memory", lambda: 100)
    np.savez(tmp_path / "f.npz", values=VALUES)
    with pytest.raises(JaxtlError, match="MiB of memory, and 0 are free"):
        jaxtl.Features.load(tmp_path / "f.npz")


def test_arrays_of_other_programs_are_read(tmp_path):
    rows = npy(np.asfortranarray(VALUES))[:10]
    assert rows.startswith(b"\x93NUMPY")
    fortran = io.BytesIO()
    np.lib.format.write_array(fortran, np.asfortranarray(np.arange(6.0).reshape(2, 3)), version=(2, 0))
    header = b"{'shape': (2L, 3L), 'fortran_order': False, 'descr': '>i4'}\n"
    python2 = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    python2 += np.arange(6, dtype=">i4").tobytes()
    (tmp_path / "f.npz").write_bytes(archived([("a.npy", fortran.getvalue()), ("b.npy", python2)]))
    arrays, _ = read_npz(tmp_path / "f.npz", ("a", "b"))
    for array in arrays.values():
        np.testing.assert_array_equal(array, np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "'a' stands there twice"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"a": ' + "[" * 60 + "]" * 60 + "}", "nested too deeply"),
        ('{"a": ' + "7" * 10**6 + "}", "a whole number has 1,000,000 digits"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ("[1]", "it is a list"),
        ('{"a": "\0"}', "control character"),
        ("", "Expecting value"),
    ],
)
def test_json_that_no_program_wrote_is_one_line(tmp_path, text, words):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(JaxtlError, match=words) as refusal:
        read_json_object(tmp_path / "r.json")
    assert len(str(refusal.value)) < 300


def test_many_names_of_which_one_repeats_are_counted_once():
    names = [*range(200_000), 199_999]
    began = time.process_time()
    with pytest.raises(ValueError, match="'199999' stands there twice"):
        parsed("{" + ",".join(f'"{name}":0' for name in names) + "}")
    assert time.process_time() - began < 20  # it took minutes


def test_a_mark_of_the_byte_order_changes_nothing(tmp_path):
    (tmp_path / "r.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": 1}).encode())
    assert read_json_object(tmp_path / "r.json") == {"a": 1}


# Images.

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def test_postscript_under_another_name_is_no_image(tmp_path, monkeypatch):
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("an interpreter was started"))
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"{number}.png").write_bytes(EPS)
    with pytest.raises(JaxtlError, match="4 of 4 are unreadable images"):
        jaxtl.load(f"folder:{tmp_path}", "train", image_size=8)


def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path):
    small = io.BytesIO()
    Image.new("L", (8, 8)).save(small, "BMP")
    data = bytearray(small.getvalue())
    data[18:26] = (20_000).to_bytes(4, "little") * 2
    with pytest.raises(ValueError, match=f"more than {MOST_PIXELS:,} pixels; make it smaller"):
        decode(bytes(data), 1)


@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_pillow_does_not_warn_of_a_size_that_is_allowed(tmp_path, monkeypatch, fit):
    # It warns from half of what it refuses on, which for real are 89 million pixels.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (16, 12), (number, 9, 9)).save(tmp_path / name / f"{number}.png")
    for size in (8, None):
        images = jaxtl.load(f"folder:{tmp_path}", "train", image_size=size, fit=fit, antialias="on").images
        assert images[:].shape[1:3] == ((8, 8) if size else (12, 16))
    with pytest.warns(Image.DecompressionBombWarning):  # what is not jaxtl's stays as it was
        Image.open(tmp_path / "a" / "0.png").close()


def test_16_bit_gray_is_rounded_as_by_division(tmp_path):
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    out = io.BytesIO()
    Image.fromarray(values).save(out, "PNG")
    np.testing.assert_array_equal(decode(out.getvalue(), 1)[..., 0], np.rint(values / 257))
