"""IDX, the file format of MNIST: a few header bytes, then the array in big-endian order."""

from __future__ import annotations

import gzip
import math
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..arguments import as_array
from ..errors import DTypeError, FileFormatError
from ..files import PathLike, atomic_path, open_content

__all__ = ["parse_idx", "read_idx", "write_idx"]

# The third byte of an IDX file names the type of the elements.
_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CODES = {np.dtype(name).newbyteorder("="): code for code, name in _DTYPES.items()}
_MAX_DIMS = 64  # NumPy's own limit
_CHUNK = 1 << 16


def read_idx(path: PathLike) -> npt.NDArray[Any]:
    """Read an array from an IDX file, plain or gzip.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    ndarray
        Of the shape and type that the file states (uint8, int8, int16, int32, float32 or float64), in native
        byte order, writable.

    Raises
    ------
    DataError
        If there is no such file.
    FileFormatError
        If the file is no IDX file, or holds fewer or more bytes than its header says.

    Notes
    -----
    The format is described by LeCun, Cortes and Burges, *The MNIST database of handwritten digits* (1998):
    two zero bytes, the code of the type, the number of dimensions, four bytes for each, the elements.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "labels-idx1-ubyte.gz"
    ...     write_idx(path, np.array([7, 2, 1], dtype=np.uint8))
    ...     read_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    with open_content(path, "read_idx") as stream:
        content = stream.read(4)
        if len(content) == 4:
            content += stream.read(4 * content[3])
        # A file may unpack to any amount: read what the header says, and a little more to see whether it is all.
        content += _read_at_most(stream, _bytes_in(content) - len(content) + _CHUNK)
    return parse_idx(content, str(path))


def _bytes_in(header: bytes) -> int:
    """Return how many bytes a file with this header has, the header's own where it is none."""
    if len(header) < 4 or header[2] not in _DTYPES or len(header) < 4 + 4 * header[3]:
        return len(header)
    # math.prod: the product of a corrupt header must not wrap around.
    sides: list[int] = np.frombuffer(header, dtype=">u4", offset=4).tolist()
    return len(header) + np.dtype(_DTYPES[header[2]]).itemsize * math.prod(sides)


def _read_at_most(stream: BinaryIO, size: int) -> bytes:
    content = bytearray()
    while size > 0 and (chunk := stream.read(min(size, _CHUNK))):
        content += chunk
        size -= len(chunk)
    return bytes(content)


def parse_idx(content: bytes, name: str) -> npt.NDArray[Any]:
    """Make an array of all the (decompressed) bytes of an IDX file, as `read_idx` does; `name` it in messages.

    Examples
    --------
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 9]), "two labels")
    array([5, 9], dtype=uint8)
    """
    magic = content[:4]
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        codes = " ".join(f"{code:02x}" for code in _DTYPES)
        raise FileFormatError(
            f"read_idx: expected {name} to begin with bytes 00 00, a type (one of {codes}) and a number of "
            f"dimensions, got {magic.hex(' ') or 'no bytes'}. This is not an IDX file."
        )
    dtype, ndim = np.dtype(_DTYPES[magic[2]]), magic[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        expected, holds = start, f"a header of {ndim} dimensions"
    else:
        shape = tuple(np.frombuffer(content[4:start], dtype=">u4").tolist())
        expected, holds = _bytes_in(content[:start]), f"{dtype.name} of shape {shape}"
    if len(content) != expected:
        kind = "truncated" if len(content) < expected else "too long"
        raise FileFormatError(
            f"read_idx: expected {expected} bytes in {name} ({holds}), got {len(content)}. "
            f"The file is {kind}: fetch or copy it again."
        )
    try:
        array = np.frombuffer(content, dtype=dtype, offset=start).reshape(shape)
    except ValueError as error:
        raise FileFormatError(
            f"read_idx: expected at most {_MAX_DIMS} dimensions in {name}, got a header of {ndim} ({error}). "
            f"The header is damaged: fetch or copy the file again."
        ) from error
    return array.astype(dtype.newbyteorder("="))


def write_idx(path: PathLike, array: npt.ArrayLike) -> None:
    """Write an array to an IDX file; gzip if the name ends in ``.gz``.

    Parameters
    ----------
    path : path
        The file to make or replace.  Equal arrays make equal files.
    array : array_like
        Of type uint8, int8, int16, int32, float32 or float64.

    Raises
    ------
    DTypeError
        If IDX has no code for the type.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "image-idx2-ubyte"
    ...     write_idx(path, np.zeros((28, 28), dtype=np.uint8))
    ...     path.stat().st_size
    796
    """
    a = np.asarray(as_array(array, "write_idx", "array"))
    native = a.dtype.newbyteorder("=")
    if native not in _CODES:
        known = ", ".join(dtype.name for dtype in _CODES)
        raise DTypeError(f"write_idx: expected one of {known}, got {a.dtype}. Convert with array.astype(...).")
    code = _CODES[native]
    header = bytes([0, 0, code, a.ndim]) + np.array(a.shape, dtype=">u4").tobytes()
    content = header + a.astype(_DTYPES[code]).tobytes()
    if str(path).endswith(".gz"):
        # A time stamp in the header would make equal arrays differ on disk.
        content = gzip.compress(content, mtime=0)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
