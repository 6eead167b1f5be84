"""Where the optimizers of the estimators stood: older pickles know them by this module."""

from __future__ import annotations

from typing import Any

from . import _trainer

__all__: list[str] = []


def __getattr__(name: str) -> Any:
    """Return what stands elsewhere now."""
    for home in (_trainer,):
        if hasattr(home, name):
            return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
