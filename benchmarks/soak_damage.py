"""Ways to damage a file: what its format allows, or what can happen to any. Used by soak.py."""

import io
import json
import os
import random
import re
import zipfile
from pathlib import Path

import numpy as np

WRONG = (
    *("null", "true", "false", "-1", "0", "0.5", "1e400", "NaN", "9" * 400, "9" * 5000, "-0", "1e-320", "[]", "{}"),
    *('""', '"x"', '"-1"', '"\\u0000"', '"\\u001b[31m"', '"../../etc/passwd"', '"dsprites"', f'"{"x" * 100_000}"'),
    *('{"a": {"b": null}}', "[[1, 2], [3]]", "[null]", "[" * 20_000 + "]" * 20_000, "123456789012"),
)
"""What JSON, TOML or Python may hold where something else belongs."""


def damage(rng: random.Random, path: Path, others: list[Path]) -> str:
    """Damage a file, by what its format allows or as any file can be; say how."""
    made = {".json": _leaf, ".jsonl": _line, ".safetensors": _header, ".npz": _member, ".npy": _array}
    made |= {".toml": _token, ".py": _token, ".csv": _token, ".parquet": _columns}
    if path.suffix in made and path.stat().st_size and rng.random() < 0.6:
        return made[path.suffix](rng, path)
    content, how = path.read_bytes(), rng.choice(GENERAL)
    path.unlink()
    match how:
        case "cut":
            path.write_bytes(content[: rng.randrange(max(1, len(content)))])
        case "flipped":
            changed = bytearray(content or b"\0")
            for _ in range(rng.randint(1, 8)):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            path.write_bytes(changed)
        case "longer":
            path.write_bytes(content + rng.randbytes(rng.randint(1, 5000)))
        case "noise":
            path.write_bytes(rng.randbytes(rng.randint(1, 5000)))
        case "zeros":
            path.write_bytes(bytes(len(content)))
        case "empty":
            path.touch()
        case "another file":
            other = rng.choice(others)
            path.write_bytes(other.read_bytes())
            how += f", {other.name}"
        case "a folder":
            path.mkdir()
            (path / "mine.txt").write_text("of the user's own")
        case "a FIFO":
            os.mkfifo(path)
        case "a link to nothing":
            path.symlink_to("nothing")
        case "a link to itself":
            path.symlink_to(path.name)
        case "a link to /dev/zero":
            path.symlink_to("/dev/zero")
    return how


GENERAL = (
    *("cut", "cut", "flipped", "flipped", "flipped", "longer", "noise", "zeros", "empty", "another file", "gone"),
    *("a folder", "a FIFO", "a link to nothing", "a link to itself", "a link to /dev/zero"),
)


def _wrong_json(rng: random.Random, value: object) -> tuple[str, str]:
    """A JSON text in which one thing is gone, renamed or wrong; and what."""
    holders = []

    def walk(value: object, name: str) -> None:
        keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            holders.append((value, key, f"{name}.{key}"))
            walk(value[key], f"{name}.{key}")

    walk(value, "")
    wrong = rng.choice(WRONG)
    if not holders or rng.random() < 0.05:
        return wrong, f"all of it {wrong[:40]}"
    holder, key, name = rng.choice(holders)
    if rng.random() < 0.2:
        del holder[key]
        return json.dumps(value), f"{name} gone"
    holder[key] = "@@"
    return json.dumps(value).replace('"@@"', wrong), f"{name} {wrong[:40]}"


def _leaf(rng: random.Random, path: Path) -> str:
    text, how = _wrong_json(rng, json.loads(path.read_text()))
    path.write_text(text)
    return how


def _line(rng: random.Random, path: Path) -> str:
    lines = path.read_text().splitlines()
    number = rng.randrange(len(lines))
    lines[number], how = _wrong_json(rng, json.loads(lines[number]))
    path.write_text("\n".join([*lines, ""]))
    return f"line {number + 1}: {how}"


def _header(rng: random.Random, path: Path) -> str:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if rng.random() < 0.5:
        text, how = _wrong_json(rng, json.loads(header["__metadata__"]["betavae"]))
        header["__metadata__"]["betavae"] = text
        text = json.dumps(header)
    else:
        text, how = _wrong_json(rng, header)
    encoded = text.encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[8 + length :])
    return how


def _member(rng: random.Random, path: Path) -> str:
    with np.load(path) as arrays:
        members = dict(arrays)
    name, how = rng.choice([*members]), rng.choice(["gone", "wrong", "wrong", "bzip2", "declared huge", "a bomb"])
    packed = {"bzip2": zipfile.ZIP_BZIP2}.get(how, zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "w", packed) as archive:
        for member, array in members.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, _odd(rng, array) if (member, how) == (name, "wrong") else array)
            content = stream.getvalue()
            if member == name and how == "declared huge":
                content = _shaped(rng, array)
            if member == name and how == "a bomb":
                content = _shaped(rng, array, 300_000_000) + bytes(300_000_000)
            if (member, how) != (name, "gone"):
                archive.writestr(f"{member}.npy", content)
    return f"{name} {how}"


def _array(rng: random.Random, path: Path) -> str:
    array, how = np.load(path), rng.choice(["wrong", "declared huge"])
    if how == "wrong":
        np.save(path, _odd(rng, array))
    else:
        path.write_bytes(_shaped(rng, array))
    return how


def _odd(rng: random.Random, array: np.ndarray) -> np.ndarray:
    """An array of a wrong type, shape or content."""
    odd = [
        *(array[:0], array[:1], array[..., None], array.ravel(), array.T, array.astype(object), array.astype("S3")),
        *(array.astype(float) * np.nan, array * 0, array.astype(float) * 1e300, array.astype(complex)),
        *(np.array(5), array.astype("M8[s]"), array.astype("U5"), array.astype(np.float16), -array.astype(np.int64)),
    ]
    return rng.choice(odd)


def _shaped(rng: random.Random, array: np.ndarray, size: int = 0) -> bytes:
    """The header of an .npy whose shape is huge, or of a number of bytes."""
    count = rng.choice([10**9, 10**13, 2**63, 10**30])
    shape = (size // array.dtype.itemsize,) if size else (count, *array.shape[1:])
    stream = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def _token(rng: random.Random, path: Path) -> str:
    text = path.read_text()
    found, wrong = rng.choice([*re.finditer(r'"[^"\n]*"|[\w.]+|[\[\]=,]', text)]), rng.choice([*WRONG, "", "=", ","])
    path.write_text(text[: found.start()] + wrong + text[found.end() :])
    return f"{found[0]} at {found.start()} is {wrong[:40] or 'gone'}"


def _columns(rng: random.Random, path: Path) -> str:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    place, how = rng.randrange(table.num_columns), rng.choice(["gone", "text", "null", "nested", "of no rows", "long"])
    name = table.column_names[place]
    nested = {"text": "x", "null": None, "nested": [1.0]}
    if how in nested:
        table = table.set_column(place, name, pyarrow.array([nested[how]] * len(table)))
    elif how == "gone":
        table = table.remove_column(place)
    else:
        table = table.slice(0, 0) if how == "of no rows" else table.take(np.zeros(2_000_000, int))
    pyarrow.parquet.write_table(table, path)
    return f"column {name} {how}"
