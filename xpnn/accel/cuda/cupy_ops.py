r"""Twins of the operations on CuPy: one kernel each, and matrix products that a CUDA graph can hold.

What a method takes is decided from shapes, strides and dtypes alone, so nothing waits for the device; for what the
kernels do not take (other dtypes than float32, views whose rows lie apart, empty arrays) it is the portable one.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import threading
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._typing import Array, Device, DType, Namespace, Shape
from ...errors import BackendUnavailableError
from ...ops import Affine, Below, MaskRate, Ops, Places, Scalar, Update
from ...random import keep_threshold, keep_thresholds
from . import persistent
from .capture import Branch, Capturer
from .checks import (
    LARGEST,
    MOST_REPLICAS,
    gathers,
    number,
    one_or_each,
    plain,
    replicas_of,
    row_step,
    sizes,
    stack_of,
    takes_class_step,
    update_arguments,
    warps,
)
from .cublas import layout, load_cublas
from .gemm import Blas
from .gemm_lt import Epilogue, Epilogues
from .kernels import Kernels, blocks
from .persistent import Program, Steps

__all__ = ["CupyOps"]

_CHUNK = 512  # rows that one block sums; of more, the sums of chunks are summed again
_SUMMING = (32, 16)  # threads that sum columns, as kernels.cu has it
# Classes and rows of a batch up to which one block does a step's loss.
_FEW_CLASSES, _ROWS_OF_ONE_BLOCK = 32, 8192
_PARTS = 256  # sums of squares of one replica


class CupyOps(Ops):
    """Operations on CuPy, behind array-api-compat, that run as one kernel each.

    The device must be current where a method is called.  With `tf32` products of float32 round their inputs to
    TensorFloat-32.  With `persistent` a trainer may make many steps of a small network by one launch.
    """

    name = "fast"
    fills_places = True

    def __init__(self, xp: Namespace, device: Device, *, tf32: bool = False, persistent: bool = False) -> None:
        super().__init__(xp, device)
        self.tf32, self.persistent = tf32, persistent
        self.cupy = importlib.import_module("cupy")
        self.kernels = Kernels(self.cupy)
        self._threads = threading.local()
        self._together: Kernels | None = None

    def persistent_steps(self, program: Program, arrays: Sequence[Array | None]) -> Steps:
        """Return what makes the steps of a program by single launches, on the `arrays` of a network."""
        if self._together is None:
            together = bool(self.cupy.cuda.Device().attributes.get("CooperativeLaunch"))
            options = persistent.TENSOR_FLOAT if self.tf32 else persistent.FLOAT
            self._together = Kernels(self.cupy, persistent.source(), options, together=together)
        return Steps(self._together, self.cupy, program, arrays)

    # -- linear ---------------------------------------------------------------------------------------------
    def blas(self) -> Blas | None:
        """Return this thread's cuBLAS, or None where only CuPy's own products can be had, with one warning.

        With TF32, which CuPy's own products would not obey, that is a BackendUnavailableError.
        """
        try:
            found: Blas | None = self._threads.blas
        except AttributeError:
            found = self._threads.blas = self._open_blas()
        return found

    def capturer(self) -> Capturer:
        """Return what records CUDA graphs on this device in this thread, always the same."""
        try:
            found: Capturer = self._threads.capturer
        except AttributeError:
            found = self._threads.capturer = Capturer(self.cupy)
            with found.branch.stream:  # its workspace cannot be made within a capture
                blas = self.blas()
                if blas is not None:
                    blas.workspace()
        return found

    def _branch(self) -> Branch | None:
        """Return where work may go that nothing waits for until `join`; None but within some captures."""
        capturer: Capturer | None = getattr(self._threads, "capturer", None)
        return capturer.branch if capturer is not None and capturer.branch.open else None

    def await_gradients(self) -> None:
        """Wait, on the device, for the gradients of the weights."""
        branch = self._branch()
        if branch is not None:
            branch.join()

    def _open_blas(self) -> Blas | None:
        try:
            return Blas(load_cublas(self.cupy), self.cupy, tf32=self.tf32)
        except (OSError, AttributeError) as error:
            if self.tf32:
                raise BackendUnavailableError(
                    f"get_backend('cupy', tf32=True): cuBLAS cannot be called directly ({error}). "
                    "Install 'cupy-cuda13x[ctk]' to match the driver, or leave tf32 away."
                ) from error
            _warn_once(
                f"xpnn: cuBLAS cannot be called directly ({error}); products go through cupy.matmul, which is slower "
                "and cannot be part of a CUDA graph. Install 'cupy-cuda13x[ctk]' to match the driver."
            )
            return None

    def matmul(self, a: Array, b: Array, out: Array | None = None, *, add: bool = False) -> Array:
        """Return ``a @ b`` for matrices or stacks of them, fresh, or assigned to `out`, or added to it.

        Views and transposed operands are not copied where rows or columns lie together.
        """
        blas = self.blas() if Blas.takes(a, b, out) else None
        if out is None:
            if blas is None:
                return a @ b
            out = self.cupy.empty((*stack_of(a, b), a.shape[-2], b.shape[-1]), a.dtype)
        if blas is not None and layout(out) is not None and out.shape[:-2] == stack_of(a, b):
            blas.gemm(a, b, out, add=add)
        elif add:
            out += a @ b
        else:
            out[...] = a @ b
        return out

    def product(self, a: Array, b: Array) -> Array:
        """Return ``a @ b``, a fresh array; unlike CuPy's own products it may be part of a CUDA graph."""
        return self.matmul(a, b)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Affine map, by one launch where cuBLASLt adds the bias; else a kernel does, in place."""
        return self.affine(x, weight, bias)

    def linear_backward(
        self, x: Array, dy: Array, affine: Affine, *, need_dx: bool, need_d_bias: bool = True
    ) -> Array | None:
        """Gradients of `linear`; they go straight into the flat gradient buffer."""
        weight, _, d_weight, d_bias = affine
        branch = self._branch() if need_dx else None
        with contextlib.nullcontext() if branch is None else branch.beside(branch.mark(), x, dy):
            self._parameter_gradients(x, dy, d_weight, d_bias if need_d_bias else None)
        return self.matmul(dy, weight.mT) if need_dx else None

    def linear_backward_onto(
        self, x: Array, dy: Array, affine: Affine, below: Below, *, need_d_bias: bool = True
    ) -> Array | None:
        """Gradients of `linear`, of the ReLU below and of its bias, by two products where cuBLASLt has them."""
        weight, _, d_weight, d_bias = affine
        epilogues, branch = self._epilogues(dy, weight.mT), self._branch()
        mark = None if branch is None else branch.mark()
        dz = self.cupy.empty((dy.shape[-2], weight.shape[-2]), np.float32)
        which = Epilogue.DRELU_BGRAD
        if epilogues is None or not epilogues.product(dy, weight.mT, dz, which, below.d_bias, below.mask):
            return None
        with contextlib.nullcontext() if branch is None else branch.beside(mark, x, dy):
            self._parameter_gradients(x, dy, d_weight, d_bias if need_d_bias else None)
        return dz

    def _parameter_gradients(self, x: Array, dy: Array, d_weight: Array, d_bias: Array | None) -> None:
        turned = x.mT
        epilogues = None if d_bias is None else self._epilogues(turned, dy)
        if epilogues is None or not epilogues.product(turned, dy, d_weight, Epilogue.BGRADA, d_bias):
            self.matmul(turned, dy, d_weight)
            self.bias_gradient(dy, d_bias)

    def linear_relu(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Affine map and ReLU, by one launch where cuBLASLt does both; else a product and a kernel."""
        return self.affine(x, weight, bias, relu=True)

    def linear_relu_kept(self, x: Array, weight: Array, bias: Array | None) -> tuple[Array, Array | None]:
        """Affine map and ReLU, and where the result is positive, in bits, where cuBLASLt leaves that."""
        epilogues = None if bias is None or x.ndim > 2 else self._epilogues(x, weight)
        if bias is None or epilogues is None:
            return self.linear_relu(x, weight, bias), None
        rows, cols = x.shape[-2], weight.shape[-1]
        y, mask = self.cupy.empty((rows, cols), np.float32), self.cupy.empty(Epilogues.mask_shape(rows, cols), np.uint8)
        if epilogues.product(x, weight, y, Epilogue.RELU_AUX_BIAS, bias, mask):
            return y, mask
        return self.affine(x, weight, bias, y, relu=True), None

    def linear_relu_backward(
        self, x: Array, y: Array, dy: Array, affine: Affine, *, need_dx: bool, overwrite: bool = False
    ) -> Array | None:
        """Gradients of `linear_relu`: one kernel for the ReLU and the bias, and the products."""
        replicas, _, cols = sizes(dy)
        d_bias = affine.d_bias
        step = None if d_bias is None else row_step(d_bias, replicas, cols)
        if step is None or (replicas > 1 and step == 0) or not self._takes_relu_backward(dy, y):
            dz = self.relu_backward(dy, y, overwrite=overwrite)
            return self.linear_backward(x, dz, affine, need_dx=need_dx)
        dz = self._rectify_back(dy, y, d_bias, step, overwrite=overwrite)
        return self.linear_backward(x, dz, affine, need_dx=need_dx, need_d_bias=False)

    def affine(
        self, x: Array, weight: Array, bias: Array | None, out: Array | None = None, *, relu: bool = False
    ) -> Array:
        """Return ``x W + b``, or its ReLU, fresh or in `out`: by one launch, or by a product and a kernel."""
        epilogues = None if bias is None else self._epilogues(x, weight)
        if bias is not None and epilogues is not None:
            y = self.cupy.empty((x.shape[-2], weight.shape[-1]), np.float32) if out is None else out
            if epilogues.product(x, weight, y, Epilogue.RELU_BIAS if relu else Epilogue.BIAS, bias):
                return y
            out = y
        y = self.matmul(x, weight, out)
        if bias is None and not relu:
            return y
        if self.add_bias(y, bias, y, relu=relu):
            return y
        if bias is not None:
            y += bias
        return self.relu(y, overwrite=True) if relu else y

    def _epilogues(self, a: Array, b: Array) -> Epilogues | None:
        """Return what may do this product and something beside it in one launch."""
        blas = self.blas() if a.ndim == b.ndim == 2 and a.dtype.itemsize <= 4 and Blas.takes(a, b) else None
        return None if blas is None else blas.epilogues

    def bias_gradient(self, dy: Array, d_bias: Array | None) -> None:
        """Assign the gradient of the bias, if there is one: the sums of the columns."""
        if d_bias is not None and not self.sum_columns(dy, d_bias):
            d_bias[...] = self.xp.sum(dy, axis=-2, keepdims=True)

    def add_bias(self, z: Array, bias: Array | None, y: Array, *, relu: bool) -> bool:
        """Assign `z` plus the bias to `y`, or the ReLU of it; False if the kernel cannot."""
        replicas, rows, cols = sizes(z)
        step = 0 if bias is None else row_step(bias, replicas, cols)
        if not plain(z, y) or step is None:
            return False
        n = rows * cols
        self.kernels.launch("add_bias", (blocks(n), replicas), (256,), z, bias, step, y, n, cols, int(relu))
        return True

    def sum_columns(self, x: Array, out: Array) -> bool:
        """Assign the sums over rows to `out` (..., 1, n); False if the kernel cannot."""
        replicas, rows, cols = sizes(x)
        step = row_step(out, replicas, cols)
        if not plain(x) or step is None or (replicas > 1 and step == 0) or rows > _CHUNK * MOST_REPLICAS:
            return False
        self._sum_rows("column_sums", (x,), out, step)
        return True

    def _sum_rows(self, kernel: str, arrays: Sequence[Array], sums: Array | None, step: int) -> None:
        """Launch a kernel that assigns sums over rows to `sums`, if it is there, whose replicas are `step` apart."""
        replicas, rows, cols = sizes(arrays[0])
        chunks, wide = -(-rows // _CHUNK), -(-cols // 32)
        part, part_step = sums, step
        if chunks > 1 and sums is not None:
            part, part_step = self.cupy.empty((replicas, chunks, cols), np.float32), chunks * cols
        numbers = (part_step, rows, cols, min(rows, _CHUNK))
        self.kernels.launch(kernel, (wide, chunks, replicas), _SUMMING, *arrays, part, *numbers)
        if part is not sums:
            numbers = (step, chunks, cols, chunks)
            self.kernels.launch("column_sums", (wide, 1, replicas), _SUMMING, part, sums, *numbers)

    # -- activations ----------------------------------------------------------------------------------------
    def relu(self, x: Array, *, overwrite: bool = False) -> Array:
        """Return max(x, 0), by one kernel."""
        if not plain(x) or x.ndim < 2:
            return super().relu(x, overwrite=overwrite)
        y = x if overwrite else self.cupy.empty(x.shape, np.float32)
        self.add_bias(x, None, y, relu=True)
        return y

    def relu_backward(self, dy: Array, y: Array, *, overwrite: bool = False) -> Array:
        """Return dy [y > 0], by one kernel."""
        if not self._takes_relu_backward(dy, y):
            return super().relu_backward(dy, y, overwrite=overwrite)
        return self._rectify_back(dy, y, None, 0, overwrite=overwrite)

    def _takes_relu_backward(self, dy: Array, y: Array) -> bool:
        return plain(dy, y) and dy.shape == y.shape and dy.ndim >= 2 and dy.shape[-2] <= _CHUNK * MOST_REPLICAS

    def _rectify_back(self, dy: Array, y: Array, d_bias: Array | None, step: int, *, overwrite: bool) -> Array:
        """Return dy [y > 0], and assign its sums over rows to `d_bias`, whose replicas are `step` elements apart."""
        dz = dy if overwrite else self.cupy.empty(dy.shape, np.float32)
        self._sum_rows("relu_backward", (dy, y, dz), d_bias, step)
        return dz

    # -- dropout --------------------------------------------------------------------------------------------
    def keep_mask(self, shape: Shape, rate: MaskRate, key: tuple[Any, Any], dtype: DType) -> Array:
        """Inverted-dropout mask, the same bits as everywhere."""
        replicas, n = math.prod(shape[:-2]), shape[-1] * shape[-2]
        numbers = self._mask_numbers(shape, rate, key, dtype)
        if numbers is None:
            return super().keep_mask(shape, rate, key, dtype)
        mask = self.cupy.empty(shape, np.float32)
        self.kernels.launch("keep_mask", (blocks((n + 1) // 2), replicas), (256,), mask, n, *numbers)
        return mask

    def keep_mask_of_rows(self, shape: Shape, rate: MaskRate, key: tuple[Any, Any], dtype: DType, rows: Array) -> Array:
        """Do the same by the rows' own numbers."""
        replicas, (count, n) = math.prod(shape[:-2]), shape[-2:]
        numbers = self._mask_numbers(shape, rate, key, dtype)
        if numbers is None or rows.dtype != np.int32 or not rows.flags.c_contiguous or rows.shape != (count,):
            return super().keep_mask_of_rows(shape, rate, key, dtype, rows)
        mask = self.cupy.empty(shape, np.float32)
        grid = (blocks(count * ((n + 1) // 2)), replicas)
        self.kernels.launch("keep_mask_of_rows", grid, (256,), mask, rows, count, n, *numbers)
        return mask

    def _mask_numbers(self, shape: Shape, rate: MaskRate, key: tuple[Any, Any], dtype: DType) -> list[Any] | None:
        """Keys and thresholds as the kernels take them; None if they cannot make this mask."""
        replicas = math.prod(shape[:-2])
        if dtype != np.float32 or len(shape) > 3 or replicas > MOST_REPLICAS or not 0 < math.prod(shape) <= LARGEST:
            return None
        kept: Any = rate
        if isinstance(rate, int | float):
            kept = keep_threshold(rate)
        elif isinstance(rate, Sequence):
            kept = keep_thresholds(rate).tolist()
        columns = [self.cupy.asarray(np.asarray(k, dtype=np.int32)) if isinstance(k, list) else k for k in (*key, kept)]
        numbers = [number(column, replicas, np.int32) for column in columns]
        return None if None in numbers else [part for found in numbers if found for part in found]

    # -- normalization --------------------------------------------------------------------------------------
    def normalize(self, x: Array, axis: int, eps: float, *, center: bool) -> tuple[Array, Array, Array, Array]:
        """Standardize along `axis`; rows by one kernel."""
        if axis != -1 or not plain(x):
            return super().normalize(x, axis, eps, center=center)
        cols, rows = x.shape[-1], x.size // x.shape[-1]
        x_hat = self.cupy.empty(x.shape, np.float32)
        inv_std, mean, var = (self.cupy.empty((*x.shape[:-1], 1), np.float32) for _ in range(3))
        self.kernels.launch(
            "normalize_rows", *warps(rows), *(x, x_hat, inv_std, mean, var, rows, cols, float(eps), int(center))
        )
        return x_hat, inv_std, mean, var

    def normalize_backward(self, d_hat: Array, x_hat: Array, inv_std: Array, axis: int, *, center: bool) -> Array:
        """Gradient of `normalize` to its input; of rows by one kernel."""
        if axis != -1 or not plain(d_hat, x_hat, inv_std) or d_hat.shape != x_hat.shape:
            return super().normalize_backward(d_hat, x_hat, inv_std, axis, center=center)
        cols, rows = d_hat.shape[-1], d_hat.size // d_hat.shape[-1]
        dx = self.cupy.empty(d_hat.shape, np.float32)
        self.kernels.launch("normalize_rows_backward", *warps(rows), d_hat, x_hat, inv_std, dx, rows, cols, int(center))
        return dx

    # -- losses ---------------------------------------------------------------------------------------------
    def softmax_cross_entropy(self, logits: Array, target: Array) -> tuple[Array, Array]:
        """Row losses of softmax cross-entropy and their gradients."""
        if not plain(logits, target) or target.shape not in (logits.shape, logits.shape[-2:]):
            return super().softmax_cross_entropy(logits, target)
        return self._row_losses(logits, target, None, target.size // target.shape[-1])

    def softmax_cross_entropy_labels(self, logits: Array, labels: Array) -> tuple[Array, Array]:
        """Do the same for labels, with no one-hot rows."""
        fits = labels.shape in (logits.shape[:-1], logits.shape[-2:-1])
        if not plain(logits) or not fits or labels.dtype != np.int64 or not labels.flags.c_contiguous:
            return super().softmax_cross_entropy_labels(logits, labels)
        return self._row_losses(logits, None, labels, labels.size)

    def _row_losses(
        self, logits: Array, target: Array | None, labels: Array | None, target_rows: int
    ) -> tuple[Array, Array]:
        cols, rows = logits.shape[-1], logits.size // logits.shape[-1]
        losses, d = (self.cupy.empty(shape, np.float32) for shape in (logits.shape[:-1], logits.shape))
        arrays = (logits, target, labels, None, losses, d, None)
        self.kernels.launch(
            "softmax_cross_entropy", *warps(rows), *arrays, rows, cols, target_rows, 1, 1.0, 0.0, None, 0, 1.0
        )
        return losses, d

    def cross_entropy_step(
        self, logits: Array, target: Array, smoothing: float, weight: Array | None, places: Places
    ) -> Array | None:
        """Loss, gradient, their scaling and the hits: one kernel for few classes, two for many."""
        if not takes_class_step(logits, target, weight, places):
            return None
        replicas, rows, cols = sizes(logits)
        labels, target_rows = None, target.size // cols
        if target.dtype == np.int64:
            target, labels, target_rows = None, target, target.size
        smoothed = 1.0 - smoothing, smoothing / cols
        factor: tuple[Any, ...] = None, 0, np.float32(1.0 / rows)
        if weight is not None:  # a batch in which every weight is 0 has loss 0
            total = self.xp.maximum(self.xp.sum(weight), float(np.finfo(np.float32).smallest_normal))
            factor = 1.0 / total, 0, np.float32(0)
        d, launch = self.cupy.empty(logits.shape, np.float32), self.kernels.launch
        if cols <= _FEW_CLASSES and rows <= _ROWS_OF_ONE_BLOCK:
            threads, arrays = min(-(-rows // 32) * 32, 1024), (logits, target, labels, weight, d, *places)
            launch("cross_entropy_step", (replicas,), (threads,), *arrays, rows, cols, target_rows, *smoothed, *factor)
            return d
        losses = self.cupy.empty(logits.shape[:-1], np.float32)
        hits = None if places.hits is None else self.cupy.empty(logits.shape[:-1], np.float32)
        numbers = (replicas * rows, cols, target_rows, rows, *smoothed, *factor)
        grid = warps(replicas * rows)
        launch("softmax_cross_entropy", *grid, logits, target, labels, weight, losses, d, hits, *numbers)
        launch("step_sums", (replicas,), (1024,), losses, hits, weight, *places, rows, *factor)
        return d

    # -- the optimizer's side -------------------------------------------------------------------------------
    def global_norm(self, grads: Array) -> Array:
        """Euclidean norm of the flat gradients, summed in the same order every time."""
        if not plain(grads) or grads.ndim > 2 or replicas_of(grads) > MOST_REPLICAS:
            return super().global_norm(grads)
        replicas, n = replicas_of(grads), grads.shape[-1]
        parts = min(blocks(n, 1024), _PARTS)
        part = self.cupy.empty((replicas, parts), np.float32)
        norm = self.cupy.empty((*grads.shape[:-1], 1), np.float32)
        self.kernels.launch("square_sums", (parts, replicas), (256,), grads, part, n)
        self.kernels.launch("root_of_sum", (replicas,), (256,), part, norm, parts)
        return norm

    def clip_norm(self, grads: Array, norm: Array, max_norm: float) -> None:
        """Scale `grads` in place where their norm is too large."""
        replicas, n = replicas_of(grads), grads.shape[-1]
        if not plain(grads, norm) or not one_or_each(norm, grads) or grads.ndim > 2 or replicas > MOST_REPLICAS:
            super().clip_norm(grads, norm, max_norm)
            return
        step = 0 if norm.size == 1 else 1
        self.kernels.launch("clip_norm", (blocks(n), replicas), (256,), grads, norm, step, float(max_norm), n)

    def adam(self, update: Update, m: Array, v: Array, scalars: Sequence[Scalar]) -> None:
        """Clipping, weight decay and one Adam step in one pass over memory; the gradients stay as they are.

        Each of the numbers may be an array on the device, of one element or one for each replica: a captured graph
        then reads what lies there when it runs.
        """
        if not self._update("adam", update, (m, v), scalars):
            super().adam(update, m, v, scalars)

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
        """Clipping, weight decay and a step of descent in one pass over memory; the gradients stay as they are."""
        if not self._update("descend", update, (velocity,), (momentum, gain, lr), int(nesterov)):
            super().descend(update, velocity, lr, momentum=momentum, gain=gain, nesterov=nesterov)

    def _update(
        self, kernel: str, update: Update, state: Sequence[Array | None], scalars: Sequence[Scalar], *options: int
    ) -> bool:
        """Launch an optimizer's kernel; False if it takes no such buffers."""
        ready = update_arguments(update, [s for s in state if s is not None], scalars)
        if ready is None:
            return False
        n, numbers, rest = ready
        values, grads, lr_factors, _, _ = update
        grid = (blocks(n), replicas_of(values))
        self.kernels.launch(kernel, grid, (256,), values, grads, *state, lr_factors, n, *numbers, *options, *rest)
        return True

    # -- data -----------------------------------------------------------------------------------------------
    def take_rows(self, x: Array, index: Array, out: Array | None = None) -> Array:
        """Gather rows, as CuPy does: an index beyond the last row begins again at the first."""
        words = math.prod(x.shape[1:]) * x.dtype.itemsize // 4
        if x.dtype.itemsize % 4 or x.dtype.kind == "c" or not gathers(x, index, words):
            return super().take_rows(x, index, out)
        shape = (index.shape[0], *x.shape[1:])
        if out is None:
            out = self.cupy.empty(shape, x.dtype)
        elif out.shape != shape or out.dtype != x.dtype or not out.flags.c_contiguous:
            return super().take_rows(x, index, out)
        grid, threads = (min(index.shape[0], 1 << 20),), min(256, -(-words // 32) * 32)
        numbers = (index.shape[0], words, np.int64(x.shape[0]))
        self.kernels.launch("gather_words", grid, (threads,), x, index, out, *numbers)
        return out


_warned: set[str] = set()


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=4)
