"""The next epoch is made ready while a device works on the present one."""

from __future__ import annotations

import types

import numpy as np
import pytest
import taped
from steps import BATCH, data, mlp, outcome

import xpnn
from xpnn.data import epoch_order
from xpnn.errors import DataError
from xpnn.training import ahead
from xpnn.training.ahead import Ahead
from xpnn.training.feed import Feed
from xpnn.training.recorded import graphs
from xpnn.training.step import StepTable, Tally


@pytest.fixture
def events(monkeypatch):
    """What happens, in order: an epoch's order is drawn, and its losses are read, which waits for the device."""
    found = []
    losses = Tally.losses

    def drawn(n, seed=0, epoch=0):
        found.append(f"draw {epoch}")
        return epoch_order(n, seed, epoch)

    monkeypatch.setattr(ahead, "epoch_order", drawn)
    monkeypatch.setattr(Tally, "losses", lambda self: found.append("read") or losses(self))
    return found


def trained(backend):
    trainer = xpnn.Trainer(mlp(backend), xpnn.CrossEntropy(), xpnn.Adam(0.01))
    trainer.fit(*data(), epochs=3, batch_size=BATCH, graph=False)
    return trainer


def test_it_is_drawn_before_the_losses_are_read(events, on_gpu):
    trained(on_gpu)
    assert events == ["draw 0", "draw 1", "read", "draw 2", "read", "read"]


def test_numpy_has_nothing_to_wait_for(events):
    trained(xpnn.get_backend("numpy"))
    assert events == ["draw 0", "read", "draw 1", "read", "draw 2", "read"]


def test_what_was_drawn_serves_its_own_epoch_alone(on_gpu):
    """Another number of rows, another seed, and an epoch once more."""
    epoch = types.SimpleNamespace(
        feed=range(9), order=np.arange(9), table=types.SimpleNamespace(batch_size=2), rows=None
    )
    trainer = xpnn.Trainer(mlp(on_gpu), xpnn.CrossEntropy(), xpnn.Adam(0.01), seed=4)
    for asked in ((9, 4, 1), (8, 4, 1), (9, 5, 1), (9, 4, 0)):
        drawn = Ahead()
        drawn.make_ready(trainer, epoch, None, 2, plain=False)
        for _ in range(2):
            np.testing.assert_array_equal(drawn.order(*asked), epoch_order(*asked))


# -- the steps, and the first stage of them -----------------------------------------------------------------------
@pytest.fixture
def device(monkeypatch):
    """A fake device whose work can be recorded, with stages of three steps."""
    monkeypatch.setattr(graphs, "_STEPS", 3)
    return taped.make_backend(monkeypatch)


def fit(backend, make, x=None, epochs=3, **options):
    """Train in recorded stages on the fake device, and step by step elsewhere; return everything that is left."""
    recorded = backend.name == "numpy" and backend.xp is not np
    trainer = make(backend)
    with taped.recording(taped.Capturer() if recorded else False) as graph:
        trainer.fit(data()[0] if x is None else x, data()[1], epochs=epochs, batch_size=BATCH, graph=graph, **options)
    return outcome(trainer), trainer


def simple(backend, **options):
    rule = xpnn.AdamW(0.01, weight_decay=0.1)
    given = {"schedule": xpnn.CosineDecay(unit="step"), "regularizer": xpnn.L2(0.01), "clip_norm": 1.0, **options}
    return xpnn.Trainer(mlp(backend, dropout=0.1), xpnn.CrossEntropy(), rule, **given)


@pytest.fixture
def host_work(events, monkeypatch):
    """Adds to the events: a table of steps is made, rows are brought to a stage, and a stage is launched."""
    table, fill, launch = StepTable.__init__, graphs._Stage.fill, graphs._Stage.launch

    def noted(name, real):
        return lambda *args, **options: events.append(name) or real(*args, **options)

    monkeypatch.setattr(StepTable, "__init__", noted("table", table))
    monkeypatch.setattr(graphs._Stage, "fill", noted("fill", fill))
    monkeypatch.setattr(graphs._Stage, "launch", noted("launch", launch))
    return events


def between_epochs(events):
    """What happens between the reading of each epoch's losses and the first launch of the next."""
    found, rest = [], events
    for _ in range(events.count("read") - 1):
        rest = rest[rest.index("read") + 1 :]
        found.append(rest[: rest.index("launch")])
    return found


def test_the_host_has_nothing_to_do_between_two_epochs(host_work, device):
    fit(device, simple)
    assert between_epochs(host_work) == [[], []]
    assert host_work[-2:] == ["launch", "read"]  # nothing is made ready for an epoch that is not to come


def with_a_plateau(backend):
    return simple(backend, schedule=xpnn.Plateau("loss", patience=1))


def with_a_callback_of_mine(backend):
    return simple(backend, callbacks=[xpnn.LambdaCallback(on_epoch_end=lambda trainer: None)])


def test_what_cannot_be_known_is_made_when_the_epoch_begins(host_work, device):
    """A schedule waits for the losses; a callback of somebody's own may change the rows, but no other numbers."""
    for make, late in ((with_a_plateau, ["table", "fill"]), (with_a_callback_of_mine, ["fill"])):
        host_work.clear()
        fit(device, make)
        assert between_epochs(host_work) == [late, late]


def reseed(trainer):
    trainer.seed = 99


def other_masks(trainer):
    trainer.net.seed = 99


def lower_decay(trainer):
    trainer.optimizer.weight_decay = 0.01


def lower_rate(trainer):
    trainer.optimizer.lr = 0.001


def forget_momenta(trainer):
    trainer.optimizer.reset()
    trainer.optimizer.bind(trainer.net.store)


def count_anew(trainer):
    trainer.step = 1


def clip_more(trainer):
    trainer.clip_norm = 0.01


def drop_more(trainer):
    trainer.net.layers[2].rate = 0.6


CHANGES = [reseed, other_masks, lower_decay, lower_rate, forget_momenta, count_anew, clip_more, drop_more]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_epoch_end"])
def test_what_has_changed_is_made_anew(change, hook, device, monkeypatch):
    """To the bit as where nothing is made ahead, also by a callback that leaves the rows alone."""
    monkeypatch.setattr(ahead, "_may_change_rows", lambda callback: False)

    def make(backend):
        at = lambda trainer: change(trainer) if trainer.epoch == 1 else None  # noqa: E731
        return simple(backend, callbacks=[xpnn.LambdaCallback(**{hook: at})])

    found, _ = fit(device, make)
    assert found == fit(xpnn.get_backend("numpy", ops="portable"), make)[0]
    assert found != fit(device, simple)[0]


def test_rows_that_a_callback_changes_are_those_of_its_epoch(device):
    x, found = data()[0], []
    for backend in (device, xpnn.get_backend("numpy", ops="portable")):
        mine = backend.asarray(x.copy(), dtype=backend.dtype)

        def change(trainer, mine=mine):
            mine[...] = mine * 0.5

        def make(own, change=change):
            return simple(own, callbacks=[xpnn.LambdaCallback(on_epoch_end=change)])

        found.append(fit(backend, make, x=mine)[0])
    assert found[0] == found[1] != fit(device, simple)[0]


def test_nothing_is_left_behind_by_a_fit_that_stops_early(device):
    def make(backend):
        return simple(backend, callbacks=[xpnn.EarlyStopping("loss", patience=1, min_delta=10.0)])

    found, trainer = fit(device, make, epochs=9)
    assert trainer.epoch == 2
    assert vars(trainer._ahead) == vars(Ahead())
    assert trainer._runner is None
    assert found == fit(xpnn.get_backend("numpy", ops="portable"), make, epochs=9)[0]


def test_what_goes_wrong_ahead_is_told_when_its_epoch_begins(device, monkeypatch):
    """Here it is an epoch after the one that was under way, which is whole."""
    weights = Feed.batch_weights

    def fails(feed, order, batch_size):
        if order is not None and (order == epoch_order(len(feed), 0, 1)).all():
            raise DataError("fit: expected finite numbers")
        return weights(feed, order, batch_size)

    monkeypatch.setattr(Feed, "batch_weights", fails)
    trainer = simple(device)
    with taped.recording(taped.Capturer()) as graph, pytest.raises(DataError, match="expected finite numbers"):
        trainer.fit(*data(), epochs=3, batch_size=BATCH, graph=graph)
    assert (trainer.epoch, len(trainer.history)) == (1, 1)
