"""The order of the next epoch is drawn while a device works on the present one."""

from __future__ import annotations

import numpy as np
import pytest
from steps import BATCH, data, mlp

import xpnn
from xpnn.data import epoch_order
from xpnn.training import orders
from xpnn.training.orders import Orders
from xpnn.training.step import Tally


@pytest.fixture
def events(monkeypatch):
    """What happens, in order: an epoch's order is drawn, and its losses are read, which waits for the device."""
    found = []
    losses = Tally.losses

    def drawn(n, seed=0, epoch=0):
        found.append(f"draw {epoch}")
        return epoch_order(n, seed, epoch)

    monkeypatch.setattr(orders, "epoch_order", drawn)
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
    trainer = xpnn.Trainer(mlp(on_gpu), xpnn.CrossEntropy(), xpnn.Adam(0.01), seed=4)
    for asked in ((9, 4, 1), (8, 4, 1), (9, 5, 1), (9, 4, 0)):
        drawn = Orders()
        drawn.draw_ahead(trainer, 9, 4, 2)
        for _ in range(2):
            np.testing.assert_array_equal(drawn.of(*asked), epoch_order(*asked))
