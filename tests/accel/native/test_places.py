"""Cores of the pool's threads: a thread leaves the caller's core, comes when it is lent one, keeps to its own."""

from __future__ import annotations

import hashlib
import importlib
import os
import threading
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="cores of Linux, at least two"
)


@pytest.fixture
def places(pool):
    return importlib.import_module("xpnn.accel.native.places")


@pytest.fixture
def card(places):
    """What is written down of a thread of its own, which does as it is told and ends."""
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, args=(60,))
    thread.start()
    numbers = np.zeros(places.CARD // 8, np.int64)
    numbers[places.ID // 8] = thread.native_id
    yield numbers
    leave.set()
    thread.join()


def cores_of(places, card):
    return os.sched_getaffinity(int(card[places.ID // 8]))


def test_it_tells_when_other_code_changes(places):
    """numba would go on with what it compiled before."""
    found = hashlib.sha256((Path(places.__file__).parent / "atomics.py").read_bytes()).hexdigest()[:8]
    assert {"atomics.py": found} == places._COMPILED


def test_a_thread_leaves_a_core_and_another(places, card):
    all_cores = cores_of(places, card)
    for core in sorted(all_cores)[:3]:
        places.go_elsewhere(card.ctypes.data, core)
        assert cores_of(places, card) == all_cores - {core}


def test_a_core_is_lent_and_left_again(places, card):
    all_cores = cores_of(places, card)
    core = max(all_cores)
    places.lend_core(card.ctypes.data, core)
    assert cores_of(places, card) == {core}
    places.go_elsewhere(card.ctypes.data, core)
    assert cores_of(places, card) == all_cores - {core}


def test_cores_that_somebody_else_sets_are_kept_to(places, card):
    first, second = sorted(cores_of(places, card))[:2]
    places.go_elsewhere(card.ctypes.data, first)
    os.sched_setaffinity(int(card[places.ID // 8]), {first})
    for move in (places.go_elsewhere, places.lend_core):
        move(card.ctypes.data, second)
        assert cores_of(places, card) == {first}
    places.go_elsewhere(card.ctypes.data, first)
    assert cores_of(places, card) == {first}, "the only one"


@pytest.mark.parametrize("core", [-1, 1 << 10])
def test_a_core_without_a_bit_changes_nothing(places, card, core):
    before = cores_of(places, card)
    places.go_elsewhere(card.ctypes.data, core)
    places.lend_core(card.ctypes.data, core)
    assert cores_of(places, card) == before


def test_a_thread_that_has_ended_changes_nothing(places):
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    numbers = np.zeros(places.CARD // 8, np.int64)
    numbers[places.ID // 8] = thread.native_id
    before = os.sched_getaffinity(0)
    places.go_elsewhere(numbers.ctypes.data, min(before))
    places.lend_core(numbers.ctypes.data, min(before))
    assert os.sched_getaffinity(0) == before


def test_the_core_of_this_thread(places):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {max(before)})
        assert places.core() == max(before)
    finally:
        os.sched_setaffinity(0, before)
