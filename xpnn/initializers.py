r"""Where weights start.

An initializer draws on the host, in float64, from a generator it is handed; the network moves the numbers to
its backend.  Equal seeds therefore give equal weights on every array library.

Legend: a weight has shape ``(n_in, n_out)``; ``fan_in = n_in`` is the number of terms summed by one unit in
the forward pass, ``fan_out = n_out`` the number summed in the backward pass.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ._typing import Shape
from .arguments import field_number, suggest
from .errors import OptionError, ShapeError

__all__ = [
    "Constant",
    "HeNormal",
    "HeUniform",
    "Initializer",
    "LeCunNormal",
    "Normal",
    "Orthogonal",
    "RandomSigns",
    "Uniform",
    "XavierNormal",
    "XavierUniform",
    "Zeros",
    "get_initializer",
]


HostArray: TypeAlias = npt.NDArray[np.float64]


class Initializer(abc.ABC):
    """Base of all initializers; a subclass defines `sample`."""

    @abc.abstractmethod
    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Draw the weights.

        Parameters
        ----------
        rng : numpy.random.Generator
            The only source of randomness.
        shape : tuple of int
            ``(n_in, n_out)``; ``(n,)`` counts as fan_in = fan_out = n.

        Returns
        -------
        numpy.ndarray of `shape`, float64
            A fresh array.

        Raises
        ------
        ShapeError
            If the initializer needs fans and `shape` has none.
        """

    def _fans(self, shape: Shape) -> tuple[int, int]:
        if len(shape) not in (1, 2) or min(shape) < 1:
            raise ShapeError(
                f"{type(self).__name__}: expected a shape (n_in, n_out) of positive sizes, "
                f"got {tuple(shape)}. Draw each matrix by itself, or use Normal, Uniform or Constant."
            )
        return shape[0], shape[-1]

    def _number(self, name: str, *, low: float = -math.inf, strict: bool = False) -> None:
        """Check that a field is a finite number, at least (or, if `strict`, above) `low`."""
        limit = "" if low == -math.inf else f" {'>' if strict else '>='} {low:g}"
        number = field_number(self, name, f"a finite number{limit}", lambda x: x > low if strict else x >= low)
        object.__setattr__(self, name, float(number))


@dataclass(frozen=True)
class Zeros(Initializer):
    """All zeros: right for biases; in weights it leaves all units of a layer equal for ever.

    Examples
    --------
    >>> Zeros().sample(np.random.default_rng(0), (2,))
    array([0., 0.])
    """

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Return zeros of `shape`."""
        return np.zeros(shape)


@dataclass(frozen=True)
class Constant(Initializer):
    """One value everywhere.

    Parameters
    ----------
    value : float
        The value.

    Examples
    --------
    >>> Constant(0.5).sample(np.random.default_rng(0), (2,))
    array([0.5, 0.5])
    """

    value: float

    def __post_init__(self) -> None:
        self._number("value")

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Return an array filled with `value`."""
        return np.full(shape, self.value)


@dataclass(frozen=True)
class Normal(Initializer):
    r"""Independent draws from :math:`N(\mathrm{mean}, \mathrm{std}^2)`, whatever the shape.

    Parameters
    ----------
    std : float, default=0.01
        Standard deviation; >= 0.
    mean : float, default=0.0
        Mean.

    Examples
    --------
    >>> Normal(std=5.0).sample(np.random.default_rng(0), (2, 3)).shape
    (2, 3)
    """

    std: float = 0.01
    mean: float = 0.0

    def __post_init__(self) -> None:
        self._number("std", low=0)
        self._number("mean")

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Draw an array of `shape`."""
        return self.mean + self.std * rng.standard_normal(shape)


@dataclass(frozen=True)
class Uniform(Initializer):
    """Independent draws from [low, high), whatever the shape.

    Parameters
    ----------
    low : float, default=-0.05
        Lower end.
    high : float, default=0.05
        Upper end; above `low`.

    Examples
    --------
    >>> bool(abs(Uniform().sample(np.random.default_rng(0), (2, 3))).max() <= 0.05)
    True
    """

    low: float = -0.05
    high: float = 0.05

    def __post_init__(self) -> None:
        self._number("low")
        self._number("high", low=self.low, strict=True)

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Draw an array of `shape`."""
        return rng.uniform(self.low, self.high, shape)


@dataclass(frozen=True)
class _Scaled(Initializer):
    """An initializer that multiplies what it draws by `gain`."""

    gain: float = 1.0

    def __post_init__(self) -> None:
        self._number("gain", low=0, strict=True)


@dataclass(frozen=True)
class XavierNormal(_Scaled):
    r"""Normal draws that keep the variance of a linear or tanh layer, forward and backward on average.

    .. math:: W_{ij} \sim N(0, \sigma^2), \qquad \sigma = \mathrm{gain}\sqrt{\frac{2}{n_{in} + n_{out}}}

    Parameters
    ----------
    gain : float, default=1.0
        Factor on the standard deviation; > 0.

    References
    ----------
    .. [1] Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
       AISTATS 2010, eq. 12.

    Examples
    --------
    >>> XavierNormal().sample(np.random.default_rng(0), (2, 3)).shape
    (2, 3)
    """

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Draw a weight of shape (n_in, n_out)."""
        return self.gain * math.sqrt(2.0 / sum(self._fans(shape))) * rng.standard_normal(shape)


@dataclass(frozen=True)
class XavierUniform(_Scaled):
    r"""Uniform draws with the variance of `XavierNormal`.

    .. math:: W_{ij} \sim U(-a, a), \qquad a = \mathrm{gain}\sqrt{\frac{6}{n_{in} + n_{out}}}

    Parameters
    ----------
    gain : float, default=1.0
        Factor on the bound; > 0.

    References
    ----------
    .. [1] Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
       AISTATS 2010, eq. 16 ("normalized initialization").

    Examples
    --------
    >>> bool(abs(XavierUniform().sample(np.random.default_rng(0), (2, 4))).max() <= 1.0)
    True
    """

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Draw a weight of shape (n_in, n_out)."""
        bound = self.gain * math.sqrt(6.0 / sum(self._fans(shape)))
        return rng.uniform(-bound, bound, shape)


@dataclass(frozen=True)
class HeNormal(Initializer):
    r"""Normal draws that keep the second moment through ReLU or leaky ReLU, in the forward pass.

    .. math:: W_{ij} \sim N(0, \sigma^2), \qquad \sigma = \sqrt{\frac{2}{(1 + \mathrm{slope}^2)\, n_{in}}}

    Parameters
    ----------
    slope : float, default=0.0
        Slope of the activation for negative inputs; 0 is ReLU, 1 a linear layer.

    References
    ----------
    .. [1] He et al., "Delving deep into rectifiers: surpassing human-level performance on ImageNet
       classification", ICCV 2015, eq. 10 (eq. 15 with a slope).

    Examples
    --------
    >>> HeNormal().sample(np.random.default_rng(0), (2, 3)).shape
    (2, 3)
    """

    slope: float = 0.0

    def __post_init__(self) -> None:
        self._number("slope")

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Draw a weight of shape (n_in, n_out)."""
        fan_in, _ = self._fans(shape)
        return math.sqrt(2.0 / ((1.0 + self.slope**2) * fan_in)) * rng.standard_normal(shape)


@dataclass(frozen=True)
class HeUniform(Initializer):
    r"""Uniform draws with the variance of `HeNormal`.

    .. math:: W_{ij} \sim U(-a, a), \qquad a = \sqrt{\frac{6}{(1 + \mathrm{slope}^2)\, n_{in}}}

    Parameters
    ----------
    slope : float, default=0.0
        Slope of the activation for negative inputs; 0 is ReLU, 1 a linear layer.

    References
    ----------
    .. [1] He et al., "Delving deep into rectifiers: surpassing human-level performance on ImageNet
       classification", ICCV 2015; the uniform law of the same variance.

    Examples
    --------
    >>> bool(abs(HeUniform().sample(np.random.default_rng(0), (6, 4))).max() <= 1.0)
    True
    """

    slope: float = 0.0

    def __post_init__(self) -> None:
        self._number("slope")

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Draw a weight of shape (n_in, n_out)."""
        fan_in, _ = self._fans(shape)
        bound = math.sqrt(6.0 / ((1.0 + self.slope**2) * fan_in))
        return rng.uniform(-bound, bound, shape)


@dataclass(frozen=True)
class LeCunNormal(Initializer):
    r"""Normal draws that keep the variance of a linear layer in the forward pass; what SELU asks for.

    .. math:: W_{ij} \sim N(0, \sigma^2), \qquad \sigma = \frac{1}{\sqrt{n_{in}}}

    The draws are not truncated.

    References
    ----------
    .. [1] LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998, section 4.6.

    Examples
    --------
    >>> LeCunNormal().sample(np.random.default_rng(0), (2, 3)).shape
    (2, 3)
    """

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Draw a weight of shape (n_in, n_out)."""
        fan_in, _ = self._fans(shape)
        return rng.standard_normal(shape) / math.sqrt(fan_in)


@dataclass(frozen=True)
class Orthogonal(_Scaled):
    r"""A matrix with orthonormal rows or columns, whichever are fewer, times `gain`.

    The Q of a normal matrix's QR decomposition, with signs that make the diagonal of R positive: only then is
    Q spread evenly over all such matrices.

    Parameters
    ----------
    gain : float, default=1.0
        All singular values of the weight; > 0.

    References
    ----------
    .. [1] Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
       neural networks", ICLR 2014.
    .. [2] Mezzadri, "How to generate random matrices from the classical compact groups", Notices AMS 54, 2007
       (the signs).

    Examples
    --------
    >>> w = Orthogonal().sample(np.random.default_rng(0), (5, 3))
    >>> bool(np.allclose(w.T @ w, np.eye(3)))
    True
    """

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Draw a weight of shape (n_in, n_out); a 1-D shape is a single row."""
        self._fans(shape)
        n_in, n_out = shape if len(shape) == 2 else (1, shape[0])
        q, r = np.linalg.qr(rng.standard_normal((max(n_in, n_out), min(n_in, n_out))))
        q *= np.where(np.diagonal(r) < 0, -self.gain, self.gain)
        return np.ascontiguousarray(q if n_in >= n_out else q.T).reshape(shape)


@dataclass(frozen=True)
class RandomSigns(Initializer):
    """Factors -1 and +1, each with probability 1/2: what makes members that share weights begin different.

    References
    ----------
    .. [1] Wen, Tran and Ba, "BatchEnsemble: an alternative approach to efficient ensemble and lifelong learning", ICLR
       2020.

    Examples
    --------
    >>> RandomSigns().sample(np.random.default_rng(0), (4,))
    array([ 1.,  1.,  1., -1.])
    """

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        """Draw an array of `shape`."""
        return rng.choice(np.asarray([-1.0, 1.0]), shape)


_BY_NAME: dict[str, type[Initializer]] = {
    "zeros": Zeros,
    "constant": Constant,
    "normal": Normal,
    "uniform": Uniform,
    "xavier_normal": XavierNormal,
    "xavier_uniform": XavierUniform,
    "he_normal": HeNormal,
    "he_uniform": HeUniform,
    "lecun_normal": LeCunNormal,
    "orthogonal": Orthogonal,
    "random_signs": RandomSigns,
}


def get_initializer(spec: str | Initializer | type[Initializer]) -> Initializer:
    """Return an initializer by name, class or as it is.

    Parameters
    ----------
    spec : str, Initializer or class
        A name such as ``"he_normal"`` (or ``"HeNormal"``), a class, which is made with its defaults, or an
        object, which is returned.

    Returns
    -------
    Initializer
        The object.

    Raises
    ------
    OptionError
        If the name is unknown, the class needs an argument, or `spec` is something else.

    Examples
    --------
    >>> get_initializer("he_normal")
    HeNormal(slope=0.0)
    >>> get_initializer(Orthogonal(gain=2))
    Orthogonal(gain=2.0)
    """
    if isinstance(spec, Initializer):
        return spec
    if isinstance(spec, type) and issubclass(spec, Initializer):
        found = spec
    elif isinstance(spec, str):
        by_class_name = {cls.__name__: name for name, cls in _BY_NAME.items()}
        name = by_class_name.get(spec, spec)
        if name not in _BY_NAME:
            known = f"expected one of {', '.join(_BY_NAME)}, got {spec!r}. {suggest(spec, _BY_NAME)}"
            raise OptionError(f"get_initializer: {known}")
        found = _BY_NAME[name]
    else:
        raise OptionError(
            f"get_initializer: expected a name or an initializer, got {type(spec).__name__}. "
            "Pass a name such as 'he_normal' or an object such as HeNormal()."
        )
    try:
        return found()
    except TypeError:
        raise OptionError(
            f"get_initializer: expected an initializer that needs no arguments, got {found.__name__}. "
            f"Pass an object, {found.__name__}(...)."
        ) from None
