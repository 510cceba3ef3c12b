"""Run folders kept at a URL (s3://, gs://, file://, whatever fsspec knows), for workers that share no folder.

A worker takes a run folder down, works in a folder of its own, and brings back each checkpoint and, at the end, all
files, `DONE` last. A run that two workers do at once is written twice with the same content.
"""

import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from betavae.config import Config
from betavae.studies.workers import Perform, Share, same_settings

SMALL_FILES = ("config.json", "provenance.json", "scores.json", "DONE")
"""What a table of results needs."""
_CONTINUING = ("config.json", "provenance.json", "curve.jsonl", "checkpoint.safetensors")


def pull(url: str, folder: Path, names: Iterable[str] | None = None) -> None:
    """Bring files of a run folder at a URL here: those named, or all; a folder that is not there brings nothing.

    Example:
        >>> here, there = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
        >>> _ = (there / "DONE").write_text("")
        >>> pull(there.as_uri(), here)
        >>> (here / "DONE").exists()
        True
    """
    system, root = _open(url)
    if not system.exists(root):
        return
    for path in sorted(system.find(root), key=lambda path: path.endswith("/DONE")):
        name = path[len(root) :].lstrip("/")
        if (names is None or name in names) and not name.endswith(".part"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            system.get_file(path, str(folder / name))


def push(folder: Path, url: str, names: Iterable[str] | None = None) -> None:
    """Take files of a run folder to a URL, those named or all; a file is replaced whole, `DONE` comes last."""
    system, root = _open(url)
    wanted = [folder / name for name in names] if names is not None else [*folder.rglob("*")]
    files = [path for path in wanted if path.is_file() and not path.name.startswith(".")]
    for path in sorted(files, key=lambda path: path.name == "DONE"):
        target = f"{root}/{path.relative_to(folder).as_posix()}"
        system.makedirs(target.rpartition("/")[0], exist_ok=True)
        part = f"{target}.{uuid4().hex}.part"  # its own: a task that runs twice may push the same file at once
        system.put_file(str(path), part)
        system.mv(part, target)


def perform_at(perform: Perform, url: str, config: Config, run: str, share: Share) -> None:
    """Perform a run whose folder is at a URL: continue what is there, bring back every checkpoint and the end.

    Args:
        perform: see `betavae.studies.workers.perform`.
        url: of the study; its runs are below `runs`.
        config: settings.
        run: name of the run.
        share: see `betavae.studies.workers.Share`.
    """
    there = f"{url.rstrip('/')}/runs/{run}"
    with tempfile.TemporaryDirectory(prefix="betavae-") as place:
        folder = Path(place) / "runs" / run
        pull(there, folder)
        same_settings(config, folder)
        if (folder / "DONE").exists():
            return
        checkpoint, saved = folder / "checkpoint.safetensors", [0]

        def share_and_save(done: float) -> None:
            share(done)
            written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            if written > saved[0]:
                saved[0] = written
                push(folder, there, _CONTINUING)

        try:
            perform(config, folder, share_and_save)
        except BaseException:  # also where the run is stopped: its checkpoint is what continues it
            with suppress(Exception):  # of the storage; the run's own is what matters
                push(folder, there, _CONTINUING)
            raise
        push(folder, there)


def check(url: str) -> None:
    """Refuse a URL that cannot be written to.

    Raises:
        ValueError: its kind is unknown, its library is missing, or nothing can be written there.
    """
    try:
        with tempfile.TemporaryDirectory() as place:
            (Path(place) / "writable").touch()
            push(Path(place), url)
    except Exception as error:  # each kind of storage has its own
        raise ValueError(
            f"{url} cannot be written to ({type(error).__name__}: {error}); give a folder that all machines share, or "
            "a URL such as s3://bucket/folder, whose library (for s3:// s3fs, for gs:// gcsfs) is installed everywhere"
        ) from None


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    system, root = fsspec.url_to_fs(url)
    return system, root.rstrip("/")
