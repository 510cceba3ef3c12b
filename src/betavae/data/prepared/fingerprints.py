"""Checksums of files, computed once per file and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from betavae.data.prepared.places import cache_folder
from betavae.files.atomic import write_atomically

_BLOCK = 1 << 22


def checksums(path: Path) -> dict[str, str]:
    """MD5 and SHA-256 of a file. A file whose path, size and times are unchanged is not read again."""
    stat = path.stat()
    identity = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
    kept = (
        cache_folder() / "checksums" / f"{hashlib.sha256(identity.encode(errors='surrogateescape')).hexdigest()}.json"
    )
    with suppress(OSError, ValueError):
        known = json.loads(kept.read_bytes())
        if {"md5", "sha256"} == known.keys() and all(isinstance(value, str) for value in known.values()):
            return dict(known)
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            md5.update(block)
            sha256.update(block)
    found = {"md5": md5.hexdigest(), "sha256": sha256.hexdigest()}
    with suppress(OSError):  # a full or read-only cache only costs the time to read the file again
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, json.dumps(found).encode())
    return found


def fingerprint(path: Path) -> str:
    """A text that changes when the data change: the SHA-256 of a file, or of the names, sizes and times in a folder."""
    if path.is_file():
        return checksums(path)["sha256"]
    digest = hashlib.sha256()
    for entry in sorted(_files(path), key=lambda entry: entry.path):
        stat = entry.stat()
        name = os.path.relpath(entry.path, path)
        digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(folder: Path | str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.is_file():
                yield entry
