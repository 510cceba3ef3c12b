"""Prepared data in the cache: prepared once, complete or not at all, and read in little memory."""

import errno
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from betavae.data.factor_data import FactorData
from betavae.data.loading import load_data
from betavae.data.prepared import cache as prepared_cache
from betavae.data.prepared.fingerprints import checksums, fingerprint
from betavae.data.readers import image_folder
from tests import layouts


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("BETAVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    return layouts.image_folder(tmp_path / "images")


def sets_in(cache: Path) -> list[str]:
    """What prepared sets, complete or not, are in the cache."""
    return sorted(path.name for path in (cache / "prepared").glob("*")) if (cache / "prepared").exists() else []


def test_images_are_decoded_once(cache, folder, monkeypatch):
    first = load_data(folder, image_size=8)
    monkeypatch.setattr(image_folder, "read", None)
    again = load_data(folder, image_size=8)
    assert again.digest == first.digest
    assert np.array_equal(again.image_numbers(), first.image_numbers())
    assert np.array_equal(again.images([3, 5]), first.images(slice(3, 6, 2)))
    assert again.packed.path.stat().st_size == 128 + 24 * 8 * 8 * 3
    assert len(sets_in(cache)) == 1


def test_stored_digest_and_numbers_are_those_of_the_pixels(cache, folder):
    data = load_data(folder)
    memory = FactorData.from_arrays(data.images(slice(None)))
    assert memory.digest == data.digest
    assert len(set(data.image_numbers())) == len(set(memory.image_numbers())) == 24
    rows = np.array([5, 5, 7])
    assert np.array_equal(data.packed[rows], data.packed[:][rows])


def test_changed_sources_are_prepared_again(cache, folder, tmp_path):
    before = load_data(folder)
    Path(folder, "03.png").write_bytes(layouts.png(layouts.pixels(1, seed=5)[0]))
    assert load_data(folder).digest != before.digest
    file = tmp_path / "a.npy"
    np.save(file, layouts.pixels(4))
    known = checksums(file)
    shutil.copy(file, tmp_path / "b.npy")
    assert fingerprint(tmp_path / "b.npy") == known["sha256"] == fingerprint(file)


@pytest.mark.parametrize("name", ["data.json", "factors.npz", "images.npy", "numbers.npy"])
def test_damaged_files_of_the_cache_are_prepared_again(cache, folder, name):
    before = load_data(folder)
    file = before.packed.path.with_name(name)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    after = load_data(folder)
    assert after.digest == before.digest
    assert np.array_equal(after.factors, before.factors)


def test_a_failed_preparation_leaves_nothing(cache, folder, monkeypatch):
    Path(folder, "20.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    with pytest.raises(ValueError, match=r"20\.png cannot be read as an image"):
        load_data(folder)
    Path(folder, "20.png").write_bytes(layouts.png(layouts.pixels(1)[0])[:-300])
    with pytest.raises(ValueError, match=r"20\.png cannot be read as an image .*replace it or leave it out"):
        load_data(folder)
    assert sets_in(cache) == []


def test_a_full_disk_is_noticed_before_and_while_writing(cache, folder, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1_000)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(OSError, match=r"the prepared images take .* GB, and .* has 0\.00 GB free.*BETAVAE_CACHE"):
            load_data(folder)

    def full(stream):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(prepared_cache, "_sync", full)
    with pytest.raises(OSError, match=r"the disk of .* is full, so the images could not be prepared: free disk space"):
        load_data(folder)
    assert sets_in(cache) == []


def test_what_killed_processes_leave_is_removed(cache, folder):
    abandoned = cache / "prepared" / ".0123.77"
    abandoned.mkdir(parents=True)
    (abandoned / "images.npy").write_bytes(b"half")
    load_data(folder)
    assert not abandoned.exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path, folder, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("BETAVAE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"file/prepared cannot be written .*set the environment variable BETAVAE_CACHE"):
        load_data(folder)


def _load(folder, barrier, results):
    barrier.wait()
    opened = image_folder.read
    image_folder.read = lambda path: results.put("decoded") or opened(path)
    results.put(load_data(folder).digest)


def test_two_processes_prepare_once(cache, folder):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_load, args=(folder, barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=60) for _ in range(3)]
    for worker in workers:
        worker.join()
    assert found.count("decoded") == 1
    assert len(set(found)) == 2
    assert len(sets_in(cache)) == 1


def test_crop_must_fit(cache, folder):
    with pytest.raises(ValueError, match=r"crop is 20, and an image has 16x16 pixels: crop at most 16"):
        load_data(folder, crop=20)


def test_reading_needs_little_memory(cache, tmp_path):
    """The file is mapped for each access, so the pages read do not add up."""
    shape = (3_000, 64, 64, 3)
    np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.uint8, shape)[::7] = 200
    data = load_data(tmp_path / "large.npy")
    status = Path("/proc/self/smaps_rollup")
    for start in range(0, 3_000, 250):
        data.packed[np.arange(start, start + 250)]
    if status.exists():
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        assert str(data.packed.path) not in maps
    assert os.path.getsize(data.packed.path) == 128 + 3_000 * 64 * 64 * 3
