"""Networks in files: everything comes back, nothing is half written, and no file does harm."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import backend_or_skip

import xpnn
from xpnn import checkpoint, initializers, layers
from xpnn.checkpoint import BackgroundWriter, load, read, save, write
from xpnn.errors import DataError, FileFormatError, OptionError, ShapeError, XpnnError
from xpnn.initializers import Initializer


# -- classes of a user's own, known by name in a file ----------------------------------------------------------
class Stretch(layers.Layer):
    """Multiply by a number: a layer with an option and no parameters."""

    def __init__(self, factor: float = 2.0) -> None:
        self.factor = factor

    def forward(self, x, *, train=False, key=None):
        return x * self.factor, None

    def backward(self, dy, cache, *, need_dx=True):
        return dy * self.factor if need_dx else None


@dataclass(frozen=True)
class Ramp(Initializer):
    """Numbers in a row."""

    step: float = 0.5

    def sample(self, rng, shape):
        return np.arange(np.prod(shape)).reshape(shape) * self.step


EVERY_KIND = (
    lambda: layers.Linear(4, init=initializers.Orthogonal(), bias_init=initializers.Constant(0.5), lr_mult=0.5),
    lambda: layers.BatchNorm(eps=1e-3, momentum=0.2),
    lambda: layers.ReLU(),
    lambda: layers.Linear(4, bias=False, init="he_uniform", decay_mult=0.0),
    lambda: layers.LeakyReLU(0.2),
    lambda: layers.PReLU(0.1, per_unit=True),
    lambda: layers.ELU(0.5),
    lambda: layers.SELU(),
    lambda: layers.GELU(approximate="tanh"),
    lambda: layers.SiLU(),
    lambda: layers.Mish(),
    lambda: layers.Softplus(),
    lambda: layers.Identity(),
    lambda: layers.Dropout(0.25),
    lambda: layers.LayerNorm(eps=1e-4),
    lambda: layers.RMSNorm(eps=1e-4),
    lambda: layers.Residual(
        layers.Linear(6, init=initializers.XavierUniform(gain=0.5)),
        layers.BatchNorm(),
        layers.Residual(layers.Linear(6), layers.Tanh()),
        layers.Linear(4),
    ),
    lambda: layers.Scale(0.5, lr_mult=2.0),
    lambda: layers.Columns((2, layers.NumericalEmbedding("plr", dim=2)), (1, layers.Tanh())),
    lambda: layers.ParametricActivation(layers.LeakyReLU(0.2), decay_mult=0.1),
    lambda: layers.MemberScale(2, groups=[2, 2, 1, 1]),
    lambda: layers.MemberLinear(3, 2, scale_in=False, init="he_normal"),
    lambda: layers.MemberHead(2, 2),
    lambda: layers.Sigmoid(),
    lambda: layers.Softmax(temperature=2.0),
    lambda: layers.Step(),
    lambda: layers.Linear(2),
)


def whole_net(backend="numpy", dtype=None, seed=3):
    """A network of every layer there is, with options that are not the defaults."""
    first = layers.Embedding(5, 2, init=initializers.Uniform())
    return xpnn.Sequential(first, *(make() for make in EVERY_KIND), n_in=3, backend=backend, dtype=dtype, seed=seed)


def trained(net):
    """Move all parameters and buffers away from where they begin."""
    rng = np.random.default_rng(0)
    store, backend = net.store, net.backend
    for _, view in [*net.params.items(), *store.named_buffers.items()]:
        view[...] = backend.asarray(rng.uniform(0.5, 1.5, view.shape))
    return net


def small_net():
    return trained(xpnn.Sequential(layers.Linear(2), layers.BatchNorm(), layers.Dropout(0.5), n_in=2))


def numbers(net, batch=7):
    return np.random.default_rng(1).integers(0, 5, (batch, net.n_in))


# -- round trips -------------------------------------------------------------------------------------------------
def test_the_table_holds_every_layer():
    def kinds(some):
        return {type(layer) for layer in some} | {k for layer in some for k in kinds(layer.sublayers())}

    public = {getattr(layers, name) for name in layers.__all__} - {layers.Layer, layers.get_activation}
    assert kinds(whole_net().layers) == public


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [3, -1, 2**63 - 1, [4, 1, 9]], ids=str)
def test_every_layer_comes_back_with_its_options_and_numbers(tmp_path, dtype, seed):
    net = trained(whole_net(dtype=dtype, seed=seed))
    save(net, tmp_path / "net.safetensors")
    same = load(tmp_path / "net.safetensors")
    assert repr(same) == repr(net)
    assert same.config() == net.config()
    assert same.seed == net.seed
    assert same.backend == net.backend
    assert list(same.params) == list(net.params)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(same.state_dict()[name], value, err_msg=name)
    np.testing.assert_array_equal(same.store.values, net.store.values)
    np.testing.assert_array_equal(same.store.buffers, net.store.buffers)
    x = numbers(net)
    np.testing.assert_array_equal(same.predict(x), net.predict(x))
    (y, _), (z, _) = (each.copy().forward(x, train=True, step=5) for each in (net, same))
    np.testing.assert_array_equal(y, z, err_msg="dropout goes on alike")
    for a, b in ((net.store.lr_factors, same.store.lr_factors), (net.store.decay_factors, same.store.decay_factors)):
        np.testing.assert_array_equal(a, b)


def test_loading_shares_no_memory_and_training_goes_on_alike(tmp_path):
    path = tmp_path / "net.safetensors"
    X, y = xpnn.data.make_moons(40, seed=0)
    net = xpnn.mlp([2, 8, 2], norm="batch", dropout=0.1)
    xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).fit(X, y, epochs=1)
    save(net, path)
    first, second = load(path), load(path)
    assert not np.shares_memory(first.store.values, second.store.values)
    for again in (net, first, second):
        xpnn.Trainer(again, xpnn.CrossEntropy(), xpnn.SGD(0.1, 0.9)).fit(X, y, epochs=2)
    np.testing.assert_array_equal(first.store.values, net.store.values)
    np.testing.assert_array_equal(second.store.buffers, net.store.buffers)
    save(first, path)
    np.testing.assert_array_equal(load(path).store.values, net.store.values)


def test_a_file_from_any_library_opens_on_any_other(tmp_path, backend):
    path = tmp_path / "net.safetensors"
    net = trained(whole_net(backend))
    save(net, path)
    for spec in ("numpy", "strict", "torch"):
        there = load(path, backend=backend_or_skip(spec))
        assert there.backend.name == spec
        for name, value in net.state_dict().items():
            np.testing.assert_array_equal(there.state_dict()[name], value)
    assert load(path, backend=backend.spec).backend == backend
    assert load(path).backend == xpnn.get_backend("numpy")


def test_the_dtype_is_the_saved_one_unless_asked(tmp_path):
    save(small_net().to("numpy", "float64"), tmp_path / "net")
    assert load(tmp_path / "net").backend.dtype_name == "float64"
    assert load(tmp_path / "net", backend="numpy").backend.dtype_name == "float64"
    assert load(tmp_path / "net", dtype="float32").backend.dtype_name == "float32"
    given = xpnn.get_backend("numpy", "float32")
    assert load(tmp_path / "net", backend=given).backend is given
    assert load(tmp_path / "net", backend=given, dtype="float64").backend.dtype_name == "float64"


def test_initializers_come_back_as_objects(tmp_path):
    public = [getattr(initializers, name) for name in initializers.__all__ if name[0].isupper()]
    kinds = [kind for kind in public if kind is not Initializer]
    made = [kind() for kind in kinds if kind is not initializers.Constant] + [initializers.Constant(0.25)]
    net = xpnn.Sequential(*(layers.Linear(3, init=init) for init in made), n_in=3)
    save(net, tmp_path / "net")
    assert [layer.init for layer in load(tmp_path / "net").layers] == made
    assert len(made) == len(kinds) >= 10


def test_layers_and_initializers_of_ones_own(tmp_path):
    net = xpnn.Sequential(
        layers.Linear(3, init=Ramp(0.25)), Stretch(factor=1.5), layers.Residual(Stretch(0.5), layers.Linear(3)), n_in=2
    )
    save(net, tmp_path / "net")
    same = load(tmp_path / "net", custom_layers=(Stretch, Ramp))
    assert same.layers[0].init == Ramp(0.25)
    assert (same.layers[1].factor, same.layers[2].layers[0].factor) == (1.5, 0.5)
    x = np.ones((2, 2))
    np.testing.assert_array_equal(same.predict(x), net.predict(x))
    for passed, missing in (((Ramp,), "Stretch"), ((Stretch,), "Ramp"), ((), "Ramp")):
        with pytest.raises(
            OptionError,
            match=rf"^load: the network contains '{missing}', which is not xpnn's\. Import that class and pass "
            rf"custom_layers=\({missing},\)\.$",
        ):
            load(tmp_path / "net", custom_layers=passed)


class Damped(layers.Residual):
    """A residual with an option of its own."""

    def __init__(self, *inner, damping=1.0):
        super().__init__(*inner)
        self.damping = damping

    def config(self):
        return {**super().config(), "damping": self.damping}


class Block(layers.Residual):
    """A residual that makes its layers itself."""

    def __init__(self, width):
        super().__init__(layers.Linear(width), layers.ReLU())
        self.width = width

    def config(self):
        return {"width": self.width}


def test_residuals_of_ones_own(tmp_path):
    net = xpnn.Sequential(Damped(layers.Linear(3), Block(3), damping=0.5), n_in=3)
    save(net, tmp_path / "net")
    same = load(tmp_path / "net", custom_layers=(Damped, Block))
    assert repr(same) == repr(net)
    assert (type(same.layers[0].layers[1]), same.layers[0].damping) == (Block, 0.5)
    x = np.ones((2, 3))
    np.testing.assert_array_equal(same.predict(x), net.predict(x))


def test_a_custom_layer_may_hold_numpy_numbers(tmp_path):
    net = xpnn.Sequential(Stretch(np.float32(0.5)), layers.Linear(1), n_in=2)
    save(net, tmp_path / "net", extra={"rows": np.int64(7)})
    assert load(tmp_path / "net", custom_layers=(Stretch,)).layers[0].factor == 0.5
    assert read(tmp_path / "net")[1]["extra"] == {"rows": 7}


IN_EXTRA = "save: expected values that JSON can hold in extra, got: an object of type {}. Turn them into numbers, "
IN_A_LAYER = (
    "Stretch: expected factor to be numbers, text, lists, dicts, or an object that keeps each argument of its "
    "constructor in an attribute of that name, got an object of type {}. Store such values, or "
)


@pytest.mark.parametrize(
    ("factor", "extra", "message"),
    [
        (1.0, {"a": object()}, IN_EXTRA.format("object")),
        (1.0, {"a": {1, 2}}, IN_EXTRA.format("set")),
        (object(), None, IN_A_LAYER.format("object")),
        (np.ones(3), None, IN_A_LAYER.format("ndarray")),
        ([1.0, {"deep": len}], None, IN_A_LAYER.format("builtin_function_or_method")),
    ],
    ids=["extra object", "extra set", "layer option", "layer option array", "layer option deep inside"],
)
def test_what_json_cannot_hold_is_refused_and_nothing_written(tmp_path, factor, extra, message):
    net = xpnn.Sequential(Stretch(1.0), layers.Linear(1), n_in=2)
    net.layers[0].factor = factor
    with pytest.raises(OptionError, match=f"^{re.escape(message)}"):
        save(net, tmp_path / "net", extra=extra)
    assert list(tmp_path.iterdir()) == []


def test_extra_values_are_kept(tmp_path):
    extra = {"classes": ["cat", "dög", "鳥"], "threshold": 0.1, "nested": {"a": [1, None, True]}}
    save(small_net(), tmp_path / "net", extra=extra)
    tensors, meta = read(tmp_path / "net")
    assert meta["extra"] == extra
    assert (meta["version"], meta["written_by"]) == (1, xpnn.__version__)
    assert sorted(tensors) == ["0.bias", "0.weight", "1.bias", "1.running_mean", "1.running_var", "1.weight"]
    save(small_net(), tmp_path / "net")
    assert read(tmp_path / "net")[1]["extra"] == {}


def test_any_safetensors_reader_opens_the_file(tmp_path):
    from safetensors.numpy import load_file

    net = trained(whole_net(seed=[0, 1]))
    save(net, tmp_path / "net.safetensors")
    state = load_file(tmp_path / "net.safetensors")
    assert state.keys() == net.state_dict().keys()
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(state[name], value)
        assert state[name].dtype == np.float32

    # and, with no library at all: a length, JSON, and the numbers
    raw = (tmp_path / "net.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    assert json.loads(header["__metadata__"]["xpnn"])["network"] == net.config()
    start, stop = header["1.weight"]["data_offsets"]
    weight = np.frombuffer(raw[8 + length :][start:stop], "<f4").reshape(header["1.weight"]["shape"])
    np.testing.assert_array_equal(weight, net.params["1.weight"])


def test_arrays_in_any_memory_order_are_written_right(tmp_path):
    a = np.arange(12.0).reshape(3, 4)
    write(tmp_path / "f", {"t": a.T, "r": a[::-1, ::2], "zero": np.float64(3.0), "none": np.empty((0, 2))}, {})
    tensors, _ = read(tmp_path / "f")
    np.testing.assert_array_equal(tensors["t"], a.T)
    np.testing.assert_array_equal(tensors["r"], a[::-1, ::2])
    assert tensors["none"].shape == (0, 2)
    assert float(tensors["zero"].reshape(())) == 3.0


# -- writing ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), MemoryError()], ids=repr)
@pytest.mark.parametrize("moment", ["replace", "write"])
def test_a_write_that_is_cut_short_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, error, moment):
    path = tmp_path / "net.safetensors"
    save(small_net(), path)
    before = path.read_bytes()

    def half(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise error

    def refuse(*_):
        raise error

    if moment == "write":
        monkeypatch.setattr(Path, "write_bytes", half)
    else:
        monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises((type(error), DataError)):
        save(whole_net(), path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["net.safetensors"]
    assert repr(load(path)) == repr(small_net())


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    save(small_net(), path)
    before = path.read_bytes()
    replace, seen = os.replace, []

    def watching(source, target):
        seen.append((Path(source).parent == tmp_path, path.read_bytes() == before, os.path.getsize(source)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watching)
    save(whole_net(), path)
    assert seen == [(True, True, path.stat().st_size)], "in the same folder, whole before it is renamed"
    assert path.read_bytes() != before


def test_missing_folders_are_made(tmp_path):
    save(small_net(), tmp_path / "a" / "b" / "net.safetensors")
    assert load(str(tmp_path / "a" / "b" / "net.safetensors")).n_in == 2


@pytest.mark.parametrize("where", ["file/net", "file/deeper/net", "folder"])
def test_places_that_cannot_be_written_are_told(tmp_path, where):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        DataError,
        match=r"^writing .+: expected a folder that can be written to, got: .+\. Choose another path, or mend the "
        r"folder's permissions\.$",
    ):
        save(small_net(), tmp_path / where)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "no folder"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_permission_is_told(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    with pytest.raises(DataError, match="expected a folder that can be written to, got: Permission denied"):
        save(small_net(), folder / "net")


# -- reading what is not whole -----------------------------------------------------------------------------------
def test_a_file_cut_at_any_byte_is_told(tmp_path):
    path = tmp_path / "net.safetensors"
    save(small_net(), path)
    raw = path.read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(raw)):
        cut.write_bytes(raw[:length])
        with pytest.raises(
            FileFormatError,
            match=r"^load: expected a whole safetensors file, but .+cut\.safetensors cannot be read \(.+\)\. It is "
            r"truncated or of another format; copy it again, or save the network again\.$",
        ):
            load(cut)
    cut.write_bytes(raw + b"\0")
    with pytest.raises(FileFormatError, match="cannot be read"):
        load(cut)


@settings(max_examples=400)
@given(data=st.data())
def test_changed_bytes_give_a_network_or_an_error_of_ours(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    whole = folder / "whole.safetensors"
    if not whole.exists():
        save(small_net(), whole)
    raw = bytearray(whole.read_bytes())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), min_size=1, max_size=3)
    ):
        raw[place] = value
    broken = folder / "broken.safetensors"
    broken.write_bytes(raw)
    with contextlib.suppress(XpnnError):
        net = load(broken)
        assert isinstance(net, xpnn.Sequential)


@settings(max_examples=200)
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_no_network(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(raw)
    with pytest.raises(FileFormatError, match="expected a whole safetensors file"):
        load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04" + b"\0" * 100, b"\x80\x04\x95" + b"\0" * 50, b"{}", b"a,b\n1,2\n", b"\xff" * 64],
    ids=["empty", "zip or npz", "pickle", "json", "csv", "length too large"],
)
def test_other_formats_are_told(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(FileFormatError, match="It is truncated or of another format"):
        load(tmp_path / "other")


def test_foreign_safetensors_are_told(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(2)}, tmp_path / "plain")
    save_file({"a": np.ones(2)}, tmp_path / "theirs", metadata={"format": "pt"})
    for name in ("plain", "theirs"):
        with pytest.raises(
            FileFormatError,
            match=rf"^load: .+{name} is a safetensors file, but not one of xpnn\. Write it with xpnn\.save\.$",
        ):
            load(tmp_path / name)


def test_foreign_safetensors_of_dtypes_that_numpy_has_not_are_told(tmp_path):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "bf16").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    with pytest.raises(FileFormatError, match="is a safetensors file, but not one of xpnn"):
        load(tmp_path / "bf16")
    meta = {"__metadata__": {"xpnn": json.dumps({"version": 1})}}
    header = json.dumps({**meta, "a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "ours").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    # once something has imported ml_dtypes, NumPy has that dtype too
    with pytest.raises(FileFormatError, match=r"cannot be read|holds no xpnn network"):
        load(tmp_path / "ours")


def test_a_file_without_a_network_is_told(tmp_path):
    write(tmp_path / "f", {"a": np.ones(2)}, {"other": 1})
    with pytest.raises(
        FileFormatError,
        match=r"^load: .+f is a safetensors file, but holds no xpnn network\. Write it with xpnn\.save\.$",
    ):
        load(tmp_path / "f")


def test_a_newer_format_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_VERSION", 2)
    monkeypatch.setattr(xpnn, "__version__", "9.9")
    save(small_net(), tmp_path / "net")
    monkeypatch.undo()
    with pytest.raises(
        FileFormatError, match=r"^load: .+net was written by xpnn 9\.9 in a newer format\. Run: pip install -U xpnn$"
    ):
        load(tmp_path / "net")


def described(tmp_path, **changes):
    """A file whose description of the network has been changed by hand; ... removes an entry."""
    net = small_net()
    config = {k: v for k, v in {**net.config(), **changes}.items() if v is not ...}
    write(tmp_path / "net", net.state_dict(), {"network": config})
    return tmp_path / "net"


LINEAR, NORM, DROPOUT = ({"type": "Linear", "n_out": 2}, {"type": "BatchNorm"}, {"type": "Dropout", "rate": 0.5})
WRONG = {
    "no layers": ({"layers": ...}, FileFormatError, r"KeyError\('layers'\)"),
    "no width": ({"n_in": ...}, FileFormatError, r"KeyError\('n_in'\)"),
    "no seed": ({"seed": ...}, FileFormatError, r"KeyError\('seed'\)"),
    "no dtype": ({"dtype": ...}, FileFormatError, r"KeyError\('dtype'\)"),
    "layers no list": ({"layers": 3}, FileFormatError, "TypeError"),
    "option unknown": ({"layers": [{**LINEAR, "colour": 1}, NORM, DROPOUT]}, FileFormatError, "colour"),
    "option missing": ({"layers": [{"type": "Linear"}, NORM, DROPOUT]}, FileFormatError, "n_out"),
    "option of wrong kind": ({"layers": [LINEAR, NORM, {**DROPOUT, "rate": "half"}]}, OptionError, "got 'half'"),
    "option out of range": ({"layers": [LINEAR, NORM, {**DROPOUT, "rate": 2}]}, OptionError, "0 <= rate < 1"),
    "type no name": ({"layers": [{**LINEAR, "type": ["Linear"]}, NORM, DROPOUT]}, FileFormatError, "TypeError"),
    "a function": ({"layers": [{"type": "get_activation", "name": "relu"}]}, OptionError, "'get_activation', which"),
    "a module": ({"layers": [{**LINEAR, "init": {"type": "np"}}]}, OptionError, "contains 'np'"),
    "a decorator": ({"layers": [{**LINEAR, "init": {"type": "dataclass"}}]}, OptionError, "contains 'dataclass'"),
    "not a layer": ({"layers": [3]}, OptionError, "expected layers, got 3"),
    "seed no number": ({"seed": "three"}, OptionError, "seed to be an integer.*got 'three'"),
    "dtype unknown": (
        {"dtype": "float8"},
        OptionError,
        "expected dtype float32, float64, bfloat16 or float16, got 'float8'",
    ),
    "other width": ({"n_in": 3}, ShapeError, r"expected 0\.weight of shape \(3, 2\), got \(2, 2\)"),
    "other layers": ({"layers": [LINEAR]}, FileFormatError, r"unknown \['1\.bias'"),
    "replicas": ({"seed": [1, 2]}, ShapeError, r"expected 0\.weight of shape \(2, 2, 2\)"),
}


@pytest.mark.parametrize(("changes", "kind", "message"), WRONG.values(), ids=WRONG)
def test_descriptions_that_cannot_be_built_are_told(tmp_path, changes, kind, message):
    with pytest.raises(kind, match=message):
        load(described(tmp_path, **changes))


def test_an_empty_change_is_none(tmp_path):
    assert repr(load(described(tmp_path))) == repr(small_net())


@pytest.mark.parametrize("text", ["{", "[]", "{}", "3", '{"version": "one"}', "null"])
def test_metadata_that_are_not_ours_are_told(tmp_path, text):
    from safetensors.numpy import save_file

    save_file({"a": np.ones(2)}, tmp_path / "f", metadata={"xpnn": text})
    with pytest.raises(FileFormatError, match="expected a whole safetensors file, but"):
        load(tmp_path / "f")


def test_a_missing_file_and_a_folder_are_told(tmp_path):
    save(small_net(), tmp_path / "net.safetensors")
    with pytest.raises(DataError, match=r"^load: expected the file .+ not there\. Did you mean net\.safetensors\?$"):
        load(tmp_path / "nett.safetensors")
    with pytest.raises(DataError, match=r"but the folder .+nowhere is not there\."):
        load(tmp_path / "nowhere" / "net.safetensors")
    with pytest.raises(DataError, match=r"expected a file, got the folder"):
        load(tmp_path)


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save(small_net(), "~/net.safetensors")
    assert load("~/net.safetensors").n_in == 2
    assert (tmp_path / "net.safetensors").is_file()


# -- in a thread -----------------------------------------------------------------------------------------------
def test_what_is_written_in_a_thread_is_whole_when_the_next_begins(tmp_path):
    writer = BackgroundWriter()
    for k in range(3):
        writer(tmp_path / "a.safetensors", {"a": np.full(1000, float(k))}, {"extra": {}})
    writer.finish()
    writer.finish()
    assert read(tmp_path / "a.safetensors")[0]["a"].tolist() == [2.0] * 1000
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert pickle.loads(pickle.dumps(writer)).finish() is None


def test_an_error_in_the_thread_is_raised_by_the_next(tmp_path):
    (tmp_path / "file").write_text("")
    writer = BackgroundWriter()
    writer(tmp_path / "file" / "a.safetensors", {"a": np.zeros(2)}, {})
    with pytest.raises(DataError, match="writing"):
        writer(tmp_path / "b.safetensors", {"a": np.zeros(2)}, {})
    writer.finish()
    assert not (tmp_path / "b.safetensors").exists()


def test_without_a_thread_it_is_written_at_once(tmp_path, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer = BackgroundWriter()
    writer(tmp_path / "a.safetensors", {"a": np.zeros(2)}, {})
    assert (tmp_path / "a.safetensors").exists()
    writer.finish()
