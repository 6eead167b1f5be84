"""Whether steps can be recorded with a part in them: each part of training says so itself.

A recorded step is array work at fixed places in memory; Python that does anything else in a step happens only while
it is recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

__all__ = ["Recordable", "RecordingMode", "foreign_method", "is_own", "objection"]


class RecordingMode(NamedTuple):
    """How steps are to be recorded."""

    weighted: bool  #: whether rows have weights
    trusted: bool  #: whether Python that is not xpnn's own is taken to do array work alone
    as_one: bool  #: whether many steps are made as one, so that nothing can be called between them


class Recordable:
    """Base of all that takes part in a step: layers, losses, optimizers, penalties, metrics, callbacks, trainers."""

    def unrecordable(self, mode: RecordingMode) -> str | None:
        """Return in a few words why steps with this part cannot be recorded; None if they can.

        Of classes that are not xpnn's own, and of methods that were exchanged, nobody knows what else they do: they
        can be recorded where they are trusted.
        """
        if mode.trusted:
            return None
        name = type(self).__name__
        if not is_own(type(self).__module__):
            return f"{name} may do more than array work; fit(graph=True) says that it does not"
        method = foreign_method(self)
        return None if method is None else f"{name} has a {method} of its own"


def objection(parts: Iterable[Recordable | None], mode: RecordingMode) -> str | None:
    """Return why nothing can be recorded of parts, as the first says that has something against it."""
    found = (part.unrecordable(mode) for part in parts if part is not None)
    return next((why for why in found if why is not None), None)


def is_own(module: str | None) -> bool:
    """Whether a module, by its name, is part of xpnn."""
    return module is not None and module.partition(".")[0] == __name__.partition(".")[0]


def foreign_method(part: Any, names: Iterable[str] | None = None) -> str | None:
    """Return the name of a method whose code is not xpnn's, on the object or on its class; None if there is none.

    `names` are the methods to look at; by default all but Python's own (``__init__``).
    """
    kind = type(part)
    if names is None:
        names = (name for base in kind.__mro__[:-1] for name in vars(base) if not name.startswith("__"))
    exchanged = getattr(part, "__dict__", {})
    for name in names:
        method = getattr(kind, name, None)
        if not callable(method) or isinstance(method, type):
            continue
        if name in exchanged or not is_own(getattr(method, "__globals__", {}).get("__name__")):
            return name
    return None
