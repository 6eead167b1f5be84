"""How many cores there are to use: affinity, quotas of control groups, and the environment."""

from __future__ import annotations

import pytest

from xpnn.accel import cores
from xpnn.accel.cores import VARIABLES, busy_elsewhere, cgroup_quota, core_count, load_sentence, thread_limit


@pytest.fixture(autouse=True)
def a_machine_of_eight(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "cgroup_quota", lambda: None)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 8),
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "3"}, 2),
        ({"OPENBLAS_NUM_THREADS": "99"}, 8),
        ({"OMP_NUM_THREADS": "many", "OPENBLAS_NUM_THREADS": "0"}, 8),
    ],
)
def test_the_environment_is_an_upper_bound(monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert thread_limit() == expected


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.5, 1), (1.9, 1), (2.0, 2), (20.0, 8)])
def test_a_quota_counts_in_whole_cores(monkeypatch, quota, expected):
    monkeypatch.setattr(cores, "cgroup_quota", lambda: quota)
    assert core_count() == expected


def test_without_affinity(monkeypatch):
    monkeypatch.delattr(cores.os, "sched_getaffinity")
    monkeypatch.setattr(cores.os, "cpu_count", lambda: None)
    assert core_count() == 1


GROUPS = {
    "none": ("0::/\n", {}, None),
    "version 2": ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
    "one above": ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
    "the least": ("0::/a/b\n", {"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
    "a container's root": ("0::/\n", {"cpu.max": "400000 100000\n"}, 4.0),
    "version 1": (
        "5:memory:/m\n4:cpu,cpuacct:/a\n",
        {"cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
        2.5,
    ),
    "version 1, no limit": (
        "4:cpu:/a\n",
        {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "not readable": ("0::/a\n", {"a/cpu.max": "what is this\n"}, None),
}


@pytest.mark.parametrize(("own", "files", "expected"), GROUPS.values(), ids=GROUPS)
def test_quotas_of_control_groups(tmp_path, own, files, expected):
    (tmp_path / "own").write_text(own)
    root = tmp_path / "root"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert cgroup_quota(root, tmp_path / "own") == expected


def test_not_linux(tmp_path):
    assert cgroup_quota(tmp_path, tmp_path / "missing") is None


# -- who else is there -------------------------------------------------------------------------------------------
def test_what_others_work_is_what_all_work_less_this_process(monkeypatch, tmp_path):
    """In one second the counters go on by 150 hundredths, of which 50 are this process's own; idle time is no work."""
    stat, clock = tmp_path / "stat", {"now": 0.0, "own": 0.0}

    def sleep(seconds):
        clock["now"] += seconds
        clock["own"] += 0.5 * seconds
        stat.write_text("cpu  60 30 20 1900 70 10 15 15 0 0\ncpu0 0 0 0 0\n", encoding="ascii")

    stat.write_text("cpu  0 0 0 1000 0 0 0 0 0 0\ncpu0 0 0 0 0\n", encoding="ascii")
    monkeypatch.setattr(cores.os, "sysconf", lambda name: {"SC_CLK_TCK": 100}[name])
    monkeypatch.setattr(cores.time, "sleep", sleep)
    monkeypatch.setattr(cores.time, "perf_counter", lambda: clock["now"])
    monkeypatch.setattr(cores.time, "process_time", lambda: clock["own"])
    assert busy_elsewhere(1.0, stat) == pytest.approx(1.0)


@pytest.mark.parametrize("text", [None, "", "intr 1 2 3\n", "cpu 1 2\n", "cpu a b c d e f g h\n"])
def test_where_nobody_tells(tmp_path, text):
    if text is not None:
        (tmp_path / "stat").write_text(text, encoding="ascii")
    assert busy_elsewhere(0.0, tmp_path / "stat") is None


def test_the_sentence(monkeypatch):
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 8)
    assert load_sentence(None) == load_sentence(0.1) == ""
    assert load_sentence(1.26).startswith("this machine is busy: other processes keep 1.3 of 8 cores at work. ")
