r"""Elementwise nonlinearities, each with its derivative beside it.

Everywhere :math:`\bar y = \partial L / \partial y` is called ``dy``, and ``dx`` is :math:`\bar y\, f'(x)`.  Masks
are 0/1 factors: `where` with unpredictable masks is several times slower than a product on every CPU library.
All stay finite at :math:`|x| = 10^4`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

from .._typing import Array
from ..arguments import finite, flag, number, suggest
from ..backend import namespace
from ..errors import OptionError
from ..initializers import Constant, HeNormal, Initializer, LeCunNormal, XavierNormal
from ..params import ParamSpec
from ..random import StepKey
from ..special import erf, sigmoid, softmax, softplus
from .base import Layer

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Gated",
    "Identity",
    "LeakyReLU",
    "Mish",
    "PReLU",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Step",
    "Tanh",
    "get_activation",
]


class Identity(Layer):
    """The map :math:`y = x`; it holds a place where a nonlinearity could stand."""

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, None]:
        """Return ``x`` itself."""
        return x, None

    def backward(self, dy: Array, cache: None, *, need_dx: bool = True) -> Array | None:
        """Return ``dy`` itself."""
        return dy if need_dx else None


class ReLU(Layer):
    r"""Rectifier, :math:`y = \max(x, 0)`, with derivative :math:`[x > 0]` (0 at the kink) [1]_.

    References
    ----------
    .. [1] Nair and Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.
    """

    suited_init: Initializer | None = HeNormal()

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return ``max(x, 0)``; the cache is the output."""
        y = self.ops_for(x).relu(x)
        return y, y

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Return ``dy [y > 0]``."""
        return self.ops_for(dy).relu_backward(dy, cache) if need_dx else None


class LeakyReLU(Layer):
    r"""Leaky rectifier, :math:`y = x` for :math:`x > 0`, else :math:`a x` [1]_.

    Parameters
    ----------
    slope : float, default=0.01
        The slope `a` on the negative side.

    References
    ----------
    .. [1] Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013.
    """

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = finite(slope, "LeakyReLU", "slope", 0.01)
        self.suited_init = HeNormal(slope=self.slope)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return ``x f`` with the factor ``f`` = 1 or `slope`; the cache is ``f``."""
        factor = namespace(x).astype(x > 0, x.dtype)
        factor *= 1.0 - self.slope
        factor += self.slope
        return x * factor, factor

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Return ``dy f``."""
        return dy * cache if need_dx else None


class PReLU(Layer):
    r"""Leaky rectifier whose slope is learned, :math:`y = \max(x, 0) + a \min(x, 0)` [1]_.

    Backward: :math:`\bar x = \bar y\,[x > 0] + a\,\bar y\,[x \le 0]` and
    :math:`\bar a = \sum \bar y \min(x, 0)`, over the batch, and over the units where they share a slope.

    Parameters
    ----------
    slope : float, default=0.25
        The slope to begin with.
    per_unit : bool, default=False
        One slope for each unit instead of one for the layer.

    References
    ----------
    .. [1] He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015; the parameter is not decayed, as
       recommended there.
    """

    def __init__(self, slope: float = 0.25, per_unit: bool = False) -> None:
        self.slope, self.per_unit = finite(slope, "PReLU", "slope", 0.25), flag(per_unit, "PReLU", "per_unit")
        self.suited_init = HeNormal(slope=self.slope)

    def param_specs(self) -> tuple[ParamSpec, ...]:
        n = self.n_in if self.per_unit else 1
        return (ParamSpec("weight", (n,), Constant(self.slope), False),)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return the output; the cache is ``x``."""
        xp = self.ops.xp
        y = xp.minimum(x, 0.0)
        y = y * self.params["weight"]  # not in place: shared rows may meet a slope for each replica
        y += xp.maximum(x, 0.0)
        return y, x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Assign the gradient of the slope and return ``dx``."""
        xp, x = self.ops.xp, cache
        d_slope = xp.sum(dy * xp.minimum(x, 0.0), axis=-2, keepdims=True)
        if not self.per_unit:
            d_slope = xp.sum(d_slope, axis=-1, keepdims=True)
        self.grads["weight"][...] = d_slope
        if not need_dx:
            return None
        positive = xp.astype(x > 0, dy.dtype)
        factor = (1.0 - positive) * self.params["weight"]
        factor += positive
        factor *= dy
        return factor


class ELU(Layer):
    r"""Exponential linear unit, :math:`y = \max(x, 0) + \alpha\,(e^{\min(x, 0)} - 1)` [1]_.

    The derivative is 1 for :math:`x > 0`, else :math:`\alpha e^x`.

    Parameters
    ----------
    alpha : float, default=1.0
        Minus the limit on the negative side.

    References
    ----------
    .. [1] Clevert, Unterthiner and Hochreiter, "Fast and accurate deep network learning by exponential linear
       units", ICLR 2016.
    """

    suited_init: Initializer | None = HeNormal()
    scale = 1.0  #: of both sides

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = finite(alpha, "ELU", "alpha", 1.0)

    def forward(
        self, x: Array, *, train: bool = False, key: StepKey | None = None
    ) -> tuple[Array, tuple[Array, Array]]:
        """Return the output; the cache is ``x`` and ``e^min(x, 0) - 1``."""
        xp = namespace(x)
        e = xp.expm1(xp.minimum(x, 0.0))
        y = e * (self.scale * self.alpha)
        positive = xp.maximum(x, 0.0)
        if self.scale != 1.0:
            positive *= self.scale
        y += positive
        return y, (x, e)

    def backward(self, dy: Array, cache: tuple[Array, Array], *, need_dx: bool = True) -> Array | None:
        """Return ``dy f'(x)``."""
        if not need_dx:
            return None
        x, e = cache
        positive = namespace(dy).astype(x > 0, dy.dtype)
        factor = e + 1.0
        factor *= self.alpha
        factor *= 1.0 - positive
        factor += positive
        if self.scale != 1.0:
            factor *= self.scale
        factor *= dy
        return factor


class SELU(ELU):
    r"""Self-normalizing unit, :math:`y = \lambda\,\mathrm{ELU}_\alpha(x)` [1]_.

    With :math:`\lambda = 1.0507…` and :math:`\alpha = 1.6732…` zero mean and unit variance are a fixed point
    over the layers, given LeCun initialization.

    References
    ----------
    .. [1] Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks", NeurIPS 2017.
    """

    suited_init: Initializer | None = LeCunNormal()
    scale = 1.0507009873554805

    def __init__(self) -> None:
        super().__init__(1.6732632423543772)


class GELU(Layer):
    r"""Gaussian error linear unit, :math:`y = x\,\Phi(x)` [1]_.

    .. math:: \Phi(x) = \tfrac12\bigl(1 + \operatorname{erf}(x/\sqrt2)\bigr), \qquad
              y' = \Phi(x) + x\,\frac{e^{-x^2/2}}{\sqrt{2\pi}}

    Parameters
    ----------
    approximate : {"none", "tanh"}, default="none"
        ``"tanh"`` takes :math:`\Phi(x) \approx \tfrac12(1 + \tanh(\sqrt{2/\pi}\,(x + 0.044715 x^3)))` and that
        function's own derivative.

    References
    ----------
    .. [1] Hendrycks and Gimpel, "Gaussian error linear units", arXiv:1606.08415.
    """

    suited_init: Initializer | None = HeNormal()

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise OptionError(f"GELU: expected approximate to be 'none' or 'tanh', got {approximate!r}. Choose one.")
        self.approximate = approximate

    def forward(
        self, x: Array, *, train: bool = False, key: StepKey | None = None
    ) -> tuple[Array, tuple[Array, Array]]:
        """Return the output; the cache is ``x`` and ``Φ(x)``."""
        xp = namespace(x)
        if self.approximate == "tanh":
            u = x * x
            u *= 0.044715
            u += 1.0
            u *= x
            u *= _ROOT_2_PI
            phi = xp.tanh(u)
        else:
            phi = erf(x * _ROOT_HALF, xp=xp)
        phi += 1.0
        phi *= 0.5
        return x * phi, (x, phi)

    def backward(self, dy: Array, cache: tuple[Array, Array], *, need_dx: bool = True) -> Array | None:
        """Return ``dy (Φ(x) + x Φ'(x))``."""
        if not need_dx:
            return None
        x, phi = cache
        d_phi = x * x
        if self.approximate == "tanh":
            # Φ' = ½ (1 - tanh²) u' = 2 Φ (1 - Φ) √(2/π) (1 + 3·0.044715 x²)
            d_phi *= 3 * 0.044715
            d_phi += 1.0
            d_phi *= 2 * _ROOT_2_PI
            d_phi *= phi
            d_phi *= 1.0 - phi
        else:
            d_phi *= -0.5
            d_phi = namespace(x).exp(d_phi)
            d_phi *= _ROOT_2_PI / 2
        d_phi *= x
        d_phi += phi
        d_phi *= dy
        return d_phi


_ROOT_2_PI = math.sqrt(2 / math.pi)
_ROOT_HALF = math.sqrt(0.5)


class SiLU(Layer):
    r"""Sigmoid linear unit ("swish"), :math:`y = x\,\sigma(x)`, :math:`y' = \sigma(x)(1 + x(1 - \sigma(x)))` [1]_.

    References
    ----------
    .. [1] Elfwing, Uchibe and Doya, "Sigmoid-weighted linear units", Neural Networks 107, 2018.
    """

    suited_init: Initializer | None = HeNormal()

    def forward(
        self, x: Array, *, train: bool = False, key: StepKey | None = None
    ) -> tuple[Array, tuple[Array, Array]]:
        """Return the output; the cache is ``x`` and ``σ(x)``."""
        s = sigmoid(x, xp=namespace(x))
        return x * s, (x, s)

    def backward(self, dy: Array, cache: tuple[Array, Array], *, need_dx: bool = True) -> Array | None:
        """Return ``dy σ (1 + x (1 - σ))``."""
        if not need_dx:
            return None
        x, s = cache
        dx = 1.0 - s
        dx *= x
        dx += 1.0
        dx *= s
        dx *= dy
        return dx


class Gated(NamedTuple):
    """The cache of SiLU, Mish or a mixture that a chain made as one operation: the input, and what that kept."""

    x: Array
    inner: Array


class Mish(Layer):
    r"""Mish, :math:`y = x \tanh(\log(1 + e^x))` [1]_.

    With :math:`e = e^x` and :math:`n = e (e + 2)` the hyperbolic tangent is :math:`t = n / (n + 2)`, one
    exponential in all; the derivative is :math:`t + x\,\sigma(x)\,(1 - t^2)`.

    References
    ----------
    .. [1] Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020.
    """

    suited_init: Initializer | None = HeNormal()

    def forward(
        self, x: Array, *, train: bool = False, key: StepKey | None = None
    ) -> tuple[Array, tuple[Array, Array, Array]]:
        """Return the output; the cache is ``x``, ``t`` and ``e^min(x, 20)``."""
        xp = namespace(x)
        e = xp.exp(xp.minimum(x, 20.0))  # t is 1 to the last bit beyond
        n = e + 2.0
        n *= e
        t = n / (n + 2.0)
        return x * t, (x, t, e)

    def backward(self, dy: Array, cache: tuple[Array, Array, Array] | Gated, *, need_dx: bool = True) -> Array | None:
        """Return ``dy (t + x σ (1 - t²))``."""
        if not need_dx:
            return None
        if isinstance(cache, Gated):
            _, cache = self.forward(cache.x)
        x, t, e = cache
        dx = e / (e + 1.0)
        dx *= 1.0 - t * t
        dx *= x
        dx += t
        dx *= dy
        return dx


class Softplus(Layer):
    r"""Smooth rectifier, :math:`y = \log(1 + e^x)`, with derivative :math:`\sigma(x)`."""

    suited_init: Initializer | None = HeNormal()

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return ``max(x, 0) + log(1 + e^-|x|)``; the cache is ``x``."""
        return softplus(x, xp=namespace(x)), x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Return ``dy σ(x)``."""
        return dy * sigmoid(cache, xp=namespace(dy)) if need_dx else None


class Sigmoid(Layer):
    r"""Logistic function, :math:`y = 1 / (1 + e^{-x})`, with derivative :math:`y (1 - y)`."""

    suited_init: Initializer | None = XavierNormal()

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return ``σ(x)``; the cache is the output."""
        y = sigmoid(x, xp=namespace(x))
        return y, y

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Return ``dy y (1 - y)``."""
        if not need_dx:
            return None
        dx = 1.0 - cache
        dx *= cache
        dx *= dy
        return dx


class Tanh(Layer):
    r"""Hyperbolic tangent, with derivative :math:`1 - y^2`."""

    suited_init: Initializer | None = XavierNormal()

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return ``tanh(x)``; the cache is the output."""
        y = namespace(x).tanh(x)
        return y, y

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Return ``dy (1 - y²)``."""
        if not need_dx:
            return None
        dx = cache * cache
        dx = 1.0 - dx
        dx *= dy
        return dx


class Softmax(Layer):
    r"""Softmax over the features, :math:`y_j = e^{x_j/T} / \sum_k e^{x_k/T}`.

    Its Jacobian :math:`y_i(\delta_{ij} - y_j)/T` gives
    :math:`\bar x = y \odot (\bar y - \langle \bar y, y\rangle)/T`.  A classifier does not need this layer:
    `CrossEntropy` takes the scores, and its ``link`` shows the probabilities.

    Parameters
    ----------
    temperature : float, default=1.0
        `T` above 1 flattens the distribution, below 1 sharpens it.

    Examples
    --------
    >>> import numpy as np
    >>> y, _ = Softmax().forward(np.asarray([[0.0, 0.0, 1e4]]))
    >>> y.tolist()
    [[0.0, 0.0, 1.0]]
    """

    suited_init: Initializer | None = XavierNormal()

    def __init__(self, temperature: float = 1.0) -> None:
        if not 0 < number(temperature) < math.inf:
            raise OptionError(f"Softmax: expected temperature > 0, got {temperature!r}. 1 leaves the scores alone.")
        self.temperature = float(temperature)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return the probabilities; the cache is the output."""
        y = softmax(x / self.temperature, xp=namespace(x))
        return y, y

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Return ``y (dy - Σ dy y) / T``."""
        if not need_dx:
            return None
        dx = dy - namespace(dy).sum(dy * cache, axis=-1, keepdims=True)
        dx *= cache
        dx /= self.temperature
        return dx


class Step(Layer):
    """Rosenblatt's threshold: 1 where ``x >= 0``, else 0.  Its derivative is 0 wherever there is one.

    Nothing below it learns by gradient descent; it is here for the perceptron, whose rule needs no derivative.
    """

    suited_init: Initializer | None = XavierNormal()

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, None]:
        """Return ``[x >= 0]`` as floats."""
        return namespace(x).astype(x >= 0, x.dtype), None

    def backward(self, dy: Array, cache: None, *, need_dx: bool = True) -> Array | None:
        """Return zeros."""
        return namespace(dy).zeros_like(dy) if need_dx else None


_BY_NAME: dict[str, type[Layer]] = {
    "identity": Identity,
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "prelu": PReLU,
    "elu": ELU,
    "selu": SELU,
    "gelu": GELU,
    "silu": SiLU,
    "swish": SiLU,
    "mish": Mish,
    "softplus": Softplus,
    "sigmoid": Sigmoid,
    "logistic": Sigmoid,
    "tanh": Tanh,
    "softmax": Softmax,
    "step": Step,
}


def get_activation(name: str, **options: Any) -> Layer:
    """Return a new activation layer by name.

    Parameters
    ----------
    name : str
        The class in lower case with underscores: ``"relu"``, ``"leaky_relu"``, …; also ``"swish"`` (SiLU) and
        ``"logistic"`` (Sigmoid).
    **options
        For its constructor.

    Raises
    ------
    OptionError
        If the name is unknown.

    Examples
    --------
    >>> get_activation("leaky_relu", slope=0.1)
    LeakyReLU(slope=0.1)
    """
    if name not in _BY_NAME:
        raise OptionError(f"activation: expected one of {', '.join(_BY_NAME)}, got {name!r}. {suggest(name, _BY_NAME)}")
    return _BY_NAME[name](**options)
