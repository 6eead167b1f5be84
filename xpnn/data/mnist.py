"""MNIST: found on disk, else fetched once, and always verified."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError, FileFormatError
from ..files import PathLike, atomic_path, data_home, read_content
from ..optional import needs
from .idx import parse_idx

__all__ = ["MIRRORS", "MNIST", "load_mnist"]

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")

# For each part the file's name and the MD5 of its *uncompressed* content: the same array may be compressed in
# many ways (mirrors, a re-packed copy, no compression), and all of them are right.
_FILES: Mapping[str, tuple[str, str]] = {
    "X_train": ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    "y_train": ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    "X_test": ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    "y_test": ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
}
# No file of MNIST unpacks to more bytes than that of the training images: its header, and 60,000 of 28 x 28.
_LARGEST = 16 + 60_000 * 28 * 28


class MNIST(NamedTuple):
    """The four arrays of MNIST.

    Attributes
    ----------
    X_train : ndarray of shape (60000, 784), float32
        Training images in [0, 1]; uint8 of shape (60000, 28, 28) with ``raw=True``.
    y_train : ndarray of shape (60000,), int64
        Digits.
    X_test : ndarray of shape (10000, 784), float32
        Test images, like `X_train`.
    y_test : ndarray of shape (10000,), int64
        Digits.
    """

    X_train: npt.NDArray[Any]
    y_train: npt.NDArray[np.int64]
    X_test: npt.NDArray[Any]
    y_test: npt.NDArray[np.int64]


def load_mnist(
    data_dir: PathLike | None = None, download: bool = True, *, raw: bool = False, mirrors: Sequence[str] = MIRRORS
) -> MNIST:
    """Return MNIST, 70,000 handwritten digits of 28x28 pixels.

    Parameters
    ----------
    data_dir : path, optional
        Folder that holds the four files, or a sub-folder ``mnist`` with them: gzip or not, named
        ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``.  Default: the environment variable
        ``XPNN_DATA``, else the user's cache folder.
    download : bool
        Fetch missing files (11 MB in all) into the ``mnist`` sub-folder.
    raw : bool
        Return images as in the files, uint8 of shape (n, 28, 28).  They take a quarter of the memory; scale
        each batch by 1/255.
    mirrors : sequence of str
        Addresses to fetch from, tried in this order for each file.

    Returns
    -------
    MNIST
        A named tuple of ``X_train, y_train, X_test, y_test``.

    Raises
    ------
    DataError
        If a file is missing and is not, or cannot be, fetched; the message says how to put it there by hand.
    FileFormatError
        If the content of a file, found or fetched, has the wrong checksum.

    Notes
    -----
    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    *Proceedings of the IEEE* 86 (1998).

    Examples
    --------
    >>> X_train, y_train, X_test, y_test = load_mnist()  # doctest: +SKIP
    >>> X_train.shape, float(X_train.max())  # doctest: +SKIP
    ((60000, 784), 1.0)
    """
    root = data_home() if data_dir is None else Path(data_dir).expanduser()
    parts: dict[str, npt.NDArray[Any]] = {}
    for part, (name, md5) in _FILES.items():
        path = _find(root, name)
        if path is None:
            if not download:
                raise DataError(
                    f"load_mnist: expected {name} (or with .gz) in {root} or {root / 'mnist'}, but it is in neither. "
                    f"Pass download=True, or fetch {name}.gz from one of {', '.join(mirrors)} and put it there."
                )
            path = _fetch(root, name, md5, mirrors)
        content = read_content(path, "load_mnist", most=_LARGEST)
        if (got := _md5(content)) != md5:
            raise FileFormatError(
                f"load_mnist: expected MD5 {md5} for the uncompressed content of {path}, got {got} "
                f"({len(content)} bytes). It is damaged or another file: delete it to have it fetched anew."
            )
        array = parse_idx(content, str(path))
        if array.ndim == 1:
            parts[part] = array.astype(np.int64)
        elif raw:
            parts[part] = array
        else:
            parts[part] = array.reshape(len(array), -1).astype(np.float32)
            parts[part] /= 255.0
    return MNIST(**parts)


def _find(root: Path, name: str) -> Path | None:
    for folder in (root, root / "mnist"):
        for stem in (name, name.replace("-idx", ".idx")):
            for path in (folder / stem, folder / f"{stem}.gz"):
                if path.is_file():
                    return path
    return None


def _fetch(root: Path, name: str, md5: str, mirrors: Sequence[str]) -> Path:
    """Fetch one file from the first mirror that has the right bytes."""
    with needs("pooch", "load_mnist"):
        import pooch
    with needs("tqdm", "load_mnist"):
        from tqdm import tqdm

    folder = root if root.name == "mnist" else root / "mnist"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"load_mnist: expected a folder to write to, got {folder} ({error}). "
            f"Pass another data_dir, or set XPNN_DATA."
        ) from error
    target = folder / f"{name}.gz"
    reasons: list[str] = []
    damaged = False
    with atomic_path(target) as temporary:
        for mirror in mirrors:
            url = f"{mirror.rstrip('/')}/{name}.gz"
            try:
                # disable=None: no bar where nobody watches, as in a log file.  pooch corrects the total once
                # the server has told it, but takes a total of 0 for "no bar".
                with tqdm(total=1, desc=target.name, unit="B", unit_scale=True, disable=None) as bar:
                    pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 16)(url, str(temporary), None)
                content = read_content(temporary, "load_mnist", most=_LARGEST)
            except FileFormatError:
                damaged = True
                reasons.append(f"{url}: {temporary.stat().st_size} bytes that do not decompress to one of its files")
                continue
            except OSError as error:
                reasons.append(f"{url}: {error}")
                continue
            if (got := _md5(content)) == md5:
                return target
            damaged = True
            reasons.append(f"{url}: MD5 {got} of {len(content)} bytes")
        failure = FileFormatError if damaged else DataError
        raise failure(
            f"load_mnist: expected to fetch {name}.gz with MD5 {md5} (uncompressed), got "
            f"{'; '.join(reasons) or 'no mirror to try'}. Check the network or pass other mirrors; or fetch the "
            f"file elsewhere and put it into {folder}."
        )


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
