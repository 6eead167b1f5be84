"""Names for the types that every module shares."""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["Array", "DType", "Device", "Namespace", "Shape"]

# An array of whichever library is in use.  The Array API standard has no runtime type for "an array of any
# library", so these are `Any`, with names that tell the reader what is meant.
Array: TypeAlias = Any
Namespace: TypeAlias = Any
DType: TypeAlias = Any
Device: TypeAlias = Any
Shape: TypeAlias = tuple[int, ...]
