"""Networks in files: tensors as safetensors, everything else as JSON in its header.

No pickle: a file is data and cannot run code, and any safetensors reader opens it.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from . import initializers, layers
from .backend import Backend
from .errors import FileFormatError, OptionError
from .files import PathLike, atomic_path, existing_file
from .layers import Layer
from .model import Sequential

__all__ = ["load", "read", "save", "write"]

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
    write(path, net.state_dict(), {"network": net.config(), "extra": extra or {}})


def load(
    path: PathLike,
    *,
    backend: str | Backend = "numpy",
    dtype: str | None = None,
    custom_layers: tuple[type[Layer], ...] = (),
) -> Sequential:
    """Read a network from a file that `save` wrote.

    Parameters
    ----------
    path : path
        The file.
    backend : str or Backend, default="numpy"
        Where the network shall live; it need not be where it was trained.
    dtype : {"float32", "float64"}, optional
        Floating type; the saved one by default.
    custom_layers : tuple of Layer classes, default=()
        Layers of your own that the network contains.

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
    custom_layers: tuple[type[Layer], ...] = (),
) -> Sequential:
    """Make a network from `Sequential.config`, and `Sequential.state_dict` unless it shall begin anew."""
    if not isinstance(backend, Backend) and dtype is None:
        dtype = config["dtype"]
    known = {name: getattr(layers, name) for name in layers.__all__} | {c.__name__: c for c in custom_layers}
    net = Sequential(
        *(_layer(item, known) for item in config["layers"]),
        n_in=config["n_in"],
        backend=backend,
        dtype=dtype,
        seed=config["seed"],
    )
    if tensors is not None:
        net.load_state_dict(tensors)
    return net


def _layer(config: dict[str, Any], known: dict[str, Any]) -> Layer:
    options = {name: _value(value) for name, value in config.items() if name != "type"}
    kind = known.get(config["type"])
    if kind is None:
        raise OptionError(
            f"load: the network has a layer {config['type']!r} that is not xpnn's. "
            f"Pass custom_layers=({config['type']},)."
        )
    if config["type"] == "Residual":
        return layers.Residual(*(_layer(inner, known) for inner in config["layers"]))
    layer: Layer = kind(**options)
    return layer


def _value(value: Any) -> Any:
    """Turn the description of an initializer back into one."""
    if isinstance(value, dict) and "type" in value:
        kind = getattr(initializers, value["type"])
        return kind(**{k: v for k, v in value.items() if k != "type"})
    return value


# -- the file format --------------------------------------------------------------------------------------------
def write(path: PathLike, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write named arrays and JSON-able values as one safetensors file."""
    from safetensors.numpy import save as to_bytes

    from . import __version__

    header = {"xpnn": json.dumps({"version": _VERSION, "written_by": __version__, **meta})}
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(to_bytes(arrays, metadata=header))


def read(path: PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write` wrote.

    Returns
    -------
    tensors : dict of str to numpy.ndarray
        By name.
    meta : dict
        The JSON values.

    Raises
    ------
    DataError
        If there is no such file.
    FileFormatError
        If it is truncated, corrupt, or not written by xpnn.
    """
    from safetensors import SafetensorError, safe_open

    file = existing_file(path, "load")
    try:
        with safe_open(str(file), framework="numpy") as handle:
            header = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(
            f"load: expected a whole safetensors file, but {file} cannot be read ({error}). "
            "It is truncated or of another format; copy it again, or save the network again."
        ) from error
    if "xpnn" not in header:
        raise FileFormatError(f"load: {file} is a safetensors file, but not one of xpnn. Write it with xpnn.save.")
    meta = json.loads(header["xpnn"])
    if meta["version"] > _VERSION:
        raise FileFormatError(
            f"load: {file} was written by xpnn {meta['written_by']} in a newer format. Run: pip install -U xpnn"
        )
    return tensors, meta
