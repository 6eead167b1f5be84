"""CUDA twins for CuPy: kernels compiled as one module, and matrix products straight from cuBLAS.

Nothing here imports CuPy before a backend on CuPy is made.  What has been shown without a GPU, and what only a GPU
can show, stands in ``docs/gpu.md``.
"""

from .cupy_ops import CupyOps

__all__ = ["CupyOps"]
