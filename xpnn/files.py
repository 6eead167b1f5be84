"""Finding, reading and writing files: errors worded once, nothing half written, and no file that asks for too much."""

from __future__ import annotations

import bz2
import contextlib
import difflib
import errno
import gzip
import hashlib
import io
import json
import lzma
import os
import secrets
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from .arguments import shown
from .errors import DataError, FileFormatError
from .optional import needs

__all__ = [
    "EXPANSION",
    "PathLike",
    "as_path",
    "atomic_path",
    "data_home",
    "existing_file",
    "file_digest",
    "may_be_changed",
    "open_content",
    "parse_json",
    "pass_on",
    "pour",
    "read_chunks",
    "read_content",
    "read_json",
]

PathLike: TypeAlias = "str | os.PathLike[str]"

#: What a compressed file of unknown content may unpack to: so many bytes, and so many more for each of its own.
EXPANSION = (32 << 20, 100)
#: What a compressed file is, by its first bytes, and what unpacks it.
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip"}
_UNPACK = {"gzip": "gunzip", "bzip2": "bunzip2", "xz": "unxz", "zip": "unzip"}
# What the readers of these raise for bytes that are not theirs; those of an archive also for a method they do not know.
_DAMAGED: dict[str, tuple[type[Exception], ...]] = {
    "gzip": (EOFError, zlib.error, gzip.BadGzipFile),
    "bzip2": (EOFError, OSError),
    "xz": (EOFError, lzma.LZMAError),
    "zip": (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, OSError, RuntimeError),
}
_CHUNK = 1 << 20


def data_home() -> Path:
    """Return the folder for data sets: the environment variable ``XPNN_DATA``, else the user's cache folder.

    Returns
    -------
    pathlib.Path
        Not necessarily there yet.
    """
    if folder := os.environ.get("XPNN_DATA"):
        return Path(folder).expanduser()
    with needs("pooch", "data_home"):
        import pooch

    return Path(pooch.os_cache("xpnn"))


def as_path(path: Any, where: str) -> Path:
    """Return what names a file as a `Path`, ``~`` expanded, or raise DataError.

    Examples
    --------
    >>> as_path("runs/a.csv", "load").name
    'a.csv'
    """
    if not isinstance(path, str | os.PathLike):
        raise DataError(f"{where}: expected a path, text or a pathlib.Path, got {shown(path)}. Name the file.")
    return Path(path).expanduser()


# -- reading -----------------------------------------------------------------------------------------------------
def existing_file(path: PathLike, where: str) -> Path:
    """Return `path` as a `Path` to a regular file; ``~`` is expanded.

    A `DataError` that begins with `where` is raised if there is none, or it is a folder, a pipe or a device.  Names in
    the same folder that look alike are suggested.
    """
    file = as_path(path, where)
    if file.is_file():
        return file
    if file.is_dir():
        raise DataError(f"{where}: expected a file, got the folder {file}. Name one file in it.")
    if file.exists():
        raise DataError(f"{where}: expected a file, got {file}, a pipe or a device. Write its content to a file first.")
    if not file.parent.is_dir():
        raise DataError(f"{where}: expected the file {file}, but the folder {file.parent} is not there.")
    near = difflib.get_close_matches(file.name, sorted(f.name for f in file.parent.iterdir()))
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Check the name; relative to {Path.cwd()}."
    raise DataError(f"{where}: expected the file {file}, but it is not there. {hint}")


@contextlib.contextmanager
def open_content(path: PathLike, where: str) -> Iterator[BinaryIO]:
    """Open a file to read its bytes, unpacked on the way if its first bytes, not its name, say that it is compressed.

    That is gzip, bzip2, xz, or a zip archive of one file.  A `DataError` that begins with `where` is raised if there is
    no such file, or an archive holds several; a `FileFormatError` if it is found truncated or corrupt as far as it is
    read.
    """
    file = existing_file(path, where)
    packed = _packed(file)
    with file.open("rb") as raw, contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(_unpacked(raw, packed, file, where)) if packed else raw
        except _DAMAGED.get(packed or "", ()) as error:
            raise FileFormatError(
                f"{where}: expected a whole {packed} file, got {file.stat().st_size} bytes of {file} that do not "
                f"decompress ({error}). Fetch or copy the file again."
            ) from error


def _packed(file: Path) -> str | None:
    """Tell what a file is compressed with."""
    with file.open("rb") as raw:
        head = raw.read(max(map(len, _PACKED)))
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)


def _unpacked(raw: BinaryIO, packed: str, file: Path, where: str) -> BinaryIO:
    if packed == "gzip":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if packed == "bzip2":
        return bz2.BZ2File(raw)  # type: ignore[return-value]
    if packed == "xz":
        return lzma.LZMAFile(raw)  # type: ignore[return-value]
    archive = zipfile.ZipFile(raw)
    names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
    if len(names) != 1:
        raise DataError(
            f"{where}: expected an archive of one file, got {len(names)} files in {file}. Unpack it and pass one of "
            "them."
        )
    return archive.open(names[0])  # type: ignore[return-value]


def read_chunks(path: PathLike, where: str, *, most: int | None = None) -> Generator[bytes]:
    """Yield all bytes of a file piece by piece, unpacked as `open_content` does, up to as many as `read_content` takes.

    Raises
    ------
    DataError, FileFormatError
        As `read_content`, as soon as the mistake is met.
    """
    file = existing_file(path, where)
    packed = _packed(file)
    if most is None and packed is not None:
        most = EXPANSION[0] + EXPANSION[1] * file.stat().st_size
    size = 0
    with open_content(file, where) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if most is not None and size > most:
                raise FileFormatError(
                    f"{where}: expected at most {most:,} bytes from {file} ({file.stat().st_size:,} bytes), got more. "
                    "It is damaged or made to fill memory; if it is right, unpack it with "
                    f"{_UNPACK[packed or 'gzip']} and read that file."
                )
            yield chunk


def read_content(path: PathLike, where: str, *, most: int | None = None) -> bytes:
    """Return all bytes of a file, unpacked if its first bytes, not its name, say that it is compressed.

    A file may hold `most` bytes; by default a plain one any number, and a compressed one as many as `EXPANSION` says,
    which data do not reach and a file made to fill memory exceeds.  A `DataError` that begins with `where` is raised if
    there is no such file, a `FileFormatError` if it holds more, or is a compressed file that is truncated or corrupt.
    """
    file = existing_file(path, where)
    if most is None and _packed(file) is not None:
        for _ in read_chunks(file, where):  # counted first, so that too much never lies in memory
            pass
    content = io.BytesIO()
    for chunk in read_chunks(file, where, most=most):
        content.write(chunk)
    return content.getvalue()


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says; a ValueError too where a key repeats, or values lie too deep in each other.

    Examples
    --------
    >>> parse_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("lists or objects lie too deep in each other") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return made


def read_json(path: PathLike, hint: str) -> dict[str, Any]:
    """Return the JSON object that a file holds; a FileFormatError that ends in `hint` if it holds none."""
    file = Path(path)
    try:
        value = parse_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FileFormatError(f"{file}: expected JSON, got a damaged file ({error}). {hint}") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{file}: expected a JSON object, got a {type(value).__name__}. {hint}")
    return value


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


# -- writing -----------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary name to write to; what was written comes to stand at `path` if the block succeeds.

    Readers see the old file or the whole new one, never a part: the temporary name is in the same folder, with the same
    suffix, and is renamed.  Of what is there already

    - a symbolic link stays, and the file that it names is replaced, or made;
    - a file keeps its permissions and, where the system allows it, its owner; its other names (hard links) keep the
      old content; one that nobody may write to is refused;
    - what is no regular file (a pipe, a device such as ``/dev/null``), or is open as standard output, is written to.

    Missing folders are made, and new files have the permissions that the umask leaves.  A `DataError` is raised if the
    system refuses: the folder cannot be made or written to, or the disk is full.  A pipe that nobody reads any more
    raises BrokenPipeError.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_path(Path(folder, "new", "a.txt")) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     Path(folder, "new", "a.txt").read_text()
    'whole'
    """
    file = as_path(path, "writing a file")
    try:
        found = _status(file)
        way = _replaced_by_rename if found is None or _may_be_replaced_by_rename(file, found) else _written_into
        with way(file, found) as temporary:
            yield temporary
    except BrokenPipeError:
        raise
    except OSError as error:
        expected, advice = "a folder that can be written to", "mend the folder's permissions"
        if error.errno in _FULL:
            expected, advice = "room for the file", "free some room"
        raise DataError(
            f"writing {file}: expected {expected}, got: {error.strerror or error}. Choose another path, or {advice}."
        ) from error


# What a system says where a file has no room: the disk is full, or what this process or user may write is.
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def _status(file: Path) -> os.stat_result | None:
    """Return what is at the end of all links; None where nothing is."""
    try:
        return file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise OSError(str(error)) from error  # a name that no system takes


def _may_be_replaced_by_rename(file: Path, found: os.stat_result) -> bool:
    """Whether a new file may take the place of what is there; it is refused if nothing may be written at all."""
    if stat.S_ISDIR(found.st_mode):
        raise OSError(f"{file.name} is itself a folder")
    if not stat.S_ISREG(found.st_mode) or _stream_of(found) is not None:
        return False
    if not may_be_changed(file):
        raise DataError(
            f"writing {file}: expected a file that may be changed, got one that is read-only. "
            "Choose another path, or allow it with chmod u+w."
        )
    return not Path(os.path.realpath(file.parent)).is_relative_to("/proc")  # /dev/fd/3: others have it open


def may_be_changed(file: Path) -> bool:
    """Whether what is there may be written to; by its permissions too, for root may write to all."""
    return bool(file.stat().st_mode & 0o222) and os.access(file, os.W_OK)


def _stream_of(found: os.stat_result) -> int | None:
    """Return the number of the standard stream that writes to this file."""
    for number in (1, 2):
        with contextlib.suppress(OSError):  # closed
            if os.path.samestat(found, os.fstat(number)):
                return number
    return None


@contextlib.contextmanager
def _replaced_by_rename(file: Path, found: os.stat_result | None) -> Iterator[Path]:
    """Let a file be written beside the one at the end of all links, and rename it."""
    target = Path(os.path.realpath(file))
    temporary = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if found is not None:
            _make_alike(temporary, found)
        yield temporary
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _make_alike(file: Path, found: os.stat_result) -> None:
    """Make an empty file with the owner and permissions of another, before there is anything to be read in it."""
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    pass_on(found, file)


def pass_on(found: os.stat_result, file: Path) -> None:
    """Give a file the owner and the permissions of another, where the system allows it."""
    with contextlib.suppress(OSError):
        if hasattr(os, "chown"):
            os.chown(file, found.st_uid, found.st_gid)
    with contextlib.suppress(OSError):
        file.chmod(stat.S_IMODE(found.st_mode))


@contextlib.contextmanager
def _written_into(file: Path, found: os.stat_result | None) -> Iterator[Path]:
    """Let a file be written elsewhere, and write its content into what is there."""
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder, f"content{file.suffix}")
        yield temporary
        stream = None if found is None else _stream_of(found)
        if stream is not None:
            sys.stdout.flush()  # what was printed before comes before
        pour(temporary, file if stream is None else os.dup(stream))


def pour(source: Path, target: Path | int) -> None:
    """Write the content of a file into what is there: a pipe, a device, or an open file by its number."""
    with source.open("rb") as content, open(target, "wb") as sink:
        shutil.copyfileobj(content, sink)
