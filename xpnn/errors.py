"""What can go wrong, each with a class of its own.

Every message reads *where: expected what, got what. What to do.* Each class is also the built-in error that
fits, so ``except ValueError`` works as a reader expects; ``except XpnnError`` catches them all.
"""

from __future__ import annotations

__all__ = [
    "BackendUnavailableError",
    "DTypeError",
    "DataError",
    "DeviceMemoryError",
    "DivergenceError",
    "FileFormatError",
    "LabelError",
    "MissingMethodError",
    "MissingPackageError",
    "OptionError",
    "ProcessError",
    "ShapeError",
    "XpnnError",
]


class XpnnError(Exception):
    """Base of all errors that xpnn raises on purpose."""


class ShapeError(XpnnError, ValueError):
    """An array has the wrong shape."""


class DTypeError(XpnnError, TypeError):
    """An array has a dtype, or comes from a library, that does not fit here."""


class LabelError(XpnnError, ValueError):
    """Targets do not fit the loss: out of range, wrong kind, or ambiguous."""


class DataError(XpnnError, ValueError):
    """The values of the data are unusable: empty, NaN, inf, a missing column."""


class OptionError(XpnnError, ValueError):
    """An option or a name is unknown or out of its range."""


class MissingMethodError(OptionError, NotImplementedError):
    """A class of one's own lacks the method that makes it what it is."""


class FileFormatError(XpnnError, ValueError):
    """A file is not what it claims to be: truncated, corrupt, or another format."""


class BackendUnavailableError(XpnnError, ImportError):
    """An array library, or a device of it, cannot be used here; the message tells the mend."""


class MissingPackageError(BackendUnavailableError, ModuleNotFoundError):
    """A package that is needed here is not installed; the message has the command that brings it."""


class DeviceMemoryError(XpnnError, MemoryError):
    """A GPU has less memory than training wants; the message has the batch size that would fit."""


class DivergenceError(XpnnError, ArithmeticError):
    """Training produced a loss that is not finite."""


class ProcessError(XpnnError, RuntimeError):
    """Another process of a group has failed, was lost, or holds something else than this one."""
