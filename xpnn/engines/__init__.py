"""Training on clusters whose engine starts the processes: Dask."""

from . import dask

__all__ = ["dask"]
