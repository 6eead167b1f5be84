"""Networks to Keras and back: values and outputs, against Keras itself.

Keras computes with another library, which it takes from the environment when it is imported.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from cases import LAYERS
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnn
from xpnn.errors import OptionError
from xpnn.interop.keras import to_keras

FOUND = [name for name in ("torch", "jax") if importlib.util.find_spec(name)]
os.environ.setdefault("KERAS_BACKEND", [*FOUND, "numpy"][0])
keras = pytest.importorskip("keras", reason="needs keras and a library that it computes with: pip install keras jax")
kinds = keras.layers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras, from within
TOLERANCE = 1e-5  # in float64 too: Keras makes products of float32 but on TensorFlow
#: JAX has no float64 unless it is asked for when it starts.
DTYPES = ["float32"] if keras.backend.backend() == "jax" else ["float64", "float32"]
ROWS = np.random.default_rng(0).normal(size=(6, 5))
#: Layers that Keras lacks.
LACKING = (xpnn.Step, xpnn.Scale, xpnn.ParametricActivation, xpnn.NumericalEmbedding, xpnn.Columns)
LACKING += (xpnn.MemberScale, xpnn.MemberLinear, xpnn.MemberHead)


def outputs(model, x) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(x, training=False)))


def check(net, model, x):
    dtype = net.backend.dtype_name
    x = x if net.takes_integers else x.astype(dtype)
    found, theirs = net.predict(x), outputs(model, x)
    assert found.shape == theirs.shape
    assert found.dtype == dtype
    np.testing.assert_allclose(found, theirs, rtol=TOLERANCE, atol=TOLERANCE)


def spread(net):
    """Move all values off those that they begin with."""
    rng = np.random.default_rng(7)
    for name, view in {**net.params, **net.store.named_buffers}.items():
        view += rng.uniform(0.1, 0.5, view.shape) * (1 if "var" in name else rng.choice([-1, 1], view.shape))
    return net


def lacks(layer) -> bool:
    tanh = isinstance(layer, xpnn.GELU) and layer.approximate == "tanh"
    return tanh or isinstance(layer, LACKING) or (isinstance(layer, xpnn.Softmax) and layer.temperature != 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_every_layer_goes_and_comes_back_or_is_refused(case, dtype):
    net = spread(case.net(dtype=dtype))
    if lacks(net.layers[0]):
        with pytest.raises(OptionError, match=f"to_keras: Keras has no layer like 0.{type(net.layers[0]).__name__}"):
            net.to_keras()
        return
    model = net.to_keras()
    check(net, model, case.x())
    if isinstance(net.layers[0], xpnn.Residual):
        with pytest.raises(OptionError, match=r"expected a chain, got add.*, a Add of 2 inputs"):
            xpnn.from_keras(model)
        return
    back = xpnn.from_keras(model, dtype=dtype)
    assert {n: v.tolist() for n, v in back.state_dict().items()} == {n: v.tolist() for n, v in net.state_dict().items()}
    for option in ("eps", "momentum", "rate", "alpha", "dim", "per_unit"):
        there = getattr(back.layers[0], option, None)
        assert there == getattr(net.layers[0], option, None)


# -- generated models --------------------------------------------------------------------------------------------------
FUNCTIONS = ["linear", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "swish", "mish", "softplus", "sigmoid"]
FUNCTIONS += ["tanh", "softmax"]


MORE = {
    "batch norm": lambda: kinds.BatchNormalization(epsilon=0.01, momentum=0.8),
    "layer norm": kinds.LayerNormalization,
    "rms norm": kinds.RMSNormalization,
    "slopes": kinds.PReLU,
    "slope": lambda: kinds.PReLU(shared_axes=[1]),
    "relu": kinds.ReLU,
    "leaky relu": lambda: kinds.ReLU(negative_slope=0.1),
    "leaky": kinds.LeakyReLU,
    "elu": lambda: kinds.ELU(0.5),
    "softmax": kinds.Softmax,
    "identity": kinds.Identity,
    "dropout": lambda: kinds.Dropout(0.3),
    "tanh": lambda: kinds.Activation("tanh"),
    "a layer as activation": lambda: kinds.Dense(2, activation=kinds.LeakyReLU(0.2)),
}
BLOCKS = st.tuples(st.integers(1, 5), st.sampled_from(FUNCTIONS), st.booleans(), st.sampled_from(list(MORE)))


def made(n_in, blocks, shape):
    """A chain of Keras's own layers, as a Sequential, one with another inside, or a functional model."""
    layers = []
    for units, function, bias, more in blocks:
        layers += [kinds.Dense(units, function, use_bias=bias), MORE[more]()]
    inputs = keras.Input((n_in,), dtype=keras.config.dtype_policy().compute_dtype)
    if shape == "functional":
        x = inputs
        for layer in layers:
            x = layer(x)
        model = keras.Model(inputs, x)
    elif shape == "nested":
        model = keras.Sequential([inputs, keras.Sequential(layers[:2]), *layers[2:]])
    else:
        model = keras.Sequential([inputs, *layers])
    rng = np.random.default_rng(len(layers))
    for layer in layers:
        for variable in layer.weights:
            if "float" in str(variable.dtype):
                sign = 1 if variable.name == "moving_variance" else rng.choice([-1, 1], variable.shape)
                variable.assign(rng.uniform(0.2, 1.0, variable.shape) * sign)
    return model


@settings(max_examples=12)
@given(
    n_in=st.integers(1, 5),
    blocks=st.lists(BLOCKS, min_size=1, max_size=3),
    shape=st.sampled_from(["sequential", "nested", "functional"]),
    dtype=st.sampled_from(DTYPES),
)
def test_generated_models_come_in(n_in, blocks, shape, dtype):
    keras.config.set_dtype_policy(dtype)
    try:
        model = made(n_in, blocks, shape)
    finally:
        keras.config.set_dtype_policy("float32")
    net = xpnn.from_keras(model)
    assert (net.n_in, net.backend.dtype_name) == (n_in, dtype)
    check(net, model, ROWS[:, :n_in])
    check(net, net.to_keras(), ROWS[:, :n_in])


def test_a_model_may_be_built_by_its_first_batch():
    model = called(keras.Sequential([kinds.Dense(3, "relu"), kinds.Dense(1)]))
    check(xpnn.from_keras(model), model, ROWS[:, :2])


def test_batch_norm_keeps_moments_with_the_same_weight():
    model = keras.Sequential([keras.Input((2,)), kinds.BatchNormalization(momentum=0.7)])
    net = xpnn.from_keras(model)
    x = ROWS[:, :2].astype("float32")
    model(x, training=True)
    net.forward(x, train=True)
    mean, variance = (keras.ops.convert_to_numpy(v) for v in model.layers[0].weights[2:])
    np.testing.assert_allclose(net.state_dict()["0.running_mean"], mean, rtol=1e-5)
    unbiased = 0.7 + (variance - 0.7) * len(x) / (len(x) - 1)
    np.testing.assert_allclose(net.state_dict()["0.running_var"], unbiased, rtol=1e-5)


def test_residual_blocks_become_a_functional_model():
    net = spread(xpnn.mlp([4, 6, 6, 6, 2], "tanh", norm="batch", residual=True, dropout=0.2))
    model = net.to_keras()
    assert not isinstance(model, keras.Sequential)
    check(net, model, ROWS[:, :4])
    assert isinstance(xpnn.mlp([4, 6, 2]).to_keras(), keras.Sequential)


def test_embeddings_and_flattened_samples():
    model = keras.Sequential([keras.Input((3,), dtype="int32"), kinds.Embedding(7, 2), kinds.Flatten(), kinds.Dense(2)])
    net = xpnn.from_keras(model)
    codes = np.random.default_rng(0).integers(0, 7, (5, 3))
    check(net, model, codes)
    check(net, net.to_keras(), codes)
    pictures = keras.Sequential([keras.Input((3, 4)), kinds.Flatten(), kinds.Dense(2)])
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype("float32")
    net = xpnn.from_keras(pictures)
    np.testing.assert_allclose(net.predict(x.reshape(5, 12)), outputs(pictures, x), rtol=1e-5, atol=1e-6)


def test_frozen_layers_stay_frozen():
    model = keras.Sequential([keras.Input((3,)), kinds.Dense(4, "tanh"), kinds.Dense(2)])
    model.layers[0].trainable = False
    net = xpnn.from_keras(model)
    assert [net.store.specs[name].lr_mult for name in net.params] == [0.0, 0.0, 1.0, 1.0]
    assert [layer.trainable for layer in net.to_keras().layers] == [False, True, True]
    assert xpnn.from_keras(model, dtype="float64").backend.dtype_name == "float64"
    assert xpnn.from_keras(model, backend=xpnn.get_backend("numpy", "float64")).backend.dtype_name == "float64"


def test_a_model_that_only_predicts_may_lack_what_training_needs():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            kinds.LayerNormalization(center=False, scale=False),
            kinds.Dense(4, kernel_constraint="non_neg"),
            kinds.BatchNormalization(center=False, scale=False, momentum=1.0),
            kinds.LayerNormalization(center=False),
            kinds.LayerNormalization(scale=False),
        ]
    )
    model.trainable = False
    check(xpnn.from_keras(model), model, ROWS[:, :3])


# -- what cannot come in -----------------------------------------------------------------------------------------------
class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = kinds.Dense(2)

    def call(self, x):
        return self.dense(x)


class OwnDense(kinds.Dense):
    pass


def called(model):
    model(np.zeros((1, 2), "float32"))
    return model


def chain(*layers, n=2):
    return keras.Sequential([keras.Input((n,)), *layers])


def two_outputs():
    inputs = keras.Input((2,))
    return keras.Model(inputs, [kinds.Dense(1)(inputs), kinds.Dense(1)(inputs)])


def shared():
    inputs, dense = keras.Input((2,)), kinds.Dense(2)
    return keras.Model(inputs, dense(dense(inputs)))


def frozen_norm():
    model = chain(kinds.Dense(2), kinds.LayerNormalization())
    model.layers[1].trainable = False
    return model


REFUSED = {
    "not built": (lambda: keras.Sequential([kinds.Dense(2)]), "expected a model that is built"),
    "empty": (lambda: keras.Sequential(), "expected a model that is built"),
    "own call": (lambda: called(Own()), "Own: expected a keras.Sequential or a functional model"),
    "own layer": (lambda: chain(OwnDense(2)), "xpnn has no layer like own_dense.*, a OwnDense"),
    "convolution": (
        lambda: keras.Sequential([keras.Input((4, 1)), kinds.Conv1D(1, 1)]),
        "a Conv1D. Bring in the layers behind it alone",
    ),
    "recurrent": (lambda: keras.Sequential([keras.Input((4, 1)), kinds.LSTM(1)]), "a LSTM. Bring in the layers"),
    "scaling": (lambda: chain(kinds.Rescaling(0.1)), "a Rescaling. Scale the rows"),
    "noise": (lambda: chain(kinds.GaussianNoise(0.1)), "a GaussianNoise. Take Dropout in its place"),
    "branches": (two_outputs, "expected a model with one input and one output, got 1 and 2"),
    "one layer twice": (shared, "stands in two places"),
    "more axes": (lambda: keras.Sequential([keras.Input((4, 2)), kinds.Dense(1)]), "Put a Flatten before it"),
    "embedding, no flatten": (
        lambda: keras.Sequential([keras.Input((1,)), kinds.Embedding(4, 2), kinds.Dense(1)]),
        "Put a Flatten before it",
    ),
    "embedding alone": (lambda: chain(kinds.Embedding(4, 2)), "expected a model that ends in rows"),
    "a layer that is not built": (lambda: chain(kinds.Activation(kinds.Dense(3))), "expected a layer that is built"),
    "a layer that keras cannot follow": (lambda: chain(kinds.Layer()), "xpnn has no layer like layer.*, a Layer"),
    "mask": (lambda: chain(kinds.Embedding(4, 2, mask_zero=True)), "expected mask_zero=False"),
    "own function": (lambda: chain(kinds.Dense(2, lambda x: x * 2)), "xpnn has no activation"),
    "unknown function": (
        lambda: chain(kinds.Activation("softsign")),
        "xpnn has no activation 'softsign'. Take one of elu",
    ),
    "bounded relu": (lambda: chain(kinds.ReLU(max_value=6.0)), "expected max_value=None and threshold=0"),
    "softmax over rows": (lambda: chain(kinds.Softmax(axis=0)), "expected axis=-1"),
    "no scale": (
        lambda: chain(kinds.Dense(2), kinds.LayerNormalization(scale=False)),
        "a scale, which is trained here",
    ),
    "no shift": (lambda: chain(kinds.BatchNormalization(center=False)), "a shift, which is trained here"),
    "renorm": (lambda: chain(kinds.BatchNormalization(renorm=True)), "expected renorm=False"),
    "still moments": (lambda: chain(kinds.BatchNormalization(momentum=1.0)), "expected 0 <= momentum < 1"),
    "norm of columns": (
        lambda: keras.Sequential([keras.Input((2,), batch_size=3), kinds.LayerNormalization(axis=0)]),
        "expected axis=-1",
    ),
    "frozen norm": (frozen_norm, "expected a layer that is trained, got trainable=False"),
    "constraint": (lambda: chain(kinds.Dense(2, kernel_constraint="non_neg")), "expected no constraint"),
    "two dtypes": (lambda: chain(kinds.Dense(2), kinds.Dense(2, dtype="float16")), "of one floating dtype"),
    "network": (lambda: xpnn.mlp([2, 2]), "That is xpnn's network already"),
    "text": (lambda: "model.keras", "expected a Keras model, got str. Pass a keras.Sequential"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_come_in_is_refused_by_name(name):
    make, message = REFUSED[name]
    with pytest.raises(OptionError, match=f"from_keras: .*{message}"):
        xpnn.from_keras(make())


def test_what_keras_cannot_hold_is_refused():
    with pytest.raises(OptionError, match="to_keras: expected one network, got 2 replicas"):
        xpnn.mlp([2, 3], replicas=2).to_keras()
    with pytest.raises(OptionError, match="to_keras: expected a network, got str"):
        to_keras("net")


def test_a_library_that_keras_wants_and_is_not_there_is_named():
    code = "import xpnn; xpnn.mlp([2, 1]).to_keras()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode == 0:
        pytest.skip("tensorflow is installed")
    assert (
        "to_keras: Keras computes with tensorflow, which is not installed. Set the environment variable" in done.stderr
    )
