"""Finding, reading and writing files: the errors are worded once, and nothing is ever half written."""

from __future__ import annotations

import contextlib
import difflib
import gzip
import hashlib
import os
import secrets
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from .errors import DataError, FileFormatError

__all__ = ["PathLike", "atomic_path", "data_home", "existing_file", "file_digest", "read_content"]

PathLike: TypeAlias = "str | os.PathLike[str]"

_GZIP_MAGIC = b"\x1f\x8b"


def data_home() -> Path:
    """Return the folder for data sets: the environment variable ``XPNN_DATA``, else the user's cache folder.

    Returns
    -------
    pathlib.Path
        Not necessarily there yet.
    """
    if folder := os.environ.get("XPNN_DATA"):
        return Path(folder).expanduser()
    import pooch

    return Path(pooch.os_cache("xpnn"))


def existing_file(path: PathLike, where: str) -> Path:
    """Return `path` as a `Path` to a regular file; ``~`` is expanded.

    A `DataError` that begins with `where` is raised if there is none, or it is a folder.  Names in the same folder
    that look alike are suggested.
    """
    file = Path(path).expanduser()
    if file.is_file():
        return file
    if file.is_dir():
        raise DataError(f"{where}: expected a file, got the folder {file}. Name one file in it.")
    if not file.parent.is_dir():
        raise DataError(f"{where}: expected the file {file}, but the folder {file.parent} is not there.")
    near = difflib.get_close_matches(file.name, sorted(f.name for f in file.parent.iterdir()))
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Check the name; relative to {Path.cwd()}."
    raise DataError(f"{where}: expected the file {file}, but it is not there. {hint}")


def read_content(path: PathLike, where: str) -> bytes:
    """Return the bytes of a file, decompressed if its first bytes, not its name, say that it is gzip.

    A `DataError` that begins with `where` is raised if there is no such file, a `FileFormatError` if it is a gzip file
    that is truncated or corrupt.
    """
    file = existing_file(path, where)
    content = file.read_bytes()
    if not content.startswith(_GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(
            f"{where}: expected a whole gzip file, got {len(content)} bytes of {file} that do not decompress "
            f"({error}). Fetch or copy the file again."
        ) from error


def file_digest(path: PathLike) -> str:
    """Return what tells the content of a file from any other content: half of its SHA-256, in hexadecimal.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_bytes(b"")
    ...     file_digest(Path(folder, "a.txt"))
    'e3b0c44298fc1c149afbf4c8996fb924'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to; rename it to `path` if the block succeeds.

    Readers see the old file or the whole new one, never a part.  The temporary name is in the same folder, with the
    same suffix.  Missing folders are made; a `DataError` is raised if the system refuses: the folder cannot be made or
    written to, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder, "new", "a.txt")) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     Path(folder, "new", "a.txt").read_text()
    'whole'
    """
    file = Path(path).expanduser()
    temporary = file.with_name(f".{file.stem}.{secrets.token_hex(4)}{file.suffix}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, file)
    except OSError as error:
        raise DataError(
            f"writing {file}: expected a folder that can be written to, got: {error.strerror or error}. "
            "Choose another path, or mend the folder's permissions."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
