"""Arrays that are odd by their kind and not by their numbers, and settings of every kind."""

import numpy as np
from scipy import sparse

PLAIN = np.random.default_rng(0).normal(size=(24, 5))
LABELS = np.arange(24) % 3


def _with(value):
    values = PLAIN.copy()
    values[3, 1] = value
    return values


def _read_only():
    values = PLAIN.copy()
    values.flags.writeable = False
    return values


def _mapped():
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        values = np.memmap(file, np.float64, "w+", shape=PLAIN.shape)
        values[:] = PLAIN
        return values


class NoArray:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("it lies\non a GPU")


# The same numbers in other clothes: the answer is that of the plain ones, or a refusal.
SAME = {
    "list": lambda: PLAIN.tolist(),
    "Fortran": lambda: np.asfortranarray(PLAIN),
    "strided": lambda: np.repeat(PLAIN, 2, axis=0)[::2],
    "reversed": lambda: PLAIN[::-1][::-1],
    "big endian": lambda: PLAIN.astype(">f8"),
    "read-only": _read_only,
    "mapped": _mapped,
    "matrix": lambda: PLAIN.view(np.matrix),
    "nothing masked": lambda: np.ma.masked_array(PLAIN),
    "extended": lambda: PLAIN.astype(np.longdouble),
    "object": lambda: PLAIN.astype(object),
    "sparse": lambda: sparse.csr_matrix(PLAIN),
}
# Others: an answer, or a refusal.
OTHERS = {
    "half": lambda: PLAIN.astype(np.float16),
    "int64": lambda: (PLAIN * 100).astype(np.int64),
    "uint8": lambda: (PLAIN * 40).clip(0).astype(np.uint8),
    "bool": lambda: PLAIN > 0,
    "complex": lambda: PLAIN + 1j,
    "NaN": lambda: _with(np.nan),
    "infinite": lambda: _with(-np.inf),
    "huge": lambda: PLAIN * 1e200,
    "tiny": lambda: PLAIN * 1e-200,
    "largest": lambda: _with(np.finfo(float).max),
    "masked": lambda: np.ma.masked_array(PLAIN, PLAIN > 1),
    "objects": lambda: np.array([[object()] * 5] * 24),
    "texts": lambda: PLAIN.astype(str),
    "dates": lambda: np.zeros((24, 5), "M8[s]"),
    "ragged": lambda: [[1.0], [1.0, 2.0]] * 12,
    "none": lambda: None,
    "a number": lambda: 3.0,
    "a text": lambda: "features.npz",
    "1-d": lambda: PLAIN[:, 0],
    "3-d": lambda: PLAIN.reshape(24, 5, 1),
    "no rows": lambda: PLAIN[:0],
    "no columns": lambda: PLAIN[:, :0],
    "one column": lambda: PLAIN[:, :1],
    "dict": lambda: {"values": PLAIN},
    "elsewhere": NoArray,
}
ODD_LABELS = {
    "list": lambda: LABELS.tolist(),
    "texts": lambda: np.array(["a", "b", "c"])[LABELS],
    "list of texts": lambda: np.array(["a", "b", "c"])[LABELS].tolist(),
    "objects of text": lambda: np.array(["a", "b", "c"], object)[LABELS],
    "bytes": lambda: np.array([b"a", b"b", b"c"])[LABELS],
    "mixed": lambda: np.array(["a", 1, None], object)[LABELS],
    "floats": lambda: LABELS.astype(float),
    "NaN": lambda: np.where(LABELS, np.nan, 1.0),
    "none": lambda: None,
    "nones": lambda: [None] * 24,
    "bool": lambda: LABELS > 0,
    "uint64": lambda: LABELS.astype(np.uint64) + 2**63,
    "negative": lambda: LABELS - 2,
    "one class": lambda: LABELS * 0,
    "own": lambda: np.arange(24),
    "too few": lambda: LABELS[:-1],
    "2-d": lambda: LABELS[:, None],
    "masked": lambda: np.ma.masked_array(LABELS, LABELS > 1),
    "a number": lambda: 1,
    "empty": lambda: [],
}
SETTINGS = (
    None,
    "a",
    "",
    0,
    1,
    2,
    -1,
    -2,
    2.5,
    True,
    np.nan,
    np.inf,
    10**9,
    10**30,
    [],
    (1, 2),
    {},
    np.int64(2),
    b"x",
)
