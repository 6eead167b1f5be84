"""Networks in files: tensors as safetensors, everything else as JSON in its header.

No pickle: a file is data and cannot run code, and any safetensors reader opens it.  The description ends in a digest of
itself and of all tensors, so that no changed bit goes unseen (files from before there was one are read without).  A
file may have been made to do harm all the same, with a digest that fits: what it says is compared with what it holds
before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from . import initializers, layers
from .backend import Backend
from .config import Custom, from_config, known_classes, reading
from .errors import FileFormatError, OptionError
from .files import PathLike, atomic_path, existing_file, parse_json
from .model import Sequential
from .optional import needs
from .schema import ANY, at_least, expect

__all__ = ["BackgroundWriter", "build", "check_finite", "check_values", "load", "read", "save", "write"]

_VERSION = 1
_PARTS = ("network", "extra", "trainer", "search")
_DIGEST = ', "digest": "'  # the last entry of the description, over the rest of it
#: A description is read by recursion, and each layer takes some time, however few bytes it has.
_MOST_LEVELS, _MOST_LAYERS = 100, 10_000


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
        If JSON cannot hold `extra`, or an argument of a layer of your own; or if there are more than 10,000 layers, or
        more than some 45 blocks in each other.

    Notes
    -----
    Whatever the values are, they are written; `load` refuses those that are not finite.

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
    custom_layers : class or sequence of classes, default=()
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
        If it is truncated, corrupt, or not a network of xpnn; if a value is NaN or infinite (`xpnn.checkpoint.read`
        returns the arrays whatever is in them).
    OptionError
        If it contains a layer or an initializer that is not xpnn's, and not given.
    """
    tensors, meta = read(path)
    if "search" in meta:
        raise FileFormatError(f"load: {path} holds a search. Pass it to xpnn.search.run as checkpoint.")
    if "network" not in meta:
        raise FileFormatError(
            f"load: {path} is a safetensors file, but holds no xpnn network. Write it with xpnn.save."
        )
    if "trainer" in meta:
        raise FileFormatError(f"load: {path} holds a network in training. Read it with xpnn.Trainer.load.")
    if "predictor" in meta.get("extra", {}):
        raise FileFormatError(
            f"load: {path} holds a model with the encoding of its data and its labels. Read it with "
            "xpnn.load_predictor, which takes the data as they are; its network alone is load_predictor(...).net."
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
        saved = config["dtype"]
        if not isinstance(backend, Backend) and dtype is None:
            dtype = saved
        described = from_config(config["layers"], known, where=where, option=option)
        options: dict[str, Any] = {"n_in": config["n_in"], "seed": config["seed"]}
        if tensors is None:
            return Sequential(*described, backend=backend, dtype=dtype, **options)
        check_values(tensors, "float64" if saved == "float64" else "float32", where)
        return Sequential.from_state(described, tensors, backend=backend, dtype=dtype, **options)


def check_values(tensors: Mapping[str, np.ndarray], dtype: str, where: str, *, finite: bool = True) -> None:
    """Raise FileFormatError, which names the array, if one is of another dtype or, if `finite`, has no number."""
    for name, array in tensors.items():
        if array.dtype != dtype:
            raise FileFormatError(
                f"{where}: expected {name} in {dtype}, as the description says, got {array.dtype}. "
                "The file is damaged: copy it again, or save the network again."
            )
    if finite:
        check_finite(tensors, where)


def check_finite(tensors: Mapping[str, np.ndarray], where: str) -> None:
    """Raise FileFormatError, which names the array, if a value is NaN or infinite."""
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            place = np.unravel_index(int(np.argmin(np.isfinite(array))), array.shape)
            raise FileFormatError(
                f"{where}: expected finite numbers in {name}, got {array[place]} at {tuple(map(int, place))}. The file "
                "is damaged, or training had diverged. xpnn.checkpoint.read returns the arrays as they are."
            )


# -- the file format --------------------------------------------------------------------------------------------
def write(path: PathLike, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write named arrays and JSON-able values as one safetensors file."""
    with needs("safetensors", "save"):
        from safetensors.numpy import save as to_bytes

    from . import __version__

    try:
        text = json.dumps({"version": _VERSION, "written_by": __version__, **meta}, default=_plain_number)
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(
            f"save: expected values that JSON can hold in extra, got: {error}. "
            "Turn them into numbers, text, lists and dicts."
        ) from error
    if problem := _too_much(meta):
        raise OptionError(f"save: expected {problem}. Nothing was written: save parts of the network, or fewer layers.")
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    text = f'{text[:-1]}{_DIGEST}{_digest(text, arrays)}"}}'
    with atomic_path(path) as temporary:
        temporary.write_bytes(to_bytes(arrays, metadata={"xpnn": text}))


class BackgroundWriter:
    """Does what `write` does in a thread, while training goes on; one file at a time, each whole.

    An error in it is raised by the next call, or by `finish`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     writer = BackgroundWriter()
    ...     writer(Path(folder, "a.safetensors"), {"a": np.zeros(2)}, {"extra": {}})
    ...     writer.finish()
    ...     sorted(read(Path(folder, "a.safetensors"))[0])
    ['a']
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __call__(self, path: PathLike, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Begin to write arrays and values that nobody changes any more."""
        self.finish()
        self._thread = threading.Thread(target=self._write, args=(path, tensors, meta), name="xpnn-write")
        try:
            self._thread.start()
        except RuntimeError:  # no memory for a thread, or Python is about to end
            self._thread = None
            write(path, tensors, meta)

    def _write(self, path: PathLike, tensors: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        try:
            write(path, tensors, meta)
        except BaseException as error:
            self._error = error

    def finish(self) -> None:
        """Wait until all is written."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __getstate__(self) -> dict[str, Any]:
        return {"_thread": None, "_error": None}


def _digest(text: str, tensors: Mapping[str, np.ndarray]) -> str:
    """Return the digest of a description, and of names, types, shapes and values of all tensors."""
    seen = hashlib.blake2b(text.encode(), digest_size=32)
    for name in sorted(tensors):
        array = tensors[name]
        seen.update(repr((name, array.dtype.name, array.shape)).encode())
        seen.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return seen.hexdigest()


def _too_much(meta: dict[str, Any]) -> str | None:
    """Return what was expected of a description that lies too deep in itself, or has too many layers."""
    if any(depth >= _MOST_LEVELS for depth, _ in enumerate(_levels(meta))):
        return f"at most {_MOST_LEVELS} lists or objects in each other, got more"
    found = sum("type" in each for level in _levels(meta.get("network")) for each in level if isinstance(each, dict))
    return f"at most {_MOST_LAYERS:,} layers, got {found:,}" if found > _MOST_LAYERS else None


def _levels(value: Any) -> Iterator[list[Any]]:
    """Yield the lists and objects within plain data, level by level."""
    level = [value]
    while level := [each for each in level if isinstance(each, dict | list | tuple)]:
        yield level
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]


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
        text = header["xpnn"]
        meta = parse_json(text)
        newer = meta["version"] > _VERSION
        sealed, digest = "digest" in meta, meta.pop("digest", None)
    except FileFormatError:
        raise
    except (SafetensorError, OSError, OverflowError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FileFormatError(
            f"load: expected a whole safetensors file, but {file} cannot be read ({error}). "
            "It is truncated or of another format; copy it again, or save the network again."
        ) from error
    if newer:
        raise FileFormatError(
            f"load: {file} was written by xpnn {meta.get('written_by')} in a newer format. Run: pip install -U xpnn"
        )
    hint = "It is damaged: copy it again, or save it again."
    if sealed:
        described, _, _ = text.rpartition(_DIGEST)
        if digest != _digest(described + "}", tensors):
            raise FileFormatError(f"load: expected the content that {file} was written with, got other bytes. {hint}")
    if problem := _too_much(meta):
        raise FileFormatError(f"load: expected {problem}, in {file}. {hint}")
    with reading("load", "what xpnn.save writes", got=f"a bad entry in {file}", hint=hint):
        expect(meta, {"version": at_least(1), **{part: {str: ANY} for part in _PARTS if part in meta}})
    return tensors, meta
