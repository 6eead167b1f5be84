"""Packages that may be missing: what brings each, told in one way where it is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import BackendUnavailableError, MissingPackageError

__all__ = ["PACKAGES", "needs"]

#: By the name of the module: the package as people know it, and what pip is to install.
PACKAGES = {
    "array_api_strict": ("array-api-strict", "array-api-strict"),
    "dask": ("Dask", "'xpnn[dask]'"),
    "distributed": ("Dask's distributed", "'xpnn[dask]'"),
    "cupy": ("CuPy", "'xpnn[cuda13]'"),
    "jinja2": ("Jinja2", "'xpnn[report]'"),
    "joblib": ("joblib", "joblib"),
    "keras": ("Keras", "keras"),
    "matplotlib": ("matplotlib", "'xpnn[plots]'"),
    "ml_dtypes": ("ml_dtypes", "'xpnn[half]'"),
    "mpi4py": ("mpi4py with an MPI", "'xpnn[mpi]'"),
    "numba": ("numba", "'xpnn[fast]'"),
    "onnx": ("ONNX", "'xpnn[onnx]'"),
    "openpyxl": ("openpyxl", "'xpnn[files]'"),
    "pandas": ("pandas", "pandas"),
    "pooch": ("pooch", "pooch"),
    "pyarrow": ("pyarrow", "'xpnn[files]'"),
    "safetensors": ("safetensors", "safetensors"),
    "sklearn": ("scikit-learn", "'xpnn[sklearn]'"),
    "tabulate": ("tabulate", "tabulate"),
    "tensorboardX": ("tensorboardX", "'xpnn[tensorboard]'"),
    "torch": ("PyTorch", "torch"),
    "tqdm": ("tqdm", "tqdm"),
}


@contextmanager
def needs(module: str, where: str, *, install: str = "") -> Iterator[None]:
    """Around imports from a package: where it is missing or broken, say so with the command that mends it.

    Examples
    --------
    >>> with needs("tabulate", "summary"):
    ...     from tabulate import tabulate
    """
    name, usual = PACKAGES[module]
    try:
        yield
    except ImportError as error:
        command = f"pip install {install or usual}"
        if isinstance(error, ModuleNotFoundError) and (error.name or module).partition(".")[0] == module:
            raise MissingPackageError(f"{where}: needs {name}. Run: {command}", name=module) from error
        raise BackendUnavailableError(
            f"{where}: needs {name}, whose import fails ({error}). Run: {command} --force-reinstall"
        ) from error
