"""NumPy's files read without trust: small files that claim gigabytes, pickles beside what is asked for, damage."""

import io
import subprocess
import sys
import zipfile
from contextlib import suppress

import numpy as np
import pytest

from betavae.files.arrays import read_npy, read_npz
from betavae.metrics import read_table


def npy(array=None, shape=None, dtype="<f4"):
    """An .npy file; its header may claim another shape."""
    stream = io.BytesIO()
    array = np.zeros(3, dtype) if array is None else array
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape if shape is None else shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + array.tobytes()


def archive(path, compression=zipfile.ZIP_DEFLATED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3)), np.zeros((0, 4)), np.array(7)]
)
def test_arrays_come_back_as_they_were(tmp_path, array):
    np.savez_compressed(tmp_path / "a.npz", one=array, two=np.ones(2))
    np.save(tmp_path / "a.npy", array)
    for found in (read_npz(tmp_path / "a.npz", "one")["one"], read_npy(tmp_path / "a.npy")):
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
        assert found.flags.writeable
    assert list(read_npz(tmp_path / "a.npz")) == ["one", "two"]


def test_only_the_array_that_is_asked_for_is_opened(tmp_path):
    """As of the original dSprites file, whose metadata is a pickle."""
    pickled = io.BytesIO()
    np.save(pickled, np.array({"author": "x"}, object), allow_pickle=True)
    classes = np.arange(6).reshape(3, 2)
    path = archive(
        tmp_path / "original.npz", latents_classes=npy(classes), metadata=pickled.getvalue(), imgs=b"damaged"
    )
    np.testing.assert_array_equal(read_table(path, "latents_classes"), classes)
    with pytest.raises(ValueError, match="metadata contains pickled Python objects, which betavae never reads"):
        read_table(path, "metadata")
    with pytest.raises(ValueError, match=r"contains 3 arrays \(.*\); there is no array 'other'"):
        read_table(path, "other")


@pytest.mark.parametrize("shape", [(10**9,), (10**6, 10**6), (2**62, 8)])
def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(npy(shape=shape))
    with pytest.raises(ValueError, match="has 12 bytes, but its shape"):
        read_table(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="has 12 bytes, but its shape"):
        read_table(archive(tmp_path / "a.npz", a=npy(shape=shape)))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_kilobytes_that_hold_gigabytes_are_refused(tmp_path, compression):
    path = archive(tmp_path / "a.npz", compression, a=npy(np.zeros(10**6, np.uint8)))
    assert path.stat().st_size < 4_000
    with pytest.raises(ValueError, match="a has a compression that NumPy does not write; write the file with"):
        read_table(path)


def test_a_parquet_table_of_a_few_kilobytes_takes_no_gigabytes(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed; the extra betavae[study] has it")
    import pyarrow.parquet as parquet

    column = pyarrow.array(np.zeros(50_000_000, np.int8))
    parquet.write_table(pyarrow.table({f"c{i}": column for i in range(4)}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 1_000_000
    with pytest.raises(ValueError, match=r"its 50,000,000 rows would take 1.6 GB of memory"):
        read_table(tmp_path / "a.parquet")


def test_every_flipped_byte_is_an_error_in_one_sentence_or_harmless(tmp_path):
    whole = archive(tmp_path / "a.npz", a=npy(np.arange(20.0).reshape(10, 2))).read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "a.npz").write_bytes(damaged)
        with suppress(ValueError):  # and no other error
            assert read_table(tmp_path / "a.npz").dtype.kind in "fiub"


def test_scoring_from_a_file_with_a_pickle_works_as_a_command(tmp_path):
    rng = np.random.default_rng(0)
    factors = rng.integers(4, size=(600, 2))
    pickled = io.BytesIO()
    np.save(pickled, np.array({}, object), allow_pickle=True)
    archive(tmp_path / "d.npz", latents_classes=npy(factors), metadata=pickled.getvalue())
    np.save(tmp_path / "latents.npy", factors + rng.normal(0, 0.1, factors.shape))
    words = ["score", "--latents", "latents.npy", "--factors", "d.npz:latents_classes", "--metrics", "mig"]
    done = subprocess.run(
        [sys.executable, "-m", "betavae", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "mig" in done.stdout
