"""Networks in files: tensors as safetensors, everything else as JSON in its header.

No pickle: a file is data and cannot run code, and any safetensors reader opens it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from . import initializers, layers
from .backend import Backend
from .config import Custom, from_config, known_classes, reading
from .errors import FileFormatError, OptionError
from .files import PathLike, atomic_path, existing_file
from .model import Sequential
from .optional import needs

__all__ = ["build", "load", "read", "save", "write"]

_VERSION = 1


def save(net: Sequential, path: PathLike, *, extra: dict[str, Any] | None = None) -> None:
    """Write a network to a file, under a temporary name first.

    Parameters
    ----------
    net : Sequential
        The network, on any backend.
    path : path
        The file; ``.safetensors`` is the usual ending.
    extra : dict, optional
        JSON-able values to keep with it; `read` returns them.

    Raises
    ------
    DataError
        If the folder cannot be written to.
    OptionError
        If JSON cannot hold `extra`, or an argument of a layer of your own.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from xpnn import load, mlp, save
    >>> net = mlp([3, 4, 2], seed=5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(net, Path(folder, "net.safetensors"))
    ...     same = load(Path(folder, "net.safetensors"))
    >>> bool((same.params["0.weight"] == net.params["0.weight"]).all())
    True
    """
    if not isinstance(net, Sequential):
        got = f"a {type(net).__name__}"
        hint = (
            "Its own save writes all of it; its network is .net." if hasattr(net, "net") else "The network comes first."
        )
        raise OptionError(f"save: expected a network, got {got}. {hint}")
    write(path, net.state_dict(), {"network": net.config(), "extra": extra or {}})


def load(
    path: PathLike, *, backend: str | Backend = "numpy", dtype: str | None = None, custom_layers: Custom = ()
) -> Sequential:
    """Read a network from a file that `save` wrote.

    Parameters
    ----------
    path : path
        The file.
    backend : str or Backend, default="numpy"
        Where the network shall live; it need not be where it was trained.
    dtype : {"float32", "float64", "bfloat16", "float16"}, optional
        Floating type; the saved one by default.
    custom_layers : tuple of classes, default=()
        Layers, and initializers, of your own that the network contains.

    Returns
    -------
    Sequential
        With equal parameters, buffers and seed.

    Raises
    ------
    DataError
        If there is no such file.
    FileFormatError
        If it is truncated, corrupt, or not a network of xpnn.
    OptionError
        If it contains a layer or an initializer that is not xpnn's, and not given.
    """
    tensors, meta = read(path)
    if "network" not in meta:
        raise FileFormatError(
            f"load: {path} is a safetensors file, but holds no xpnn network. Write it with xpnn.save."
        )
    return build(meta["network"], tensors, backend=backend, dtype=dtype, custom_layers=custom_layers)


def build(
    config: dict[str, Any],
    tensors: dict[str, np.ndarray] | None,
    *,
    backend: str | Backend = "numpy",
    dtype: str | None = None,
    custom_layers: Custom = (),
    where: str = "load",
) -> Sequential:
    """Make a network from `Sequential.config`, and `Sequential.state_dict` unless it shall begin anew."""
    known = known_classes((layers, layers.Layer), (initializers, initializers.Initializer), custom=custom_layers)
    option = "custom_layers" if where == "load" else "custom"
    with reading(where, "the description of a network that can be built", got="one that cannot"):
        if not isinstance(backend, Backend) and dtype is None:
            dtype = config["dtype"]
        net = Sequential(
            *from_config(config["layers"], known, where=where, option=option),
            n_in=config["n_in"],
            backend=backend,
            dtype=dtype,
            seed=config["seed"],
        )
        if tensors is not None:
            net.load_state_dict(tensors)
    return net


# -- the file format --------------------------------------------------------------------------------------------
def write(path: PathLike, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write named arrays and JSON-able values as one safetensors file."""
    with needs("safetensors", "save"):
        from safetensors.numpy import save as to_bytes

    from . import __version__

    try:
        text = json.dumps({"version": _VERSION, "written_by": __version__, **meta}, default=_plain_number)
    except (TypeError, ValueError) as error:
        raise OptionError(
            f"save: expected values that JSON can hold in extra, got: {error}. "
            "Turn them into numbers, text, lists and dicts."
        ) from error
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(to_bytes(arrays, metadata={"xpnn": text}))


def _plain_number(value: Any) -> Any:
    """Turn NumPy's numbers, which JSON does not know, into Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"an object of type {type(value).__name__}")


def read(path: PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays, by name, and the JSON values that `write` wrote.

    Raises DataError if there is no such file, FileFormatError if it is truncated, corrupt, or not written by xpnn.
    """
    with needs("safetensors", "load"):
        from safetensors import SafetensorError, safe_open

    file = existing_file(path, "load")
    try:
        with safe_open(str(file), framework="numpy") as handle:
            header = handle.metadata() or {}
            if "xpnn" not in header:
                raise FileFormatError(
                    f"load: {file} is a safetensors file, but not one of xpnn. Write it with xpnn.save."
                )
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        meta = json.loads(header["xpnn"])
        newer = meta["version"] > _VERSION
    except FileFormatError:
        raise
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileFormatError(
            f"load: expected a whole safetensors file, but {file} cannot be read ({error}). "
            "It is truncated or of another format; copy it again, or save the network again."
        ) from error
    if newer:
        raise FileFormatError(
            f"load: {file} was written by xpnn {meta.get('written_by')} in a newer format. Run: pip install -U xpnn"
        )
    return tensors, meta
