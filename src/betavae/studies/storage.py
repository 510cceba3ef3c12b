"""Stores run folders at a URL that fsspec can open (s3://, gs://, file://), for workers that share no folder.

A worker downloads the run folder to a temporary folder and works there. It uploads each checkpoint, and all files at
the end, `DONE` last. If two workers execute the same run, they upload the same content.
"""

import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from betavae.config import Config
from betavae.studies.workers import CompleteRun, ReportProgress, check_same_settings

SMALL_FILES = ("config.json", "provenance.json", "scores.json", "DONE")
"""The files that the table of results needs."""
_RESUME_FILES = ("config.json", "provenance.json", "curve.jsonl", "checkpoint.safetensors", "run.log")
"""The files that resume a run."""


def pull(url: str, folder: Path, names: Iterable[str] | None = None) -> None:
    """Download the files of a run folder, or those with the given names. If the URL does not exist, do nothing.

    Example:
        >>> local, remote = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
        >>> _ = (remote / "DONE").write_text("")
        >>> pull(remote.as_uri(), local)
        >>> (local / "DONE").exists()
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
    """Upload the files of a run folder, or those with the given names. Each file is replaced at once, `DONE` last."""
    system, root = _open(url)
    candidates = [folder / name for name in names] if names is not None else [*folder.rglob("*")]
    files = [path for path in candidates if path.is_file() and not path.name.startswith(".")]
    for path in sorted(files, key=lambda path: path.name == "DONE"):
        target = f"{root}/{path.relative_to(folder).as_posix()}"
        system.makedirs(target.rpartition("/")[0], exist_ok=True)
        part = f"{target}.{uuid4().hex}.part"  # unique, because two tasks may upload the same file at once
        system.put_file(str(path), part)
        system.mv(part, target)


def complete_remote_run(perform: CompleteRun, url: str, config: Config, run: str, report: ReportProgress) -> None:
    """Start or resume a run whose folder is at a URL; upload every checkpoint and, at the end, all files.

    Args:
        perform: completes the run, e.g. `betavae.studies.workers.complete_run`.
        url: URL of the study. The run folders are in `runs`.
        config: settings of the run.
        run: id of the run.
        report: receives the progress of the training.
    """
    run_url = f"{url.rstrip('/')}/runs/{run}"
    with tempfile.TemporaryDirectory(prefix="betavae-") as temporary:
        folder = Path(temporary) / "runs" / run
        pull(run_url, folder)
        check_same_settings(config, folder)
        if (folder / "DONE").exists():
            return
        checkpoint, uploaded = folder / "checkpoint.safetensors", [0]

        def report_and_upload(fraction: float) -> None:
            report(fraction)
            written = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            if written > uploaded[0]:
                uploaded[0] = written
                push(folder, run_url, _RESUME_FILES)

        try:
            perform(config, folder, report_and_upload)
        except BaseException:  # also when the run is interrupted, because its checkpoint resumes it
            with suppress(Exception):  # an error of the storage must not hide the error of the run
                push(folder, run_url, _RESUME_FILES)
            raise
        push(folder, run_url)


def check(url: str) -> None:
    """Check that a URL can be written to.

    Raises:
        ValueError: fsspec does not know the protocol, its library is missing, or writing fails.
    """
    try:
        with tempfile.TemporaryDirectory() as temporary:
            (Path(temporary) / "writable").touch()
            push(Path(temporary), url)
    except Exception as error:  # each storage library has its own errors
        raise ValueError(
            f"{url} cannot be written to ({type(error).__name__}: {error}); give a folder that all machines share, or "
            "a URL such as s3://bucket/folder and install its library on all machines (s3fs for s3://, gcsfs for gs://)"
        ) from None


def _open(url: str) -> tuple[Any, str]:
    import fsspec

    system, root = fsspec.url_to_fs(url)
    return system, root.rstrip("/")
