"""Finding, reading and writing data files: the errors are worded once, for every format."""

from __future__ import annotations

import difflib
import gzip
import os
import secrets
import zlib
from pathlib import Path
from typing import TypeAlias

from ..errors import DataError, FileFormatError

__all__ = ["PathLike", "data_home", "existing_file", "read_content", "write_atomic"]

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
    """Return `path` as a `Path` to a regular file.

    Parameters
    ----------
    path : path
        The file; ``~`` is expanded.
    where : str
        Who asks, for the message.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    DataError
        If there is no such file, or it is a folder.  Names in the same folder that look alike are suggested.
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
    """Return the bytes of a file, decompressed if it is gzip (told by its first bytes, not by its name).

    Parameters
    ----------
    path : path
        The file.
    where : str
        Who asks, for the message.

    Returns
    -------
    bytes
        The content.

    Raises
    ------
    DataError
        If there is no such file.
    FileFormatError
        If it is a gzip file that is truncated or corrupt.
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


def write_atomic(path: PathLike, content: bytes) -> None:
    """Write a file under a temporary name in the same folder, then rename it: readers never see half a file.

    Parameters
    ----------
    path : path
        The file to make or replace.
    content : bytes
        What to write.
    """
    file = Path(path).expanduser()
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
