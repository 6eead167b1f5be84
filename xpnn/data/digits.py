"""The small digits: 8x8 images that scikit-learn carries in its package, so no download is needed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..optional import needs

__all__ = ["load_digits"]


def load_digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return 1,797 handwritten digits of 8x8 pixels.

    Returns
    -------
    X : ndarray of shape (1797, 64), float32
        Pixels, row by row, from 0 (paper) to 1 (ink).
    y : ndarray of shape (1797,), int64
        The digit, 0 to 9.

    Raises
    ------
    BackendUnavailableError
        If scikit-learn is not installed.

    Notes
    -----
    The test part of Alpaydin and Kaynak, *Optical recognition of handwritten digits*, UCI repository (1998).

    Examples
    --------
    >>> X, y = load_digits()
    >>> X.shape, X.dtype, float(X.min()), float(X.max())
    ((1797, 64), dtype('float32'), 0.0, 1.0)
    """
    with needs("sklearn", "load_digits"):  # it holds the images
        from sklearn import datasets
    X, y = datasets.load_digits(return_X_y=True)
    return (X / 16.0).astype(np.float32), y.astype(np.int64)
