"""What parts of somebody's own must keep to: what their methods take and return, checked where they are first called.

Nothing here is asked of xpnn's own classes, and nothing waits for the device.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import array_api_compat

from ._typing import Array
from .arguments import suggest
from .errors import DTypeError, OptionError, ShapeError
from .recordable import is_own

__all__ = [
    "check_array",
    "check_assigned",
    "check_call",
    "check_function",
    "check_hooks",
    "check_pair",
    "foreign",
    "mark_gradients",
    "what",
]

# No gradient is this, and what is added to it leaves it as it is.
_MARK = 2.0**100


def foreign(thing: Any) -> bool:
    """Whether an object is of a class that is not xpnn's."""
    return not is_own(type(thing).__module__)


def what(value: Any) -> str:
    """Say in a few words what was returned.

    Examples
    --------
    >>> import numpy as np
    >>> what(np.zeros((2, 3))), what((1, 2)), what(None)
    ('an array of shape (2, 3)', 'a tuple of 2', 'None')
    """
    if value is None:
        return "None"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value) if isinstance(value, int | float | str) else type(value).__name__


def check_pair(returned: Any, where: str, expected: str, hint: str) -> None:
    """Raise OptionError unless a method has returned two things."""
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        hint = "Is the return missing?" if returned is None else hint
        raise OptionError(f"{where}: expected {expected}, got {what(returned)}. {hint}")


def check_array(
    a: Any, where: str, name: str, shape: tuple[int, ...], like: Array | None, *, leading: bool = True, hint: str = ""
) -> None:
    """Raise ShapeError or DTypeError unless `a` is an array of a shape, in library and dtype like another one.

    Without `leading`, the axes before the last two are free: those of replicas.
    """
    if a is None or not hasattr(a, "shape") or not hasattr(a, "dtype"):
        why = "Is a return missing?" if a is None else hint or "Return an array."
        raise ShapeError(f"{where}: expected {name}, an array of shape {shape}, got {what(a)}. {why}")
    got = tuple(a.shape)
    if got != shape and (leading or len(got) < 2 or got[-2:] != shape[-2:]):
        raise ShapeError(f"{where}: expected {name} of shape {shape}, got {got}. {hint or 'Look at its axes.'}")
    if like is None:
        return
    if not (isinstance(a, type(like)) or isinstance(like, type(a))) or not array_api_compat.is_array_api_obj(a):
        raise DTypeError(
            f"{where}: expected {name} as {type(like).__module__.partition('.')[0]} array, like what it is given, got "
            f"{type(a).__module__.partition('.')[0]}'s. Use the operations of the array that comes in."
        )
    if a.dtype != like.dtype:
        raise DTypeError(
            f"{where}: expected {name} in {like.dtype}, like what it is given, got {a.dtype}. "
            "Numbers from NumPy widen what they meet: make them Python's with float()."
        )


def check_function(function: Any, where: str, *names: str) -> None:
    """Raise OptionError unless it is a function that can be called with these arguments."""
    given = ", ".join(names)
    if not callable(function):
        raise OptionError(
            f"{where}: expected a function of {given}, got {what(function)}. "
            "Pass the function itself, not what it returns."
        )
    check_call(function, where, *names, definition=f"lambda {given}: ...")


def check_call(
    method: Callable[..., Any], where: str, *names: str, keywords: Iterable[str] = (), definition: str = ""
) -> None:
    """Raise OptionError unless a method can be called with these arguments and keywords; `definition` is one."""
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # of compiled code, which tells nothing
        return
    keywords = tuple(keywords)
    try:
        signature.bind(*names, **dict.fromkeys(keywords))
    except TypeError:
        given = ", ".join([*names, *(["*", *(f"{name}=..." for name in keywords)] if keywords else [])])
        wanted = definition or f"def {where.rpartition('.')[2]}(self, {given})"
        raise OptionError(f"{where}: expected to be called with ({given}), got {signature}. Write {wanted}.") from None


def check_hooks(callback: Any, hooks: Iterable[str]) -> None:
    """Raise OptionError where a method ``on_…`` of a callback is none of the hooks, or a hook takes no trainer."""
    known, kind = list(hooks), type(callback).__name__
    for name in dir(callback):
        if name in known:
            check_call(getattr(callback, name), f"{kind}.{name}", "trainer")
        elif name.startswith("on_") and callable(getattr(callback, name)):
            hint = suggest(name, known, f"Hooks are {', '.join(known)}.")
            raise OptionError(f"{kind}: expected methods on_… to be hooks, got {name}, which nobody calls. {hint}")


def mark_gradients(layers: Iterable[Any], grads: Mapping[str, Array]) -> dict[str, Array]:
    """Fill the gradients of the layers that are not xpnn's, and return them by name: `check_assigned` looks for it.

    `layers` have labels, ``"2.Scale"``, and `grads` names such as ``"2.weight"``.
    """
    starts = tuple(layer.label.rpartition(".")[0] + "." for layer in layers if foreign(layer))
    marked = {name: view for name, view in grads.items() if name.startswith(starts)}
    for view in marked.values():
        view[...] = _MARK
    return marked


def check_assigned(layers: Iterable[Any], marked: Mapping[str, Array]) -> None:
    """Raise OptionError where `backward` has left a part of a gradient as it was; this waits for the device."""
    labels = {layer.label.rpartition(".")[0]: layer.label for layer in layers}
    for name, view in marked.items():
        if bool(array_api_compat.array_namespace(view).any(view == _MARK)):
            place, _, own = name.rpartition(".")
            raise OptionError(
                f"{labels[place]}.backward: expected it to assign the gradient of {own!r}, got one as it was before. "
                f"Write self.grads[{own!r}][...] = ...: not added to it, and with [...], for it is a view."
            )
