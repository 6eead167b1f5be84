"""Data on the host: toy problems, files, splits, batches and scales.

Everything here is NumPy; `batches`, `train_test_split`, `one_hot` and the scalers also take arrays of any
other library and give back arrays of that library.
"""

from __future__ import annotations

from ..files import data_home
from .arrays import load_arrays, open_memmap
from .audit import Audit, AuditFinding, audit
from .batching import batches, epoch_order, stratified_indices, train_test_split
from .csv import Table, load_csv
from .digits import load_digits
from .drift import ColumnDrift, Drift, drift
from .encoded import EncodedRows
from .encoder import TableEncoder
from .idx import read_idx, write_idx
from .input_schema import InputColumn, InputSchema
from .mnist import MNIST, load_mnist
from .moments import Moments
from .scaling import MinMax, Standardizer, one_hot
from .summary import TableSummary
from .tables import load_table
from .targets import ClassTarget, InferredTask, NumberTarget, infer_task, target_from_dict
from .toy import make_blobs, make_checkerboard, make_circles, make_moons, make_spirals, make_xor

__all__ = [
    "MNIST",
    "Audit",
    "AuditFinding",
    "ClassTarget",
    "ColumnDrift",
    "Drift",
    "EncodedRows",
    "InferredTask",
    "InputColumn",
    "InputSchema",
    "MinMax",
    "Moments",
    "NumberTarget",
    "Standardizer",
    "Table",
    "TableEncoder",
    "TableSummary",
    "audit",
    "batches",
    "data_home",
    "drift",
    "epoch_order",
    "infer_task",
    "load_arrays",
    "load_csv",
    "load_digits",
    "load_mnist",
    "load_table",
    "make_blobs",
    "make_checkerboard",
    "make_circles",
    "make_moons",
    "make_spirals",
    "make_xor",
    "one_hot",
    "open_memmap",
    "read_idx",
    "stratified_indices",
    "target_from_dict",
    "train_test_split",
    "write_idx",
]
