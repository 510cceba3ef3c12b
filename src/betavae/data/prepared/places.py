"""Where downloaded and prepared data are kept."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """The folder of the cache: the environment variable BETAVAE_CACHE, or the user's cache folder."""
    chosen = os.environ.get("BETAVAE_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("betavae", appauthor=False) / "data"


def download_folder(name: str) -> Path:
    """The folder of the original files of a data set."""
    return cache_folder() / "downloads" / name


def prepared_folder() -> Path:
    """The folder of all prepared data."""
    return cache_folder() / "prepared"
