"""Objects as plain data, and back: how a file holds layers, losses, optimizers and all else that has options.

An object is its class and the arguments of its constructor, each read from the attribute of the same name.  A class for
which that will not do says so itself: `config()` returns the options to write, and the class method
``from_config(**options)`` makes an object of them; of what has been fitted, `to_dict()` returns the state and the class
method ``from_dict(state)`` brings it back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from .arguments import constructor
from .errors import FileFormatError, OptionError, XpnnError

__all__ = ["Custom", "Known", "from_config", "known_classes", "options_of", "reading", "to_config", "tried_config"]

#: Classes of the user's own that a file may hold, or a single one.
Custom: TypeAlias = "type[Any] | Sequence[type[Any]]"
Known: TypeAlias = dict[str, type[Any]]


def to_config(thing: Any, where: str = "") -> Any:
    """Return an object, or a list or dict of objects, as JSON-able values: its class as ``"type"``, beside its options.

    NumPy's numbers become Python's, and tuples lists.  `where` says what `thing` is, for the message:
    ``"Scale: expected factor"``.  Raises OptionError if JSON cannot hold it; the message names the class and argument.

    Examples
    --------
    >>> from xpnn import CosineDecay, Warmup
    >>> to_config(Warmup(CosineDecay(total=9), duration=2))["then"]
    {'type': 'CosineDecay', 'total': 9, 'end': 0.0, 'unit': 'epoch'}
    """
    if isinstance(thing, np.generic):
        return thing.item()
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing
    if isinstance(thing, list | tuple):
        return [to_config(item, where) for item in thing]
    if isinstance(thing, dict):
        return {name: to_config(value, where) for name, value in thing.items()}
    kind = type(thing)
    if hasattr(kind, "to_dict"):
        return {"type": kind.__name__, "state": thing.to_dict()}
    if hasattr(kind, "config"):
        return {"type": kind.__name__, **_plain(kind, thing.config())}
    if _unkept(thing) is None or (where and _unkept(thing)):
        raise OptionError(
            f"{where or 'to_config: expected a value'} to be numbers, text, lists, dicts, or an object that keeps each "
            f"argument of its constructor in an attribute of that name, got an object of type {kind.__name__}. "
            "Store such values, or give the class config() and from_config()."
        )
    return {"type": kind.__name__, **options_of(thing)}


def tried_config(thing: Any, where: str) -> Any:
    """Return `to_config` of an object, once it has been seen that `from_config` makes of it what it was.

    Raises OptionError if its class cannot be made again from its options, or comes back with others.

    Examples
    --------
    >>> from xpnn import Huber
    >>> tried_config(Huber(2.0), "save")
    {'type': 'Huber', 'delta': 2.0}
    """
    config, name = to_config(thing), type(thing).__name__
    cure = "Keep each argument in its attribute as it came, or give the class config() and from_config()."
    try:
        again = to_config(from_config(config, {kind.__name__: kind for kind in _classes_in(thing)}, where=where))
    except Exception as error:  # a constructor of somebody else's may raise anything
        raise OptionError(
            f"{where}: expected {name} to be made again from {config!r}, got {error!r}. {cure}"
        ) from error
    if repr(again) != repr(config):  # of which NaN is equal to itself
        raise OptionError(f"{where}: expected {name} to come back as {config!r}, got {again!r}. {cure}")
    return config


def _classes_in(thing: Any) -> Iterator[type[Any]]:
    """Yield the classes of an object and of all that its options hold."""
    kind, inside = type(thing), []
    if isinstance(thing, list | tuple):
        inside = list(thing)
    elif isinstance(thing, dict):
        inside = list(thing.values())
    elif kind.__module__ not in ("builtins", "numpy"):
        yield kind
        if hasattr(kind, "config"):
            inside = list(thing.config().values())
        elif not hasattr(kind, "to_dict"):
            inside = [getattr(thing, name) for name in constructor(kind)]
    for item in inside:
        yield from _classes_in(item)


def options_of(thing: Any) -> dict[str, Any]:
    """Return the arguments that make an object, as values that JSON can hold.

    Raises OptionError if an argument is not kept as an attribute, or JSON cannot hold it.
    """
    kind = type(thing)
    if name := _unkept(thing):
        raise OptionError(
            f"{kind.__name__}: expected its argument {name!r} to be kept in an attribute of that name, got none. "
            f"Write self.{name} = {name} in its constructor, or define config() and from_config()."
        )
    return _plain(kind, {name: getattr(thing, name) for name in constructor(kind)})


def _unkept(thing: Any) -> str | None:
    """Return the first argument that an object does not keep, "" if it keeps all; None if its class is no use."""
    if isinstance(thing, type) or type(thing).__module__ in ("builtins", "numpy"):
        return None
    try:
        arguments = constructor(type(thing))
    except (TypeError, ValueError):  # written in C
        return None
    return next((name for name, a in arguments.items() if a.variable or not hasattr(thing, name)), "")


def _plain(kind: type[Any], options: dict[str, Any]) -> dict[str, Any]:
    if "type" in options:
        raise OptionError(
            f"{kind.__name__}: expected options of other names than 'type', which stands for the class in a file. "
            "Rename that argument."
        )
    return {name: to_config(value, f"{kind.__name__}: expected {name}") for name, value in options.items()}


def known_classes(*places: tuple[ModuleType, type[Any]], custom: Custom = ()) -> Known:
    """Return the classes that may stand in a file, by name: of modules those below a base, and the user's.

    The user's may be a single class.  Raises OptionError if `custom` holds anything but classes.

    Examples
    --------
    >>> from xpnn import regularizers
    >>> sorted(known_classes((regularizers, regularizers.Regularizer)))
    ['L1', 'L2', 'SpectralNorm']
    """
    given = tuple(custom) if isinstance(custom, Iterable) and not isinstance(custom, type) else (custom,)
    for own in given:
        if not isinstance(own, type):
            raise OptionError(f"load: expected classes of your own, got {own!r}. Pass the class, not an object of it.")
    found = [getattr(module, name) for module, _ in places for name in module.__all__]
    bases = tuple(base for _, base in places)
    known = {k.__name__: k for k in found if isinstance(k, type) and issubclass(k, bases) and k not in bases}
    return known | {kind.__name__: kind for kind in given}


def from_config(data: Any, known: Known, *, where: str = "load", option: str = "custom") -> Any:
    """Make the object, or the list or dict of objects, that `to_config` described; of `known` classes alone.

    Raises OptionError if a class is not known; for the message, `where` says who reads, and `option` by which argument
    it is given classes.

    Examples
    --------
    >>> from xpnn import losses
    >>> from_config({"type": "Huber", "delta": 2.0}, known_classes((losses, losses.Loss)))
    Huber(delta=2.0)
    """
    if isinstance(data, list):
        return [from_config(item, known, where=where, option=option) for item in data]
    if not isinstance(data, dict):
        return data
    name = data.get("type")
    if name is not None and name not in known:
        what = "network" if where == "load" else "file"
        hint = f"Import that class and pass {option}=({name},)."
        raise OptionError(f"{where}: the {what} contains {name!r}, which is not xpnn's. {hint}")
    if name is not None and hasattr(known[name], "from_dict"):
        return known[name].from_dict(data["state"])
    made = {key: from_config(value, known, where=where, option=option) for key, value in data.items() if key != "type"}
    return made if name is None else getattr(known[name], "from_config", known[name])(**made)


@contextlib.contextmanager
def reading(
    where: str,
    expected: str,
    *,
    got: str = "a bad entry",
    hint: str = "It is damaged, of another version, or a class of your own has changed; save it or train again.",
    passing: type[XpnnError] = XpnnError,
) -> Iterator[None]:
    """Turn what goes wrong while a description is read into a FileFormatError; errors of xpnn's own pass as they are.

    Examples
    --------
    >>> from xpnn.errors import FileFormatError
    >>> try:
    ...     with reading("load", "what save writes", hint="Save it again."):
    ...         {}["layers"]
    ... except FileFormatError as error:
    ...     print(error)
    load: expected what save writes, got a bad entry (KeyError('layers')). Save it again.
    """
    try:
        yield
    except passing:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise FileFormatError(f"{where}: expected {expected}, got {got} ({error!r}). {hint}") from error
