"""What can be shown about CuPy where there is no GPU.

A training step must ask nothing of CuPy that it lacks, and nothing that makes the host wait for the device.  The
source is read for hazards that strict arrays let pass, and every layer, loss, rule, penalty and metric makes a step
on strict arrays with every function it calls held against a list: what is not on it must be looked at first.
Whether results are right on a GPU is for ``ci/gpu.sh``, which is tried out here on NumPy.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import array_api_compat.numpy as compat_numpy
import numpy as np
import pytest
from broken_cupy import install_fake_cupy
from cases import BATCH, LAYERS, LOSSES, N_IN
from places import PROJECT, backend_or_skip, strict_flags

import xpnn
from xpnn.backend import interop
from xpnn.backend import value as backends
from xpnn.errors import BackendUnavailableError
from xpnn.layers import Dropout, Linear
from xpnn.ops import Ops, portable_ops
from xpnn.params import ParamSpec, ParamStore
from xpnn.training.step import Tally
from xpnn.training.trainer import Trainer

PACKAGE = PROJECT / "xpnn"

# Functions of the array namespace that a step may call, by how CuPy 14 carries them out.  None waits for the device.
UFUNCS = {"abs", "cos", "exp", "expm1", "log", "log1p", "maximum", "minimum", "sin", "sqrt", "tanh"}
ROUNDING = {"round"}  # a method of the array, which runs a ufunc of CuPy's own
REDUCTIONS = {"argmax", "max", "mean", "sum"}
MOVES = {"astype", "broadcast_to", "expand_dims", "moveaxis", "permute_dims", "reshape", "take", "take_along_axis"}
MAKERS = {"arange", "empty", "full_like", "zeros", "zeros_like"}  # a kernel writes the numbers, or nobody yet
JOINS = {"concat"}  # of at most 8 arrays: beyond, CuPy uploads a table of pointers
HOST = {"finfo", "isdtype"}  # look at dtypes only
NATIVE = UFUNCS | ROUNDING | REDUCTIONS | MOVES | MAKERS | JOINS | HOST
DTYPES = {"bool", "float32", "float64", "int32", "int64"}
UPLOADS = {"asarray"}  # numbers go from the host to the device: nobody waits, but a CUDA graph cannot hold it


# -- the source -------------------------------------------------------------------------------------------------
# L-BFGS looks at the loss to choose its step, so it waits by nature.
WAITS_BY_NATURE = {"lbfgs.py", "linesearch.py"}
# Predictions of NumPy's arrays alone; other arrays never come there.
OF_NUMPY_ALONE = {"replays.py"}
STEP_FILES = [
    *(PACKAGE / name for name in ("ops.py", "special.py", "random.py", "regularizers.py")),
    *(path for path in sorted((PACKAGE / "layers").glob("*.py")) if path.name not in OF_NUMPY_ALONE),
    *sorted((PACKAGE / "losses").glob("*.py")),
    *(path for path in sorted((PACKAGE / "optim").glob("*.py")) if path.name not in WAITS_BY_NATURE),
]
# Functions in those files that run on the host, before or between steps; so do all with double underscores.
HOST_FUNCTIONS = {
    "_check_shapes", "_mu", "_pair", "_places", "_shapes", "_signed32", "splitmix64",
    "bind", "check_categories", "check_input", "check_labels", "check_targets", "config",
    "get_activation", "keep_threshold", "keep_thresholds", "numbers", "packed_outputs", "per_replica", "positive_eps",
    "power", "rate", "root", "sample", "scalars", "scaled_first", "step_keys", "stream", "table", "takes_categories",
    "takes_shared_rows",
}  # fmt: skip
# Namespace functions that upload in a step, where that is known: file and function.
KNOWN_UPLOADS = {
    ("ops.py", "_mask"),  # keys of K replicas
    ("values.py", "rows"),  # quantiles
}
TO_HOST = {"float", "int", "bool", "complex", "print", "list", "sorted", "any", "all"}
READ_BACK = {"item", "tolist", "numpy", "cpu", "nonzero"}
CREATE = {"arange", "asarray", "empty", "eye", "full", "linspace", "ones", "zeros"}


def is_namespace(node):
    """Whether an expression is an array namespace: ``xp``, ``something.xp`` or ``namespace(...)``."""
    if isinstance(node, ast.Name):
        return node.id == "xp"
    if isinstance(node, ast.Attribute):
        return node.attr == "xp"
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "namespace"


def is_mask(node, masks):
    """Whether an expression is an array of truth values, as far as its form tells."""
    if isinstance(node, ast.Name):
        return node.id in masks
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("isfinite", "isnan", "isinf", "equal", "less", "greater", "not_equal")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.BitXor):
        return is_mask(node.left, masks) or is_mask(node.right, masks)
    return isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert))


def functions_of(tree):
    """Every function of a file that is no part of another, under its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node


def step_hazards(source, name="given"):
    """What in the functions of a step could wait for the device, or is unknown on CuPy."""
    found = []
    for function in functions_of(ast.parse(source)):
        if function.name in HOST_FUNCTIONS or function.name.startswith("__"):
            continue
        masks = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and is_mask(node.value, ())
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for statement in function.body:  # not the signature, whose defaults and types are the host's
            for node in ast.walk(statement):
                why = hazard(node, masks, (name, function.name))
                if why:
                    found.append(f"{name}:{node.lineno} {function.name}: {why}: {ast.unparse(node)}")
    return found


def hazard(node, masks, place):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TO_HOST:
        looks_at_dtype = any(isinstance(n, ast.Attribute) and n.attr in ("finfo", "iinfo") for n in ast.walk(node))
        return None if looks_at_dtype else "the host reads a value"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        reads = node.func.attr in READ_BACK or (node.func.attr == "get" and not node.args)
        return "the host reads a value" if reads else None
    if isinstance(node, ast.Name) and node.id in ("np", "numpy"):
        return "NumPy within a step"
    if isinstance(node, ast.Attribute) and is_namespace(node.value):
        if node.attr in UPLOADS:
            return None if place in KNOWN_UPLOADS else "an upload within a step"
        return None if node.attr in NATIVE | DTYPES else "not on the list of functions that CuPy has and need no wait"
    if isinstance(node, ast.Subscript) and any(is_mask(n, masks) for n in index_parts(node.slice)):
        return "indexing by a mask"
    if isinstance(node, ast.If | ast.While | ast.IfExp | ast.Assert) and is_mask_of_arrays(node.test):
        return "a branch on values"
    return None


def index_parts(index):
    return index.elts if isinstance(index, ast.Tuple) else [index]


def is_mask_of_arrays(test):
    """Whether a condition is computed by the array library; looking at dtypes is the host's."""
    return any(
        isinstance(n, ast.Attribute) and is_namespace(n.value) and n.attr not in HOST | DTYPES for n in ast.walk(test)
    )


def creation_hazards(source, name="given"):
    """Calls that make an array on a default device or of a default dtype."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr not in CREATE or not is_namespace(node.func.value):
            continue
        given = {keyword.arg for keyword in node.keywords}
        if {"dtype", "device"} <= given:
            continue
        if node.func.attr == "asarray" and ("copy" in given or "device" in given):
            continue  # of an array, which brings its dtype, and its device unless told another
        found.append(f"{name}:{node.lineno} without dtype= and device=: {ast.unparse(node)}")
    return found


def test_every_step_file_is_there():
    assert len(STEP_FILES) >= 13
    assert all(path.is_file() for path in STEP_FILES)


@pytest.mark.parametrize("path", STEP_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_hazard_in_the_source_of_a_step(path):
    assert step_hazards(path.read_text(encoding="utf-8"), path.name) == []


def test_the_list_holds_nothing_that_no_step_calls():
    """An entry that is no longer used would let its next use pass without a look."""
    used = set()
    others = [PACKAGE / name for name in ("backend/value.py", "training/trainer.py")]
    for path in [*STEP_FILES, *others, *sorted((PACKAGE / "metrics").glob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and is_namespace(node.value):
                used.add(node.attr)
    assert used >= NATIVE


def test_host_functions_exist():
    """A name that no function has any more would exempt the next function of that name."""
    names = {f.name for path in STEP_FILES for f in functions_of(ast.parse(path.read_text(encoding="utf-8")))}
    assert names >= HOST_FUNCTIONS


ELSEWHERE = sorted(path for path in PACKAGE.rglob("*.py") if not {"data", "cli"} & set(path.relative_to(PACKAGE).parts))


@pytest.mark.parametrize("path", ELSEWHERE, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrays_are_made_with_dtype_and_device(path):
    assert creation_hazards(path.read_text(encoding="utf-8"), path.name) == []


def test_the_backend_makes_arrays_on_its_own_device():
    """CuPy ignores ``device=`` but in asarray: the device must be current where arrays are made."""
    tree = ast.parse((PACKAGE / "backend" / "value.py").read_text(encoding="utf-8"))
    backend = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Backend")
    inside = {
        id(call)
        for block in ast.walk(backend)
        if isinstance(block, ast.With) and any(ast.unparse(i.context_expr) == "self.active()" for i in block.items)
        for call in ast.walk(block)
    }
    made = [
        node
        for node in ast.walk(backend)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_namespace(node.func.value)
        if node.func.attr in CREATE
    ]
    assert len(made) >= 4
    outside = [ast.unparse(node) for node in made if id(node) not in inside]
    assert outside == ["self.xp.asarray(a, device=self.device)"]


PLANTED = {
    "float of a loss": "value = float(xp.sum(losses))",
    "item": "value = losses.item()",
    "get": "host = losses.get()",
    "tolist": "host = losses.tolist()",
    "NumPy": "dx = np.asarray(dy) * 2",
    "where": "dx = xp.where(x > 0, dy, 0.0)",
    "clip": "dx = xp.clip(dy, -1.0, 1.0)",
    "sign": "dx = ops.xp.sign(dy)",
    "nonzero": "rows = namespace(dy).nonzero(dy)",
    "mask": "dx[x > 0] = 0.0",
    "negated mask": "y = x[~(x > 0)]",
    "named mask": "positive = x > 0\n    dx[..., positive] = 0.0",
    "computed mask": "y = x[xp.isfinite(x)]",
    "branch": "if xp.sum(x) > 0:\n        y = x",
    "loop": "while xp.max(x) > 0:\n        x -= 1.0",
    "upload": "q = xp.asarray([0.1, 0.9], dtype=x.dtype, device=x.device)",
    "bool": "done = bool(xp.sum(x))",
    "print": "print(x)",
}
HARMLESS = {
    "dtype": "tiny = float(xp.finfo(x.dtype).smallest_normal)",
    "branch on dtype": "if xp.isdtype(y.dtype, 'integral'):\n        x = y",
    "branch on shape": "if x.shape[-2] == 1:\n        x = y",
    "slices": "y = x[..., 1:3] + x[:, None]",
    "factor": "dx = xp.astype(x > 0, dy.dtype)",
    "dictionary": "bias = params.get('bias')",
}


@pytest.mark.parametrize("body", PLANTED.values(), ids=PLANTED)
def test_planted_hazards_are_found(body):
    found = step_hazards(f"def forward(self, x: float, xp=np):\n    {body}\n")
    assert found
    assert found[0].startswith("given:2 forward: ") or "named" in body or "positive" in body


@pytest.mark.parametrize("body", HARMLESS.values(), ids=HARMLESS)
def test_what_is_harmless_passes(body):
    assert step_hazards(f"def forward(self, x: float, xp=np):\n    {body}\n") == []


@pytest.mark.parametrize(
    ("call", "bad"),
    [
        ("xp.zeros(3)", True),
        ("xp.zeros(3, dtype=x.dtype)", True),
        ("self.xp.arange(3, device=d)", True),
        ("namespace(x).eye(3)", True),
        ("xp.asarray([1.0])", True),
        ("xp.asarray(a, copy=True)", False),
        ("xp.full((), 1.0, dtype=x.dtype, device=d)", False),
        ("np.zeros(3)", False),
        ("backend.zeros(3)", False),
    ],
)
def test_planted_creations_are_found(call, bad):
    assert bool(creation_hazards(call)) == bad


# -- the step ---------------------------------------------------------------------------------------------------
class Watching:
    """An array namespace that notes which of its functions are called."""

    def __init__(self, xp):
        self._xp, self.called = xp, set()

    def __getattr__(self, name):
        value = getattr(self._xp, name)
        if not inspect.isroutine(value) or name.startswith("_"):
            return value

        def call(*args, **options):
            self.called.add(name)
            if name not in UPLOADS:
                assert not any(isinstance(a, np.generic | np.ndarray) for a in args), f"NumPy in xp.{name}"
            if name == "concat":
                assert len(args[0]) <= 8, "CuPy uploads a table of pointers to join more than 8 arrays"
            return value(*args, **options)

        return call


@pytest.fixture
def watched(monkeypatch, no_host_sync):
    """A strict backend on which the two parts of a step are guarded; `calls` holds what each part called."""
    strict = backend_or_skip("strict")
    kind = type(strict.xp.empty(0))
    xp = Watching(strict.xp)
    backend = dataclasses.replace(strict, xp=xp, ops=Ops(xp, strict.device))
    calls = []

    def plain(key):
        """Raise unless an index is made of Python's own numbers and slices."""
        for part in key if isinstance(key, tuple) else (key,):
            numbers = (part.start, part.stop, part.step) if isinstance(part, slice) else (part,)
            assert all(n is None or n is ... or type(n) is int for n in numbers), f"index {part!r}"

    def get(self, key, _get=kind.__getitem__):
        plain(key)
        return _get(self, key)

    def put(self, key, value, _put=kind.__setitem__):
        plain(key)
        assert type(value) in (int, float, kind), f"{type(value)} assigned into an array"
        _put(self, key, value)

    def guarded(function):
        def call(*args):
            xp.called = set()
            with no_host_sync(), pytest.MonkeyPatch.context() as patch:
                patch.setattr(kind, "__getitem__", get)
                patch.setattr(kind, "__setitem__", put)
                result = function(*args)
            calls.append(set(xp.called))
            return result

        return call

    monkeypatch.setitem(interop.NAMESPACES, kind, xp)
    monkeypatch.setattr("xpnn.ops._MADE", {})
    monkeypatch.setattr(Trainer, "train_step", guarded(Trainer.train_step))
    monkeypatch.setattr(Tally, "add", guarded(Tally.add))
    with strict_flags(backend):
        yield backend, calls


def calls_of_a_step(watched, net, loss, x, y, rule=None, weight=None, metrics=(), **options):
    """Make two steps and return what the second called; the first may fetch what lasts."""
    _, calls = watched
    rule = xpnn.SGD(0.01) if rule is None else rule
    trainer = Trainer(net, loss, rule, metrics=metrics, **options)
    weight = None if weight is None else np.concatenate([weight, weight])
    trainer.fit(np.concatenate([x, x]), np.concatenate([y, y]), epochs=1, batch_size=BATCH, sample_weight=weight)
    assert len(calls) == 4  # two steps, and their tallies
    return calls[2] | calls[3]


LABELS = np.arange(BATCH) % 3


@pytest.mark.parametrize("replicas", [None, 2], ids=["one", "replicas"])
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_every_layer_calls_only_what_is_listed(case, replicas, watched):
    net = xpnn.Sequential(case.make(), Linear(3), n_in=case.n_in, backend=watched[0], seed=0, replicas=replicas)
    called = calls_of_a_step(watched, net, xpnn.CrossEntropy(), case.x(), LABELS)
    masks_of_replicas = replicas and any(isinstance(a, Dropout) and a.rate for a in xpnn.layers.base.walk(net.layers))
    assert called - NATIVE == (UPLOADS if masks_of_replicas else set())


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_every_loss_calls_only_what_is_listed(case, weighted, watched):
    net = xpnn.Sequential(Linear(case.n_out), n_in=N_IN, backend=watched[0])
    x = np.random.default_rng(0).normal(size=(BATCH, N_IN))
    weight = np.linspace(0.5, 2.0, BATCH) if weighted else None
    called = calls_of_a_step(watched, net, case.loss, x, case.y(), weight=weight)
    assert called - NATIVE == (UPLOADS if isinstance(case.loss, xpnn.Pinball) else set())


RULES = {
    f"{type(rule).__name__}{i}": rule
    for i, rule in enumerate(
        [
            xpnn.SGD(0.1),
            xpnn.SGD(0.1, 0.9, weight_decay=0.1),
            xpnn.SGD(0.1, 0.9, nesterov=True),
            xpnn.Momentum(0.1),
            xpnn.RMSProp(0.1),
            xpnn.AdaGrad(0.1),
            xpnn.Adam(0.1),
            xpnn.AdamW(0.1),
            xpnn.NAdam(0.1),
            xpnn.Lion(0.1, weight_decay=0.1),
            xpnn.Muon(0.1, weight_decay=0.1),
        ]
    )
}


def test_every_rule_is_here():
    """A new rule must be added to the table above."""
    rules = {c for c in vars(xpnn.optim).values() if inspect.isclass(c) and issubclass(c, xpnn.Optimizer)}
    assert {c.__name__ for c in rules} - {"Optimizer", "LBFGS"} == {type(rule).__name__ for rule in RULES.values()}


@pytest.mark.parametrize("own", [False, True], ids=["", "factors"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule_calls_only_what_is_listed(name, own, watched):
    rule = RULES[name]
    rule.reset()
    factors = {"lr_mult": 0.5, "decay_mult": 2.0} if own else {}
    net = xpnn.Sequential(Linear(4, **factors), xpnn.ReLU(), Linear(3), n_in=N_IN, backend=watched[0])
    x = np.random.default_rng(0).normal(size=(BATCH, N_IN))
    assert calls_of_a_step(watched, net, xpnn.CrossEntropy(), x, LABELS, rule) <= NATIVE


@pytest.mark.parametrize("rates", [0.1, [0.1, 0.2]], ids=["one rate", "two rates"])
@pytest.mark.parametrize("rule", [xpnn.SGD, xpnn.AdamW, xpnn.NAdam, xpnn.Lion, xpnn.Muon])
def test_replicas_with_rates_of_their_own_upload_nothing_in_a_step(rule, rates, watched):
    net = xpnn.Sequential(Linear(4), xpnn.Tanh(), Linear(3), n_in=N_IN, backend=watched[0], replicas=2)
    x = np.random.default_rng(0).normal(size=(BATCH, N_IN))
    assert calls_of_a_step(watched, net, xpnn.CrossEntropy(), x, LABELS, rule(rates, weight_decay=0.1)) <= NATIVE


@pytest.mark.parametrize("penalty", [xpnn.L1(0.1), xpnn.L2(0.1), xpnn.SpectralNorm(0.1)], ids=str)
def test_every_penalty_and_clipping_calls_only_what_is_listed(penalty, watched):
    net = xpnn.Sequential(Linear(4), xpnn.Tanh(), Linear(3), n_in=N_IN, backend=watched[0])
    x = np.random.default_rng(0).normal(size=(BATCH, N_IN))
    options = {"regularizer": penalty, "clip_norm": 1.0, "clip_value": 0.5}
    assert calls_of_a_step(watched, net, xpnn.CrossEntropy(), x, LABELS, **options) <= NATIVE


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("metric", ["accuracy", "top5", "mse", "rmse", "mae", "r2"])
def test_every_metric_calls_only_what_is_listed(metric, weighted, watched):
    x = np.random.default_rng(0).normal(size=(BATCH, N_IN))
    classes = metric in ("accuracy", "top5")
    loss, y = (xpnn.CrossEntropy(), LABELS) if classes else (xpnn.MeanSquaredError(), x[:, :3])
    net = xpnn.Sequential(Linear(3), n_in=N_IN, backend=watched[0])
    weight = np.linspace(0.5, 2.0, BATCH) if weighted else None
    assert calls_of_a_step(watched, net, loss, x, y, weight=weight, metrics=(metric,)) <= NATIVE


class ReadsBack(xpnn.MeanSquaredError):
    def rows(self, xp, pred, y):
        losses, d = super().rows(xp, pred, y)
        return losses, d * float(xp.max(pred))


class IndexesByMask(xpnn.MeanSquaredError):
    def rows(self, xp, pred, y):
        losses, d = super().rows(xp, pred, y)
        d[d > 0] = 0.0
        return losses, d


class AssignsNumPy(xpnn.MeanSquaredError):
    def rows(self, xp, pred, y):
        losses, d = super().rows(xp, pred, y)
        d[0, ...] = np.float64(1.0)
        return losses, d


class CallsWhere(xpnn.MeanSquaredError):
    def rows(self, xp, pred, y):
        losses, d = super().rows(xp, pred, y)
        return losses, xp.where(d > 0, d, d)


@pytest.mark.parametrize(
    ("loss", "text"),
    [(ReadsBack, "waits for the device"), (IndexesByMask, "index"), (AssignsNumPy, "assigned into an array")],
)
def test_a_step_that_would_wait_is_found(loss, text, watched):
    net = xpnn.Sequential(Linear(3), n_in=N_IN, backend=watched[0])
    x = np.random.default_rng(0).normal(size=(BATCH, N_IN))
    with pytest.raises(AssertionError, match=text):
        calls_of_a_step(watched, net, loss(), x, x[:, :3])


def test_a_function_that_is_not_listed_is_found(watched):
    net = xpnn.Sequential(Linear(3), n_in=N_IN, backend=watched[0])
    x = np.random.default_rng(0).normal(size=(BATCH, N_IN))
    assert calls_of_a_step(watched, net, CallsWhere(), x, x[:, :3]) - NATIVE == {"where"}


# -- devices ----------------------------------------------------------------------------------------------------
class Device:
    """Like CuPy's: it has a number, compares by it, and cannot be hashed."""

    __hash__ = None

    def __init__(self, number):
        self.id = number
        self.entered = 0

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    def __enter__(self):
        self.entered += 1
        return self

    def __exit__(self, *error):
        return None


def test_devices_that_cannot_be_hashed_make_backends_all_the_same():
    ops = portable_ops(compat_numpy, Device(0))
    assert portable_ops(compat_numpy, Device(0)) is ops
    assert portable_ops(compat_numpy, Device(1)) is not ops
    numpy = xpnn.get_backend("numpy")
    a, b, c = (dataclasses.replace(numpy, name="cupy", device=Device(n)) for n in (0, 0, 1))
    assert {a: "first", c: "second"}[b] == "first"
    assert a == b != c
    assert (a.spec, c.spec) == ("cupy:0", "cupy:1")
    assert repr(c) == "Backend('cupy', device='<CUDA Device 1>', dtype='float32')"


class OnDevice(np.ndarray):
    """What a made-up CuPy gives: NumPy's memory on a device."""

    device = Device(1)


def test_new_arrays_are_made_on_the_backends_own_device(monkeypatch):
    """CuPy's zeros and copies go to the current device, so it must be the backend's."""
    device = Device(1)

    class Namespace:
        float32, float64, bool = np.float32, np.float64, np.bool

        @staticmethod
        def zeros(shape, *, dtype, device):
            assert device.entered
            return np.zeros(shape, dtype).view(OnDevice)

        @staticmethod
        def asarray(a, *, dtype=None, device=None, copy=None):
            assert device is None or device.entered
            made.append((copy, device))
            return np.array(a, dtype).view(OnDevice)

        @staticmethod
        def astype(a, dtype, *, copy):
            return a.astype(dtype, copy=copy)

    made = []
    monkeypatch.setitem(interop.LIBRARIES, OnDevice, "cupy")
    backend = dataclasses.replace(xpnn.get_backend("numpy"), name="cupy", xp=Namespace, device=device)
    values = backend.zeros((2, 3))
    assert device.entered == 1
    moved = backend.asarray([1, 2])
    assert device.entered == 2
    copied = backend.copy(moved)
    assert device.entered == 3
    assert not np.shares_memory(copied, moved)
    assert backend.asarray(values) is values
    assert made == [(None, device), (True, None)]


def test_a_probe_that_fails_in_an_unforeseen_way_is_still_told(monkeypatch):
    """A compiler's error is no RuntimeError in CuPy; `auto` must fall back all the same."""

    class CompileException(Exception):  # noqa: N818, as CuPy names it
        pass

    install_fake_cupy(monkeypatch, no_nvrtc=CompileException("cuda_fp16.h: no such file"))
    assert xpnn.available_backends()["cupy"] == (
        "CuPy cannot compile a kernel (cuda_fp16.h: no such file): pip install 'cupy-cuda13x[ctk]' brings the compiler."
    )
    assert xpnn.get_backend("auto").name == "numpy"
    install_fake_cupy(monkeypatch, no_cublas=CompileException("no"))
    with pytest.raises(BackendUnavailableError, match="CuPy cannot multiply matrices"):
        xpnn.get_backend("cupy")


def test_a_snapshot_is_made_where_the_backend_is():
    """Copies go through the backend, which makes its device current."""
    store = ParamStore(xpnn.get_backend("numpy"), [ParamSpec("w", (2, 3), xpnn.initializers.Constant(1.0), True)])
    asked = []

    class Asked:
        name = "numpy"

        def copy(self, a):
            asked.append(a)
            return a.copy()

    store.backend = Asked()
    snapshot = store.snapshot()
    assert asked[0] is store.values
    assert asked[1] is store.buffers
    assert not np.shares_memory(snapshot.values, store.values)


# -- CuPy itself, which can be imported where there is no GPU ---------------------------------------------------
@pytest.fixture
def cupy():
    return pytest.importorskip("cupy", reason="needs CuPy, but no GPU: pip install cupy-cuda13x")


def borrowed(cupy, shape, dtype="float32"):
    """An array over memory that is not there: its shape, strides and place can be looked at."""
    memory = cupy.cuda.memory.UnownedMemory(0x1000, int(np.prod(shape)) * np.dtype(dtype).itemsize, None, 0)
    return cupy.ndarray(shape, dtype, cupy.cuda.memory.MemoryPointer(memory, 0))


def test_cupy_has_every_listed_function_as_it_was_read(cupy):
    import array_api_compat.cupy as xp

    for name in NATIVE | UPLOADS | DTYPES:
        assert hasattr(xp, name), name
    for name in UFUNCS:
        assert isinstance(getattr(xp, name), cupy.ufunc), name
    for name in ROUNDING | REDUCTIONS | JOINS | {"take", "broadcast_to", "expand_dims"}:
        assert getattr(xp, name) is getattr(cupy, {"concat": "concatenate"}.get(name, name)), name


def test_a_backend_on_cupy_is_a_value(cupy):
    a, b, c = (backends.make("cupy", device, "float32") for device in ("", "0", "1"))
    assert a == b != c
    assert hash(a) == hash(b)
    assert (a.spec, c.spec) == ("cupy:0", "cupy:1")
    assert a.ops is b.ops is not c.ops
    assert a.index_dtype == np.int64


def test_cupy_arrays_that_are_here_already_are_not_touched(cupy):
    backend = backends.make("cupy", "", "float32")
    flat = borrowed(cupy, (3, 64))
    for array in (flat, flat[..., 16:28], flat.mT):
        assert backend.owns(array)
        assert backend.asarray(array) is array
        assert xpnn.backend.namespace(array) is backend.xp
        assert xpnn.backend.ops_of(array) is portable_ops(backend.xp, backend.device)


@pytest.mark.parametrize("replicas", [(), (3,)])
def test_parameters_on_cupy_are_views_of_the_flat_buffer(cupy, replicas):
    backend = backends.make("cupy", "", "float32")
    flat = borrowed(cupy, (*replicas, 64))
    view = backend.xp.reshape(flat[..., 16:28], (*replicas, 3, 4), copy=False)
    assert view.data.ptr == flat.data.ptr + 16 * 4
    assert view.strides == (*((64 * 4,) if replicas else ()), 16, 4)
    row = backend.xp.reshape(flat[..., 32:40], (*replicas, 1, 8), copy=False)
    assert row.data.ptr == flat.data.ptr + 32 * 4


# -- the script, without a GPU ----------------------------------------------------------------------------------
SCRIPT = PROJECT / "ci" / "gpu.sh"
needs_bash = pytest.mark.skipif(
    "XPNN_GPU_RUNNING" in os.environ or not (shutil.which("bash") and shutil.which("timeout")),
    reason="needs bash and timeout, and not to be run by the script itself",
)


def run_script(out, **environment):
    known = {k: v for k, v in os.environ.items() if not k.startswith(("XPNN_", "PYTEST_", "COV_"))}
    settings = {"PYTHON": sys.executable, "OUT": str(out), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    settings["XPNN_GPU_SECONDS"] = "5600"  # a processor, which others use too, takes longer
    return subprocess.run(
        ["bash", str(SCRIPT)], env=known | settings | environment, capture_output=True, text=True, timeout=600
    )


@needs_bash
def test_the_script_runs_where_there_is_no_gpu(tmp_path):
    pytest.importorskip("array_api_strict", reason="needs array-api-strict: pip install array-api-strict")
    done = run_script(tmp_path, XPNN_GPU_BACKEND="numpy", XPNN_GPU_QUICK="1")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["ok"] is True
    assert summary["backend"] == "numpy"
    assert {name: part["ok"] for name, part in summary["parts"].items()} == dict.fromkeys(
        ("probe", "parity", "gradcheck", "tests", "bench", "doctor"), True
    )
    parity = json.loads((tmp_path / "parity.json").read_text())
    assert parity["ok"]
    assert "strict" in {row["backend"] for row in parity["networks"][0]["parameters"]}
    assert json.loads((tmp_path / "gradcheck.json").read_text())["verdict"] in ("excellent", "good")
    assert json.loads((tmp_path / "tests.json").read_text())["passed"] >= 10
    bench = json.loads((tmp_path / "bench.json").read_text())
    assert bench["device"].startswith("no GPU: ")
    (problem,) = bench["problems"]
    assert problem["steps"]["xpnn"]["us"] > 0
    assert problem["missing"]["torch CUDA graph"] == "CUDA graphs need a GPU"
    probe = json.loads((tmp_path / "probe.json").read_text())
    assert {name: part["ok"] for name, part in probe["parts"].items()} == {
        **dict.fromkeys(("kernels", "fits", "products", "repeatable", "host costs"), True),
        **dict.fromkeys(("epilogues", "with epilogues and without", "graphs", "graph costs", "product table"), None),
        **dict.fromkeys(("persistent", "persistent fits"), None),
    }
    assert len(list(tmp_path.iterdir())) == 8
    last = done.stdout.splitlines()
    assert f"results in {tmp_path}" in last
    assert [line.split()[1] for line in last if line.startswith("ok ")] == [*summary["parts"]]
    table = last[-1 - len(summary["goals"]) :]  # of goals, with what was reached
    assert table[0].split() == ["goal", "reached"]
    assert table[1].startswith("a step of 784-256-128-10, batch 128, in Trainer.fit: 25 µs")
    assert float(table[1].split()[-2]) > 0


def test_the_list_of_wheels_has_all_that_xpnn_needs():
    """Where nothing comes from the network; NumPy and CuPy are there."""
    listed = re.search(r"wheels=\((.*?)\)", SCRIPT.read_text(encoding="utf-8"), re.DOTALL)[1].split()
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = {re.match(r"[\w-]+", entry)[0] for entry in project["dependencies"]} - {"numpy"}
    assert set(listed) >= needed | {"pytest", "hypothesis", "array-api-strict"}


SKIPPED = {"ok": True, "steps": 10, "skipped": {"strict": "not installed"}, "networks": []}
WRONG = {"verdict": "bug", "max_rel_error": 0.5, "backend": "numpy", "networks": []}


@needs_bash
def test_parts_that_fail_stop_no_other_and_show_in_the_exit_status(tmp_path):
    """A backend that was skipped, a wrong gradient, a crash and tests that never ran: none may pass for success."""
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
        case "$*" in
          *"xpnn parity"*) echo '{json.dumps(SKIPPED)}' ;;
          *"xpnn gradcheck"*) echo '{json.dumps(WRONG)}'; exit 1 ;;
          *gpu_bench*) echo "the device is lost" >&2; exit 7 ;;
          *"-m pytest"*) exit 0 ;;
          *) exec "{sys.executable}" "$@" ;;
        esac
        """
    )
    python.chmod(0o755)
    done = run_script(tmp_path / "out", PYTHON=str(python), XPNN_GPU_BACKEND="numpy", XPNN_GPU_QUICK="1")
    assert done.returncode == 1, done.stdout + done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["ok"] is False
    found = {name: (part["ok"], part["text"]) for name, part in summary["parts"].items()}
    assert found["parity"] == (False, "strict was skipped: not installed")
    assert found["gradcheck"] == (False, "exit status 1; 0 networks: largest relative error 5.0e-01, bug")
    assert found["bench"][0] is False
    assert found["bench"][1].startswith("xpnn: exit status 7; xpnn CUDA graph: exit status 7; ")
    assert found["bench"][1].endswith("MNIST: exit status 7; the device is lost")
    assert found["tests"][0] is False
    assert found["tests"][1].startswith("no results (FileNotFoundError")
    assert found["doctor"][0] is True


@needs_bash
@pytest.mark.parametrize(
    ("backend", "text"),
    [
        ("cupy", "ci/gpu.sh: CuPy is not installed: {} -m pip install 'cupy-cuda13x[ctk]>=14'"),
        ("cuda", "ci/gpu.sh: get_backend: expected one of numpy, cupy, torch, strict or auto, got 'cuda'."),
    ],
)
def test_the_script_says_what_it_needs(backend, text, tmp_path):
    if backend == "cupy" and importlib.util.find_spec("cupy"):
        pytest.skip("CuPy is installed here")
    done = run_script(tmp_path, XPNN_GPU_BACKEND=backend)
    assert done.returncode == 3
    assert text.format(sys.executable) in done.stderr
    assert list(tmp_path.iterdir()) == []
