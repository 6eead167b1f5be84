"""The Array API on traced arrays: the functions that layers and losses of a prediction are made of."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..backend.interop import NAMESPACES
from ..special import OF_TYPE, erf, sigmoid
from .build import Builder
from .traced import Traced, TracingError, combine, constant, expanded, in_full, made

__all__ = ["TracedNamespace", "traced_into"]

Shape = tuple[int, ...]

_BUILDER: ContextVar[Builder] = ContextVar("builder of the graph that is traced")


@contextlib.contextmanager
def traced_into(builder: Builder) -> Iterator[TracedNamespace]:
    """Let new arrays of the namespace belong to a graph."""
    token = _BUILDER.set(builder)
    try:
        yield Traced.namespace
    finally:
        _BUILDER.reset(token)


# -- new arrays ----------------------------------------------------------------------------------------------------
def _fresh(function: Callable[..., Any]) -> Callable[..., Traced]:
    """Return what NumPy makes as a constant that can be written to."""

    def create(*arguments: Any, device: Any = None, **options: Any) -> Traced:
        return constant(_BUILDER.get(), function(*arguments, **options))

    return create


def _fresh_like(function: Callable[..., Any]) -> Callable[..., Traced]:
    def create(x: Traced, *arguments: Any, dtype: Any = None, device: Any = None) -> Traced:
        return constant(_BUILDER.get(), function(x.shape, *arguments, dtype=dtype or x.dtype))

    return create


def _asarray(x: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Traced:
    if isinstance(x, Traced):
        x = made(x, x.value, x.shape) if copy else x
        return x if dtype is None else _astype(x, dtype, copy=False)
    return constant(_BUILDER.get(), np.asarray(x, dtype=dtype))


def _astype(x: Traced, dtype: Any, *, copy: bool = True, device: Any = None) -> Traced:
    name = np.dtype(dtype).name
    known = {"int32": "int64", "float16": "float32"}.get(name, name)
    return made(x, x.builder.cast(x.value, known), x.shape)


# -- element by element --------------------------------------------------------------------------------------------
def _unary(op: str) -> Callable[[Traced], Traced]:
    return lambda x: made(x, x.builder.op(op, x.value), x.shape)


def _elementwise(op: str) -> Callable[..., Traced]:
    return lambda *operands: combine(op, *operands)


def _clip(x: Traced, low: Any = None, high: Any = None) -> Traced:
    x = x if low is None else combine("max", x, low)
    return x if high is None else combine("min", x, high)


def _sign(x: Traced) -> Traced:
    return _astype(x > 0, x.dtype) - _astype(x < 0, x.dtype)


def _special(function: Callable[..., Traced]) -> Callable[[Traced], Traced]:
    """One operation in float32; in float64, for which runtimes lack some, what xpnn computes."""
    op, portable = _unary(function.__name__), inspect.unwrap(function)
    return lambda x: op(x) if x.dtype == np.float32 else portable(x, xp=Traced.namespace)


def _softmax(x: Traced, *, axis: int = -1) -> Traced:
    last = _moveaxis(x, axis, -1)
    return _moveaxis(made(x, x.builder.op("softmax", last.value), last.shape), -1, axis)


# -- along axes ------------------------------------------------------------------------------------------------------
def _axes(axis: Any, ndim: int) -> list[int]:
    chosen = range(ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return sorted(a % ndim for a in chosen)


def _reduction(op: str) -> Callable[..., Traced]:
    def reduced(x: Traced, /, *, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Traced:
        value, shape, axes = in_full(x), x.shape, _axes(axis, x.ndim)
        for a in reversed(axes):  # from the last, so that the numbers of the others stay
            left = (*shape[:a], *shape[a + 1 :])
            one = shape[a] == 1
            value = x.builder.reshape(value, left) if one else x.builder.op(op, value, axis=a - len(shape))
            shape = left
        kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
        return made(x, value, kept if keepdims else shape)

    return reduced


def _variance(x: Traced, /, *, axis: Any = None, correction: float = 0.0, keepdims: bool = False) -> Traced:
    away = x - _mean(x, axis=axis, keepdims=True)
    n = math.prod(x.shape[a] for a in _axes(axis, x.ndim))
    return _mean(away * away, axis=axis, keepdims=keepdims) * (n / (n - correction))


_mean = _reduction("reduce_mean")


def _argmax(x: Traced, /, *, axis: int | None = None, keepdims: bool = False) -> Traced:
    place = x.ndim - 1 if axis is None else axis % x.ndim
    last = _moveaxis(x, place, -1) if axis is not None else x.reshaped((x.size,))
    left = last.shape[:-1]
    value = x.builder.op("argmax", in_full(last))
    if keepdims:
        left = (1,) * x.ndim if axis is None else (*x.shape[:place], 1, *x.shape[place + 1 :])
    return made(x, value, left)


def _moveaxis(x: Traced, source: int, destination: int) -> Traced:
    order = [a for a in range(x.ndim) if a != source % x.ndim]
    order.insert(destination % x.ndim, source % x.ndim)
    return x.permuted(tuple(order))


def _expand_dims(x: Traced, /, *, axis: int = 0) -> Traced:
    place = axis % (x.ndim + 1)
    return x.reshaped((*x.shape[:place], 1, *x.shape[place:]))


def _squeeze(x: Traced, /, axis: int | tuple[int, ...]) -> Traced:
    return x.reshaped(tuple(n for a, n in enumerate(x.shape) if a not in _axes(axis, x.ndim)))


def _broadcast_to(x: Traced, /, shape: Shape) -> Traced:
    return made(x, expanded(x, shape), tuple(shape))


def _concat(arrays: Sequence[Any], /, *, axis: int = 0) -> Traced:
    builder = _BUILDER.get()
    parts = [constant(builder, x) for x in arrays]
    place, dtype = axis % parts[0].ndim, np.result_type(*(x.dtype for x in parts)).name
    shape = list(parts[0].shape)
    shape[place] = sum(x.shape[place] for x in parts)
    values = [builder.cast(in_full(x), dtype) for x in parts]
    return made(parts[0], builder.op("concat", *values, axis=place - len(shape)), tuple(shape))


def _stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Traced:
    return _concat([_expand_dims(constant(_BUILDER.get(), x), axis=axis) for x in arrays], axis=axis)


# -- by numbers --------------------------------------------------------------------------------------------------------
def _take(x: Any, index: Any, /, *, axis: int = 0) -> Traced:
    builder = _BUILDER.get()
    x, index = constant(builder, x), constant(builder, index)
    place = axis % x.ndim
    if builder.is_constant(index.value):
        shape = (*x.shape[:place], index.size, *x.shape[place + 1 :])
        places = tuple(int(k) % x.shape[place] for k in builder.constants[index.value].ravel())
        return made(x, builder.op("take", in_full(x), axis=place - x.ndim, indices=places), shape)
    if not builder.is_constant(x.value):
        raise TracingError("takes elements of an array by numbers that both depend on the input")
    table = _moveaxis(x, place, 0)
    found = made(x, builder.op("gather", in_full(table), in_full(index)), (*index.shape, *table.shape[1:]))
    return _moveaxis(found, 0, place)


def _take_along_axis(x: Any, index: Any, /, *, axis: int = -1) -> Traced:
    """By numbers of the elements in one row: those of the other axes are known."""
    builder = _BUILDER.get()
    x, index = constant(builder, x), constant(builder, index)
    place, strides = axis % x.ndim, np.cumprod([1, *x.shape[:0:-1]])[::-1].tolist()
    rest = sum(
        np.arange(n).reshape([-1 if k == a else 1 for k in range(x.ndim)]) * strides[a]
        for a, n in enumerate(index.shape)
        if a != place
    )
    return made(x, _take(x.reshaped((x.size,)), (index * strides[place] + rest).reshaped((-1,))).value, index.shape)


_FUNCTIONS: dict[str, Any] = {
    **{name: np.dtype(name) for name in ("float32", "float64", "int32", "int64", "bool")},
    **{"pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan, "newaxis": None},
    **{
        name: getattr(np, name) for name in ("finfo", "iinfo", "isdtype", "result_type", "can_cast", "broadcast_shapes")
    },
    **{name: _fresh(getattr(np, name)) for name in ("zeros", "ones", "full", "arange", "eye", "linspace")},
    "empty": _fresh(np.zeros),  # what nobody writes to is the same in every run
    **{f"{name}_like": _fresh_like(getattr(np, name)) for name in ("zeros", "ones", "full")},
    "empty_like": _fresh_like(np.zeros),
    "asarray": _asarray,
    "astype": _astype,
    **{name: _unary(name) for name in ("abs", "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh")},
    **{name: _unary(name) for name in ("floor", "round", "isnan")},
    **{
        name: _elementwise(name) for name in ("pow", "less", "less_equal", "greater", "greater_equal", "equal", "where")
    },
    **{"add": _elementwise("add"), "subtract": _elementwise("sub"), "multiply": _elementwise("mul")},
    **{"divide": _elementwise("div"), "maximum": _elementwise("max"), "minimum": _elementwise("min")},
    **{"logical_and": _elementwise("and"), "logical_or": _elementwise("or")},
    "logical_not": _unary("not"),
    "negative": _unary("neg"),
    "not_equal": lambda a, b: ~combine("equal", a, b),
    "square": lambda x: x * x,
    "reciprocal": lambda x: 1.0 / x,
    "clip": _clip,
    "sign": _sign,
    **{name: _reduction(f"reduce_{name}") for name in ("sum", "max", "min")},
    "mean": _mean,
    "var": _variance,
    "std": lambda x, /, **options: _FUNCTIONS["sqrt"](_variance(x, **options)),
    "argmax": _argmax,
    "moveaxis": _moveaxis,
    "permute_dims": lambda x, /, axes: x.permuted(tuple(a % x.ndim for a in axes)),
    "matrix_transpose": lambda x: x.mT,
    "reshape": lambda x, /, shape, *, copy=None: x.reshaped((shape,) if isinstance(shape, int) else tuple(shape)),
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "broadcast_to": _broadcast_to,
    "concat": _concat,
    "stack": _stack,
    "matmul": lambda a, b: a @ b,
    "vecdot": lambda a, b, /, *, axis=-1: _reduction("reduce_sum")(a * b, axis=axis),
    "take": _take,
    "take_along_axis": _take_along_axis,
}


class TracedNamespace:
    """Functions of the Array API by their names; what is not there is refused by its name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in _FUNCTIONS:
            raise TracingError(f"calls xp.{name}, which has no counterpart among the operations of a graph")
        return _FUNCTIONS[name]

    def __dir__(self) -> list[str]:
        return sorted(_FUNCTIONS)


Traced.namespace = NAMESPACES[Traced] = TracedNamespace()
OF_TYPE[Traced] = {"erf": _special(erf), "sigmoid": _special(sigmoid), "softmax": _softmax}
