"""What only a GPU can show, most telling first: kernels, the persistent one, graphs, fits, products, epilogues, costs.

    python ci/gpu_probe.py --backend cupy --out probe.json [--part NAME]...

Each part says whether it passed and gives its figures, which are added to the file as soon as they are there.  Each may
run in a process of its own: an illegal address spoils all that follows in its process.  On NumPy the parts that need
CuPy say so: that tries the script out where there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import re
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import xpnn
from xpnn.accel.cuda.capture import Capturer, Recording, find_capturer
from xpnn.accel.cuda.cupy_ops import CupyOps
from xpnn.accel.cuda.gemm_lt import Epilogue
from xpnn.accel.cuda.persistent import Steps
from xpnn.backend import Backend
from xpnn.ops import Affine, Clip, Decay, Ops, Update
from xpnn.random import StepKey

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
import harness
from harness import MissingError

REFERENCE = Ops(np, "cpu")
SHAPES = [(1, 1), (7, 33), (128, 10), (128, 784), (1500, 257), (3, 64, 31)]
SIZES = [784, 256, 128, 10]
BATCH = 128
# Relative to the largest element.  Equal to the bit are those without sums and transcendental functions.
ROUNDING = 1e-5
# Of products of normal numbers, to those in float64: full float32 stays below the first, TF32 lies between the two.
FULL, COARSE = 3e-6, 5e-3


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def error(mine: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest element; infinite where either is no number."""
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    found = float(np.abs(mine.astype(np.float64) - expected).max(initial=0.0)) / scale
    return found if np.isfinite(found) else float("inf")


# -- epilogues --------------------------------------------------------------------------------------------------
PRODUCTS = [(128, 784, 256), (128, 256, 128), (128, 128, 10), (1024, 784, 256), (7, 33, 5), (1, 16, 1), (1000, 64, 48)]
KINDS = {"float32": FULL, "tf32": COARSE, "float16": COARSE, "bfloat16": 2e-2}


def epilogues(backend: Backend) -> dict[str, Any]:
    """cuBLASLt's products with bias, ReLU and bias gradient against a product and a kernel, and a second time."""
    need_cupy(backend)
    rows: dict[str, Any] = {}
    wrong: list[str] = []
    found = backend.ops.blas()
    if found is None or found.epilogues is None:
        return {"ok": True, "text": "cuBLASLt cannot be reached: products and kernels do the same", "rows": rows}
    for kind, limit in KINDS.items():
        if kind == "bfloat16" and importlib.util.find_spec("ml_dtypes") is None:
            continue
        ops = xpnn.get_backend(backend, tf32=True).ops if kind == "tf32" else backend.ops
        for shape in PRODUCTS:
            for which in Epilogue:
                if which not in (Epilogue.BIAS, Epilogue.RELU_BIAS) and "16" in kind:
                    continue  # no step asks for it
                name = f"{which.name} {shape} {kind}"
                try:
                    row = one_epilogue(backend, ops, which, shape, kind)
                except Exception as problem:  # one that fails must not hide the others
                    row = harness.reason(problem)
                rows[name] = row
                if isinstance(row, str) or (row["offered"] and (row["error"] > limit or not row["repeatable"])):
                    wrong.append(name)
    offered = [row for row in rows.values() if isinstance(row, dict) and row["offered"]]
    worst = max((row["error"] for row in offered), default=0.0)
    text = f"{len(offered)} of {len(rows)} kinds offered, largest error {worst:.1e}"
    return {"ok": not wrong, "text": text + (f"; wrong: {', '.join(wrong)}" if wrong else ""), "rows": rows}


def one_epilogue(backend: Backend, ops: Any, which: Epilogue, shape: tuple[int, int, int], kind: str) -> dict[str, Any]:
    """Do one product with an epilogue twice, and compare it with float64 on the host."""
    m, k, n = shape
    host = [draw(m, k), draw(k, n, seed=1), draw(1, n, seed=2)]
    if which is Epilogue.BGRADA:
        host = [draw(m, k), draw(m, n, seed=1), np.zeros((1, n), np.float32)]
    x, w, row = (backend.copy(a, dtype=backend.xp.float32) for a in host)
    if "16" in kind:
        half = np.dtype(importlib.import_module("ml_dtypes").bfloat16) if kind == "bfloat16" else np.float16
        x, w = (ops.xp.astype(a, half) for a in (x, w))
    a = x.mT if which is Epilogue.BGRADA else x
    found = ops.blas().epilogues
    bits = np.random.default_rng(3).integers(0, 256, found.mask_shape(m, n)).astype(np.uint8)
    mask = None if which in (Epilogue.BIAS, Epilogue.RELU_BIAS, Epilogue.BGRADA) else ops.cupy.asarray(bits)
    results = []
    for _ in range(2):
        out = ops.cupy.empty((a.shape[0], n), np.float32)
        if not found.product(a, w, out, which, row, mask):
            return {"offered": False}
        results.append([backend.to_numpy(r).copy() for r in (out, row)])
    positive = np.unpackbits(bits if mask is None else backend.to_numpy(mask), axis=1, bitorder="little")[:, :n]
    x64, w64, row64 = (np.asarray(array, np.float64) for array in host)
    if which is Epilogue.BGRADA:
        expected = [x64.T @ w64, w64.sum(axis=0, keepdims=True)]
    elif which is Epilogue.DRELU_BGRAD:
        y = x64 @ w64 * positive
        expected = [y, y.sum(axis=0, keepdims=True)]
    else:
        y = x64 @ w64 + row64
        expected = [y if which is Epilogue.BIAS else np.maximum(y, 0.0), row64]
        if which is Epilogue.RELU_AUX_BIAS:  # the mask may round otherwise where the result is about 0
            results[0].append(positive[results[0][0] > 1e-3])
            results[1].append(results[0][-1])
            expected.append(np.ones_like(results[0][-1]))
    off = max(error(mine, right) for mine, right in zip(results[0], expected, strict=True))
    same_bits = all(one.tobytes() == two.tobytes() for one, two in zip(*results, strict=True))
    return {"offered": True, "error": off, "repeatable": same_bits}


def with_and_without(backend: Backend) -> dict[str, Any]:
    """Training with epilogues and without: the same curve to rounding."""
    need_cupy(backend)
    blas = backend.ops.blas()
    if blas is None or blas.epilogues is None:
        raise MissingError("cuBLASLt cannot be reached")
    mine, epilogues_of = fit(backend, False, norm=None)[1], blas.epilogues
    try:
        blas.epilogues = None
        plain = fit(backend, False, norm=None)[1]
    finally:
        blas.epilogues = epilogues_of
    off = max(abs(a - b) / abs(b) for a, b in zip(mine, plain, strict=True))
    return {"ok": off < 1e-3, "text": f"losses {off:.1e} apart"}


# -- kernels ----------------------------------------------------------------------------------------------------
def cases() -> Iterator[tuple[str, bool, Callable[[Ops, Callable[[Any], Any]], Any]]]:
    """Yield name, whether bits must be equal, and what to compute with given operations and a way to bring arrays."""
    for shape in SHAPES:
        *replicas, rows, cols = shape
        x, dy, bias = draw(*shape), draw(*shape, seed=1), draw(*replicas, 1, cols, seed=2)
        labels = np.random.default_rng(3).integers(0, cols, rows)
        index = np.random.default_rng(4).integers(0, rows, 100)
        one_hot = (labels[:, None] == np.arange(cols)).astype(np.float32)
        key = StepKey(list(range(replicas[0])) if replicas else 0, 3)[1]
        weight = draw(*replicas, 6, cols, seed=5)
        given = draw(*replicas, rows, 6, seed=6)

        def backward(ops: Ops, to: Any, x: Any = given, dy: Any = dy, weight: Any = weight, bias: Any = bias) -> Any:
            d_weight, d_bias = to(np.zeros_like(weight)), to(np.zeros_like(bias))
            dx = ops.linear_backward(to(x), to(dy), Affine(to(weight), None, d_weight, d_bias), need_dx=True)
            return d_weight, d_bias, dx

        def pair_backward(ops: Ops, to: Any, x: Any = given, dy: Any = dy, weight: Any = weight, y: Any = x) -> Any:
            d_weight, d_bias = to(np.zeros_like(weight)), to(np.zeros_like(weight[..., :1, :]))
            affine = Affine(to(weight), None, d_weight, d_bias)
            dx = ops.linear_relu_backward(to(x), to(y), to(dy), affine, need_dx=True, overwrite=True)
            return d_weight, d_bias, dx

        table: dict[str, tuple[bool, Callable[[Ops, Any], Any]]] = {
            "relu": (True, lambda ops, to, x=x: ops.relu(to(x))),
            "relu backward": (True, lambda ops, to, x=x, dy=dy: ops.relu_backward(to(dy), to(x))),
            "rows": (True, lambda ops, to, x=x, i=index: ops.take_rows(to(x.reshape(-1, x.shape[-1])), to(i))),
            "mask": (True, lambda ops, to, s=shape, k=key: ops.keep_mask(s, 0.3, k, np.float32)),
            "linear": (False, lambda ops, to, a=given, w=weight, b=bias: ops.linear(to(a), to(w), to(b))),
            "linear backward": (False, backward),
            "linear relu": (False, lambda ops, to, a=given, w=weight, b=bias: ops.linear_relu(to(a), to(w), to(b))),
            "linear relu backward": (False, pair_backward),
            "normalize": (False, lambda ops, to, x=x: ops.normalize(to(x), -1, 1e-5, center=True)),
            "normalize backward": (
                False,
                lambda ops, to, x=x, dy=dy: ops.normalize_backward(
                    to(dy), to(x), to(np.abs(x[..., :1]) + np.float32(0.5)), -1, center=True
                ),
            ),
            "cross-entropy": (False, lambda ops, to, x=x, t=one_hot: ops.softmax_cross_entropy(to(x), to(t))),
            "labels": (False, lambda ops, to, x=x, y=labels: ops.softmax_cross_entropy_labels(to(x), to(y))),
            "norm": (False, lambda ops, to, x=x: ops.global_norm(to(x.reshape(-1)))),
        }
        for name, (bits, compute) in table.items():
            yield f"{name} {shape}", bits, compute
    for n in (1, 1000, 300_001):
        start = [draw(n, seed=k) for k in range(3)] + [np.abs(draw(n, seed=3))]

        def adam(ops: Ops, to: Any, start: Any = start) -> Any:
            buffers = [to(a) for a in start]
            ops.adam(Update(*buffers[:2]), *buffers[2:], (0.9, 0.999, 1e-7, 0.05))
            return tuple(buffers)

        def clip(ops: Ops, to: Any, start: Any = start) -> Any:
            grads = to(start[0])
            ops.clip_norm(grads, to(np.asarray([100.0], np.float32)), 1.0)
            return grads

        def whole(ops: Ops, to: Any, start: Any = start, n: int = n) -> Any:
            buffers = [to(a) for a in start]
            clip, decay = Clip(to(np.asarray([100.0], np.float32)), 1.0), Decay(True, n // 2, 0.9)
            ops.adam(Update(*buffers[:2], None, decay, clip), *buffers[2:], (0.9, 0.999, 1e-7, 0.05))
            return buffers[0], *buffers[2:]  # the kernel leaves the gradients alone

        def descend(ops: Ops, to: Any, start: Any = start, n: int = n) -> Any:
            values, grads, velocity = (to(a) for a in start[:3])
            clip, decay = Clip(to(np.asarray([100.0], np.float32)), 1.0), Decay(False, n // 2, 0.1)
            ops.descend(Update(values, grads, None, decay, clip), velocity, 0.05, momentum=0.9, nesterov=True)
            return values, velocity

        yield f"adam ({n},)", True, adam
        yield f"adam, decay, clip ({n},)", True, whole
        yield f"descent, decay, clip ({n},)", True, descend
        yield f"clip ({n},)", True, clip


def kernels(backend: Backend) -> dict[str, Any]:
    """Every operation against the portable one on NumPy, and against itself a second time."""
    rows, wrong = {}, []

    def there(a: np.ndarray) -> Any:
        return backend.copy(a, dtype=getattr(backend.xp, a.dtype.name))

    for name, bits, compute in cases():
        try:
            expected = many(compute(REFERENCE, np.array))
            found, again = (many(compute(backend.ops, there)) for _ in range(2))
        except Exception as problem:  # one operation that fails must not hide the others
            wrong.append(name)
            rows[name] = harness.reason(problem)
            continue
        host, second = ([backend.to_numpy(a) for a in arrays] for arrays in (found, again))
        off = max(error(a, b) for a, b in zip(host, expected, strict=True))
        equal = all(a.tobytes() == b.tobytes() for a, b in zip(host, expected, strict=True))
        repeatable = all(a.tobytes() == b.tobytes() for a, b in zip(host, second, strict=True))
        rows[name] = {"error": off, "bits": equal, "repeatable": repeatable}
        if off > (0.0 if bits else ROUNDING) or not repeatable:
            wrong.append(name)
    checked = [row for row in rows.values() if isinstance(row, dict)]
    worst = max((row["error"] for row in checked), default=float("inf"))
    text = f"{len(rows)} operations, {sum(row['bits'] for row in checked)} equal to the bit, largest error {worst:.1e}"
    return {"ok": not wrong, "text": text + (f"; wrong: {', '.join(wrong)}" if wrong else ""), "rows": rows}


def many(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def products(backend: Backend) -> dict[str, Any]:
    """Errors of products in float32 and in TF32, transposed and in stacks."""
    rows, ok = {}, True
    kinds: dict[str, Backend | None] = {"float32": backend}
    if backend.name == "cupy":
        kinds["tf32"] = xpnn.get_backend(backend, tf32=True)
    for kind, place in kinds.items():
        for shapes in (((128, 784), (784, 256)), ((3, 128, 256), (3, 256, 10)), ((128, 256), (3, 256, 64))):
            for turned in (False, True):
                a, b = (draw(*shape, seed=k) for k, shape in enumerate(shapes))
                given = [place.asarray(np.ascontiguousarray(x.mT)).mT if turned else place.asarray(x) for x in (a, b)]
                found = place.to_numpy(place.ops.linear(*given, None))
                off = error(found, a.astype(np.float64) @ b.astype(np.float64))
                rows[f"{kind} {shapes} {'by columns' if turned else 'by rows'}"] = off
                ok &= off < (FULL if kind == "float32" else COARSE)
    worst = {kind: max(off for name, off in rows.items() if name.startswith(kind)) for kind in kinds}
    ok &= worst.get("tf32", COARSE) > FULL  # else the choice did not arrive
    return {"ok": ok, "text": ", ".join(f"{k}: largest error {v:.1e}" for k, v in worst.items()), "rows": rows}


# -- training ---------------------------------------------------------------------------------------------------
class Litter(xpnn.Callback):
    """Takes memory, fills it with what is no number, and gives it back: a graph must not work in it."""

    def on_epoch_begin(self, trainer: Any) -> None:
        backend = trainer.backend
        for n in (1, 100, 10_000, 1_000_000):
            array = backend.zeros(n)
            array += float("nan")
            del array
        backend.synchronize()


def fit(
    backend: Backend, graph: Any, callbacks: tuple[Any, ...] = (), *, norm: str | None = "layer", epochs: int = 4
) -> tuple[Any, list[float]]:
    """Train a network with everything that changes from step to step; return its weights and losses."""
    net = xpnn.mlp([20, 64, 32, 5], norm=norm, dropout=0.2, backend=backend, seed=1)
    trainer = xpnn.Trainer(
        net,
        xpnn.CrossEntropy(),
        xpnn.AdamW(0.01, weight_decay=0.1),
        schedule=xpnn.OneCycle(),
        clip_norm=1.0,
        callbacks=callbacks,
    )
    X, y = draw(1000, 20), np.arange(1000) % 5
    history = trainer.fit(X, y, epochs=epochs, batch_size=32, graph=graph)
    return net.state_dict(), history["loss"]


def same(a: tuple[Any, Any], b: tuple[Any, Any]) -> bool:
    return a[1] == b[1] and all(a[0][name].tobytes() == b[0][name].tobytes() for name in a[0])


def repeatable(backend: Backend) -> dict[str, Any]:
    """Two runs, to the bit; and their distance from portable NumPy."""
    first, second = fit(backend, False), fit(backend, False)
    reference = fit(xpnn.get_backend("numpy", ops="portable"), False)
    off = max(abs(a - b) / abs(b) for a, b in zip(first[1], reference[1], strict=True))
    ok = same(first, second) and off < 1e-3
    text = f"two runs {'are' if same(first, second) else 'are NOT'} equal to the bit; losses {off:.1e} from NumPy's"
    return {"ok": ok, "text": text}


def graphs(backend: Backend) -> dict[str, Any]:
    """Training in CUDA graphs, step by step, and in graphs while other work litters memory: all equal to the bit."""
    need_cupy(backend)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        recorded = fit(backend, True)
        littered = fit(backend, True, (Litter(),))
    reasons = [str(w.message) for w in said if issubclass(w.category, RuntimeWarning)]
    eager = fit(backend, False)
    equal = {"graph": same(recorded, eager), "graph among litter": same(littered, eager)}
    unequal = [name for name, good in equal.items() if not good]
    text = (
        "; ".join(reasons) or f"equal to the bit to step by step: {', '.join(n for n in equal if equal[n]) or 'none'}"
    )
    return {"ok": not reasons and not unequal, "text": text, "equal": equal}


# -- the persistent kernel --------------------------------------------------------------------------------------
@contextlib.contextmanager
def watched_launches(most_blocks: int | None = None) -> Iterator[list[tuple[int, int]]]:
    """Fill a list with blocks and steps of each launch; with at most so many blocks, if that is given."""
    launched: list[tuple[int, int]] = []
    launch = Steps.launch

    def watched(steps: Steps, rows: Any, first: int, count: int) -> None:
        if most_blocks is not None:
            steps.blocks = min(steps.blocks, most_blocks)
        launched.append((steps.blocks, count))
        launch(steps, rows, first, count)

    Steps.launch = watched  # type: ignore[method-assign]
    try:
        yield launched
    finally:
        Steps.launch = launch  # type: ignore[method-assign]


def persistent(backend: Backend, grids: tuple[int | None, ...] = (None, 1, 2, 7), epochs: int = 4) -> dict[str, Any]:
    """Fits by one kernel: near NumPy's, and the same bits on any number of blocks."""
    need_cupy(backend)
    chosen = xpnn.get_backend(backend, persistent=True)
    found: dict[int | None, Any] = {}
    blocks: list[int] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for most in grids:
            with watched_launches(most) as launched:
                found[most] = fit(chosen, True, norm=None, epochs=epochs)
            blocks.append(max((number for number, _ in launched), default=0))
    reference = fit(xpnn.get_backend("numpy", ops="portable"), False, norm=None, epochs=epochs)
    other = [most for most in found if not same(found[None], found[most])]
    off = max(abs(a - b) / abs(b) for a, b in zip(found[None][1], reference[1], strict=True))
    reasons = [str(w.message) for w in said if "persistent" in str(w.message)]
    bits = f"OTHER bits on {other} blocks" if other else f"the same bits on {blocks} blocks"
    text = "; ".join([*reasons, f"losses {off:.1e} from NumPy's", bits])
    return {"ok": min(blocks) > 0 and not other and off < 1e-3 and not reasons, "text": text, "blocks": blocks}


def persistent_fits(backend: Backend) -> dict[str, Any]:
    """What `fits` measures, by one kernel."""
    need_cupy(backend)
    with watched_launches() as launched:
        timed = fits(xpnn.get_backend(backend, persistent=True), rows_of_a_short_look=2 * BATCH)
    blocks = max((number for number, _ in launched), default=0)
    return timed | {"ok": blocks > 0, "text": f"{blocks} blocks; {timed['text']}"}


# -- fits and products, timed ----------------------------------------------------------------------------------
def short_look() -> bool:
    """Whether parts are only to be tried: on an emulated device a step takes some thousand times as long."""
    return os.environ.get("XPNN_GPU_QUICK") == "1"


def fits(backend: Backend, rows_of_a_short_look: int = 8 * BATCH) -> dict[str, Any]:
    """`Trainer.fit` itself on made rows of MNIST's size: µs a step, nodes a step, and the seconds of the first fit."""
    rows: dict[str, Any] = {}
    n, epochs, sizes = (rows_of_a_short_look, 4, (BATCH,)) if short_look() else (60_000, 6, (BATCH, 1024))
    X, y = backend.asarray(draw(n, SIZES[0])), np.arange(n) % SIZES[-1]
    for batch_size in sizes:
        net = xpnn.mlp(SIZES, backend=backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(1e-3))
        with counted_nodes(trainer) as nodes:
            began = time.perf_counter()
            trainer.fit(X, y, epochs=1, batch_size=batch_size, graph=True if backend.name == "cupy" else "auto")
            first = time.perf_counter() - began
            history = trainer.fit(X, y, epochs=epochs, batch_size=batch_size)
        steps = -(-n // batch_size)
        us = statistics.median(history["seconds"][2:]) / steps * 1e6  # the second fit's first epoch records again
        row = {"us": round(us, 2), "steps": steps, "first_fit_seconds": round(first, 2), **nodes}
        if nodes.get("nodes"):
            row["us_a_node"] = round(us / nodes["nodes"], 2)
        rows[str(batch_size)] = row
    text = "; ".join(f"batch {b}: {r['us']} µs a step, {r.get('nodes', 'no')} nodes" for b, r in rows.items())
    return {"ok": True, "text": text, "rows": rows}


@contextlib.contextmanager
def counted_nodes(trainer: xpnn.Trainer) -> Iterator[dict[str, float]]:
    """Fill a dictionary with the nodes of a step in the first stage that a trainer records within."""
    found: dict[str, float] = {}
    record = Capturer.record

    def counting(capturer: Capturer, run: Callable[[], None], **options: Any) -> Recording:
        before = trainer.step
        recording = record(capturer, run, **options)
        if not found:
            with contextlib.suppress(Exception):  # a figure more; where it cannot be had, the fit goes on
                kinds = re.findall(r"^\s*\"graph_\d+_node_\d+\"\s*\[", recording.describe(), flags=re.MULTILINE)
                found["nodes"] = round(len(kinds) / (trainer.step - before), 2)
        return recording

    Capturer.record = counting  # type: ignore[method-assign]
    try:
        yield found
    finally:
        Capturer.record = record  # type: ignore[method-assign]


TIMED = [(128, 784, 256), (128, 256, 128), (128, 128, 10), (1024, 784, 256), (1024, 2048, 2048)]


def product_table(backend: Backend, calls: int = 50) -> dict[str, Any]:
    """µs of one product by shape, many in a graph: as a layer makes it, and its weight's gradient; and TFLOP/s."""
    need_cupy(backend)
    capturer = find_capturer("cupy", backend.ops)
    if isinstance(capturer, str):
        raise RuntimeError(capturer)
    ops, rows = backend.ops, {}
    shapes = TIMED[:2] if short_look() else TIMED
    with capturer.active():
        for m, k, n in shapes:
            x, w, b = (backend.asarray(draw(*shape)) for shape in ((m, k), (k, n), (1, n)))
            y, d_w, d_b = backend.zeros((m, n)), backend.zeros((k, n)), backend.zeros((1, n))
            kinds: dict[str, Callable[[], Any]] = {
                "product": lambda x=x, w=w, y=y: ops.matmul(x, w, y),
                "linear and ReLU": lambda x=x, w=w, b=b, y=y: ops.affine(x, w, b, y, relu=True),
                "gradients": lambda x=x, y=y, d_w=d_w, d_b=d_b: ops.linear_backward(
                    x, y, Affine(d_w, None, d_w, d_b), need_dx=False
                ),
            }
            for name, call in kinds.items():
                call()
                recording = capturer.record(lambda call=call: [call() for _ in range(calls)] and None)
                recording.launch()
                us = min(in_all(recording.launch, backend, 1) for _ in range(5)) / calls
                rows[f"{name} {(m, k, n)}"] = {"us": round(us, 2), "tflops": round(2e-6 * m * k * n / us, 3)}
    text = ", ".join(f"{name}: {row['us']} µs" for name, row in rows.items())
    return {"ok": True, "text": text, "rows": rows}


# -- costs ------------------------------------------------------------------------------------------------------
def median_us(call: Callable[[], Any], backend: Backend, calls: int) -> float:
    """µs of the host to hand over one call; the device has time to follow between rounds."""
    found = []
    for _ in range(5):
        backend.synchronize()
        began = time.perf_counter()
        for _ in range(calls):
            call()
        found.append((time.perf_counter() - began) / calls * 1e6)
    backend.synchronize()
    return round(statistics.median(found), 2)


def host_costs(backend: Backend, calls: int = 200) -> dict[str, Any]:
    """µs of the host for one call of each kind."""
    ops, xp = backend.ops, backend.xp
    x, w = backend.asarray(draw(BATCH, 256)), backend.asarray(draw(256, 128))
    kinds = {"array operation": lambda: x + 1.0, "kernel": lambda: ops.relu(x, overwrite=True)}
    kinds |= {"the library's product": lambda: x @ w, "own product": lambda: ops.linear(x, w, None)}
    kinds |= {"view": lambda: x[3:5, ...], "maximum": lambda: xp.maximum(x, 0.0)}
    rows = {name: median_us(call, backend, calls) for name, call in kinds.items()}
    return {"ok": True, "text": ", ".join(f"{k} {v} µs" for k, v in rows.items()), "rows": rows}


class WholeStep:
    """A step as `Trainer` makes it, with inputs, labels and Adam's numbers on the device, at places that stay."""

    def __init__(self, backend: Backend, sizes: list[int] = SIZES, batch_size: int = BATCH) -> None:
        self.net = xpnn.mlp(sizes, backend=backend, seed=0)
        self.loss, self.rule = xpnn.CrossEntropy().using(backend.ops), xpnn.Adam(1e-3)
        self.store = self.net.store
        self.rule.bind(self.store)
        self.state = list(self.rule.state.values())
        self._first = backend.copy(self.store.values)
        self.x = backend.asarray(draw(batch_size, sizes[0]))
        self.labels = backend.asarray(np.arange(batch_size) % sizes[-1], dtype=backend.index_dtype)
        self.numbers = backend.asarray(np.asarray(self.rule.numbers(1)))

    def reset(self) -> None:
        """Go back to the first weights."""
        self.store.values[...] = self._first
        for state in self.state:
            state *= 0.0

    def __call__(self) -> Any:
        pred, caches = self.net.forward(self.x, train=True)
        value, d_pred = self.loss.value_and_grad(pred, self.labels)
        self.net.backward(d_pred, caches)
        self.rule.update(self.store, [self.numbers[k : k + 1] for k in range(len(self.numbers))])
        return value


def graph_costs(
    backend: Backend, counts: tuple[int, ...] = (1, 32, 469), rounds: int = 20, capturer: Any = None
) -> dict[str, Any]:
    """A whole step: µs one by one, and as one graph of 1, 32 and 469 steps."""
    need_cupy(backend)
    if short_look():
        counts, rounds = counts[:2], 1
    if capturer is None:
        capturer = find_capturer("cupy", backend.ops)
    if isinstance(capturer, str):
        raise RuntimeError(capturer)
    step = WholeStep(backend)
    rows: dict[str, Any] = {}
    with capturer.active():
        losses = [backend.to_numpy(step()).mean() for _ in range(3)]
        backend.synchronize()
        rows["one by one"] = {"us": in_all(step, backend, 50) / 50}
        for count in counts:
            began = time.perf_counter()

            def run(count: int = count) -> None:
                for _ in range(count):
                    step()

            recording = capturer.record(run)
            spent = time.perf_counter() - began
            recording.launch()
            backend.synchronize()
            us = in_all(recording.launch, backend, rounds) / rounds / count
            rows[f"graph of {count}"] = {"us": round(us, 2), "record_ms": round(spent * 1e3, 2)}
        # the same three steps in a graph, from the same weights: equal to the bit
        eager = results(step, backend, lambda: [step() for _ in range(3)])
        recording = capturer.record(lambda: [step() for _ in range(3)])
        equal = results(step, backend, recording.launch) == eager
    rows["one by one"]["us"] = round(rows["one by one"]["us"], 2)
    learns = bool(losses[-1] < losses[0])
    text = ", ".join(f"{name} {row['us']} µs" for name, row in rows.items())
    text += f" a step; graph and eager {'equal' if equal else 'NOT equal'} to the bit"
    return {"ok": equal and learns, "text": text, "rows": rows, "learns": learns}


def in_all(call: Callable[[], Any], backend: Backend, n: int) -> float:
    backend.synchronize()
    began = time.perf_counter()
    for _ in range(n):
        call()
    backend.synchronize()
    return (time.perf_counter() - began) * 1e6


def results(step: WholeStep, backend: Backend, run: Callable[[], Any]) -> list[bytes]:
    """The bits of weights and state after `run` from the first weights."""
    step.reset()
    run()
    return [backend.to_numpy(a).tobytes() for a in (step.store.values, *step.state)]


# -- all --------------------------------------------------------------------------------------------------------
def need_cupy(backend: Backend) -> None:
    if not isinstance(backend.ops, CupyOps):
        raise MissingError(f"needs CuPy, the backend is {backend.name}")


PARTS: dict[str, Callable[[Backend], dict[str, Any]]] = {
    "kernels": kernels,
    "graphs": graphs,
    "fits": fits,
    "persistent": persistent,
    "persistent fits": persistent_fits,
    "product table": product_table,
    "products": products,
    "repeatable": repeatable,
    "graph costs": graph_costs,
    "epilogues": epilogues,
    "with epilogues and without": with_and_without,
    "host costs": host_costs,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="cupy")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to add to")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this part; may be repeated")
    parser.add_argument("--list", action="store_true", help="print the names of all parts")
    args = parser.parse_args()
    if args.list:
        print("\n".join(PARTS))
        return 0
    backend = xpnn.get_backend(args.backend)
    found: dict[str, Any] = {"backend": backend.spec, "operations": type(backend.ops).__name__, "ok": True, "parts": {}}
    if args.out.is_file():
        found["parts"] = json.loads(args.out.read_text(encoding="utf-8"))["parts"]
    if backend.name == "cupy":
        cupy = importlib.import_module("cupy")
        found["compute_capability"] = str(cupy.cuda.Device(backend.device.id).compute_capability)
    ok = True
    for name in args.part or PARTS:
        began = time.perf_counter()
        with backend.active():
            try:
                result = PARTS[name](backend)
            except MissingError as why:
                result = {"ok": None, "text": str(why)}
            except Exception as problem:  # what one part cannot do must not keep the others from their turn
                result = {"ok": False, "text": harness.reason(problem)}
        result["seconds"] = round(time.perf_counter() - began, 2)
        found["parts"][name] = result
        found["ok"] = all(row["ok"] is not False for row in found["parts"].values())
        harness.write(args.out, found)
        verdict = {True: "ok", False: "FAILED", None: "not here"}[result["ok"]]
        print(f"{verdict:<9}{name} ({result['seconds']} s): {result['text']}", flush=True)
        ok &= result["ok"] is not False
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
