"""Faster twins of single operations, each equal to the portable one in `xpnn.ops` and bound to it by a test."""

from .numpy_codes import number_encoder
from .numpy_ops import NumpyOps, trace_objection

__all__ = ["NumpyOps", "number_encoder", "trace_objection"]
