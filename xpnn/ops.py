r"""The few operations that a class for one library may replace.

A layer, a loss or an optimizer reaches these through ``backend.ops`` and never asks which library it runs on.
The class here is the definition: standard Array API, one fresh temporary, then in-place operators.  A faster
class for one library overrides single methods and is bound to this one by a parity test.

Legend for all shapes: ``...`` are replica axes (none for a single network), ``batch`` rows are samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from . import random
from ._typing import Array, Device, DType, Namespace, Shape
from .coding import Code, Table

__all__ = ["Affine", "Below", "Clip", "Decay", "Ops", "Places", "Update", "portable_ops"]

Scalar = float | Array
#: Rates of dropout: one, the replicas' own, or thresholds on the device.
MaskRate = float | Sequence[float] | Array


class Affine(NamedTuple):
    """Parameters of an affine map, and where their gradients go."""

    #: (..., n_in, n_out).
    weight: Array
    #: One row, (..., 1, n_out); None for a map without one.
    bias: Array | None
    d_weight: Array
    d_bias: Array | None


class Below(NamedTuple):
    """A linear map and the ReLU behind it, as the linear map above sees them on its way back."""

    #: Where the output is positive, as `Ops.linear_relu_kept` has left it.
    mask: Array
    #: Where the gradient of the bias goes, (1, n).
    d_bias: Array


class Clip(NamedTuple):
    """Clipping of gradients by their norm, before a rule."""

    #: (..., 1), from `Ops.global_norm`.
    norm: Array
    #: The largest that it may be.
    largest: float


class Decay(NamedTuple):
    """Weight decay before a rule."""

    #: Whether values shrink, or a pull towards 0 is added to their gradients.
    decoupled: bool
    #: How many parameters, from the first, are decayed.
    n: int
    #: The last of `xpnn.optim.Optimizer.numbers`, a float or (K, 1): coupled λ; decoupled 1 - ηλ, or ηλ if parameters
    #: have factors of their own, for the decay or the learning rate.
    strength: Scalar
    #: (n,), the parameters' own decay factors.
    factors: Array | None = None


class Update(NamedTuple):
    """Which parameters a rule moves, and what comes before it: first clipping, then decay."""

    #: Flat buffers, (..., n).
    values: Array
    grads: Array
    #: (n,), a learning-rate factor for each parameter.
    lr_factors: Array | None = None
    decay: Decay | None = None
    clip: Clip | None = None


class Places(NamedTuple):
    """Where on the device a step leaves what is read of it after an epoch."""

    #: The mean loss, 0-d or (K,).
    loss: Array
    #: Weight of the batch and of its rows that are right, (2,) or (2, K); None where nobody asks for accuracy.
    hits: Array | None


class Ops:
    """Portable operations on one Array API namespace, and on the device where new arrays are made."""

    name = "portable"
    #: Whether a step's loss and what else is read of it may be written by the operation that computes the gradient.
    fills_places = False

    def __init__(self, xp: Namespace, device: Device) -> None:
        self.xp = xp
        self.device = device

    def prepare(self, steps: int, n_params: int, n_activations: int) -> None:
        """Take note of the work to come, so that a faster class may load what only long work repays.

        Parameters, and activations of one batch, are those of all replicas together.
        """

    # -- arrays ---------------------------------------------------------------------------------------------
    def empty(self, like: Array, shape: Shape) -> Array:
        """Return an array of `shape` and the dtype of `like`, in one piece, whose values the caller assigns."""
        return self.xp.empty(shape, dtype=like.dtype, device=self.device)

    def join(self, parts: Sequence[Array]) -> Array:
        """Put features side by side, (..., batch, n_i) to a fresh array (..., batch, sum of n_i).

        Replica axes may be absent from some: those are taken for each replica.
        """
        first = max(parts, key=lambda part: len(part.shape))
        y = self.empty(first, (*first.shape[:-1], sum(part.shape[-1] for part in parts)))
        start = 0
        for part in parts:
            stop = start + part.shape[-1]
            y[..., start:stop] = part
            start = stop
        return y

    # -- linear ---------------------------------------------------------------------------------------------
    def product(self, a: Array, b: Array) -> Array:
        r"""Product :math:`A B` of matrices (..., m, k) and (..., k, n), a fresh array; for layers of your own, too."""
        return a @ b

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        r"""Affine map of rows (..., batch, n_in), :math:`Y = X W + \mathbf{1} b`, a fresh array (..., batch, n_out).

        `weight` is (..., n_in, n_out), and `bias` one row (..., 1, n_out), or None.
        """
        y = x @ weight
        if bias is not None:
            y += bias
        return y

    def linear_backward(
        self, x: Array, dy: Array, affine: Affine, *, need_dx: bool, need_d_bias: bool = True
    ) -> Array | None:
        r"""Gradients of `linear`.

        :math:`\bar W = X^\top \bar Y`, :math:`\bar b = \mathbf{1}^\top \bar Y`, :math:`\bar X = \bar Y W^\top`.

        Assigns `d_weight` and, unless the caller has, `d_bias` of `affine`; returns ``dx`` of shape
        (..., batch, n_in), or None unless `need_dx`.
        """
        weight, _, d_weight, d_bias = affine
        d_weight[...] = x.mT @ dy
        if need_d_bias and d_bias is not None:
            d_bias[...] = self.xp.sum(dy, axis=-2, keepdims=True)
        return dy @ weight.mT if need_dx else None

    # -- packed rows of a table -----------------------------------------------------------------------------
    def encoded(self, code: Code, packed: Array) -> Array:
        """Return the encoded rows of packed ones, `xpnn.coding.Code.expand`."""
        return code.expand(packed, self.xp, self.device)

    def takes_packed(self, *, scaled: bool) -> bool:
        """Whether `table_linear` is faster than a product with encoded rows; `scaled`: with factors that learn."""
        return False

    def table_linear(self, y: Array, packed: Array, table: Table, weight: Array, scale: Array | None) -> Array | None:
        r"""Add to `y` (batch, n_out) the product of encoded rows, given packed, with a matrix.

        .. math:: Y \leftarrow Y + X\, \mathrm{diag}(s)\, W

        for the columns and rows of `weight` (n_in, n_out) that `table` names; :math:`s` is `scale` (1, n_in), None for
        ones.  Returns what `table_linear_backward` is given as `kept`: the encoded rows, None where they never were.
        """
        rows = self.encoded(table.code, packed)[..., table.skip :]
        matrix = weight[table.lead :, :]
        if scale is not None:
            matrix = matrix * self.xp.reshape(scale[..., table.lead :], (-1, 1))
        y += self.product(rows, matrix)
        return rows

    def table_linear_backward(
        self,
        dy: Array,
        packed: Array,
        table: Table,
        matrix: tuple[Array, Array],
        factors: tuple[Array | None, Array | None],
        kept: Array | None = None,
    ) -> None:
        r"""Gradients of `table_linear`, for :math:`G = X^\top \bar Y`.

        :math:`\bar W = \mathrm{diag}(s)\, G`, :math:`\bar s_i = \sum_j W_{ij} G_{ij}`: factors take no gradient to the
        rows.  `matrix` and `factors` are values with the places of their gradients; the rows of these that `table`
        names are assigned.
        """
        (weight, d_weight), (scale, d_scale) = matrix, factors
        if kept is None:
            kept = self.encoded(table.code, packed)[..., table.skip :]
        gradient = self.product(kept.mT, dy)
        if scale is not None and d_scale is not None:
            d_scale[..., table.lead :] = self.xp.sum(weight[table.lead :, :] * gradient, axis=-1)
            gradient *= self.xp.reshape(scale[..., table.lead :], (-1, 1))
        d_weight[table.lead :, :] = gradient

    def await_gradients(self) -> None:
        """Let what follows find all gradients that a backward pass has assigned; some may run beside it until then."""

    # -- dropout --------------------------------------------------------------------------------------------
    def keep_mask(self, shape: Shape, rate: MaskRate, key: tuple[Any, Any], dtype: DType) -> Array:
        """Inverted-dropout mask of `shape` from a `StepKey` pair (`xpnn.random.keep_mask`).

        Replicas may have one `rate` each; where it is 0 the mask is all ones.  Rates on the device are given as the
        thresholds that stand for them: an int32 array of shape (1,) or (K, 1).
        """
        return self._mask(shape, rate, key, dtype, None)

    def keep_mask_of_rows(self, shape: Shape, rate: MaskRate, key: tuple[Any, Any], dtype: DType, rows: Array) -> Array:
        """Do the same, but let int32 numbers `rows` (batch,) pick each row's mask, not its place in the batch."""
        return self._mask(shape, rate, key, dtype, rows)

    def _mask(self, shape: Shape, rate: MaskRate, key: tuple[Any, Any], dtype: DType, rows: Array) -> Array:
        xp = self.xp
        if isinstance(rate, Sequence):
            counts = [[65536 if r == 0.0 else random.keep_threshold(r)] for r in rate]
            rate = xp.asarray(counts, dtype=xp.int32, device=self.device)
        if isinstance(key[0], list):  # one key for each replica
            a, b = (xp.asarray(half, dtype=xp.int32, device=self.device) for half in key)
            key = a, b
        return random.keep_mask(xp, shape, rate, key, dtype, self.device, rows)

    # -- normalization --------------------------------------------------------------------------------------
    def normalize(self, x: Array, axis: int, eps: float, *, center: bool) -> tuple[Array, Array, Array, Array]:
        r"""Standardize (..., batch, n) along `axis`: :math:`\hat x = (x - \mu) / \sqrt{\sigma^2 + \epsilon}`.

        The axis is -1 for layer norms, -2 for batch norm.  Without `center` the mean is not subtracted: the
        root-mean-square form, :math:`\mu = 0`.

        Returns :math:`\hat x`, a fresh array, and with size 1 along `axis` :math:`1 / \sqrt{\sigma^2 + \epsilon}` and
        the moments: mean, and variance divided by the count.
        """
        xp = self.xp
        if center:
            mean = xp.mean(x, axis=axis, keepdims=True)
            x_hat = x - mean
            var = xp.mean(x_hat * x_hat, axis=axis, keepdims=True)
        else:
            var = xp.mean(x * x, axis=axis, keepdims=True)
            mean = xp.zeros_like(var)
            x_hat = x + 0.0
        inv_std = 1.0 / xp.sqrt(var + eps)
        x_hat *= inv_std
        return x_hat, inv_std, mean, var

    def normalize_backward(self, d_hat: Array, x_hat: Array, inv_std: Array, axis: int, *, center: bool) -> Array:
        r"""Gradient of `normalize` to its input, for :math:`\bar{\hat x}` = `d_hat`.

        .. math:: \bar x = \frac{1}{\sigma}\Bigl(\bar{\hat x} - \overline{\bar{\hat x}}
                  - \hat x\,\overline{\bar{\hat x}\,\hat x}\Bigr)

        The bars over products are means along `axis`; without centring the first mean is absent.
        """
        xp = self.xp
        dx = x_hat * xp.mean(d_hat * x_hat, axis=axis, keepdims=True)
        if center:
            dx += xp.mean(d_hat, axis=axis, keepdims=True)
        dx = d_hat - dx
        dx *= inv_std
        return dx

    def weighted_moments(self, x: Array, weight: Array, total: Scalar) -> tuple[Array, Array]:
        r"""Mean and variance over the batch, in which a row counts as often as its weight says.

        .. math:: \mu = \frac{1}{W} \sum_i w_i x_i, \qquad \sigma^2 = \frac{1}{W} \sum_i w_i (x_i - \mu)^2

        Rows are (..., batch, n), weights (batch, 1); their sum :math:`W` is `total` > 0, a float or 0-d array.  Both
        moments are (..., 1, n).  Weights of one give those of `normalize`, to the bit.
        """
        xp = self.xp
        mean = xp.sum(x * weight, axis=-2, keepdims=True)
        mean /= total
        square = x - mean
        square *= square
        square *= weight
        var = xp.sum(square, axis=-2, keepdims=True)
        var /= total
        return mean, var

    def weighted_normalize_backward(
        self, d_hat: Array, x_hat: Array, inv_std: Array, weight: Array, total: Scalar
    ) -> Array:
        r"""Gradient through `weighted_moments`: a row moves them by its share.

        .. math:: \bar x_i = \frac{1}{\sigma}\Bigl(\bar{\hat x}_i - \frac{w_i}{W} \Bigl[\sum_j \bar{\hat x}_j
                  + \hat x_i \sum_j \bar{\hat x}_j\,\hat x_j\Bigr]\Bigr)

        The sums are without weights: those are in :math:`\bar{\hat x}` already, for the loss has them.
        """
        xp = self.xp
        product = xp.sum(d_hat * x_hat, axis=-2, keepdims=True)
        product /= total
        plain = xp.sum(d_hat, axis=-2, keepdims=True)
        plain /= total
        dx = x_hat * product
        dx += plain
        dx *= weight
        dx = d_hat - dx
        dx *= inv_std
        return dx

    # -- activations ----------------------------------------------------------------------------------------
    def relu(self, x: Array, *, overwrite: bool = False) -> Array:
        """Return max(x, 0), a fresh array unless it may `overwrite` x; NaN stays NaN."""
        return self.xp.maximum(x, 0.0)

    def relu_backward(self, dy: Array, y: Array, *, overwrite: bool = False) -> Array:
        r"""Return :math:`\bar y\,[y > 0]` for the output `y` of `relu`, fresh unless it may `overwrite` dy."""
        dx = self.xp.astype(y > 0, dy.dtype)
        dx *= dy
        return dx

    def gate(self, x: Array, kind: str, share: Array | None, mask: Array | None) -> tuple[Array, Array] | None:
        r"""Do an activation, the mixture with the identity and the mask behind it as one, where that is faster.

        .. math:: y = m \odot (x + \alpha \odot (\sigma(x) - x))

        for rows x (batch, n); `kind` is ``"silu"`` or ``"mish"``, `share` the row of :math:`\alpha`, None for ones, and
        `mask` the :math:`m`, likewise.  Returns y and what `gate_backward` needs beside x, or None where nothing was
        done: the layers of these names are the definition.
        """
        return None

    def gate_backward(
        self,
        dy: Array,
        kept: tuple[Array, Array],
        kind: str,
        shares: tuple[Array, Array] | None,
        mask: Array | None,
    ) -> Array:
        """Return the gradient to the input of `gate`, for that input and what it has kept.

        `shares` are values with the place of their gradient, which is assigned.
        """
        raise NotImplementedError

    # -- linear and relu ------------------------------------------------------------------------------------
    def linear_relu(self, x: Array, weight: Array, bias: Array | None) -> Array:
        r"""`linear` and `relu` as one, :math:`Y = \max(X W + \mathbf{1} b, 0)`: a fresh array."""
        return self.relu(self.linear(x, weight, bias), overwrite=True)

    def linear_relu_kept(self, x: Array, weight: Array, bias: Array | None) -> tuple[Array, Array | None]:
        """Do `linear_relu`; beside its result return what `linear_backward_onto` needs, None where it would not do."""
        return self.linear_relu(x, weight, bias), None

    def linear_backward_onto(
        self, x: Array, dy: Array, affine: Affine, below: Below, *, need_d_bias: bool = True
    ) -> Array | None:
        r"""Do `linear_backward` and, in the same operation, take its ``dx`` through the ReLU below.

        Returns :math:`\bar X\,[X > 0]`, and has assigned its sums over rows to `d_bias` of `below`; None where there is
        no such operation, and then nothing was done.
        """
        return None

    def linear_relu_backward(
        self, x: Array, y: Array, dy: Array, affine: Affine, *, need_dx: bool, overwrite: bool = False
    ) -> Array | None:
        r"""Gradients of `linear_relu`: those of `linear`, for :math:`\bar Z = \bar Y\,[Y > 0]`.

        `y` is its output; `dy` may be overwritten if `overwrite` says so.
        """
        dz = self.relu_backward(dy, y, overwrite=overwrite)
        return self.linear_backward(x, dz, affine, need_dx=need_dx)

    # -- losses ---------------------------------------------------------------------------------------------
    def softmax_cross_entropy(self, logits: Array, target: Array) -> tuple[Array, Array]:
        r"""Row losses of softmax cross-entropy and their gradients.

        .. math:: \ell_i = \log\sum_j e^{z_{ij}} - \sum_j t_{ij} z_{ij}, \qquad
                  \frac{\partial \ell_i}{\partial z_{ij}} = \mathrm{softmax}(z_i)_j - t_{ij}

        Scores and `target`, rows of probabilities that each sum to 1, are (..., batch, n_classes).  The losses
        (..., batch) are finite for any finite logits: the row maximum is subtracted first.  The gradients, softmax
        minus target, are not yet divided by the batch.
        """
        xp = self.xp
        z = logits - xp.max(logits, axis=-1, keepdims=True)
        d = xp.exp(z)
        total = xp.sum(d, axis=-1, keepdims=True)
        d /= total
        d -= target
        z *= target
        losses = xp.log(total[..., 0])
        losses -= xp.sum(z, axis=-1)
        return losses, d

    def softmax_cross_entropy_labels(self, logits: Array, labels: Array) -> tuple[Array, Array]:
        """Do the same for integer `labels` (..., batch) in 0..n_classes-1: targets of one 1 in each row."""
        return self.softmax_cross_entropy(logits, self.one_hot(labels, logits))

    def cross_entropy_step(
        self, logits: Array, target: Array, smoothing: float, weight: Array | None, places: Places
    ) -> Array | None:
        """Do all of a step's softmax cross-entropy as one, where `fills_places` says that it may be done.

        Targets are rows of probabilities (..., batch, n) or labels (..., batch), smoothed; `weight` is (batch,).
        Assigns mean loss and hits to `places` and returns the gradient of the mean to the logits, or None where
        nothing was done.
        """
        return None

    def one_hot(self, labels: Array, like: Array) -> Array:
        """Return one-hot rows of integer `labels` (..., batch) in the dtype and width of `like` (..., batch, n)."""
        xp = self.xp
        numbers = xp.arange(like.shape[-1], dtype=labels.dtype, device=self.device)
        return xp.astype(labels[..., None] == numbers, like.dtype)

    def total(self, x: Array) -> Array:
        """Sum over the last axis: (..., n) to (...)."""
        return self.xp.sum(x, axis=-1)

    # -- the optimizer's side -------------------------------------------------------------------------------
    def global_norm(self, grads: Array) -> Array:
        """Euclidean norm of the flat gradients: (..., n) to (..., 1), with no host synchronization."""
        return self.xp.sqrt(self.xp.sum(grads * grads, axis=-1, keepdims=True))

    def clip_norm(self, grads: Array, norm: Array, max_norm: float) -> None:
        r"""Scale `grads` in place by :math:`\min(1, c / (\lVert g\rVert + 10^{-6}))`.

        The small constant is PyTorch's.  A norm that is not finite leaves gradients that are not finite,
        which the loss then shows.
        """
        grads *= self.xp.minimum(max_norm / (norm + 1e-6), 1.0)

    def decay_weights(self, values: Array, grads: Array, decay: Decay, lr_factors: Array | None = None) -> None:
        r"""Apply weight decay in place, to flat `values` (..., n) or to their `grads`.

        .. math:: p \leftarrow (1 - \eta\lambda f)\,p \quad\text{decoupled}, \qquad
                  g \leftarrow g + \lambda f p \quad\text{coupled}

        with :math:`f` the parameter's own factors: of the decay, and if decoupled of the learning rate.
        """
        _, n, strength, factors = decay
        weights = values[..., :n]
        if not decay.decoupled:
            pull = weights * strength
            if factors is not None:
                pull *= factors
            grads = grads[..., :n]
            grads += pull
        elif factors is None and lr_factors is None:
            weights *= strength
        else:
            reach = strength if factors is None else factors * strength
            if lr_factors is not None:
                reach = reach * lr_factors[:n]
            weights *= 1.0 - reach

    def adam(self, update: Update, m: Array, v: Array, scalars: Sequence[Scalar]) -> None:
        r"""Clipping, weight decay and one Adam step as one, in place on flat buffers, with scaled moments.

        With :math:`M = m/(1-\beta_1)` and :math:`V = v/(1-\beta_2)` two passes over the parameters fall
        away and the update is the textbook's:

        .. math:: M \leftarrow \beta_1 M + g, \quad V \leftarrow \beta_2 V + g^2, \quad
                  p \leftarrow p - \rho\,\frac{M}{\sqrt V + \epsilon'}

        The `grads` of `update` may be changed, or stay as they are.  The state `m`, `v` is (..., n); `scalars` are this
        step's :math:`\beta_1, \beta_2, \epsilon', \rho`, from `Adam.scalars`.
        """
        self.clip_and_decay(update)
        beta1, beta2, eps, rate = scalars
        values, grads, lr_factors, _, _ = update
        m *= beta1
        m += grads
        v *= beta2
        t = grads * grads
        v += t
        t = self.xp.sqrt(v)
        t += eps
        move = m / t
        move *= rate
        if lr_factors is not None:
            move *= lr_factors
        values -= move

    def descend(
        self,
        update: Update,
        velocity: Array | None,
        lr: Scalar,
        *,
        momentum: float = 0.0,
        gain: float = 1.0,
        nesterov: bool = False,
    ) -> None:
        r"""Clipping, weight decay and one step of gradient descent as one, in place on flat buffers.

        .. math:: v \leftarrow \mu v + \gamma g, \qquad p \leftarrow p - \eta v
                  \quad\text{(Nesterov: } p \leftarrow p - \eta (g + \mu v)\text{)}

        The `grads` of `update` may be changed, or stay as they are.  The state `velocity` is (..., n), None for plain
        descent; :math:`\eta` is `lr`, a float or (K, 1), :math:`\mu` is `momentum`, and :math:`\gamma` is `gain`.
        """
        self.clip_and_decay(update)
        values, grads, lr_factors, _, _ = update
        if velocity is None:
            move = grads * lr
        else:
            velocity *= momentum
            velocity += grads if gain == 1.0 else grads * gain
            if nesterov:
                move = velocity * momentum
                move += grads
                move *= lr
            else:
                move = velocity * lr
        if lr_factors is not None:
            move *= lr_factors
        values -= move

    def clip_and_decay(self, update: Update) -> None:
        """Do what comes before a rule."""
        if (clip := update.clip) is not None:
            self.clip_norm(update.grads, clip.norm, clip.largest)
        if update.decay is not None:
            self.decay_weights(update.values, update.grads, update.decay, update.lr_factors)

    # -- data -----------------------------------------------------------------------------------------------
    def take_rows(self, x: Array, index: Array, out: Array | None = None) -> Array:
        """Gather rows, fresh or in `out`: ``x[index]`` for x of shape (n, ...) and integer index of shape (batch,)."""
        rows = self.xp.take(x, index, axis=0)
        if out is None:
            return rows
        out[...] = rows
        return out

    def whole_numbers(self, x: Array, dtype: DType) -> Array:
        """Return floating numbers rounded to an integer `dtype`."""
        return self.xp.astype(self.xp.round(x), dtype)

    def sum_rows(self, rows: Array, index: Array, out: Array) -> None:
        r"""Assign to each row of `out` the sum of the `rows` that have its number, the gradient of a gather.

        .. math:: o_c = \sum_i [n_i = c]\; r_i

        Rows are (..., count, dim), their numbers `index` integers (..., count) from 0, and `out` is (..., n, dim).  The
        Array API has no operation for it: here it is a product with one-hot rows, whose cost grows with n.
        """
        numbers = self.xp.arange(out.shape[-2], dtype=index.dtype, device=self.device)
        one_hot = self.xp.astype(index[..., None] == numbers, rows.dtype)
        out[...] = self.product(one_hot.mT, rows)


_MADE: dict[tuple[Namespace, str], Ops] = {}


def portable_ops(xp: Namespace, device: Device) -> Ops:
    """Return the portable operations of a namespace and device, made once."""
    key = xp, str(device)  # by name: CuPy's devices compare, but cannot be hashed
    try:
        return _MADE[key]
    except KeyError:
        return _MADE.setdefault(key, Ops(xp, device))
