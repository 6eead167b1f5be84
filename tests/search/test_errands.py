"""A search in several processes has the results of one, whatever ends it and wherever it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from places import PROJECT

import xpnn
from xpnn.errors import OptionError, ProcessError
from xpnn.search import Halving, grid, run

X, Y = xpnn.data.make_moons(120, noise=0.2, seed=0)
SPACE = {"lr": [0.003, 0.03], "width": [4, 8], "dropout": [0.0, 0.3], "batch_size": 32}


def search(n_jobs=None, **options):
    options = {"epochs": 3, **({} if "make" in options else {"loss": xpnn.CrossEntropy()}), **options}
    return run(grid(SPACE), X, Y, n_jobs=n_jobs, **options)


def found(result):
    """All but seconds."""
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in t.history.rows] for t in result.trials]
    return [(t.status, repr(t.score), t.best_epoch, t.length, row) for t, row in zip(result.trials, rows, strict=True)]


def own(config):
    net = xpnn.mlp([2, config["width"], 2], norm="batch", dropout=config["dropout"], seed=1)
    schedule = xpnn.CosineDecay()
    return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=config["lr"]), schedule=schedule, seed=3)


WAYS = {
    "to the end": {},
    "halving": {"halving": Halving(eta=2), "epochs": 4},
    "a trainer of one's own": {"make": own, "halving": Halving(eta=3)},
    "a function of one's own": {"make": lambda config: own(config), "epochs": 2},
    "some diverge": {"loss": xpnn.MeanSquaredError(), "n_out": 1, "metrics": (), "together": 1},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_results_are_those_of_one_process(way):
    if way == "some diverge":
        config = [{"lr": lr, "optimizer": "sgd"} for lr in (0.01, 1e30, 0.02)]
        data = [run(config, X, Y[:, None] * 1.0, n_jobs=jobs, **WAYS[way]) for jobs in (1, 2)]
        assert [t.status for t in data[1].trials] == ["finished", "diverged", "finished"]
        assert found(data[0]) == found(data[1])
        return
    options = {"together": 2} | WAYS[way]
    one, two = search(1, **options), search(2, **options)
    assert found(one) == found(two)
    best, again = one.best.make(), two.best.make()
    for trainer, result in ((best, one), (again, two)):
        trainer.fit(X, Y, epochs=result.best.epochs, **result.best.fit_options)
    assert best.net.store.values.tobytes() == again.net.store.values.tobytes()


def test_large_arrays_are_shared_and_files_stay_files(tmp_path):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(200_000, 2))
    x[...] = np.random.default_rng(0).normal(size=x.shape)
    y = (x[:, 0] > 0).astype(np.int64)
    options = {"loss": xpnn.CrossEntropy(), "epochs": 1, "together": 1}
    config = [{"lr": 0.1, "width": 2, "batch_size": 20_000}, {"lr": 0.2, "width": 2, "batch_size": 20_000}]
    one = run(config, np.array(x), y, **options)
    assert found(run(config, x, y, n_jobs=2, **options)) == found(one)
    assert found(run(config, np.array(x), y, n_jobs=2, **options)) == found(one)


def test_time_is_over_in_all_processes():
    result = search(2, together=1, max_seconds=1e-3)
    assert {t.status for t in result.trials} <= {"not started", "out of time"}


def test_a_bar_counts_every_epoch(capsys):
    search(2, together=2, verbose=True)
    assert "24/24" in capsys.readouterr().err


def die(config):
    if config["lr"] > 0.01 and config["width"] == 8 and os.environ.get("XPNN_TEST_PARENT") != str(os.getpid()):
        os.kill(os.getpid(), signal.SIGKILL)
    return own(config)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_is_told_and_the_search_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("XPNN_TEST_PARENT", str(os.getpid()))
    path = tmp_path / "search.safetensors"
    with pytest.raises(ProcessError, match=r"^search\.run: expected every process to finish its part"):
        search(2, make=die, checkpoint=path)
    assert found(search(1, make=die, checkpoint=path)) == found(search(1, make=die))


_CUT = """
import sys
sys.path.insert(0, {folder!r})
from test_errands import X, Y, search
if __name__ == "__main__":
    print("begun", flush=True)
    search(2, together=1, epochs=3000, checkpoint={path!r})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_ends_it_within_seconds(tmp_path):
    path, script = tmp_path / "search.safetensors", tmp_path / "cut.py"
    folder = str(PROJECT / "tests" / "search")
    script.write_text(_CUT.format(folder=folder, path=str(path)))
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "tests" / "helpers")])}
    with subprocess.Popen([sys.executable, script], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"begun\n"
            while not path.exists() and process.poll() is None:
                time.sleep(0.05)
            time.sleep(1.0)
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert time.monotonic() - began < 10
    assert said.rstrip().endswith(b"KeyboardInterrupt")
    assert path.exists()


def test_a_search_that_was_cut_off_goes_on_in_more_processes(tmp_path):
    path, options = tmp_path / "search.safetensors", {"together": 2, "epochs": 4, "halving": Halving(eta=2)}
    whole = search(1, **options)
    cut = search(1, max_seconds=1e-3, checkpoint=path, **options)
    assert "finished" not in {t.status for t in cut.trials}
    assert found(search(2, checkpoint=path, **options)) == found(whole)
    assert found(search(1, checkpoint=path, **options)) == found(whole)


def test_no_process_is_no_number():
    with pytest.raises(OptionError, match=r"^search\.run: expected n_jobs to be a number of processes"):
        search(0)
