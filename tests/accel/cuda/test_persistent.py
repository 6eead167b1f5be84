"""The kernel that makes many steps, without a GPU: compiled for every architecture, and run with its blocks at once.

g++ compiles the same source; each block is a thread of the system, so blocks truly wait for each other at the barriers
of the grid.  Results are held against portable NumPy, step by step.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from fake_cupy import ORDERS, RawModule, bare, guarded, intact
from nvrtc import ARCHITECTURES, FLUSH, find_nvrtc, nvcc_resources, nvrtc_compile

import xpnn
from xpnn import Linear
from xpnn.accel.cuda import persistent
from xpnn.accel.cuda.kernels import Kernels
from xpnn.accel.cuda.persistent import Epoch, Steps
from xpnn.training.recorded.persistent import describe
from xpnn.training.step import StepTable

CODE = Path(persistent.__file__).with_name("persistent.cu").read_text(encoding="utf-8")


# -- the source -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("architecture", "own"),
    [
        *((name, persistent.FLOAT) for name in ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")),
        *((name, persistent.TENSOR_FLOAT) for name in ("sm_80", "sm_90")),
    ],
)
def test_nvrtc_compiles_it(architecture, own):
    """With the options that CuPy passes on; its static shared memory fits where no kernel may ask for more."""
    assert architecture in ARCHITECTURES
    options = (*own, FLUSH, f"--gpu-architecture={architecture}")
    status, log, code = nvrtc_compile(find_nvrtc(), persistent.source(), *options)
    assert (status, log) == (0, "")
    assert b".text.train_steps\0" in code
    if architecture == "sm_90":
        status, _, text = nvrtc_compile(
            find_nvrtc(), persistent.source(), *options[:-1], "-arch=compute_90", result="PTX"
        )
        assert status == 0
        body = text.decode().split(".entry train_steps(")[1].split(".entry ")[0]
        assert "red.global.add.f" not in body
        assert "ld.global.nc" not in body  # what other blocks have written must not come from a cache of constants
        assert "fma.rn.ftz.f32" in body
        assert ("mma.sync.aligned.m16n8k8" in body) == (own is persistent.TENSOR_FLOAT)
        shared = [int(size) for size in re.findall(r"\.shared .*?\.b8 \w+\[(\d+)\]", text.decode())]
        assert sum(shared) <= 48 << 10


def test_it_spills_no_registers(tmp_path):
    """A block has a multiprocessor to itself: each of its 256 threads may have 255."""
    used = nvcc_resources(persistent.source(), "sm_90", tmp_path, persistent.FLOAT)
    assert [numbers[:3] for name, *numbers in used if name == "train_steps"] == [["0", "0", "0"]]


def test_the_source_keeps_its_rules():
    """One atomic, on an integer: the counter of the barrier; no header, and nothing that is read from stale copies."""
    code = re.sub(r"//.*", "", CODE)
    assert re.findall(r"\w*atomic\w*\([^)]*\)", code) == ["atomicAdd(meeting, 1)"]
    assert "__restrict__" not in code
    assert "__ldg" not in code
    assert "#include" not in code
    assert code.isascii()


@pytest.mark.parametrize(
    ("first", "names"),
    [
        ("LINEARS", (*persistent.HEAD, "head")),
        ("N_IN", (*persistent.LINEAR, "linear")),
        ("RECTIFY", (*persistent.MAPS, "map = 2")),
        ("SOFTMAX", persistent.LOSSES),
        ("NO_METRIC", persistent.METRICS),
        ("ADAM", persistent.RULES),
        ("KEEP_SHARE", (*persistent.CONSTANTS, "numbers")),
    ],
)
def test_names_are_in_the_same_order_on_both_sides(first, names):
    found = re.search(rf"enum \{{ ({first}\b.*?) \}}", CODE, re.DOTALL).group(1)
    assert re.sub(r"\s+", " ", found).lower().split(", ") == list(names)


def test_sizes_are_the_same_on_both_sides():
    for name, value in (("TILE", persistent.TILE), ("PART", persistent.PART)):
        assert int(re.search(rf"\b{name} = (\d+)", CODE).group(1)) == value


# -- its steps --------------------------------------------------------------------------------------------------
def network(*layers, n_in=9, **options):
    return lambda backend: xpnn.Sequential(*(make() for make in layers), n_in=n_in, backend=backend, seed=3, **options)


def two(*maps, n_out=3, **linear):
    return network(lambda: Linear(21, **linear), *maps, lambda: Linear(n_out))


RELU = two(xpnn.ReLU)
NETWORKS = {
    "one layer": network(lambda: Linear(3)),
    "relu": RELU,
    "no bias": two(xpnn.ReLU, bias=False),
    "leaky": two(lambda: xpnn.LeakyReLU(0.1)),
    "elu": two(lambda: xpnn.ELU(0.7)),
    "selu": two(xpnn.SELU),
    "dropout": two(xpnn.ReLU, lambda: xpnn.Dropout(0.3)),
    "of inputs": network(lambda: xpnn.Dropout(0.2), xpnn.Identity, lambda: Linear(17), xpnn.ELU, lambda: Linear(3)),
    "ends in a map": network(lambda: Linear(3), lambda: xpnn.LeakyReLU(0.5)),
    "factors": two(xpnn.ReLU, lr_mult=0.5, decay_mult=3.0),
    "deep": network(*[lambda: Linear(19), xpnn.ReLU, lambda: xpnn.Dropout(0.1)] * 3, lambda: Linear(3)),
    "deep sums": network(lambda: Linear(18), xpnn.ReLU, lambda: Linear(3), n_in=521),
}
RULES = {
    "sgd": lambda: xpnn.SGD(0.1),
    "decayed": lambda: xpnn.SGD(0.1, 0.9, weight_decay=0.1),
    "nesterov": lambda: xpnn.SGD(0.1, 0.9, nesterov=True),
    "momentum": lambda: xpnn.Momentum(0.1),
    "adam": lambda: xpnn.Adam(0.01, weight_decay=0.01),
    "adamw": lambda: xpnn.AdamW(0.01, weight_decay=0.1),
}
BATCH, STEPS, N = 18, 3, 60


def rows(n_in, loss, n_out=3):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(N, n_in)).astype(np.float32)
    labels = rng.integers(0, n_out, N)
    if isinstance(loss, xpnn.MeanSquaredError):
        return x, rng.normal(size=(N, n_out)).astype(np.float32)
    if isinstance(loss, xpnn.BinaryCrossEntropy):
        return x, rng.integers(0, 2, (N, n_out)).astype(np.float32)
    return x, labels


class Case:
    """A trainer on each side, and one order of rows; the eager side also tells what to compare."""

    def __init__(self, make, loss, rule, *, y=None, weight=None, shuffled=True, **options):
        self.make = lambda backend: xpnn.Trainer(make(backend), loss, rule(), **options)
        n_in, self.loss = make(xpnn.get_backend("numpy")).n_in, loss
        self.x, own = rows(n_in, loss)
        self.y = own if y is None else y
        self.weight = weight
        self.order = np.random.default_rng(2).permutation(N) if shuffled else np.arange(N)
        self.shuffled = shuffled

    def table(self, trainer):
        batches = self.order[: BATCH * STEPS].reshape(STEPS, BATCH)
        totals = np.full(STEPS, float(BATCH)) if self.weight is None else self.weight[batches].sum(axis=-1)
        numbers = [trainer.optimizer.numbers(t, 1.0 / t) for t in range(1, STEPS + 1)]
        return StepTable(0, BATCH, totals, numbers), batches

    def eagerly(self):
        trainer = self.make(xpnn.get_backend("numpy", ops="portable"))
        trainer.optimizer.bind(trainer.net.store)
        table, batches = self.table(trainer)
        found = []
        for step, batch in zip(table.steps(), batches, strict=True):
            weight = None if self.weight is None else self.weight[batch]
            value, pred = trainer.train_step(self.x[batch], self.y[batch], weight, step)
            outputs = pred if self.loss.classifies else self.loss.link(pred)
            sums = [m.sums(np, outputs, self.y[batch], weight) for m in trainer.metrics]
            found.append((float(value), [float(s) for s in np.ravel(sums)]))
        return trainer, found

    def by_kernel(self, backend, blocks, launches=(STEPS,)):
        trainer = self.make(backend)
        trainer.optimizer.bind(trainer.net.store)
        program = describe(trainer, BATCH)
        assert not isinstance(program, str), program
        store, state = trainer.net.store, [*trainer.optimizer.state.values(), None, None][:2]
        arrays = [store.values, store.grads, *state, store.lr_factors, store.decay_factors]
        options = persistent.TENSOR_FLOAT if backend.ops.tf32 else persistent.FLOAT
        kernel = Kernels(backend.ops.cupy, persistent.source(), options, together=True)
        steps = Steps(kernel, backend.ops.cupy, program, arrays)
        steps.blocks = blocks
        table = self.table(trainer)[0].lay_out(trainer.net, 0, STEPS)
        labels = self.y.ndim == 1
        given = [self.x, self.order if self.shuffled else None]
        given += [self.y, None] if labels else [None, self.y]
        given += [self.weight]
        given = [None if a is None else guarded(a) for a in given]
        losses = guarded(np.full(STEPS, np.nan, np.float32))
        sums = guarded(np.full((STEPS, 2), np.nan, np.float32)) if trainer.metrics else None
        epoch = Epoch(*given, table.numbers, table.keys, losses, sums)
        first = 0
        for count in launches:
            steps.launch(epoch, first, count)
            first += count
        assert all(intact(a) for a in (*given, losses, sums) if a is not None)
        return trainer, bare(losses), None if sums is None else bare(sums)


def assert_near(case, backend, blocks=2, off=1.0):
    """Weights, state, gradients, losses and hits after some steps are those of portable NumPy, to rounding.

    Products of rounded inputs are `off` by a factor more.
    """
    eager, found = case.eagerly()
    trainer, losses, sums = case.by_kernel(backend, blocks)
    assert trainer.optimizer.state.keys() == eager.optimizer.state.keys()
    np.testing.assert_allclose(losses, [value for value, _ in found], rtol=2e-6 * off, atol=1e-7)
    if sums is not None:
        np.testing.assert_allclose(sums, [row for _, row in found], rtol=1e-6)
    pairs = [(trainer.net.store.values, eager.net.store.values)]
    pairs += [(trainer.optimizer.state[name], array) for name, array in eager.optimizer.state.items()]
    if trainer.clip_norm is None and not eager.optimizer.weight_decay:  # those are changed in place
        pairs.append((trainer.net.store.grads, eager.net.store.grads))
    for mine, theirs in pairs:
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(bare(mine), theirs, rtol=0, atol=2e-5 * off * scale)


@pytest.fixture
def on_kernels(on_gpu):
    return xpnn.get_backend(on_gpu, persistent=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name, on_kernels):
    assert_near(Case(NETWORKS[name], xpnn.CrossEntropy(), lambda: xpnn.SGD(0.05, 0.9)), on_kernels)


@pytest.mark.parametrize("clipped", [False, True], ids=["", "clipped"])
@pytest.mark.parametrize("name", RULES)
def test_rules(name, clipped, on_kernels):
    make = NETWORKS["factors" if clipped else "relu"]
    clip = 0.1 if clipped else None
    assert_near(Case(make, xpnn.CrossEntropy(), RULES[name], clip_norm=clip), on_kernels)


@pytest.mark.parametrize("name", ["relu", "dropout", "of inputs", "deep sums"])
def test_tensor_cores(name, on_kernels):
    """Inputs of products are rounded to 10 bits of mantissa, and that shows."""
    case = Case(NETWORKS[name], xpnn.CrossEntropy(), lambda: xpnn.SGD(0.05, 0.9))
    rounds = xpnn.get_backend(on_kernels, tf32=True)
    assert_near(case, rounds, off=500.0)
    exact, rounded = (bare(case.by_kernel(backend, 2)[0].net.store.values) for backend in (on_kernels, rounds))
    assert np.abs(exact - rounded).max() > 1e-6 * np.abs(exact).max()
    assert bits(case, rounds, 3, (1, 2)) == bits(case, rounds, 1)


WEIGHT = np.linspace(0.0, 2.0, N).astype(np.float32)
ROWS_OF_CLASSES = np.random.default_rng(4).dirichlet(np.ones(3), N).astype(np.float32)
LOSSES = {
    "labels": lambda: Case(RELU, xpnn.CrossEntropy(), RULES["sgd"]),
    "smoothed": lambda: Case(RELU, xpnn.CrossEntropy(0.1), RULES["sgd"], weight=WEIGHT),
    "classes": lambda: Case(RELU, xpnn.CrossEntropy(), RULES["sgd"], y=ROWS_OF_CLASSES, shuffled=False),
    "weighted": lambda: Case(RELU, xpnn.CrossEntropy(), RULES["sgd"], weight=WEIGHT, shuffled=False),
    "no weight": lambda: Case(RELU, xpnn.CrossEntropy(), RULES["sgd"], weight=np.zeros(N, np.float32)),
    "as they lie": lambda: Case(RELU, xpnn.CrossEntropy(), RULES["sgd"], shuffled=False),
    "binary": lambda: Case(RELU, xpnn.BinaryCrossEntropy(True), RULES["sgd"], weight=WEIGHT),
    "squares": lambda: Case(RELU, xpnn.MeanSquaredError(), RULES["sgd"], weight=WEIGHT),
    "many classes": lambda: Case(
        two(xpnn.ReLU, n_out=40), xpnn.CrossEntropy(), RULES["sgd"], y=np.random.default_rng(5).integers(0, 40, N)
    ),
}


ROUNDED = {
    "leaky": lambda: Case(NETWORKS["leaky"], xpnn.CrossEntropy(), RULES["momentum"]),
    "elu": lambda: Case(NETWORKS["elu"], xpnn.CrossEntropy(), RULES["sgd"], clip_norm=0.1),
    "selu": lambda: Case(NETWORKS["selu"], xpnn.CrossEntropy(), RULES["nesterov"]),
    "binary": LOSSES["binary"],
    "squares": LOSSES["squares"],
}


@pytest.mark.parametrize("name", ROUNDED)
def test_tensor_cores_under_other_losses_and_layers(name, on_kernels):
    assert_near(ROUNDED[name](), xpnn.get_backend(on_kernels, tf32=True), off=500.0)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_tensor_cores_move_adam(name, on_kernels):
    """Losses go the way of full precision: Adam divides each gradient by its size, so a small one may turn its sign."""
    case = Case(RELU, xpnn.CrossEntropy(), RULES[name])
    eager, found = case.eagerly()
    trainer, losses, _ = case.by_kernel(xpnn.get_backend(on_kernels, tf32=True), 2)
    np.testing.assert_allclose(losses, [value for value, _ in found], rtol=2e-3)
    off = np.linalg.norm(bare(trainer.net.store.values) - eager.net.store.values)
    assert off < 2e-2 * np.linalg.norm(eager.net.store.values)


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name, on_kernels):
    assert_near(LOSSES[name](), on_kernels)


def test_numbers_that_are_none(on_kernels):
    """NaN goes through to the loss and the weights, as it does everywhere."""
    case = Case(RELU, xpnn.CrossEntropy(), RULES["sgd"])
    case.x[case.order[BATCH]] = np.nan
    _, losses, _ = case.by_kernel(on_kernels, 2)
    assert np.isfinite(losses[0])
    assert np.isnan(losses[1:]).all()


def bits(case, backend, blocks, launches=(STEPS,)):
    trainer, losses, sums = case.by_kernel(backend, blocks, launches)
    arrays = [trainer.net.store.values, trainer.net.store.grads, *trainer.optimizer.state.values(), losses, sums]
    return [bare(a).tobytes() for a in arrays]


def test_no_bit_depends_on_blocks_threads_or_launches(on_kernels, monkeypatch):
    case = Case(NETWORKS["of inputs"], xpnn.CrossEntropy(), RULES["adamw"], clip_norm=0.1)
    expected = bits(case, on_kernels, 1)
    for blocks, order, launches in ((2, "reverse", (1, 2)), (5, "mixed", (STEPS,)), (3, "forward", (1, 1, 1))):
        monkeypatch.setattr(RawModule, "order", order)
        assert bits(case, on_kernels, blocks, launches) == expected, (blocks, order)
    assert set(ORDERS) == {"forward", "reverse", "mixed"}


def test_the_number_of_blocks(on_kernels, monkeypatch):
    """As many as there are multiprocessors, no more than have work, and one where blocks cannot wait for each other."""
    trainer = Case(NETWORKS["deep sums"], xpnn.CrossEntropy(), RULES["sgd"]).make(on_kernels)
    program = describe(trainer, BATCH)
    cupy = on_kernels.ops.cupy

    def blocks(**attributes):
        monkeypatch.setattr(cupy.cuda.Device, "attributes", attributes)
        return Steps(None, cupy, program, []).blocks

    assert blocks(MultiProcessorCount=3, CooperativeLaunch=1) == 3
    assert blocks(MultiProcessorCount=132, CooperativeLaunch=1) == program.tiles == 33 * 2  # 522 rows of 18
    assert blocks(MultiProcessorCount=132, CooperativeLaunch=0) == 1
    assert blocks(MultiProcessorCount=132) == 1


def test_the_option(on_gpu):
    assert not on_gpu.ops.persistent
    chosen = xpnn.get_backend(on_gpu, persistent=True)
    assert chosen.ops.persistent
    assert xpnn.get_backend(chosen, persistent=False).ops is on_gpu.ops
    with pytest.raises(xpnn.errors.OptionError, match=r"persistent=True trains by one kernel.*got numpy"):
        xpnn.get_backend("numpy", persistent=True)
    rounds = xpnn.get_backend(chosen, tf32=True)
    assert (rounds.ops.persistent, rounds.ops.tf32) == (True, True)
    case = Case(RELU, xpnn.CrossEntropy(), RULES["sgd"])
    assert describe(case.make(chosen.with_dtype("float64")), BATCH) == "the dtype is float64"
    assert chosen.__getstate__()["persistent"]
    assert "persistent" not in on_gpu.__getstate__()  # older versions read that
