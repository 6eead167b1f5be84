"""Steps that are recorded once and repeated without Python: CUDA graphs on CuPy, traces on NumPy."""

from __future__ import annotations

__all__: list[str] = []
