"""Each part says itself why steps with it cannot be recorded."""

from __future__ import annotations

import inspect

import cases
import pytest
import steps

import xpnn
from xpnn.recordable import Recordable, RecordingMode, foreign_method, is_own

GRAPH = RecordingMode(weighted=False, trusted=True, as_one=True)
AUTO = RecordingMode(weighted=False, trusted=False, as_one=False)
TRUSTED = RecordingMode(weighted=False, trusted=True, as_one=False)


def own_classes(base=Recordable):
    for kind in base.__subclasses__():
        if is_own(kind.__module__):
            yield kind
            yield from own_classes(kind)


@pytest.mark.parametrize(
    "kind", sorted(set(own_classes()), key=lambda kind: kind.__qualname__), ids=lambda k: k.__name__
)
def test_all_code_of_xpnn_is_its_own(kind):
    """Wrapped methods too: else its steps would be made one by one, and nothing would say so loudly."""
    part = kind.__new__(kind) if not inspect.isabstract(kind) else None
    if part is not None:
        assert foreign_method(part) is None


@pytest.mark.parametrize("case", cases.LAYERS, ids=str)
def test_layers_of_xpnn_have_nothing_against_it(case):
    assert all(case.make().unrecordable(mode) is None for mode in (GRAPH, AUTO, TRUSTED))


def test_what_a_part_may_have_against_it():
    weighted = GRAPH._replace(weighted=True)
    assert "weights of a batch" in xpnn.layers.BatchNorm().unrecordable(weighted)
    assert xpnn.layers.BatchNorm().unrecordable(GRAPH) is None
    assert xpnn.Dropout([0.1, 0.2]).unrecordable(TRUSTED) is None  # the replicas' rates stand in the step table
    assert "makes new arrays" in xpnn.regularizers.SpectralNorm(0.1).unrecordable(GRAPH)
    assert "looks at every step" in xpnn.EMA().unrecordable(GRAPH)
    assert xpnn.EMA().unrecordable(AUTO) is None
    assert xpnn.EarlyStopping().unrecordable(GRAPH) is None
    watch = xpnn.LambdaCallback(on_batch_end=print)
    assert [watch.unrecordable(mode) is None for mode in (GRAPH, AUTO, TRUSTED)] == [False, False, True]
    assert xpnn.LambdaCallback(on_epoch_end=print).unrecordable(GRAPH) is None


class Own(xpnn.Tanh):
    """A layer of the user's."""


def test_what_is_not_xpnns_is_trusted_or_not():
    assert Own().unrecordable(AUTO) == "Own may do more than array work; fit(graph=True) says that it does not"
    assert Own().unrecordable(TRUSTED) is None
    layer = xpnn.Tanh()
    assert layer.unrecordable(AUTO) is None
    layer.forward = lambda x, **options: (x, None)
    assert layer.unrecordable(AUTO) == "Tanh has a forward of its own"
    assert layer.unrecordable(TRUSTED) is None


@pytest.mark.parametrize("name", ["train_step", "gradients", "exchange", "move"])
def test_a_part_of_a_step_that_is_overridden(name):
    own = type("Own", (xpnn.Trainer,), {name: lambda self, *args: getattr(xpnn.Trainer, name)(self, *args)})
    trainer = own(steps.mlp("numpy"), xpnn.CrossEntropy(), xpnn.SGD())
    text = f"Own has a {name} of its own"
    assert [trainer.unrecordable(mode) for mode in (GRAPH, AUTO, TRUSTED)] == [text, text, None]
    other = type("Other", (xpnn.Trainer,), {"epoch_rows": lambda self, n: None})
    trainer = other(steps.mlp("numpy"), xpnn.CrossEntropy(), xpnn.SGD())
    assert all(trainer.unrecordable(mode) is None for mode in (GRAPH, AUTO, TRUSTED))
