"""Steps that are recorded once and launched as one: equal to the last bit to steps made one by one."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import sys
import warnings

import fake_cupy
import numpy as np
import pytest
import steps
import taped
from steps import BATCH, N_IN, N, data, mlp, outcome

import xpnn
from xpnn import Linear
from xpnn.accel.cuda import cupy_ops, gemm
from xpnn.accel.half import with_half_products
from xpnn.backend import interop
from xpnn.backend import value as backends
from xpnn.ops import Ops
from xpnn.random import StepKey, step_keys
from xpnn.training.recorded import graphs

CASES = steps.OPTIONS


def train(make, device, graph, epochs=3, fit=None, x_y=None):
    """Train and return everything that could differ, and the trainer."""
    trainer = make(device)
    x, y = data() if x_y is None else x_y
    with taped.recording(graph) as graph:
        trainer.fit(x, y, epochs=epochs, batch_size=BATCH, graph=graph, **(fit or {}))
    return outcome(trainer), trainer


def assert_equal_to_the_bit(make, device, **options):
    """Recorded and launched, eagerly, and eagerly on plain NumPy: all the same."""
    capturer = taped.Capturer()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorded, _ = train(make, device, capturer, **options)
    assert capturer.recorded == 3
    assert capturer.launched == 3 * 4  # four stages in each of three epochs, each made first by its recording
    eager, _ = train(make, device, False, **options)
    assert recorded == eager
    plain, _ = train(make, xpnn.get_backend("numpy", ops="portable"), False, **options)
    assert recorded == plain


def test_data_on_disk(device, tmp_path):
    x, y = data()
    on_disk = np.memmap(tmp_path / "x", dtype=np.float32, mode="w+", shape=x.shape)
    on_disk[...] = x

    def make(backend):
        return xpnn.Trainer(mlp(backend, dropout=0.1), xpnn.CrossEntropy(), xpnn.Adam(0.01))

    assert_equal_to_the_bit(make, device, x_y=(on_disk, y))
    in_memory, _ = train(make, device, taped.Capturer())
    assert in_memory == train(make, device, taped.Capturer(), x_y=(on_disk, y))[0]


@pytest.mark.parametrize("fit", [{}, {"sample_weight": np.linspace(0.5, 2.0, N)}], ids=["", "weighted"])
def test_the_trainer_of_estimators(fit, device):
    """Its penalty is divided by the weight of each batch."""
    kind = pytest.importorskip("xpnn.estimators._trainer", reason="needs scikit-learn").SklearnTrainer

    class Ordered(kind):
        alpha = 0.5

        def epoch_rows(self, n):
            return xpnn.Trainer.epoch_rows(self, n)

    def make(backend):
        return Ordered(mlp(backend), xpnn.CrossEntropy(), xpnn.Adam(0.01), regularizer=xpnn.L2(0.0))

    assert_equal_to_the_bit(make, device, fit=fit)


# -- the shape of an epoch --------------------------------------------------------------------------------------
def simple(backend):
    return xpnn.Trainer(mlp(backend, dropout=0.1), xpnn.CrossEntropy(), xpnn.Adam(0.01))


@pytest.mark.parametrize(
    ("steps", "recorded", "launched"),
    [(1, 3, 3 * 12), (2, 3, 3 * 6), (5, 3, 3 * 3), (6, 2, 3 * 2), (11, 2, 3 * 2), (12, 1, 3), (64, 1, 3)],
)
def test_stages_of_any_length(steps, recorded, launched, device, monkeypatch):
    monkeypatch.setattr(graphs, "_STEPS", steps)
    capturer = taped.Capturer()
    found, _ = train(simple, device, capturer)
    assert found == train(simple, device, False)[0]
    assert (capturer.recorded, capturer.launched) == (recorded, launched)


def test_wide_rows_make_short_stages(device, monkeypatch):
    monkeypatch.setattr(graphs, "_STEPS", 64)
    monkeypatch.setattr(graphs, "STAGE_ELEMENTS", 2 * BATCH * N_IN)
    capturer = taped.Capturer()
    train(simple, device, capturer)
    assert capturer.launched == 3 * 6


def test_fits_one_after_the_other_and_a_saved_trainer(device, tmp_path):
    x, y = data()

    def fits(graph, path):
        trainer = simple(device)
        for epochs, batch_size in ((2, BATCH), (1, 11)):
            with taped.recording(graph()) as wanted:
                trainer.fit(x, y, epochs=epochs, batch_size=batch_size, graph=wanted)
        trainer.save(path)
        again = xpnn.Trainer.load(path, backend=device)
        with taped.recording(graph()) as wanted:
            again.fit(x, y, epochs=2, batch_size=BATCH, graph=wanted)
        return again.history["loss"], np.array(taped.bare(again.net.store.values)).tolist()

    assert fits(taped.Capturer, tmp_path / "a") == fits(lambda: False, tmp_path / "b")


def test_callbacks_act_between_epochs(device):
    def make(backend):
        trainer = simple(backend)
        trainer.callbacks = [xpnn.EarlyStopping("loss", patience=1, min_delta=10.0)]
        return trainer

    capturer = taped.Capturer()
    found, trainer = train(make, device, capturer, epochs=9)
    assert trainer.epoch == 2
    assert capturer.launched == 2 * 4
    assert found == train(make, device, False, epochs=9)[0]


def change_clipping(trainer):
    trainer.clip_norm = 0.01


def change_penalty(trainer):
    trainer.regularizer.lam = 0.5


def change_rate_of_dropout(trainer):
    trainer.net.layers[2].rate = 0.6


def change_momentum(trainer):
    trainer.optimizer.beta1 = 0.5


def begin_anew(trainer):
    trainer.optimizer.reset()
    trainer.optimizer.bind(trainer.net.store)


def change_learning_rate(trainer):
    trainer.optimizer.lr = 0.1


CHANGES = [change_clipping, change_penalty, change_rate_of_dropout, change_momentum, begin_anew, change_learning_rate]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_a_callback_changes_is_recorded_anew(change, device):
    def make(backend):
        callback = xpnn.LambdaCallback(on_epoch_begin=lambda trainer: change(trainer) if trainer.epoch == 1 else None)
        net = mlp(backend, dropout=0.1)
        options = {"clip_norm": 1.0, "regularizer": xpnn.L2(0.01), "callbacks": [callback]}
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01), **options)

    capturer = taped.Capturer()
    found, _ = train(make, device, capturer)
    assert found == train(make, device, False)[0]
    assert found != train(simple, device, False)[0]
    assert capturer.recorded == (3 if change is change_learning_rate else 6)  # a rate lies in the table


def test_ctrl_c_within_a_recording_leaves_whole_steps(device):
    class Interrupted(taped.Capturer):
        def record(self, run, **options):
            def broken():
                run()
                raise KeyboardInterrupt

            return super().record(broken)

    trainer = simple(device)
    x, y = data()
    with pytest.raises(KeyboardInterrupt), taped.recording(Interrupted()):
        trainer.fit(x, y, epochs=2, batch_size=BATCH, graph=True)
    assert (trainer.step, trainer.optimizer.t, trainer.epoch) == (3, 3, 0)
    assert trainer._runner is None


def test_divergence_is_told_as_always(device):
    x, y = data()

    def diverge(graph):
        trainer = xpnn.Trainer(mlp(device), xpnn.MeanSquaredError(), xpnn.SGD(0.1))
        targets = np.stack([y, y, y], axis=1) * 1.0
        with taped.recording(graph) as wanted:
            trainer.fit(x, targets, epochs=1, batch_size=BATCH, graph=wanted)
            trainer.optimizer.lr = 1e20
            with pytest.raises(xpnn.errors.DivergenceError) as caught:
                trainer.fit(x, targets, epochs=3, batch_size=BATCH, graph=wanted)
        return str(caught.value), np.array(taped.bare(trainer.net.store.values)).tobytes(), trainer.step

    assert diverge(taped.Capturer()) == diverge(False)


def test_nothing_is_left_behind_after_a_fit(device):
    _, trainer = train(simple, device, taped.Capturer())
    assert trainer._runner is None


# -- steps that cannot be recorded ------------------------------------------------------------------------------
class CountsOnTheHost(xpnn.SGD):
    """Its rule is another in each step."""

    def rule(self, store, scalars):
        store.values -= store.grads * (0.1 / (self.t + 1))


class NewArrayEachStep(xpnn.SGD):
    """What it reads lies elsewhere in each step."""

    mean = 0.0

    def rule(self, store, scalars):
        self.mean = self.mean * 0.5 + store.grads
        store.values -= self.mean * 0.1


class FreezesItsRate(xpnn.SGD):
    """Turns this step's rate into a number of the host."""

    def rule(self, store, scalars):
        store.values -= store.grads * float(scalars[0])


class Branches(xpnn.Tanh):
    def forward(self, x, *, train=False, key=None):
        xp = self.ops_for(x).xp
        return super().forward(x * 2.0 if xp.max(x) > 1.0 else x, train=train, key=key)


class Uploads(xpnn.Tanh):
    def forward(self, x, *, train=False, key=None):
        xp = self.ops_for(x).xp
        return super().forward(x * xp.asarray(np.linspace(0.5, 1.0, x.shape[-1]), dtype=x.dtype), train=train, key=key)


class DrawsOnTheHost(xpnn.Tanh):
    def __init__(self):
        self.drawn = np.random.default_rng(0)

    def forward(self, x, *, train=False, key=None):
        return super().forward(x * float(self.drawn.uniform()) if train else x, train=train, key=key)


NOT_ARRAY_WORK = "recorded, they give other results, so some code in them is not array work alone"
VIOLATIONS = {
    "host counter": (CountsOnTheHost(0.1), xpnn.Tanh, NOT_ARRAY_WORK),
    "new arrays": (NewArrayEachStep(0.1), xpnn.Tanh, NOT_ARRAY_WORK),
    "frozen rate": (FreezesItsRate(0.1), xpnn.Tanh, "recording failed (RefusedError: the host reads an array)"),
    "branch": (xpnn.SGD(0.1), Branches, "recording failed (RefusedError: the host reads an array)"),
    "upload": (xpnn.SGD(0.1), Uploads, "recording failed (RefusedError: an array comes from the host)"),
    "host draw": (xpnn.SGD(0.1), DrawsOnTheHost, NOT_ARRAY_WORK),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_steps_that_are_not_array_work_alone_are_found(name, device):
    rule, layer, text = VIOLATIONS[name]
    rule.reset()
    vars(rule).pop("mean", None)
    net = xpnn.Sequential(Linear(5), layer(), Linear(3), n_in=N_IN, backend=device)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), rule)
    x, y = data()
    capturer = taped.Capturer()
    with pytest.warns(RuntimeWarning) as warned, taped.recording(capturer):
        trainer.fit(x, y, epochs=2, batch_size=BATCH, graph=True)
    assert len(warned) == 1
    assert text in str(warned[0].message)
    assert capturer.launched <= 1
    assert (trainer.step, trainer.optimizer.t, trainer.epoch) == (24, 24, 2)
    assert trainer.history["loss"][1] < trainer.history["loss"][0]


@pytest.mark.parametrize("name", ["host counter", "frozen rate", "branch", "upload"])
def test_what_cannot_be_recorded_trains_as_without(name, device):
    rule, layer, _ = VIOLATIONS[name]

    def make(backend):
        rule.reset()
        net = xpnn.Sequential(Linear(5), layer(), Linear(3), n_in=N_IN, backend=backend)
        return xpnn.Trainer(net, xpnn.CrossEntropy(), rule)

    with pytest.warns(RuntimeWarning):
        found, _ = train(make, device, taped.Capturer())
    assert found == train(make, device, False)[0]


class OwnStep(xpnn.Trainer):
    def train_step(self, x, y, weight, row):
        return super().train_step(x, y, weight, row)


REFUSALS = {
    "EMA looks at every step": (
        lambda b: xpnn.Trainer(mlp(b), xpnn.CrossEntropy(), xpnn.SGD(), callbacks=[xpnn.EMA()]),
        {},
    ),
    "LambdaCallback looks at every step": (
        lambda b: xpnn.Trainer(
            mlp(b), xpnn.CrossEntropy(), xpnn.SGD(), callbacks=[xpnn.LambdaCallback(on_batch_end=lambda trainer: None)]
        ),
        {},
    ),
    "OwnStep has a train_step of its own": (lambda b: OwnStep(mlp(b), xpnn.CrossEntropy(), xpnn.SGD()), {}),
    "SpectralNorm makes new arrays in each step": (
        lambda b: xpnn.Trainer(
            mlp(b), xpnn.CrossEntropy(), xpnn.SGD(), regularizer=xpnn.regularizers.SpectralNorm(0.1)
        ),
        {},
    ),
    "1.BatchNorm computes with the weights of a batch on the host": (
        lambda b: xpnn.Trainer(mlp(b, norm="batch"), xpnn.CrossEntropy(), xpnn.SGD()),
        {"sample_weight": np.ones(N)},
    ),
}


@pytest.mark.parametrize("text", REFUSALS)
def test_what_is_known_not_to_work_is_told_in_one_sentence(text, device):
    make, fit = REFUSALS[text]
    with pytest.warns(RuntimeWarning) as warned:
        found, _ = train(make, device, taped.Capturer(), fit=fit)
    assert [str(w.message) for w in warned] == [f"fit: steps are launched one by one: {text}."]
    assert found == train(make, device, False, fit=fit)[0]


# -- choosing ---------------------------------------------------------------------------------------------------
def test_where_there_are_no_graphs_auto_says_nothing_and_true_says_why(caplog):
    numpy = xpnn.get_backend("numpy")
    with warnings.catch_warnings(), caplog.at_level(logging.INFO, "xpnn"):
        warnings.simplefilter("error")
        train(simple, numpy, "auto")
    assert caplog.text == ""
    with pytest.warns(RuntimeWarning, match="CUDA graphs are for CuPy, and the backend is strict"):
        train(simple, xpnn.get_backend("strict:CPU_DEVICE"), True)


@pytest.mark.parametrize("graph", ["always", None, 3])
def test_a_bad_option_is_refused(graph):
    x, y = data()
    with pytest.raises(xpnn.errors.OptionError, match="expected graph to be 'auto', True or False, got"):
        simple("numpy").fit(x, y, graph=graph)


@pytest.mark.parametrize("seed", [0, -5, 2**63 + 1, [3, 4, 5]], ids=str)
def test_keys_of_many_steps_are_those_of_each(seed):
    slots = [0, 3, 7]
    table = step_keys(seed, 5, 4, slots)
    assert table.dtype == np.int32
    for k in range(4):
        key = StepKey(seed, 5 + k)
        for j, slot in enumerate(slots):
            assert table[k, j].tolist() == [
                np.reshape(half, (-1, 1) if key.replicas else (1,)).tolist() for half in key[slot]
            ]


# -- CuPy's streams, on a CuPy that is none: kernels run on the host ---------------------------------------------
class Gpu(taped.Taped, fake_cupy.ndarray):
    """An array of a CuPy whose work can be recorded."""


class Pool:
    def malloc(self, n):
        raise AssertionError("never called: arrays are NumPy's")

    def free_all_blocks(self):
        """There are none."""


def make_streams(cupy, log):
    """Give the module in CuPy's place streams, events, graphs and allocators, which note their use in `log`."""

    made, beside = [], []

    class Stream:
        def __init__(self, *, non_blocking=False, name=None):
            assert non_blocking or name == "null"
            made.append(self)
            self.name = name or ("own", "side")[len(made) - 2]
            self.ptr = {"null": 0, "own": 77, "side": 78}[self.name]

        def __enter__(self):
            self.outer, cupy.current = cupy.current, self

        def __exit__(self, *error):
            cupy.current = self.outer

        def record(self, event=None):
            return f"event of {self.name}"

        def wait_event(self, event):
            (beside if "side" in (self.name, event.split()[-1]) else log).append(f"{self.name} waits for {event}")

        def begin_capture(self):
            assert cupy.current is self
            assert cupy.allocator is not None
            assert not gc.isenabled()
            log.append("begin")
            taped.TAPE = []

        def end_capture(self):
            log.append("end")
            assert not beside or beside[-1] == "own waits for event of side"  # all is joined
            tape, taped.TAPE = taped.TAPE, None
            return Graph(tape)

    class Graph:
        def __init__(self, tape):
            self.tape = tape

        def upload(self, stream):
            log.append("upload")

        def launch(self, stream):
            assert cupy.current is stream
            assert stream.name == "own"
            log.append("launch")
            for work in self.tape:
                work()

    @contextlib.contextmanager
    def using_allocator(malloc):
        assert isinstance(malloc.__self__, Pool)
        cupy.allocator = malloc
        yield
        cupy.allocator = None

    cupy.allocator, cupy.current = None, Stream(name="null")
    cupy.cuda.Stream, cupy.cuda.MemoryPool, cupy.cuda.using_allocator = Stream, Pool, using_allocator
    cupy.cuda.Event = lambda disable_timing: None


@pytest.fixture(name="gpu")
def fixture_gpu(cupy, monkeypatch):
    """`CupyOps` on arrays whose work can be recorded, and what the streams were told."""
    log = []
    make_streams(cupy, log)
    monkeypatch.setattr(graphs, "_STEPS", 3)
    backend = backends.make("cupy", "0", "float32")
    monkeypatch.setattr(taped, "KIND", Gpu)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", taped.XP)
    monkeypatch.setitem(interop.LIBRARIES, Gpu, "cupy")
    monkeypatch.setitem(interop.NAMESPACES, Gpu, taped.XP)

    def empty(shape, dtype):
        array = np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 7, dtype).view(Gpu)
        if taped.TAPE is not None:
            taped.TAPE.append(lambda: array.shape)  # a product knows only its address: keep it
        return array

    monkeypatch.setattr(cupy, "empty", empty)
    monkeypatch.setattr(cupy, "asarray", lambda a: taped.XP.asarray(a))
    get_function, call = fake_cupy.RawModule.get_function, gemm.Blas._call

    def recorded_kernel(self, name):
        function = get_function(self, name)

        def launch(*args):
            if taped.TAPE is None:
                function(*args)
            else:
                taped.TAPE.append(lambda: function(*args))

        return launch

    def recorded_call(self, name, *args):
        if taped.TAPE is None or "Gemm" not in name:
            call(self, name, *args)
        else:
            taped.TAPE.append(lambda: call(self, name, *args))

    monkeypatch.setattr(fake_cupy.RawModule, "get_function", recorded_kernel)
    monkeypatch.setattr(gemm.Blas, "_call", recorded_call)
    ops = cupy_ops.CupyOps(taped.XP, backend.device)
    return dataclasses.replace(backend, xp=taped.XP, ops=ops), log


GPU_CASES = {name: CASES[name] for name in ("relu", "dropout", "layer norm", "replicas", "clipped", "weights")}


@pytest.mark.parametrize("name", GPU_CASES)
def test_the_kernels_of_cuda_are_recorded(name, gpu, cupy):
    """The whole way of a fit on CuPy, with kernels and products run on the host."""
    backend, log = gpu
    network, options, fit, _ = CASES[name]

    def make(backend):
        return xpnn.Trainer(mlp(backend, **network), xpnn.CrossEntropy(), xpnn.AdamW(0.01), **options)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorded, _ = train(make, backend, True, fit=fit)
    kernels, products = set(cupy.launched), len(cupy.blas.products)
    assert {"adam", "cross_entropy_step", "column_sums"} <= kernels
    assert ("keep_mask" in kernels) == ("dropout" in network)
    assert recorded == train(make, backend, False, fit=fit)[0]
    # before each of the three recordings its steps are made twice more, one by one
    assert products == len(cupy.blas.products) * 54 // 90
    one = ["begin", "end", "upload", "launch"]
    entered, left = "own waits for event of null", "null waits for event of own"
    ready = [entered, left]  # the first stage of the next epoch is filled
    later = [*ready, entered, *4 * ["launch"], left]
    assert log == [entered, *one, *one, "launch", *one, left, *later, *later]


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_products_of_halves_are_recorded(half, gpu, cupy):
    pytest.importorskip("ml_dtypes", reason="needs ml_dtypes: pip install ml_dtypes")
    backend, _ = gpu
    backend = dataclasses.replace(backend, dtype_name=half, ops=with_half_products(backend.ops, "cupy", half))
    recorded, _ = train(simple, backend, True)
    assert recorded == train(simple, backend, False)[0]
    assert len(cupy.blas.products) == 90 * 8
    assert not hasattr(cupy.blas, "error")


def test_a_capture_that_fails_is_left_and_the_fit_goes_on(gpu):
    backend, log = gpu

    def make(backend):
        net = xpnn.Sequential(Linear(5), Branches(), Linear(3), n_in=N_IN, backend=backend)
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(0.1))

    collects = gc.isenabled()
    with pytest.warns(RuntimeWarning, match=r"recording failed \(RefusedError: the host reads an array\)"):
        found, _ = train(make, backend, True)
    assert log == ["own waits for event of null", "begin", "end", "null waits for event of own"]
    assert gc.isenabled() == collects
    assert found == train(make, backend, False)[0]


def test_short_fits_are_not_recorded_unasked(gpu, caplog):
    backend, log = gpu
    with caplog.at_level(logging.INFO, "xpnn"):
        train(simple, backend, "auto", epochs=1)
    assert "steps are launched one by one: recording does not repay itself in 12 steps" in caplog.text
    assert not log
    train(simple, backend, "auto", epochs=7)
    assert log.count("begin") == 3
    train(simple, backend, True, epochs=1)
    assert log.count("begin") == 6


def test_products_that_cannot_be_captured_are_told(gpu, monkeypatch):
    backend, _ = gpu
    portable = dataclasses.replace(backend, ops=Ops(taped.XP, backend.device))
    with pytest.warns(RuntimeWarning, match="CuPy's own matrix products cannot be part of a CUDA graph, and ops='port"):
        train(simple, portable, True)
    monkeypatch.setattr(cupy_ops.CupyOps, "blas", lambda self: None)
    with pytest.warns(RuntimeWarning, match="cuBLAS cannot be called directly here"):
        train(simple, backend, True)


# -- a GPU ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["relu", "dropout", "batch norm", "layer norm", "replicas", "clipped", "weights"])
def test_graphs_on_a_gpu_train_to_the_same_bits(name, dtype):
    if xpnn.available_backends()["cupy"] != "ok":
        pytest.skip("needs CuPy and a GPU: pip install 'xpnn[cuda13]'")
    network, options, fit, _ = CASES[name]

    def make(backend):
        return xpnn.Trainer(mlp(backend, dtype=dtype, **network), xpnn.CrossEntropy(), xpnn.AdamW(0.01), **options)

    trained = []
    for graph in (True, False):
        trainer = make("cupy:0")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            trainer.fit(*data(), epochs=3, batch_size=BATCH, graph=graph, **(fit or {}))
        rows = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history.rows]
        trained.append((rows, {k: v.tobytes() for k, v in trainer.net.state_dict().items()}))
    assert trained[0] == trained[1]
