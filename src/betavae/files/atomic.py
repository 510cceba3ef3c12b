"""Writes files atomically."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to a temporary path that replaces the file at the end of the block, or is deleted if the block fails.

    Args:
        path: file to write or replace. Its folder must exist.

    Yields:
        The temporary path.

    Raises:
        OSError: the disk is full, or the folder cannot be written to. An existing file remains unchanged.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with replacing(path) as temporary:
        ...     _ = temporary.write_text("nats")
        >>> path.read_text()
        'nats'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        with temporary.open("r+b") as file:  # Windows cannot sync a file that is open only for reading
            os.fsync(file.fileno())  # otherwise a power failure could leave an empty file under the final name
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # if writing failed, there may be no file
            temporary.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a file completely or not at all; raises as `replacing`.

    Example:
        >>> import tempfile
        >>> write_atomically(Path(tempfile.mkdtemp()) / "note.txt", b"nats").read_bytes()
        b'nats'
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)
