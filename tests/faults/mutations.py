"""Valid files made invalid: seeded changes of bytes, JSON documents, CSV tables and archives of arrays."""

import io
import json
import random
import warnings
import zipfile

import numpy as np

# Stand for what json.dumps cannot write, or Python cannot hold.
_RAW = {
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 20_000 + "1" + "}" * 20_000,
    "many digits": "7" * 1_000_000,
    "400 digits": "7" * 400,
    "NaN": "NaN",
    "Infinity": "-Infinity",
    "beyond floats": "1e999",
    "surrogate": '"\\ud800"',
    "NUL": '"a\\u0000b"',
}
TEXTS = (
    "",
    " ",
    "x",
    "nan",
    "1e999",
    "-inf",
    "1_0",
    "７",
    "0x10",
    "7" * 400,
    "7" * 6_000,
    "[/]",
    "[bold]x[/bold]",
    "[/red]",
    "$x_{$",
    "$\\frac{1}$",
    "=1+1",
    "'=1",
    "@x",
    "<script>alert(1)</script>",
    "a\x1b[2Jb",
    "a\u202eb",
    "a\nb",
    "a\r\nb",
    "a\x00b",
    "a\u2028b",
    "_x",
    "../../x",
    ":smile:",
    "é" * 300,
    "y" * 140_000,
)
_VALUES = (None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, 10**30, 1e308, 0.5, [], {}, [[]], {"a": {}})
_DTYPES = ("f2", "f8", ">f4", "g", "i1", "u1", "i8", "u8", "?", "c8", "U3", "S3", "O", "M8[s]", "m8[s]", "V4")


def mutate(rng: random.Random, name: str, data: bytes) -> bytes:
    """A file's bytes, changed in the way of its kind or as any bytes."""
    by_suffix = {".json": _json, ".csv": _csv, ".npz": _npz, ".npy": _npy, ".safetensors": _safetensors}
    kinds = [change for suffix, change in by_suffix.items() if name.endswith(suffix)]
    if not kinds or rng.random() < 0.25:
        return change_bytes(rng, data)
    try:
        return kinds[0](rng, data)
    except Exception:  # what was changed once already may be none of its kind any more
        return change_bytes(rng, data)


def change_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bits flipped, a part cut out, something put in, two parts exchanged, or a large number written."""
    out = bytearray(data)
    if not out:
        return rng.randbytes(9)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        start = rng.randrange(max(1, len(out)))
        stop = min(len(out), start + rng.choice((1, 2, 4, 8, 64, 1000)))
        match rng.randrange(7):
            case 0 if out:
                out[start % len(out)] ^= 1 << rng.randrange(8)
            case 1:
                del out[start:]
            case 2:
                del out[start:stop]
            case 3:
                out[start:start] = rng.choice((b"\0", b"\xff", b"\xef\xbb\xbf", b"\n", rng.randbytes(8)))
            case 4:
                other = rng.randrange(max(1, len(out)))
                out[start:stop] = out[other : other + stop - start]
            case 5:
                numbers = (
                    b"\xff\xff\xff\x7f",
                    b"\xff" * 4,
                    b"\xff" * 8,
                    b"\0" * 8,
                    b"\x80\0\0\0",
                    b"99999999",
                )
                number = rng.choice(numbers)
                out[start : start + len(number)] = number
            case 6:
                out += out[start:stop]
    return bytes(out)


def _json(rng: random.Random, data: bytes) -> bytes:
    return change_json(rng, data.decode()).encode("utf-8", "surrogatepass")


def change_json(rng: random.Random, text: str) -> str:
    """A JSON document with a value of another kind, a name that is gone, new, or there twice, or a BOM."""
    value = json.loads(text)
    raw = {}
    for _ in range(rng.choice((1, 1, 1, 3))):
        value = _changed(rng, value, raw)
    changed = json.dumps(value, indent=rng.choice((None, 2)), ensure_ascii=rng.random() < 0.5)
    for mark, written in raw.items():
        changed = changed.replace(json.dumps(mark), written)
    if rng.random() < 0.05 and changed.startswith("{"):
        name = next(iter(value), "a") if isinstance(value, dict) else "a"
        changed = f"{{{json.dumps(name)}: 1, " + changed[1:]
    return "\ufeff" + changed if rng.random() < 0.03 else changed


def _safetensors(rng: random.Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if rng.random() < 0.5:
        # Settings of the network are JSON within the metadata.
        header["__metadata__"]["config"] = change_json(rng, header["__metadata__"]["config"])
        text = json.dumps(header)
    else:
        text = change_json(rng, json.dumps(header))
    written = text.encode("utf-8", "surrogatepass")
    return len(written).to_bytes(8, "little") + written + data[8 + length :]


def _changed(rng: random.Random, value: object, raw: dict[str, str]) -> object:
    inner = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    if inner and rng.random() < 0.85:
        key = rng.choice(inner)
        match rng.randrange(8):
            case 0:
                del value[key]
            case 1 if isinstance(value, dict):
                value[rng.choice(TEXTS)] = value.pop(key)
            case 1:
                value.append(value[key])
            case _:
                value[key] = _changed(rng, value[key], raw)
        return value
    match rng.randrange(4):
        case 0:
            return rng.choice(TEXTS)
        case 1:
            name = rng.choice(list(_RAW))
            raw[f"@{name}@"] = _RAW[name]
            return f"@{name}@"
        case 2 if isinstance(value, (int, float)) and not isinstance(value, bool):
            return rng.choice((value * -1, value * 1e6, value + 0.5, str(value), int(value * 10**9)))
        case _:
            return rng.choice(_VALUES)


def _csv(rng: random.Random, data: bytes) -> bytes:
    rows = [line.split(",") for line in data.decode().splitlines()]
    end, start = "\n", ""
    for _ in range(rng.choice((1, 1, 1, 3))):
        row = rng.choice([*rows[:1], rng.choice(rows)])
        match rng.randrange(9):
            case 0:
                rows.remove(row)
            case 1:
                rows.insert(rng.randrange(len(rows) + 1), list(row))
            case 2:
                row.append(rng.choice(TEXTS))
            case 3:
                del row[rng.randrange(max(1, len(row))) :]
            case 4:
                start, end = rng.choice((("\ufeff", "\n"), ("", "\r\n"), ("", "\r"), ("", "\n\n")))
            case 5:
                row[:] = rng.sample(row, len(row))
            case _:
                cell = rng.choice(TEXTS)
                quoted = '"' + cell.replace('"', '""') + '"'
                row[rng.randrange(max(1, len(row))) :][:1] = []
                row.insert(rng.randrange(len(row) + 1), rng.choice((cell, quoted, cell + '"')))
        if not rows:
            rows = [[""]]
    return (start + end.join(",".join(row) for row in rows) + end).encode("utf-8", "surrogatepass")


def _npy(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.4:
        return _with_header(rng, data)
    try:
        array = np.load(io.BytesIO(data))
    except Exception:  # it was changed once already, and is no array any more
        return change_bytes(rng, data)
    return _bytes_of(_other(rng, array))


def _npz(rng: random.Random, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(rng.choice((1, 1, 1, 2))):
        place = rng.randrange(len(parts))
        name, member = parts[place]
        match rng.randrange(10):
            case 0:
                del parts[place]
            case 1:
                parts.append((name, _npy(rng, member) if rng.random() < 0.5 else member))
            case 2:
                other = rng.choice(
                    ("x/" + name, "../" + name, "/" + name, name[:-4], "a.npy", "[/].npy", "file.npy")
                )
                parts[place] = (other, member)
            case 3:
                parts.append(("extra.npy", _bytes_of(np.array([{}], object))))
            case 4 if any(part == "meta.npy" for part, _ in parts):
                at = [part for part, _ in parts].index("meta.npy")
                text = str(np.load(io.BytesIO(parts[at][1])))
                changed = change_json(rng, text)
                parts[at] = ("meta.npy", _text_array(changed))
            case 5:
                parts[place] = (name, parts[rng.randrange(len(parts))][1])
            case _:
                parts[place] = (name, _npy(rng, member))
        if not parts:
            break
    return archived(parts, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def _text_array(text: str) -> bytes:
    # NumPy writes lone surrogates as they are, and drops what ends in NUL.
    return _bytes_of(np.array(text))


def archived(parts: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of members, of which several may have one name."""
    out = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(out, "w", compression) as archive:
        for name, member in parts:
            archive.writestr(name, member)
    return out.getvalue()


def _bytes_of(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        np.lib.format.write_array(out, array, allow_pickle=True)
    return out.getvalue()


def _other(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """The same array in another type or shape, or with other values."""
    match rng.randrange(4):
        case 0:
            with warnings.catch_warnings(action="ignore"):
                try:
                    return array.astype(rng.choice(_DTYPES))
                except (TypeError, ValueError):
                    return np.zeros(array.shape, rng.choice(_DTYPES[:10]))
        case 1:
            shapes = (
                (
                    array.ravel(),
                    array[None],
                    array[..., None],
                    array.T,
                    np.asfortranarray(array),
                    array[:0],
                    array[:1] if array.ndim else array,
                    array[:-1] if array.ndim else array,
                    np.concatenate((array, array)) if array.ndim else array,
                    array.reshape(-1)[:1].reshape(()) if array.size else array,
                    np.zeros((len(array), 0), array.dtype) if array.ndim else array,
                    np.zeros(array.shape, [("a", "f4"), ("b", "i4")]),
                )
                if array.ndim
                else (array[None], array[None, None], np.array(1.5))
            )
            return rng.choice(shapes)
        case _:
            array = array.copy()
            if array.size and array.dtype.kind in "fiu":
                worst = (np.nan, np.inf, -np.inf, 1e38, -1e300) if array.dtype.kind == "f" else ()
                info = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
                more = (info.min, info.max, 0, 1) if info else (0.0, -1.0)
                with warnings.catch_warnings(action="ignore"):
                    array.flat[rng.randrange(array.size)] = rng.choice((*worst, *more))
                    if rng.random() < 0.2:
                        array[...] = rng.choice((*worst, *more))
            elif array.dtype.kind == "U" and array.ndim and len(array):
                texts = array.astype(object)
                texts[rng.randrange(len(array))] = rng.choice((*TEXTS, "\ud800"))
                return texts.astype(str)
            return array


def _with_header(rng: random.Random, data: bytes) -> bytes:
    """An array's file whose header says something else than what follows."""
    length = int.from_bytes(data[8:10], "little")
    body = data[10 + length :]
    shape = rng.choice(
        (
            "(1000000000, 1000)",
            "(2,)",
            "()",
            "(-1,)",
            "(4, -4)",
            "(99999999999999999999,)",
            "(0,)",
            "(1.5,)",
            "[3]",
            "None",
            "(True,)",
            "(2147483648, 2147483648)",
        )
    )
    kind = rng.choice(
        (
            "'<f4'",
            "'<i4'",
            "'|O'",
            "'<U1000000'",
            "'<U0'",
            "'|S0'",
            "[('a', '<f4')]",
            "'<M8[ns]'",
            "'zzz'",
            "7",
            "None",
            "'<f4,<f4'",
            "('<f4', (1000000, 1000000))",
            "'|V2147483647'",
        )
    )
    header = f"{{'descr': {kind}, 'fortran_order': {rng.choice(('False', 'True', '3'))}, 'shape': {shape}, }}"
    match rng.randrange(6):
        case 0:
            header = "(" * rng.choice((60, 3000)) + header
        case 1:
            header = header + " " * rng.choice((1, 9000))
        case 2:
            header = rng.choice(
                (
                    "",
                    "{}",
                    "[]",
                    "1",
                    "{'shape': (1,)}",
                    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
                    "-" * 2000 + "1",
                )
            )
        case _:
            pass
    text = header.encode("latin-1") + b"\n"
    version = rng.choice((b"\x01\x00", b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + text + body
