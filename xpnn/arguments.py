"""What people pass to constructors and functions: checked, suggested and shown in one way."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import array_api_compat
import numpy as np

from .errors import DataError, DTypeError, OptionError, ShapeError
from .frames import array_of, column_names, numbers_of, places, stacked, unwrapped
from .recordable import is_own

__all__ = [
    "Argument",
    "as_array",
    "as_real",
    "as_rows",
    "check_real",
    "check_seed",
    "class_for",
    "constructor",
    "count",
    "describe",
    "field_number",
    "finite",
    "flag",
    "is_count",
    "number",
    "one_or_each",
    "printable",
    "real_hint",
    "same_length",
    "shown",
    "suggest",
]


def is_count(value: Any) -> bool:
    """Whether `value` is a whole number of at least 1, of Python or of NumPy; True is none."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1


def count(value: Any, where: str, name: str) -> int:
    """Return a positive integer as Python's, or raise OptionError.

    Examples
    --------
    >>> count(np.int64(3), "Linear", "n_out")
    3
    """
    if is_count(value):
        return int(value)
    near = number(value)
    hint = max(round(near), 1) if 0 < near < math.inf else 32
    raise OptionError(f"{where}: expected {name} to be a positive integer, got {value!r}. Try {name}={hint}.")


def number(value: Any) -> float:
    """Return `value` as Python's float; NaN, which lies in no range, for what is no number.

    Examples
    --------
    >>> number(np.float32(0.5)), number("0.5")
    (0.5, nan)
    """
    try:
        return math.nan if isinstance(value, str) else float(value)
    except (OverflowError, TypeError, ValueError):
        return math.nan


def field_number(thing: Any, name: str, expected: str, fits: Callable[[float], bool]) -> float:
    """Return a field as Python's finite number that `fits`, or raise OptionError: ``name`` is to be ``expected``.

    Examples
    --------
    >>> from xpnn import ELU
    >>> field_number(ELU(0.5), "alpha", "a number above 0", lambda x: x > 0)
    0.5
    """
    value = getattr(thing, name)
    given = math.nan if isinstance(value, bool) else number(value)
    if not (math.isfinite(given) and fits(given)):
        raise OptionError(
            f"{type(thing).__name__}: expected {name} to be {expected}, got {value!r}. Choose a value in that range."
        )
    return value if type(value) is int else given


def finite(value: Any, where: str, name: str, example: float, *, low: float = -math.inf) -> float:
    """Return a finite number, at least `low`, as Python's float, or raise OptionError.

    Examples
    --------
    >>> finite(2, "Linear", "lr_mult", 1.0, low=0.0)
    2.0
    """
    given = number(value)
    if not (math.isfinite(given) and given >= low):
        limit = "" if low == -math.inf else f" >= {low:g}"
        raise OptionError(
            f"{where}: expected {name} to be a finite number{limit}, got {shown(value)}. Try {name}={example:g}."
        )
    return given


def flag(value: Any, where: str, name: str) -> bool:
    """Return True or False as Python's, 1 and 0 too, or raise OptionError: what a text means, its truth does not tell.

    Examples
    --------
    >>> flag(np.True_, "Linear", "bias")
    True
    """
    if not isinstance(value, bool | int | np.bool_ | np.integer) or value not in (0, 1):
        raise OptionError(f"{where}: expected {name} to be True or False, got {shown(value)}. Choose one.")
    return bool(value)


def check_seed(seed: Any, where: str, hint: str = "Try seed=0.") -> int:
    """Return a seed as Python's integer, or raise OptionError.

    Examples
    --------
    >>> check_seed(np.int64(3), "make_moons")
    3
    """
    if not isinstance(seed, int | np.integer):
        raise OptionError(f"{where}: expected seed to be an integer, got {shown(seed)}. {hint}")
    return int(seed)


def one_or_each(value: Any) -> float | list[float]:
    """Return what one network or every replica has as Python's float, or the list of the replicas' own.

    Examples
    --------
    >>> one_or_each(0.5), one_or_each([1, 2]), one_or_each("0.5")
    (0.5, [1.0, 2.0], nan)
    """
    several = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
    return [number(v) for v in value] if several else number(value)


def suggest(name: Any, known: Iterable[str], otherwise: str = "Choose one of these names.") -> str:
    """Return what to do about an unknown name: the known one that looks most like it, in whatever case.

    Examples
    --------
    >>> suggest("rleu", ["relu", "tanh"]), suggest("Age", ["AGE", "sex"])
    ("Did you mean 'relu'?", "Did you mean 'AGE'?")
    """
    lower = {str(each).lower(): each for each in reversed(list(known))}
    near = difflib.get_close_matches(str(name).lower(), lower, n=1)
    return f"Did you mean {lower[near[0]]!r}?" if near else otherwise


# Control characters, what turns the direction of writing, other line ends, and halves of characters.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, keep: str = "") -> str:
    r"""Return a text as one line that a terminal only shows: control characters but those to `keep` become escapes.

    Examples
    --------
    >>> print(printable("red \x1b[31m\nor not"))
    red \x1b[31m\nor not
    """
    return _CONTROLS.sub(
        lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode("ascii"), text
    )


def shown(value: Any) -> str:
    """Return the text of what was given, for a message: of what is long or has none, its class.

    Examples
    --------
    >>> shown("adam"), shown([0.0] * 99), shown(print)
    ("'adam'", 'a list', 'a builtin_function_or_method')
    """
    text = repr(value)
    if len(text) <= 60 and text[0] != "<":
        return text
    kind = dict if isinstance(value, dict) else type(value)
    return f"a {kind.__name__}"


def class_for(word: str, kind: type[Any]) -> type[Any] | None:
    """Return the public class of xpnn's of this kind that somebody means by a word, as other libraries spell it.

    Examples
    --------
    >>> from xpnn import Loss
    >>> from xpnn.schedules import Schedule
    >>> [class_for(word, Loss).__name__ for word in ("mse", "cross_entropy", "BCELoss")]
    ['MeanSquaredError', 'CrossEntropy', 'BinaryCrossEntropy']
    >>> class_for("cosine", Schedule).__name__
    'CosineDecay'
    """
    known = {one.__name__: one for one in _subclasses(kind) if is_own(one.__module__) and "._" not in one.__module__}
    plain = re.sub("[^a-z0-9]", "", word.lower())
    short = plain.removesuffix("loss") or plain
    tests: tuple[Callable[[str], bool], ...] = (
        lambda name: name.lower() == short,
        lambda name: re.sub("[^A-Z]", "", name).lower() == short,
        lambda name: name.lower().startswith(short),
        lambda name: short in name.lower(),
        lambda name: name.lower() in short,
        lambda name: bool(difflib.get_close_matches(short, [name.lower()])),
    )
    found = (name for fits in tests for name in sorted(known, key=lambda name: (-len(name), name)) if fits(name))
    name = next(found, None)
    return None if name is None else known[name]


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for one in kind.__subclasses__():
        yield one
        yield from _subclasses(one)


class Argument(NamedTuple):
    """What a constructor takes: the text of the default, and whether it stands for any number of arguments."""

    default: str
    variable: bool


_READ: WeakKeyDictionary[type[Any], dict[str, Argument]] = WeakKeyDictionary()


def constructor(kind: type[Any]) -> dict[str, Argument]:
    """Return the arguments of a class by name; read once for each class, for that is slow.

    Examples
    --------
    >>> from xpnn import Huber
    >>> constructor(Huber)
    {'delta': Argument(default='1.0', variable=False)}
    """
    if (known := _READ.get(kind)) is not None:
        return known
    given = inspect.signature(kind).parameters.items()
    _READ[kind] = {n: Argument(repr(p.default), p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)) for n, p in given}
    return _READ[kind]


def describe(thing: Any) -> str:
    """Return the call that makes `thing`: its class, and its options where they are not the defaults.

    Examples
    --------
    >>> from xpnn import CrossEntropy, Linear
    >>> describe(Linear(3)), describe(CrossEntropy())
    ('Linear(n_out=3)', 'CrossEntropy()')
    """
    given = []
    for name, argument in constructor(type(thing)).items():
        text = argument.default if argument.variable or not hasattr(thing, name) else repr(getattr(thing, name))
        if text != argument.default:
            given.append(f"{name}={text}")
    return f"{type(thing).__name__}({', '.join(given)})"


def as_array(a: Any, where: str, name: str, *, lazy: bool = False, fitted: Sequence[Any] | None = None) -> Any:
    """Return `a` if it is an array of any library, else NumPy's reading of it (lists, data frames).

    Subclasses of NumPy's arrays become plain; a memory map stays one.  With `lazy`, what only looks like an array (a
    sparse matrix, a data set in an HDF5 file) stays too, to be read in parts.  The columns of a frame are put into the
    order of those that were `fitted`.

    Raises
    ------
    ShapeError
        If its rows differ in length.
    DataError
        If values are masked, a frame has a name twice, or other columns than those that were fitted.

    Examples
    --------
    >>> as_array([[1.0, 2.0]], "fit", "X").shape
    (1, 2)
    """
    if type(a) is np.ndarray:
        return a
    if isinstance(a, np.ndarray):
        return unwrapped(a, where, name)
    if array_api_compat.is_array_api_obj(a):
        return a
    names = column_names(a, where, name)
    if names is not None:
        array = array_of(a, where, name)
        order = None if fitted is None else places(names, fitted, where, name)
        return array if order is None else array[..., order]
    of_a_frame = hasattr(a, "to_numpy") and not isinstance(getattr(a, "dtype", None), np.dtype)
    if lazy and hasattr(a, "shape") and hasattr(a, "dtype") and not (of_a_frame or hasattr(a, "iloc")):
        return a
    try:
        array = stacked(a)
    except ValueError as error:
        raise ShapeError(
            f"{where}: expected rows of equal length in {name}, got rows of different lengths. Pad or cut them."
        ) from error
    return unwrapped(array, where, name)


def as_real(
    a: Any, where: str, name: str, *, lazy: bool = False, objects: bool = False, fitted: Sequence[Any] | None = None
) -> Any:
    """Return `a` as `as_array` does, as an array of real numbers.

    With `objects`, numbers in an array of objects are taken too; else only those in frames and lists are, for what
    such an array holds somebody chose.

    Raises
    ------
    DTypeError
        If it holds text, complex numbers, dates or records.
    DataError
        As `as_array`, or if objects hold numbers and gaps (None, pandas.NA).

    Examples
    --------
    >>> as_real([[1, 2.5]], "fit", "X")
    array([[1. , 2.5]])
    """
    array = as_array(a, where, name, lazy=lazy, fitted=fitted)
    return _real(array, where, name, objects=objects or array is not a)


def as_rows(a: Any, where: str, name: str, *, fitted: Sequence[Any] | None = None) -> Any:
    """Return `a` as `as_array` does, reading it in parts; refuse empty data, and as `X` what are no real numbers."""
    array = as_array(a, where, name, lazy=True, fitted=fitted)
    if len(array.shape) == 0 or array.shape[0] == 0:
        raise DataError(
            f"{where}: expected at least one row in {name}, got shape {tuple(array.shape)}. Check the data."
        )
    if name.startswith("X"):
        return _real(array, where, name, objects=array is not a)
    return numbers_of(array, where, name) if isinstance(array, np.ndarray) else array


def _real(array: Any, where: str, name: str, *, objects: bool) -> Any:
    own = getattr(array.dtype, "isbuiltin", 1) != 2  # else of ml_dtypes
    if own and getattr(array.dtype, "kind", "") in ("f", "i", "u", "b"):
        return array
    if isinstance(array, np.ndarray) and (objects or not own) and not isinstance(array, np.memmap):
        array = numbers_of(array, where, name)
    check_real(array, where, name)
    return array


def same_length(where: str, **columns: Any) -> int:
    """Return the common number of rows, or raise ShapeError naming each column's; columns may be None.

    Examples
    --------
    >>> same_length("fit", X=np.ones((3, 2)), y=np.ones(3), sample_weight=None)
    3
    """
    lengths = {name: int(column.shape[0]) for name, column in columns.items() if column is not None}
    if len(set(lengths.values())) != 1:
        got = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ShapeError(f"{where}: expected equally many rows, but {got}. Pass one target for each sample.")
    return next(iter(lengths.values()))


def check_real(a: Any, where: str, name: str) -> None:
    """Raise DTypeError unless the array `a` holds real numbers."""
    hint = real_hint(a.dtype)
    if hint is not None:
        # Not so dates, which depend on their unit, records, and complex numbers, of which a part would be lost.
        text = getattr(a.dtype, "kind", "") in ("O", "S", "T", "U")
        convert = f", or convert with {name}.astype(float)" if text else ""
        raise DTypeError(f"{where}: expected real numbers in {name}, got dtype {a.dtype}. {hint}{convert}.")


def real_hint(dtype: Any) -> str | None:
    """Return what to do with an array of any library whose dtype is none of real numbers; None where it is one.

    Examples
    --------
    >>> real_hint(np.dtype("complex64")), real_hint(np.dtype("int8"))
    ('Split real and imaginary parts', None)
    """
    if getattr(dtype, "kind", "") in ("f", "i", "u", "b"):  # NumPy makes a name anew each time
        return None
    name = getattr(dtype, "name", None) or str(dtype).rpartition(".")[2]
    if name.startswith(("float", "int", "uint", "bool", "bfloat")):
        return None
    if name.startswith("complex"):
        return "Split real and imaginary parts"
    if name.startswith(("datetime", "timedelta")):
        return "Count time from a date of your choice"
    if name.startswith(("void", "record")):
        return "Put the fields of records side by side with numpy.lib.recfunctions.structured_to_unstructured"
    return "Encode text with xpnn.data.TableEncoder"
