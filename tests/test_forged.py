"""Damaged files, and files made to do harm: every changed bit is noticed, and nothing asks for much."""

from __future__ import annotations

import json
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from commands import refused, run
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnn
from xpnn.checkpoint import read, write
from xpnn.data.encoder import TableEncoder
from xpnn.data.scaling import Standardizer
from xpnn.data.targets import ClassTarget, NumberTarget
from xpnn.errors import FileFormatError, OptionError, ShapeError, XpnnError
from xpnn.predictor import Predictor

X, Y = xpnn.data.make_moons(60, seed=0)
ROWS = {"age": np.array([31.0, 28.0, 45.0, 38.0] * 5), "work": np.array(["a", "b", "c", "a"] * 5, dtype=object)}


def network():
    return xpnn.mlp([2, 4, 2], norm="batch", seed=0)


def trainer(**options):
    made = xpnn.Trainer(network(), xpnn.CrossEntropy(), options.pop("optimizer", xpnn.Adam()), **options)
    made.fit(X, Y, epochs=2, batch_size=32)
    return made


def predictor():
    encoder = TableEncoder(bins=2).fit(ROWS)
    net = xpnn.mlp([len(encoder.feature_names_out), 3, 3, 2], seed=0)
    return Predictor(net, xpnn.CrossEntropy(), ClassTarget().fit(["no", "yes", "no"]), encoder, {"options": {}})


LOADERS = {
    "network": (lambda path: xpnn.save(network(), path), xpnn.load),
    "trainer": (lambda path: trainer().save(path), xpnn.Trainer.load),
    "predictor": (lambda path: predictor().save(path), Predictor.load),
}
each_kind = pytest.mark.parametrize("kind", LOADERS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    for kind, (save, _) in LOADERS.items():
        save(folder / kind)
    return folder


def forge(path, into, change):
    """Write a file anew with its tensors and description changed, and a digest that fits."""
    tensors, meta = read(path)
    meta = {key: value for key, value in meta.items() if key not in ("version", "written_by")}
    tensors = {name: array.copy() for name, array in tensors.items()}
    change(tensors, meta)
    write(into, tensors, meta)
    return into


# -- damage ------------------------------------------------------------------------------------------------------
@each_kind
@settings(max_examples=60)
@given(data=st.data())
def test_no_changed_bit_goes_unseen(whole, kind, data):
    """But those of words that stand for what is not there, such as the name of the digest."""
    raw = bytearray((whole / kind).read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = whole / "changed"
    changed.write_bytes(raw)
    if b"digest" in bytes(raw):
        with pytest.raises(XpnnError):
            LOADERS[kind][1](changed)


@each_kind
def test_numbers_and_tensors_exchanged_are_seen(whole, kind):
    raw = (whole / kind).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    described = header["__metadata__"]["xpnn"]
    a, b = next(
        (a, b)
        for a in header
        for b in header
        if a < b and header[a].get("shape") == header[b].get("shape") != None  # noqa: E711
    )

    def written(head, rest):
        text = json.dumps(head).encode()
        (whole / "other").write_bytes(struct.pack("<Q", len(text)) + text + rest)
        return whole / "other"

    exchanged = {**header, a: header[b], b: header[a]}
    seed = {**header, "__metadata__": {"xpnn": described.replace('"seed": 0', '"seed": 1')}}
    for changed in (written(exchanged, body), written(seed, body), written(header, body[:-1] + b"\x01")):
        with pytest.raises(
            FileFormatError, match=r"^load: expected the content that .+other was written with, got other"
        ):
            LOADERS[kind][1](changed)
    assert LOADERS[kind][1](written(header, body)) is not None


@each_kind
@pytest.mark.parametrize("digest", [None, "", 0, "0" * 64])
def test_a_digest_that_is_none_is_seen(whole, kind, digest):
    raw = (whole / kind).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    meta = json.loads(header["__metadata__"]["xpnn"])
    header["__metadata__"]["xpnn"] = json.dumps({**meta, "digest": digest})
    text = json.dumps(header).encode()
    (whole / "other").write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])
    with pytest.raises(FileFormatError, match=r"got other bytes\. It is damaged"):
        LOADERS[kind][1](whole / "other")


def test_the_same_network_makes_the_same_file(tmp_path):
    for name in ("a", "b"):
        xpnn.save(network(), tmp_path / name, extra={"x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


# -- values ------------------------------------------------------------------------------------------------------
@each_kind
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_named(whole, kind, value):
    for name in read(whole / kind)[0]:

        def spoil(tensors, _, name=name):
            tensors[name].reshape(-1)[-1] = value

        forged = forge(whole / kind, whole / "forged", spoil)
        said = (
            rf"expected finite numbers in {name.removeprefix('network/').removeprefix('optimizer/')}, got {value} at \("
        )
        with pytest.raises(FileFormatError, match=said):
            LOADERS[kind][1](forged)
        assert not np.isfinite(read(forged)[0][name]).all(), "read returns what is there"


@each_kind
@pytest.mark.parametrize("dtype", ["int32", "float64", "float16", "bool"])
def test_other_dtypes_are_named(whole, kind, dtype):
    name = next(iter(read(whole / kind)[0]))
    forged = forge(whole / kind, whole / "forged", lambda t, _: t.update({name: t[name].astype(dtype)}))
    with pytest.raises(
        FileFormatError, match=rf"expected \S+ in float32, as the description says, got {dtype}|state of"
    ):
        LOADERS[kind][1](forged)


# -- what a description asks for -----------------------------------------------------------------------------------
def set_in(place, key, value):
    def change(_, meta):
        where = meta["network"]
        for step in place:
            where = where[step]
        where[key] = value

    return change


ASKS = {
    "inputs": set_in((), "n_in", 50_000_000),
    "outputs": set_in(("layers", 0), "n_out", 2**40),
    "all": set_in((), "n_in", 10**30),
    "replicas": set_in((), "seed", list(range(1_000))),
    "embedding": set_in(("layers",), 0, {"type": "Embedding", "n_categories": 2**40, "dim": 4}),
    "init": set_in(("layers", 0), "init", {"type": "Constant", "value": 2.0}),
}


@each_kind
@pytest.mark.parametrize("ask", ASKS)
def test_nothing_is_allocated_before_the_shapes_are_compared(whole, kind, ask):
    forged = forge(whole / kind, whole / "forged", ASKS[ask])
    began = time.process_time()
    tracemalloc.start()
    try:
        LOADERS[kind][1](forged)
    except (FileFormatError, ShapeError):
        pass
    else:
        assert ask == "init", "what is drawn at first does not matter"
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.process_time() - began < 2
    assert most < 100 << 20


def test_loading_draws_nothing(whole, monkeypatch):
    monkeypatch.setattr(xpnn.params, "stream", None)
    assert xpnn.load(whole / "network").n_in == 2
    assert xpnn.load(whole / "network").copy().n_in == 2


def test_many_layers_and_deep_ones_are_refused_in_no_time(whole):
    path = whole / "forged"

    def sealed(layers):
        """A file as `write` would not write it: without a digest, as of older versions."""
        meta = {"version": 1, "network": {"layers": layers, "n_in": 2, "dtype": "float32", "seed": 0}}
        head = json.dumps({"__metadata__": {"xpnn": json.dumps(meta)}}).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head)
        return path

    began = time.process_time()
    with pytest.raises(FileFormatError, match=r"expected at most 10,000 layers, got 200,000, in"):
        xpnn.load(sealed([{"type": "ReLU"}] * 200_000))
    deep = {"type": "ReLU"}
    for _ in range(60):
        deep = {"type": "Residual", "layers": [deep]}
    with pytest.raises(FileFormatError, match="expected at most 100 lists or objects in each other"):
        xpnn.load(sealed([deep]))
    assert time.process_time() - began < 3


def test_what_could_not_be_read_is_not_written(tmp_path):
    net = xpnn.Sequential(*(xpnn.ReLU() for _ in range(10_001)), n_in=1)
    with pytest.raises(OptionError, match=r"^save: expected at most 10,000 layers, got 10,001\. Nothing was written"):
        xpnn.save(net, tmp_path / "net")
    assert list(tmp_path.iterdir()) == []
    wide = xpnn.Sequential(*(xpnn.Linear(1) for _ in range(2_000)), n_in=1)
    xpnn.save(wide, tmp_path / "net", extra={"rows": [{"type": 1}] * 20_000})
    began = time.process_time()
    assert len(xpnn.load(tmp_path / "net").layers) == 2_000
    assert time.process_time() - began < 2


# -- trainers ----------------------------------------------------------------------------------------------------
def at(key, value):
    return lambda tensors, meta: meta["trainer"].update({key: value})


WRONG = {
    "epoch": (at("epoch", -1), "epoch is -1, not a whole number of at least 0"),
    "step": (at("step", True), "step is True, not"),
    "t": (at("t", "3"), "t is '3', not"),
    "seed": (at("seed", 2**90), "seed is 12.+, not a whole number"),
    "clip": (at("clip_norm", "1"), "clip_norm"),
    "history": (at("history", [{"loss": "low"}]), "history.0..loss is 'low', not a number"),
    "history itself": (at("history", {"loss": 1}), "history is {.+}, not a list"),
    "metrics": (at("metrics", 3), "metrics|TypeError"),
    "loss": (at("loss", None), "expected loss to be a loss"),
    "part": (lambda tensors, _: tensors.update({"other/x": np.zeros(3)}), "KeyError"),
    "missing": (
        lambda tensors, _: tensors.pop("optimizer/v"),
        r"Adam: expected a state of m \(\d+,\), v \(\d+,\), got m",
    ),
    "renamed": (
        lambda tensors, _: tensors.update({"optimizer/w": tensors.pop("optimizer/v")}),
        "Adam: expected a state",
    ),
    "too many": (lambda tensors, _: tensors.update({"optimizer/w": tensors["optimizer/v"]}), "Adam: expected a state"),
    "short": (lambda tensors, _: tensors.update({"optimizer/v": tensors["optimizer/v"][1:]}), "Adam: expected a state"),
    "another rule": (at("optimizer", {"type": "SGD", "lr": 0.1, "momentum": 0.9}), "SGD: expected a state of velocity"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_trainers_that_cannot_go_on_are_told(whole, wrong):
    change, message = WRONG[wrong]
    with pytest.raises(XpnnError, match=message):
        xpnn.Trainer.load(forge(whole / "trainer", whole / "forged", change))


def test_a_penalty_has_vectors_of_its_matrices(tmp_path):
    trainer(regularizer=xpnn.SpectralNorm(1e-3)).save(tmp_path / "t")
    assert xpnn.Trainer.load(tmp_path / "t").fit(X, Y, epochs=1)
    name = "regularizer/0.weight"
    for change in (
        lambda tensors, _: tensors.update({name: tensors[name][:-1]}),
        lambda tensors, _: tensors.update({"regularizer/9.weight": tensors.pop(name)}),
    ):
        with pytest.raises(FileFormatError, match=r"SpectralNorm: expected vectors of weight matrices, got .\.weight"):
            xpnn.Trainer.load(forge(tmp_path / "t", tmp_path / "forged", change))


def test_lbfgs_keeps_as_many_pairs_as_it_has_made(tmp_path):
    net = xpnn.mlp([2, 4, 2], activation="tanh", seed=0)
    made = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.LBFGS(memory=3))
    made.fit(X, Y, epochs=5, batch_size=60)
    made.save(tmp_path / "t")
    assert xpnn.Trainer.load(tmp_path / "t").fit(X, Y, epochs=1, batch_size=60)
    huge = forge(tmp_path / "t", tmp_path / "huge", lambda _, meta: meta["trainer"]["optimizer"].update(memory=2**40))
    assert xpnn.Trainer.load(huge).optimizer.memory == 2**40, "which takes no memory"
    lost = forge(tmp_path / "t", tmp_path / "lost", lambda tensors, _: tensors.pop("optimizer/step.1"))
    with pytest.raises(FileFormatError, match="LBFGS: expected a state of"):
        xpnn.Trainer.load(lost)


class Counting(xpnn.SGD):
    """A rule that adds to its state as it goes."""

    def rule(self, store, scalars):
        super().rule(store, scalars)
        self.state["seen"] = self.state.get("seen", 0.0 * store.values) + 1.0


def test_a_rule_of_ones_own_may_keep_more(tmp_path):
    made = trainer(optimizer=Counting(0.1, momentum=0.9))
    made.save(tmp_path / "t")
    again = xpnn.Trainer.load(tmp_path / "t", custom=(Counting,))
    again.fit(X, Y, epochs=1)
    made.fit(X, Y, epochs=1)
    np.testing.assert_array_equal(again.optimizer.state["seen"], made.optimizer.state["seen"])


# -- predictors --------------------------------------------------------------------------------------------------
def part(name, value):
    return lambda _, meta: meta["extra"]["predictor"].update({name: value})


MISFITS = {
    "classes": (part("target", ClassTarget().fit(["a", "b", "c"]).to_dict()), "3 classes for a network of 2 outputs"),
    "encoder": (
        part("encoder", {"type": "Standardizer", "state": Standardizer().fit(X).to_dict()}),
        r"an encoding into 2 columns for a network of \d inputs",
    ),
    "loss": (part("loss", 3), "a loss that is 3"),
    "no loss": (part("loss", {"type": "Loss"}), "contains 'Loss', which is not xpnn's"),
    "info": (part("info", []), r"info is \[\], not an object"),
    "deviation": (part("target", {**NumberTarget().fit([1.0, 2.0]).to_dict(), "std": 0.0}), "std is 0.0, not a number"),
    "label": (part("target", {"task": "classification", "classes": [["a"], "b"], "strip": ""}), "classes.0. is"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_predictors_whose_parts_do_not_fit_are_told(whole, misfit):
    change, message = MISFITS[misfit]
    with pytest.raises(XpnnError, match=message):
        Predictor.load(forge(whole / "predictor", whole / "forged", change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fill": "1"}, r"columns.0..fill is '1', not a finite number"),
        ({"edges": [1.0, None]}, r"columns.0..edges.1. is None"),
        ({"flagged": 1}, r"columns.0..flagged is 1, not true or false"),
        ({"spread": -1.0}, r"columns.0..spread is -1.0, not a number of at least 0"),
        ({"spread": 0.0, "edges": []}, "a column of which nothing is used"),
    ],
)
def test_entries_of_an_encoder_are_of_their_kinds(change, message):
    state = TableEncoder(bins=2).fit(ROWS).to_dict()
    state["columns"][0] |= change
    with pytest.raises(FileFormatError, match=message):
        TableEncoder.from_dict(state)


def test_a_file_of_an_older_version_has_no_digest():
    assert "digest" not in (Path(__file__).parent / "files" / "network_0_1.safetensors").read_text(errors="replace")


@pytest.mark.parametrize("entries", [{"extra": {"predictor": 5}}, {"layers": []}])
def test_gradcheck_of_a_bad_description_is_no_traceback(tmp_path, entries):
    net = xpnn.Sequential(xpnn.Linear(2), n_in=2)
    described = {"network": {**net.config(), **{k: v for k, v in entries.items() if k == "layers"}}}
    described |= {k: v for k, v in entries.items() if k == "extra"}
    write(tmp_path / "net", net.state_dict(), described)
    refused(run("gradcheck", "--model", tmp_path / "net"), r"expected what xpnn\.save writes, got a bad entry")
