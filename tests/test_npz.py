"""Files of images: what is read, and every way a file can be wrong."""

import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from betavae.data import npz
from betavae.data.exporting import export_npz
from betavae.data.factor_data import FactorData
from betavae.data.loading import load_data
from tests.conftest import same, saved


def test_grey_levels_that_appear_late_are_kept(tmp_path, monkeypatch, members):
    monkeypatch.setattr(npz, "CHUNK_BYTES", 70)  # two images
    members["imgs"][9, 2, 3] = 2
    loaded = load_data(saved(tmp_path / "late.npz", members))
    assert loaded.max_value == 255
    assert np.array_equal(loaded.images(np.arange(12))[:, 0], members["imgs"])


def test_colour_channels_come_last_in_a_file(tmp_path, members):
    members["imgs"] = np.random.default_rng(0).integers(0, 256, (12, 5, 7, 3), dtype=np.uint8)
    loaded = load_data(saved(tmp_path / "colour.npz", members))
    assert loaded.image_shape == (3, 5, 7)
    assert np.array_equal(loaded.images(np.arange(12)), members["imgs"].transpose(0, 3, 1, 2))


def test_a_file_written_by_python_2_with_a_pickle_beside_it_is_read(tmp_path, members):
    with zipfile.ZipFile(tmp_path / "old.npz", "w") as archive:
        for name, array in members.items():
            shape = ", ".join(f"{size}L" for size in array.shape)
            header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': ({shape}), }}".ljust(117) + "\n"
            start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
            archive.writestr(f"{name}.npy", start + header.encode() + array.tobytes())
        archive.writestr("metadata.npy", b"cos\nsystem\n(S'exit 1'\ntR.")
    same(load_data(tmp_path / "old.npz"), load_data(saved(tmp_path / "new.npz", members)))


def test_progress_counts_the_images_read(tmp_path, monkeypatch, members):
    monkeypatch.setattr(npz, "CHUNK_BYTES", 5 * 35)
    calls = []
    load_data(saved(tmp_path / "some.npz", members), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(5, 12), (10, 12), (12, 12)]


@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is measured with the resource module")
def test_a_file_is_never_unpacked_whole(tmp_path):
    num_images = 40_000  # 164 MB of pixels, 20 MB packed
    black = np.zeros((num_images, 512), np.uint8)
    export_npz(
        FactorData("black", black, (1, 64, 64), 1, black[:, :0].astype(np.int32), (), ()), tmp_path / "black.npz"
    )
    program = (
        "import resource, sys; from betavae.data.loading import load_data\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); load_data(sys.argv[1]); print(peak() - before)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "black.npz")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(run.stdout) * (1 if sys.platform == "darwin" else 1024) < 60e6  # measured: 26e6


def replaced(**changes):
    return lambda members: {name: array for name, array in (members | changes).items() if array is not None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced(imgs=None), r"it has no member 'imgs', only \['latents_classes', 'latents_values'\]"),
        (
            replaced(imgs=np.zeros((12, 5, 7))),
            r"imgs is float64 of shape \(12, 5, 7\); it must be uint8 of shape \(N, H",
        ),
        (replaced(imgs=np.zeros((12, 35), np.uint8)), r"imgs is uint8 of shape \(12, 35\); it must be uint8 of shape"),
        (replaced(imgs=np.zeros((12, 3, 5, 7), np.uint8)), r"shape \(12, 3, 5, 7\), so 7 channels; it must have"),
        (replaced(imgs=np.zeros((0, 5, 7), np.uint8)), r"imgs has shape \(0, 5, 7\); it must have at least one image"),
        (replaced(imgs=np.asfortranarray(np.zeros((12, 5, 7), np.uint8))), r"Fortran order; save numpy.ascontiguous"),
        (
            replaced(imgs=np.full((12, 5, 7), None)),
            r"imgs contains pickled Python objects, which betavae never reads; it must be",
        ),
        (
            replaced(latents_classes=np.zeros((12, 2))),
            r"latents_classes is float64 .* it must be integers of shape \(N, K",
        ),
        (
            replaced(latents_classes=np.zeros(12, int)),
            r"latents_classes is int64 of shape \(12,\); it must be integers",
        ),
        (replaced(latents_classes=np.zeros((9, 2), int)), r"latents_classes has 9 rows for 12 images"),
        (replaced(latents_classes=np.full((12, 2), None)), r"latents_classes contains pickled Python objects"),
        (replaced(latents_values=np.zeros((9, 2))), r"latents_values has 9 rows for 12 images"),
        (replaced(latents_classes=np.zeros((12, 1_001), int)), r"latents_classes has 1,001 columns; it must have at"),
        (
            replaced(factor_names=np.array(["shape", ""])),
            r"factor_names has ''; names must be printable text",
        ),
        (
            replaced(factor_names=np.array(["shape", "\ud800"])),
            r"factor_names has '\\ud800'; names must be printable text",
        ),
        (replaced(latents_values=np.diag([np.nan] * 12)), r"latents_values has NaN or infinity in row 0; all values"),
        (
            replaced(factor_names=["hue"]),
            r"factor_names has hue for the 2 columns of latents_classes; each column needs",
        ),
        (replaced(factor_names=["hue", "hue"]), r"factor_names has hue, hue for the 2 columns"),
        (replaced(factor_names=[1, 2]), r"factor_names is int64 of shape \(2,\); it must be strings of shape \(K,\)\."),
    ],
)
def test_wrong_contents_are_refused_with_the_file_and_the_cure(tmp_path, members, change, message):
    path = saved(tmp_path / "wrong.npz", change(members))
    with pytest.raises(ValueError, match=rf"wrong\.npz: .*{message}"):
        load_data(path)


def test_every_truncation_is_refused(tmp_path, members):
    whole = saved(tmp_path / "whole.npz", members).read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "part.npz").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"part\.npz is damaged, or not an \.npz file \(.+\); copy or download"):
            load_data(tmp_path / "part.npz")


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.filterwarnings("ignore:.* ignored")
def test_damaged_bytes_are_refused_or_harmless(tmp_path, members, compress):
    (np.savez_compressed if compress else np.savez)(tmp_path / "whole.npz", **members)
    whole, expected, path = (
        (tmp_path / "whole.npz").read_bytes(),
        load_data(tmp_path / "whole.npz"),
        tmp_path / "bad.npz",
    )
    rng, refusals = np.random.default_rng(0), []
    for place in rng.integers(0, len(whole), 300):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ rng.integers(1, 256)]) + whole[place + 1 :])
        try:
            assert np.array_equal(load_data(path).packed, expected.packed)
        except ValueError as error:
            refusals.append(str(error))
    assert all("bad.npz" in refusal for refusal in refusals)
    assert len(refusals) > 150  # the others hit dates, attributes and names of members that are optional


def test_members_that_are_no_arrays_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("imgs.npy", "hello, world")
    with pytest.raises(ValueError, match=r"text\.npz: imgs is not a NumPy array; write the file with numpy"):
        load_data(tmp_path / "text.npz")


def test_members_that_are_not_read_are_named_in_a_warning(tmp_path, members):
    more = {f"m{k}": np.zeros(1) for k in range(12)} | {"\x1b": np.zeros(1), "metadata": np.array([None])}
    with pytest.warns(UserWarning, match=r"more\.npz: ignored 'm0', .*'m9' and 3 more; only imgs") as said:
        same(load_data(saved(tmp_path / "more.npz", members | more)), load_data(saved(tmp_path / "whole.npz", members)))
    assert len(said) == 1
    assert "metadata" not in str(said[0].message)


def test_the_suffix_of_a_file_does_not_matter(tmp_path, members):
    same(
        load_data(saved(tmp_path / "a.npz", members).rename(tmp_path / "a.data")),
        load_data(saved(tmp_path / "b.npz", members)),
    )


def test_a_missing_source_is_named_and_the_nearest_suggested(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no file 'dsprits'; data must be a file or a folder .* \(did you mean 'dsprites'\?"
    ):
        load_data("dsprits")
    with pytest.raises(
        FileNotFoundError,
        match=r"no file '.*gone\.npz'; data must be a file or a folder of images, its path relative to the current",
    ):
        load_data(tmp_path / "gone.npz")
    with pytest.raises(ValueError, match=r"has no images; give a folder of PNG or JPEG files"):
        load_data(tmp_path)
