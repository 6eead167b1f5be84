"""The methods by which a model leaves xpnn; what they need is imported when one is called."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["Exports"]


class Exports:
    """What can be made of a network, a predictor or a fitted estimator: files that other programs read, and models."""

    def to_onnx(self, path: Any, **options: Any) -> Any:
        """Write a model as one ONNX file, and return how it was checked; see `xpnn.interop.onnx.to_onnx`."""
        return _export("onnx", "to_onnx")(self, path, **options)

    def to_c(self, path: Any, **options: Any) -> Any:
        """Write a model as one C99 header; see `xpnn.interop.c.to_c`."""
        return _export("c", "to_c")(self, path, **options)

    def to_python(self, path: Any, **options: Any) -> Any:
        """Write a model as one Python file that needs NumPy alone; see `xpnn.interop.python.to_python`."""
        return _export("python", "to_python")(self, path, **options)

    def to_torch(self) -> Any:
        """Return a network as PyTorch's; see `xpnn.interop.torch.to_torch`."""
        return _export("torch", "to_torch")(self)

    def to_keras(self) -> Any:
        """Return a network as Keras's; see `xpnn.interop.keras.to_keras`."""
        return _export("keras", "to_keras")(self)

    def to_sklearn(self) -> Any:
        """Return a fitted estimator as scikit-learn's; see `xpnn.estimators.to_sklearn`."""
        return _export("sklearn", "to_sklearn")(self)


def _export(module: str, name: str) -> Any:
    """Return a function of `xpnn.interop`, which stands above all that can be exported."""
    return getattr(importlib.import_module(f".interop.{module}", __package__), name)
