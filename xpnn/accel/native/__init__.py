"""Native code: compiled loops and their threads, NumPy's inner loops, and the player of traces."""

from __future__ import annotations

__all__: list[str] = []
