"""Kernels and matrix products of our own for CuPy, recordings of their work, and uploads beside it."""

from __future__ import annotations

__all__: list[str] = []
