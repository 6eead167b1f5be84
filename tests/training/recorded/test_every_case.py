"""Every layer, loss, rule and option: eagerly, as a CUDA graph on a fake device, and as a trace, with equal bits."""

from __future__ import annotations

import contextlib
import warnings

import cases
import numpy as np
import pytest
import steps
import taped
from places import PROJECT
from steps import outcome

import xpnn
from xpnn.recordable import RecordingMode
from xpnn.training.recorded.runner import objection

each_case = pytest.mark.parametrize("case", steps.CASES, ids=str)


def test_every_rule_is_here():
    made = {type(make()) for make in steps.OPTIMIZERS.values()}
    rules = {c for c in vars(xpnn.optim).values() if isinstance(c, type) and issubclass(c, xpnn.Optimizer)}
    assert made == rules - {xpnn.Optimizer, xpnn.LBFGS}  # whose steps look at the loss


def test_every_metric_is_here():
    made = {type(m) for case in map(steps.option_case, steps.OPTIONS) for m in case.make("numpy").metrics}
    kinds = {c for c in vars(xpnn.metrics).values() if isinstance(c, type) and issubclass(c, xpnn.metrics.Metric)}
    assert made == kinds - {xpnn.metrics.Metric}


def test_every_penalty_is_here():
    made = {type(case.make("numpy").regularizer) for case in map(steps.option_case, steps.OPTIONS)} - {type(None)}
    assert made == {getattr(xpnn.regularizers, name) for name in xpnn.regularizers.__all__} - {xpnn.Regularizer}


def test_every_layer_and_loss_is_here():
    """`tests/helpers/cases.py` has them all, as tests of layers and losses hold; here each is a case."""
    named = {case.name for case in steps.CASES}
    assert named >= {str(case) for case in [*cases.LAYERS, *cases.LOSSES]}


def callbacks(kind=xpnn.Callback):
    """Every callback class of the library."""
    for inner in kind.__subclasses__():
        if inner.__module__.startswith("xpnn."):
            yield inner
        yield from callbacks(inner)


def test_of_all_callbacks_one_looks_at_every_step():
    """The row of the docs that names it; a function of somebody's own may do so as well."""
    mode = RecordingMode(weighted=False, trusted=True, as_one=True)
    looking = {kind for kind in callbacks() if kind.on_batch_end is not xpnn.Callback.on_batch_end}
    assert looking == {xpnn.EMA, xpnn.LambdaCallback}
    assert xpnn.EMA().unrecordable(mode) == "EMA looks at every step"
    assert xpnn.LambdaCallback(on_batch_end=print).unrecordable(mode) == "LambdaCallback looks at every step"
    assert xpnn.LambdaCallback(on_epoch_end=print).unrecordable(mode) is None


def test_names_tell_the_cases_apart():
    names = [case.name for case in steps.CASES]
    assert len(set(names)) == len(names)


def test_the_docs_list_what_cannot_be_in_a_graph():
    """One row for each reason; each is that of a case, and none is missing."""
    page = (PROJECT / "docs" / "gpu.md").read_text(encoding="utf-8").split("## What can be in a graph")[1]
    rows = [row.strip("| ").split(" | ") for row in page.split("\n## ")[0].splitlines() if row.startswith("|")][2:]
    said, met = {why for _, why in rows}, set()
    for case in steps.CASES:
        trainer = case.make("numpy")
        weighted = bool({"sample_weight", "class_weight"} & set(case.fit))
        why = objection(trainer, RecordingMode(weighted, trusted=True, as_one=True))
        assert (why is None) == case.graph, (case.name, why)
        if why is not None:
            met |= {reason for reason in said if why.endswith(reason)}
            assert met & {reason for reason in said if why.endswith(reason)}, why
    assert met == said - {"of its own"}  # which tests/training/recorded/test_graphs.py has


@each_case
def test_as_a_graph(case, device):
    """Recorded and launched, eagerly on the device, and eagerly on plain NumPy."""
    capturer = taped.Capturer()
    warned = pytest.warns(RuntimeWarning, match="launched one by one") if not case.graph else contextlib.nullcontext()
    with warnings.catch_warnings(), taped.recording(capturer):
        warnings.simplefilter("error")
        with warned:
            recorded = case.train(device, graph=True)
    n_steps = -(-(steps.N - round(steps.N * case.fit.get("validation_fraction", 0.0))) // steps.BATCH)
    stages = -(-n_steps // 3)
    assert capturer.recorded == (min(stages, 3) if case.graph else 0)
    assert capturer.launched == (3 * stages if case.graph else 0)
    assert outcome(recorded) == outcome(case.train(device, graph=False))
    assert outcome(recorded) == outcome(case.train(xpnn.get_backend("numpy", ops="portable"), graph=False))


@each_case
def test_as_a_trace(case, compiled):
    """Replayed by compiled loops, and eagerly."""
    warned = pytest.warns(RuntimeWarning, match="made in Python") if not case.trace else contextlib.nullcontext()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with warned:
            replayed = case.train(compiled, graph="auto" if case.trace else True)
    assert (replayed._runner is not None and replayed._runner._found is not None) == case.trace
    eager = case.train(compiled, graph=False)
    assert eager._runner is None
    assert outcome(replayed) == outcome(eager)
    assert all(type(a) is np.ndarray for a in (*replayed.net.params.values(), *replayed.optimizer.state.values()))
