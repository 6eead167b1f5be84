"""Arrays from files (npz, memory-mapped npy), and some rows of arrays and tables."""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import array_api_compat
import numpy as np
import numpy.typing as npt

from ..backend import backend_of
from ..errors import DataError, FileFormatError, ShapeError
from ..files import PathLike, existing_file
from .written import Written

__all__ = ["SomeRows", "load_arrays", "open_memmap", "some_rows", "take_rows"]

_MAGIC = b"\x93NUMPY"
# Deflate makes no more than 1,032 bytes of one; other methods of zip do, and NumPy does not write them.
_EXPANSION = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1_032}
# What zipfile and NumPy raise for bytes that are not theirs: a header is parsed as Python's literals.
_DAMAGED: tuple[type[Exception], ...] = (
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError),
    *(TypeError, ValueError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)


def load_arrays(
    path: PathLike, *, x_key: str = "X", y_key: str | None = "y"
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Read `X` and `y` from an ``.npz`` file.

    Parameters
    ----------
    path : path
        File written by ``numpy.savez(path, X=..., y=...)`` or ``savez_compressed``.
    x_key : str
        Name of the inputs in the file.
    y_key : str or None
        Name of the targets; None reads no targets.

    Returns
    -------
    X : ndarray of shape (n, ...)
    y : ndarray of shape (n, ...) or None

    Raises
    ------
    DataError
        If the file is not there, or has no array of that name.
    FileFormatError
        If it is no npz file, is damaged, or holds Python objects (pickle would run code).
    ShapeError
        If `X` and `y` differ in their number of rows.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "data.npz"
    ...     np.savez(path, X=np.ones((3, 2)), y=np.array([0, 1, 0]))
    ...     X, y = load_arrays(path)
    >>> X.shape, y
    ((3, 2), array([0, 1, 0]))
    """
    file = existing_file(path, "load_arrays")
    if not zipfile.is_zipfile(file):
        raise FileFormatError(
            f"load_arrays: expected a whole .npz file, got {file.stat().st_size} bytes of {file} that are no "
            f"zip archive. Write it with numpy.savez(path, X=X, y=y); for .npy files use open_memmap."
        )
    keys = [x_key] if y_key is None else [x_key, y_key]
    try:
        with np.load(file, allow_pickle=False) as archive:
            held = list(archive.files)
            wanted = [key for key in keys if key in held]
            for key in wanted:
                _check_member(archive.zip, key, file.stat().st_size)
            found = [archive[key] for key in wanted]
    except _DAMAGED as error:
        raise FileFormatError(
            f"load_arrays: expected numbers or text in {file}, got arrays that cannot be read ({error}). "
            f"If it holds Python objects, save them with another dtype; else the file is damaged."
        ) from error
    if len(found) < len(keys):
        raise DataError(
            f"load_arrays: expected arrays {' and '.join(keys)} in {file}, got {', '.join(held) or 'none'}. "
            f"Pass x_key=... and y_key=... to name them (y_key=None for inputs alone)."
        )
    if not all(isinstance(a, np.ndarray) for a in found):
        raise FileFormatError(
            f"load_arrays: expected arrays in {file}, got members of another kind. "
            f"Write the file with numpy.savez(path, X=X, y=y)."
        )
    if y_key is None:
        return found[0], None
    X, y = found
    _check_rows("load_arrays", X, y)
    return X, y


def _check_member(archive: zipfile.ZipFile, key: str, archive_size: int) -> None:
    """Raise ValueError if what an array's header says is not what the archive holds, before it is read."""
    names = archive.namelist()
    info = archive.getinfo(key if key in names else f"{key}.npy")
    most = info.compress_size * _EXPANSION.get(info.compress_type, 0)
    if info.compress_size > archive_size or info.file_size > most:
        raise ValueError(f"{info.compress_size} bytes of the archive cannot hold {key} of {info.file_size}")
    with archive.open(info) as member:
        size = _size_in_header(member)
        if size is not None and member.tell() + size != info.file_size:
            raise ValueError(f"the header of {key} says {size} bytes, there are {info.file_size - member.tell()}")


def _size_in_header(stream: IO[bytes]) -> int | None:
    """Return how many bytes an npy file has behind its header; None if it is none, or of objects."""
    if stream.read(len(_MAGIC)) != _MAGIC:
        return None
    stream.seek(0)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    elements: int = math.prod(map(int, shape))
    if elements and not dtype.itemsize:
        raise ValueError(f"{dtype} has no bytes")
    return None if dtype.hasobject else elements * dtype.itemsize


def open_memmap(x_path: PathLike, y_path: PathLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Open two ``.npy`` files as read-only memory maps: rows are read when they are used.

    Parameters
    ----------
    x_path, y_path : path
        Files written by ``numpy.save``.

    Returns
    -------
    X : memmap of shape (n, ...)
    y : memmap of shape (n, ...)

    Raises
    ------
    DataError
        If a file is not there.
    FileFormatError
        If a file is no npy file, is truncated, or holds Python objects.
    ShapeError
        If `X` and `y` differ in their number of rows.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    ...     x_path, y_path = pathlib.Path(folder) / "X.npy", pathlib.Path(folder) / "y.npy"
    ...     np.save(x_path, np.ones((3, 2)))
    ...     np.save(y_path, np.array([0, 1, 0]))
    ...     X, y = open_memmap(x_path, y_path)
    ...     X.shape, y[1:].tolist()
    ((3, 2), [1, 0])
    """
    opened = []
    for path in (x_path, y_path):
        file = existing_file(path, "open_memmap")
        try:
            with file.open("rb") as stream:
                _size_in_header(stream)  # refuses what would have no end
            opened.append(np.lib.format.open_memmap(file, mode="r"))
        except _DAMAGED as error:
            raise FileFormatError(
                f"open_memmap: expected a whole .npy file of numbers, got {file.stat().st_size} bytes of "
                f"{file} that cannot be mapped ({error}). Write it with numpy.save(path, array)."
            ) from error
    X, y = opened
    _check_rows("open_memmap", X, y)
    return X, y


class SomeRows(Mapping[str, Any]):
    """Some rows of columns by name, each column of which is made when it is asked for, and not kept.

    Examples
    --------
    >>> rows = SomeRows({"a": np.arange(9)}, np.array([2, 3, 8]))
    >>> rows["a"], [part["a"].tolist() for part in rows.parts(2)]
    (array([2, 3, 8]), [[2], [3, 8]])
    """

    def __init__(self, columns: Mapping[str, Any], rows: npt.NDArray[np.integer]) -> None:
        self._columns, self._rows = columns, rows

    def __getitem__(self, name: str) -> Any:
        return _cells_of(self._columns[name])[self._rows]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def parts(self, most: int) -> Iterator[dict[str, Any]]:
        """Yield the rows in parts of about as many, at most so many each, in order."""
        n = len(self._rows)
        count = max(-(-n // most), 1)
        for k in range(count):
            yield take_rows(self._columns, self._rows[n * k // count : n * (k + 1) // count])


def _cells_of(column: Any) -> Any:
    return column if isinstance(column, Written) else np.asarray(column)


def take_rows(X: Any, index: npt.NDArray[np.integer]) -> Any:
    """Return some rows of a table (a dict of columns), or of an array of any library, a sparse matrix included.

    Examples
    --------
    >>> take_rows({"a": np.array([5, 6, 7])}, np.array([2, 0]))
    {'a': array([7, 5])}
    """
    if isinstance(X, Mapping):
        return {name: _cells_of(column)[index] for name, column in X.items()}
    if isinstance(X, np.ndarray) or not array_api_compat.is_array_api_obj(X):
        return X[index]
    backend = backend_of(X)
    return backend.ops.take_rows(X, backend.asarray(index, dtype=backend.index_dtype))


def some_rows(n: int, most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return the numbers of `n` rows, ascending; of more than `most` rows those of so many, drawn at random.

    Examples
    --------
    >>> some_rows(3, 5, np.random.default_rng(0)), len(some_rows(9, 5, np.random.default_rng(0)))
    (array([0, 1, 2]), 5)
    """
    return np.sort(rng.choice(n, most, replace=False)) if n > most else np.arange(n)


def _check_rows(where: str, X: npt.NDArray[Any], y: npt.NDArray[Any]) -> None:
    if X.ndim == 0 or y.ndim == 0 or len(X) != len(y):
        raise ShapeError(
            f"{where}: expected X and y with equally many rows, got shapes {X.shape} and {y.shape}. "
            f"Save them together, one target for each row."
        )
