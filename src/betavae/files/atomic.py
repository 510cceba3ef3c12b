"""Writing files so that nothing on disk is ever half-written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside the given one, moved there when the block ends well and removed when it does not.

    Args:
        path: the file to write or replace; its folder must exist.

    Yields:
        Where to write.

    Raises:
        OSError: the disk is full or the folder cannot be written to; a file that was there is as it was.

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
        with temporary.open("r+b") as file:  # Windows syncs no file that is only read
            os.fsync(file.fileno())  # else a power cut may leave the name without the content
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # where nothing can be written, nothing is there
            temporary.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write a whole file or nothing; raises as `replacing` does.

    Example:
        >>> import tempfile
        >>> write_atomically(Path(tempfile.mkdtemp()) / "note.txt", b"nats").read_bytes()
        b'nats'
    """
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)
