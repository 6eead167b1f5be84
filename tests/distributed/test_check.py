"""Whether processes compute alike: what is compared, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from commands import run
from thread_group import agreed

import xpnn
from xpnn.distributed import Alone, Tree, check, check_group, torch
from xpnn.errors import OptionError


def test_one_process_is_like_itself():
    report = check_group(Alone())
    assert report.ok
    assert report.differences == []
    assert report.ranks[0]["numpy"]


def test_what_changes_bits_is_told_from_what_changes_the_time(monkeypatch):
    facts = check._facts()

    def work(group):
        def of_rank():
            other = {"numpy": "2.0.0", "threads": "7"} if group.rank == 2 else {"threads": "1"}
            return facts | {"host": f"node{group.rank}"} | other

        with monkeypatch.context() as patch:
            patch.setattr(check, "_LONG", 1000)
            group.share = lambda value, share=group.share: share(of_rank() if isinstance(value, dict) else value)
            report = check_group(group)
        return report.differences, report.ok, [found["host"] for found in report.ranks]

    differences, ok, hosts = agreed(3, work)
    assert differences == [
        f"numpy of rank 2 is 2.0.0, of rank 0 {facts['numpy']}: bits change.",
        "threads of rank 2 is 7, of rank 0 1: only the time changes.",
    ]
    assert not ok
    assert hosts == ["node0", "node1", "node2"]


def test_products_and_sums_are_compared_to_the_bit(monkeypatch):
    before = check._facts()
    assert before == check._facts()
    monkeypatch.setattr(check.np, "exp", lambda a: a * 1.0000001)
    after = check._facts()
    assert {name for name in before if before[name] != after[name]} == {"a sum"}


def test_doctor():
    ran = run("doctor", "--distributed")
    assert ran.status == 0
    assert "1 process over one process" in ran.out
    assert "All compute alike" in ran.out
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["xpnn", xpnn.__version__, "bits", "change"] in lines
    assert ["numpy", np.__version__, "bits", "change"] in lines
    assert ["library", "none", "only", "the", "time", "changes"] in lines
    found = run("doctor", "--distributed", "--json").json
    assert found["ok"] is True
    assert found["latency"] >= 0
    assert len(found["ranks"]) == 1
    assert set(found["changes_bits"]) < found["ranks"][0].keys()


def test_gloo_without_a_launcher_is_one_process(monkeypatch):
    pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    monkeypatch.delenv("RANK", raising=False)
    group = torch()
    assert (group.rank, group.size) == (0, 1)
    assert check_group(group).ok
    assert Tree(4, group).sum(np, lambda shard: np.full(2, float(shard))).tolist() == [6.0, 6.0]
    group.fail("nobody hears it")


def test_gloo_takes_what_has_begun_unless_it_moves_no_arrays_of_the_host(monkeypatch):
    dist = pytest.importorskip("torch", reason="needs PyTorch: pip install torch").distributed
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    with pytest.raises(OptionError, match=r"expected torch\.distributed over gloo, got nccl"):
        torch()
    monkeypatch.setattr(dist, "get_backend", lambda: "gloo")
    monkeypatch.setattr(dist, "get_rank", lambda: 2)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    assert repr(torch()) == "TorchGroup(rank=2, size=3)"
