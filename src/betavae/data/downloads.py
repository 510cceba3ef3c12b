"""Fetches the original files of data sets. The only importer of pooch."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from betavae.data.catalogue import CATALOGUE, RemoteFile
from betavae.data.prepared.places import download_folder
from betavae.files.validation import check_name

_BLOCK = 1 << 18
_TIMEOUT = 30

Watch = Callable[[str, int, int], None]
"""Called with the name of a file, the bytes that are there, and the bytes in total."""


def fetch(name: str, watch: Watch | None = None) -> Path:
    """Download the files of a data set that are missing, and check them.

    An interrupted download continues where it stopped, if the host allows it.

    Args:
        name: key of `CATALOGUE`.
        watch: called while bytes arrive.

    Returns:
        The folder of the files.

    Raises:
        ModuleNotFoundError: pooch is not installed.
        OSError: a file cannot be downloaded. The message has its address, size and checksum, and where to put it.
        ValueError: the data set is unknown or cannot be downloaded by a program, or a checksum is wrong.
    """
    check_name("data set", name, CATALOGUE)
    known, folder = CATALOGUE[name], download_folder(name)
    if not known.files or any(not file.url for file in known.files):
        names = ", ".join(f"{file.name} ({file.checksum})" for file in known.files)
        raise ValueError(
            f"{known.title} cannot be fetched by a program: download {names or 'it'} from {known.page} (licence: "
            f"{known.licence}) into {folder}, then use --data {name}; or use --data {name}:PATH for another place"
        )
    try:
        import pooch
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"fetching needs pooch: pip install 'betavae[data]'; or {_by_hand(known.files[0], folder)}"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("ERROR")
    for file in known.files:
        _fetch_file(pooch, file, folder, watch)
    return folder


def is_complete(name: str) -> bool:
    """Whether all files of a known data set are in its download folder."""
    files = CATALOGUE[name].files
    return bool(files) and all((download_folder(name) / file.name).is_file() for file in files)


def _fetch_file(pooch: Any, file: RemoteFile, folder: Path, watch: Watch | None) -> None:
    import requests

    partial = folder / f"{file.name}.part"
    try:
        pooch.retrieve(
            file.url,
            known_hash=None if file.moved else file.checksum,
            fname=file.name,
            path=folder,
            downloader=_Resuming(partial, file, watch),
        )
    except ValueError as error:  # pooch has compared the checksum
        partial.unlink(missing_ok=True)
        raise ValueError(_not_original(file, folder)) from error
    except (requests.RequestException, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException) and error.errno:
            raise  # the disk, not the network
        reason = f"{type(error).__name__}" if not isinstance(error, requests.HTTPError) else str(error)
        raise OSError(f"{file.name} could not be fetched ({reason}); {_by_hand(file, folder)}") from error
    partial.unlink(missing_ok=True)
    if file.moved:
        _compare(pooch, file, folder)


def _compare(pooch: Any, file: RemoteFile, folder: Path) -> None:
    """Keep an archive with another checksum, since none is known of its present address; refuse anything else."""
    path = folder / file.name
    kind, _, expected = file.checksum.partition(":")
    if (found := pooch.file_hash(str(path), alg=kind)) == expected:
        return
    if not zipfile.is_zipfile(path):
        path.unlink()
        raise ValueError(_not_original(file, folder))
    warnings.warn(
        f"{file.name} has the {kind} {found}, and the file at its former address had {expected}; it was kept, and its "
        "layout is checked when it is read",
        stacklevel=2,
    )


class _Resuming:
    """Downloads to a partial file, which the next attempt continues. Pooch then checks the file."""

    def __init__(self, partial: Path, file: RemoteFile, watch: Watch | None) -> None:
        self._partial, self._file, self._watch = partial, file, watch

    def __call__(self, url: str, output_file: str | os.PathLike[str], pooch: Any) -> None:
        import requests

        done = self._partial.stat().st_size if self._partial.exists() else 0
        wanted = {"Range": f"bytes={done}-"} if done else {}
        with requests.get(url, headers=wanted, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code != requests.codes.requested_range_not_satisfiable:  # the partial file is complete
                response.raise_for_status()
                done = done if response.status_code == requests.codes.partial_content else 0
                total = done + int(response.headers.get("Content-Length", 0)) or self._file.size
                with self._partial.open("ab" if done else "wb") as stream:
                    for block in response.iter_content(_BLOCK):
                        stream.write(block)
                        done += len(block)
                        if self._watch:
                            self._watch(self._file.name, done, total)
        os.replace(self._partial, output_file)


def _not_original(file: RemoteFile, folder: Path) -> str:
    kind, _, expected = file.checksum.partition(":")
    return (
        f"{file.url} is not the original {file.name}: its {kind} is not {expected}; nothing was kept, so try again "
        f"later, or {_by_hand(file, folder)}"
    )


def _by_hand(file: RemoteFile, folder: Path) -> str:
    size = f", {file.size:,} bytes" if file.size else ""
    return f"download {file.url} ({file.checksum}{size}) by hand and put it into {folder}"
