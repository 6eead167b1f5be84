"""Objects as plain data and back: xpnn's own, a user's, and the files of earlier versions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import xpnn
from xpnn import initializers, layers, losses, metrics, optim, regularizers, schedules
from xpnn.checkpoint import read
from xpnn.config import from_config, known_classes, options_of, reading, to_config
from xpnn.data import ClassTarget, MinMax, NumberTarget, Standardizer, TableEncoder
from xpnn.errors import FileFormatError, OptionError, ShapeError
from xpnn.initializers import Initializer
from xpnn.metrics import Metric
from xpnn.optim import Optimizer
from xpnn.predictor import Predictor
from xpnn.regularizers import Regularizer
from xpnn.schedules import Schedule

FILES = Path(__file__).parent / "files"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 2)).astype("float32")
Y = np.arange(12) % 3


# -- classes of a user's own, of every part of a trainer ------------------------------------------------------------
class Scaled(xpnn.Loss):
    """A loss with a number, and with a loss inside."""

    takes_labels = True
    classifies = True

    def __init__(self, inner, factor=2.0):
        self.inner = inner
        self.factor = factor

    def rows(self, xp, pred, y):
        values, d = self.inner.rows(xp, pred, y)
        return values * self.factor, d * self.factor


class Descent(Optimizer):
    """Gradient descent with a factor."""

    def __init__(self, lr, *, damping=0.5):
        super().__init__(lr)
        self.damping = damping

    def rule(self, store, scalars):
        store.values -= store.grads * (scalars[0] * self.damping)


@dataclass(frozen=True)
class Halved(Schedule):
    """Half of another schedule."""

    inner: Schedule

    def __call__(self, t):
        return 0.5 * self.inner(t)


class Shrink(Regularizer):
    """A sum of squares times a number."""

    def __init__(self, lam, *, times=0.1):
        super().__init__(lam)
        self.times = times

    def add(self, store):
        factor = self.lam * self.times
        store.grads += 2 * factor * store.values
        return factor * store.backend.xp.sum(store.values**2)


class Within(Metric):
    """Share of rows whose largest output is below a limit: no dataclass."""

    mode = "max"

    def __init__(self, limit=1.0):
        self.limit = limit
        self.name = f"within{limit:g}"

    def per_sample(self, xp, pred, y):
        return xp.astype(xp.max(pred, axis=-1) < self.limit, pred.dtype)


@dataclass(frozen=True)
class Ramp(Initializer):
    """Numbers in a row."""

    step: float = 0.5

    def sample(self, rng, shape):
        return np.arange(np.prod(shape)).reshape(shape) * self.step


class Gate(layers.Layer):
    """Another layer's output times a number; the layer and an initializer are its arguments."""

    def __init__(self, inner, start):
        self.inner = inner
        self.start = start

    def forward(self, x, *, train=False, key=None):
        return self.inner.forward(x, train=train, key=key)

    def backward(self, dy, cache, *, need_dx=True):
        return self.inner.backward(dy, cache, need_dx=need_dx)


OWN = (Scaled, Descent, Halved, Shrink, Within, Ramp, Gate)


def own_trainer():
    net = xpnn.Sequential(
        xpnn.Linear(4, init=Ramp(0.1)), Gate(xpnn.GELU(approximate="tanh"), Ramp(0.25)), xpnn.Linear(3), n_in=2
    )
    return xpnn.Trainer(
        net,
        Scaled(xpnn.CrossEntropy(label_smoothing=0.1), factor=3.0),
        Descent(0.05, damping=0.9),
        schedule=Halved(xpnn.CosineDecay(total=4)),
        regularizer=Shrink(1e-3, times=0.2),
        metrics=("accuracy", Within(2.0)),
    )


# -- a user's own classes in files -----------------------------------------------------------------------------------
def test_a_trainer_of_ones_own_parts_goes_on_as_if_never_saved(tmp_path):
    straight = own_trainer()
    straight.fit(X, Y, epochs=2, batch_size=4)
    straight.save(tmp_path / "run")
    resumed = xpnn.Trainer.load(tmp_path / "run", custom=OWN)
    for trainer in (straight, resumed):
        trainer.fit(X, Y, epochs=2, batch_size=4)
    for name, value in straight.net.state_dict().items():
        np.testing.assert_array_equal(resumed.net.state_dict()[name], value, err_msg=name)
    for column in ("loss", "accuracy", "within2", "penalty", "lr"):
        assert resumed.history[column] == straight.history[column]
    assert repr(resumed.net) == repr(straight.net)
    assert repr(resumed.loss) == "Scaled(inner=CrossEntropy(label_smoothing=0.1), factor=3.0)"
    assert (resumed.optimizer.damping, resumed.regularizer.times) == (0.9, 0.2)
    assert resumed.schedule == straight.schedule
    assert resumed.metrics[1].limit == 2.0


@pytest.mark.parametrize("missing", OWN, ids=lambda kind: kind.__name__)
def test_without_its_class_a_trainer_says_which_and_how(tmp_path, missing):
    own_trainer().save(tmp_path / "run")
    name = missing.__name__
    with pytest.raises(
        OptionError,
        match=rf"^Trainer\.load: the file contains '{name}', which is not xpnn's\. Import that class and pass "
        rf"custom=\({name},\)\.$",
    ):
        xpnn.Trainer.load(tmp_path / "run", custom=tuple(kind for kind in OWN if kind is not missing))


def test_a_predictor_with_a_loss_and_layers_of_ones_own(tmp_path):
    net = xpnn.Sequential(Gate(xpnn.Tanh(), Ramp(0.5)), xpnn.Linear(2, init=Ramp(0.3)), n_in=2)
    predictor = Predictor(net, Scaled(xpnn.CrossEntropy()), ClassTarget().fit(["a", "b"]), MinMax(-1, 1).fit(X))
    predictor.save(tmp_path / "model")
    same = Predictor.load(tmp_path / "model", custom=OWN)
    assert repr(same.loss) == repr(predictor.loss)
    assert repr(same.net) == repr(net)
    np.testing.assert_array_equal(same.predict_proba(X), predictor.predict_proba(X))
    for kind in (Scaled, Gate, Ramp):
        others = tuple(other for other in OWN if other is not kind)
        with pytest.raises(
            OptionError,
            match=rf"^Predictor\.load: the file contains '{kind.__name__}'.*pass custom=\({kind.__name__},\)",
        ):
            Predictor.load(tmp_path / "model", custom=others)


class Logarithm(Standardizer):
    """An encoder of one's own."""

    def transform(self, X):
        return super().transform(X) * 2


def test_a_predictor_with_an_encoder_of_ones_own(tmp_path):
    predictor = Predictor(xpnn.mlp([2, 1]), xpnn.Huber(), NumberTarget().fit([0.0, 1.0]), Logarithm().fit(X))
    predictor.save(tmp_path / "model")
    with pytest.raises(OptionError, match=r"contains 'Logarithm'.*custom=\(Logarithm,\)"):
        Predictor.load(tmp_path / "model")
    same = Predictor.load(tmp_path / "model", custom=(Logarithm,))
    np.testing.assert_array_equal(same.predict(X), predictor.predict(X))


def test_a_network_with_a_layer_inside_a_layer_of_ones_own(tmp_path):
    net = xpnn.Sequential(Gate(xpnn.LeakyReLU(0.2), Ramp(0.5)), n_in=2)
    xpnn.save(net, tmp_path / "net")
    same = xpnn.load(tmp_path / "net", custom_layers=(Gate, Ramp))
    assert (same.layers[0].inner.slope, same.layers[0].start) == (0.2, Ramp(0.5))
    with pytest.raises(OptionError, match=r"^load: the network contains 'Ramp'.*pass custom_layers=\(Ramp,\)\.$"):
        xpnn.load(tmp_path / "net", custom_layers=(Gate,))


# -- both ways --------------------------------------------------------------------------------------------------------
PLACES = (
    (layers, layers.Layer),
    (losses, losses.Loss),
    (optim, Optimizer),
    (schedules, Schedule),
    (regularizers, Regularizer),
    (metrics, Metric),
    (initializers, Initializer),
)
NEEDS = {
    "Linear": (3,),
    "Embedding": (5, 2),
    "Constant": (0.5,),
    "L1": (0.1,),
    "L2": (0.1,),
    "SpectralNorm": (0.1,),
    "SGD": (0.1,),
    "Momentum": (0.1,),
    "Residual": (xpnn.Linear(2), xpnn.ReLU()),
    "MemberScale": (3,),
    "MemberLinear": (4, 3),
    "MemberHead": (4, 3),
    "MemberMean": (xpnn.CrossEntropy(), 3),
    "Columns": ((2, xpnn.ReLU()), (1, xpnn.NumericalEmbedding())),
    "ParametricActivation": ("silu",),
}
EVERY = [(kind, place) for place in PLACES for kind in known_classes(place).values() if kind is not place[1]]


@pytest.mark.parametrize(("kind", "place"), EVERY, ids=lambda item: getattr(item, "__qualname__", ""))
def test_every_public_class_there_and_back(kind, place):
    made = kind(*(() if place[1] is Schedule else NEEDS.get(kind.__name__, ())))
    told = json.loads(json.dumps(to_config(made), allow_nan=False))
    assert told["type"] == kind.__name__
    inner = (initializers, Initializer) if place[1] is layers.Layer else place
    again = from_config(told, known_classes(inner, place))
    assert type(again) is kind
    assert repr(again) == repr(made)
    assert to_config(again) == told


def test_plain_values_stay_and_numpys_become_pythons():
    value = {"a": [1, 2.5, None, True, "x"], "b": {"c": (np.float32(0.5), np.int64(3), np.bool_(True))}}
    assert to_config(value) == {"a": [1, 2.5, None, True, "x"], "b": {"c": [0.5, 3, True]}}
    assert type(to_config(np.float64(0.5))) is float
    assert from_config(to_config(value), {}) == to_config(value)


def test_objects_in_lists_and_dicts_come_back():
    told = to_config({"rates": [xpnn.Constant(), {"deep": xpnn.StepDecay(every=3)}]})
    assert from_config(told, known_classes((schedules, Schedule))) == {
        "rates": [xpnn.Constant(), {"deep": xpnn.StepDecay(every=3)}]
    }


def test_what_was_fitted_comes_with_its_state():
    table = {"a": np.asarray([1.0, 2.0, np.nan, 4.0]), "b": np.asarray(["x", "y", "x", None], dtype=object)}
    known = {kind.__name__: kind for kind in (TableEncoder, Standardizer, MinMax)}
    for fitted, data in (
        (TableEncoder(bins=2, numeric=["a"]).fit(table), table),
        (Standardizer().fit(X), X),
        (MinMax(-1.0, 1.0).fit(X), X),
    ):
        told = json.loads(json.dumps(to_config(fitted), allow_nan=False))
        assert told.keys() == {"type", "state"}
        again = from_config(told, known)
        np.testing.assert_array_equal(again.transform(data), fitted.transform(data))
        assert again.to_dict() == fitted.to_dict()


class Forgetful(xpnn.MeanSquaredError):
    """Keeps its argument under another name."""

    def __init__(self, factor=1.0):
        self.by = factor


class Open(xpnn.MeanSquaredError):
    """Takes anything."""

    def __init__(self, **options):
        self.options = options


class Typed(xpnn.MeanSquaredError):
    """Has an argument called as the class is in a file."""

    def __init__(self, type="mean"):
        self.type = type


class Said(Forgetful):
    """Says itself how it is made."""

    def config(self):
        return {"halves": 2 * self.by}

    @classmethod
    def from_config(cls, halves):
        return cls(halves / 2)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Forgetful(2.0), r"^Forgetful: expected its argument 'factor' to be kept .* Write self\.factor = factor in"),
        (Open(a=1), r"^Open: expected its argument 'options' to be kept in an attribute of that name, got none"),
        (Typed(), r"^Typed: expected options of other names than 'type'"),
        (Scaled(len), r"^Scaled: expected inner to be numbers, .* got an object of type builtin_function_or_method"),
        (Scaled(Forgetful()), r"^Scaled: expected inner to be numbers, .* got an object of type Forgetful"),
        (Scaled(xpnn.Huber, 1.0), r"^Scaled: expected inner to be numbers, .* got an object of type type"),
        (Scaled(xpnn.Huber(), np.ones(2)), r"^Scaled: expected factor to be .* got an object of type ndarray"),
    ],
    ids=lambda item: type(item).__name__,
)
def test_what_cannot_be_described_names_class_and_argument(tmp_path, made, message):
    trainer = xpnn.Trainer(xpnn.mlp([2, 1]), xpnn.Huber(), xpnn.SGD(0.1))
    trainer.loss = made
    with pytest.raises(OptionError, match=message):
        trainer.save(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_class_may_say_itself_how_it_is_made():
    told = to_config(Said(1.5))
    assert told == {"type": "Said", "halves": 3.0}
    assert from_config(told, known_classes(custom=(Said,))).by == 1.5


def test_what_no_constructor_describes():
    for value in (object(), {1, 2}, {"deep": [len]}, np.ones(2), xpnn.Huber):
        with pytest.raises(OptionError, match=r"^to_config: expected a value to be numbers, text, lists, dicts, or"):
            to_config(value)
    with pytest.raises(OptionError, match=r"expected its argument 'factor' to be kept .* Write self\.factor = factor"):
        options_of(Forgetful())


def test_custom_holds_classes():
    with pytest.raises(OptionError, match=r"expected classes of your own, got Huber\(\)\. Pass the class"):
        known_classes(custom=(xpnn.Huber(),))


def test_one_s_own_class_stands_in_for_one_of_the_same_name():
    class Huber(xpnn.MeanSquaredError):
        pass

    assert known_classes((losses, losses.Loss), custom=(Huber,))["Huber"] is Huber


def test_only_known_classes_are_made():
    for name in ("Any", "np", "annotations", "__import__"):
        with pytest.raises(OptionError, match=f"contains '{name}', which is not xpnn's"):
            from_config({"type": name}, known_classes(*PLACES))


def test_mistakes_of_a_file_are_told_and_errors_of_ours_pass():
    for mistake in (KeyError("a"), TypeError("b"), ValueError("c"), AttributeError("d")):
        with pytest.raises(FileFormatError, match=r"^load: expected this, got a bad entry \("), reading("load", "this"):
            raise mistake
    with pytest.raises(ShapeError, match=r"^as it is$"), reading("load", "this"):
        raise ShapeError("as it is")
    with (
        pytest.raises(FileFormatError, match=r"got that .*mend it"),
        reading("load", "this", got="that", hint="mend it", passing=FileFormatError),
    ):
        raise ShapeError("no more")


# -- files of earlier versions ------------------------------------------------------------------------------------
def test_a_network_that_0_1_wrote():
    net = xpnn.load(FILES / "network_0_1.safetensors")
    assert repr(net.layers[0]) == (
        "Linear(n_out=3, init=Orthogonal(gain=0.5), bias_init=Constant(value=0.25), lr_mult=0.5)"
    )
    expected = [[-0.04004256, -0.00268411, 0.19521219], [0.33059862, 0.02354047, 0.2994121]]
    np.testing.assert_allclose(net.predict(X)[:, 0], expected, rtol=1e-5)


def test_a_trainer_that_0_1_wrote_goes_on():
    trainer = xpnn.Trainer.load(FILES / "trainer_0_1.safetensors")
    assert repr(trainer.optimizer).startswith("AdamW(lr=[0.01, 0.02], weight_decay=0.1, ")
    assert trainer.schedule == xpnn.Warmup(xpnn.CosineDecay(total=4, end=0.1), duration=1.0, start=0.1)
    assert (trainer.regularizer.n_iter, trainer.metrics[1], trainer.epoch) == (2, metrics.TopK(2), 2)
    trainer.fit(X, Y, epochs=1, batch_size=4)
    expected = [[-0.0576238, -0.02265831, 0.33466727], [0.30884227, 0.07591541, 0.30083302]]
    np.testing.assert_allclose(trainer.net.predict(X)[:, 0], expected, rtol=1e-4)


def test_predictors_that_0_1_wrote():
    predictor = Predictor.load(FILES / "table_0_1.safetensors")
    assert (repr(predictor.loss), predictor.target.strip) == ("Focal(gamma=1.5)", ".")
    row = {"a": np.asarray([1.0]), "b": np.asarray(["x"], dtype=object)}
    np.testing.assert_allclose(predictor.predict_proba(row), [[0.73149693, 0.26850301]], rtol=1e-5)
    predictor = Predictor.load(FILES / "numbers_0_1.safetensors")
    assert repr(predictor.loss) == "Huber(delta=2.0)"
    np.testing.assert_allclose(predictor.predict(X)[:3], [5.05131476, 6.5753871, 5.21237066], rtol=1e-5)


def test_what_is_written_now_is_what_0_1_wrote():
    """The format is the same, to the entry: an older version reads today's files."""
    from xpnn.checkpoint import read

    net = xpnn.load(FILES / "network_0_1.safetensors")
    assert net.config() == read(FILES / "network_0_1.safetensors")[1]["network"]
    trainer = xpnn.Trainer.load(FILES / "trainer_0_1.safetensors")
    told = read(FILES / "trainer_0_1.safetensors")[1]["trainer"]
    for part in ("loss", "optimizer", "schedule", "regularizer", "metrics"):
        assert to_config(getattr(trainer, part)) == told[part]


def test_predictors_are_written_as_0_1_wrote_them(tmp_path):
    for name in ("table", "numbers"):
        Predictor.load(FILES / f"{name}_0_1.safetensors").save(tmp_path / name)
        tensors, described = read(tmp_path / name)
        before, described_before = read(FILES / f"{name}_0_1.safetensors")
        assert [(key, a.dtype, a.shape, a.tobytes()) for key, a in tensors.items()] == [
            (key, a.dtype, a.shape, a.tobytes()) for key, a in before.items()
        ]
        assert described.pop("written_by") == xpnn.__version__
        assert described_before.pop("written_by") == "0.1.0"
        assert json.dumps(without(described, "digest", "spelling")) == json.dumps(described_before), "and what is new"


def without(value, *names):
    """Plain data without the entries of these names."""
    if isinstance(value, dict):
        return {key: without(inner, *names) for key, inner in value.items() if key not in names}
    return [without(inner, *names) for inner in value] if isinstance(value, list) else value
