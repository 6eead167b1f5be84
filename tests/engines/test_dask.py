"""What is said where Dask is not installed; `tests/distributed/test_dask.py` has the rest, on a real cluster."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import xpnn
from xpnn.errors import DTypeError, MissingPackageError


def test_without_dask_the_command_that_brings_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    trainer = xpnn.Trainer(xpnn.mlp([2, 2]), xpnn.CrossEntropy(), xpnn.SGD(0.1))
    with pytest.raises(
        MissingPackageError, match=r"^dask\.fit: needs Dask's distributed\. Run: pip install 'xpnn\[dask\]'"
    ):
        xpnn.distributed.dask.fit(trainer, np.ones((2, 2)), np.ones(2))
    with pytest.raises(MissingPackageError, match=r"^dask\.fit_encoder: needs Dask's distributed"):
        xpnn.distributed.dask.fit_encoder(xpnn.data.Standardizer(), np.ones((2, 2)))


def test_what_is_in_memory_is_told_where_to_go():
    with pytest.raises(
        DTypeError, match=r"^dask\.predict: expected a Dask frame or array, got ndarray\. In memory, call"
    ):
        xpnn.distributed.dask.predict(xpnn.mlp([2, 2]), np.ones((2, 2)))
