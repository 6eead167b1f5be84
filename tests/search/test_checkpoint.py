"""A search that is cut off goes on from its file, to the bit; what a file of another search is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import cut_search
import cutoff
import numpy as np
import pytest
from places import PROJECT

import xpnn
from xpnn.checkpoint import read, write
from xpnn.errors import DataError, FileFormatError, OptionError
from xpnn.search import Halving, grid, run
from xpnn.search.group import Group

X, Y = cut_search.X, cut_search.Y
CE = xpnn.CrossEntropy()
SPACE = {"lr": [0.01, 0.1], "hidden": [(6,), (4,)], "batch_size": 16}


def search(path, space=SPACE, *, x=X, y=Y, **options):
    options = {"epochs": 3, **({} if "make" in options else {"loss": CE}), **options}
    return run(grid(space) if isinstance(space, dict) else space, x, y, checkpoint=path, **options)


def interrupted(call, *, epoch=2, times=1, noted=True):
    """Search, until an epoch of this number has ended so many times; it may be noted by then."""
    end, left = Group.on_epoch_end, [times]

    def stop(self, trainer):
        if noted:
            end(self, trainer)
        left[0] -= trainer.epoch == epoch
        if left[0] == 0:
            raise KeyboardInterrupt
        if not noted:
            end(self, trainer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Group, "on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            call()


def rows(result):
    return [trial.history.rows for trial in result.trials]


# -- going on ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", cut_search.WAYS)
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_goes_on_to_the_bit(way):
    """At random moments: signals, an interrupt in any line of xpnn's, an error in a callback of a trainer's own."""
    found = cut_search.cut_off(cut_search.WAYS[way], 20)
    assert found.equal == found.made
    assert found.cut_off >= 5


@pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")
def test_goes_on_after_a_kill():
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | threads | {"PYTHONPATH": str(PROJECT)}
    line = [sys.executable, cut_search.__file__, "20", "0"]
    ran = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    found = cutoff.Tries(*map(int, ran.stdout.split()))
    assert found.equal == found.made
    assert found.cut_off >= 5


@pytest.mark.parametrize("kind", cut_search.KINDS)
def test_a_search_that_has_ended_is_read(tmp_path, monkeypatch, kind):
    path = tmp_path / "search.safetensors"
    before = cut_search.search(kind, path)
    assert read(path)[0] == {}, "no trainer is needed any more"
    with monkeypatch.context() as patch:
        patch.setattr("xpnn.Trainer.fit", lambda *args, **options: pytest.fail("nothing is left to train"))
        again = cut_search.search(kind, path)
    assert cut_search.outcome(again) == cut_search.outcome(before) == cut_search.straight(kind)
    assert [t.seconds for t in again.trials] == [t.seconds for t in before.trials]
    best = again.best
    assert best.make().fit(X, Y, epochs=best.epochs, **best.fit_options)["val_loss"] == best.history["val_loss"]


def test_time_that_is_over_can_be_raised(tmp_path, monkeypatch):
    """A clock that advances by a second whenever it is read."""
    for number, halving in enumerate((None, Halving(1, 2))):
        path, whole = tmp_path / str(number), search(None, halving=halving)
        with monkeypatch.context() as patch:
            ticks = iter(range(10**6))
            patch.setattr(time, "monotonic", lambda ticks=ticks: float(next(ticks)))
            part = search(path, halving=halving, max_seconds=14)
            assert {"out of time", "not started"} & {trial.status for trial in part.trials}
            again = search(path, halving=halving, max_seconds=14)
            assert rows(again) == rows(part), "the time of all parts counts"
        ended = search(path, halving=halving, max_seconds=1e6)
        assert rows(ended) == rows(whole)
        assert [t.status for t in ended.trials] == [t.status for t in whole.trials]


def test_columns_of_frames_and_weights(tmp_path):
    """What the data are is told apart by their numbers, whatever holds them."""
    path = tmp_path / "s"
    weight = np.linspace(0.5, 1.5, len(X))
    options = {"sample_weight": weight, "class_weight": "balanced", "X_val": X[:9], "y_val": Y[:9]}
    before = search(path, **options)
    options["sample_weight"] = list(weight)
    assert rows(search(path, x=X.tolist(), **options)) == rows(before)
    with pytest.raises(DataError, match=r"expected the sample_weight that .*/s was begun with, got another\. Give it"):
        search(path, **options | {"sample_weight": weight[::-1]})
    del options["sample_weight"]
    with pytest.raises(DataError, match=r"expected the sample_weight that .*/s was begun with, got none\."):
        search(path, **options)


def test_progress_goes_on(tmp_path, capsys):
    interrupted(lambda: search(tmp_path / "s", verbose=True))
    assert "epoch 2/12" in capsys.readouterr().err
    search(tmp_path / "s", verbose=True)
    printed = capsys.readouterr().err
    assert "epoch 12/12" in printed
    assert "epoch 1/12" not in printed


def test_an_optimizer_and_a_schedule_of_ones_own(tmp_path):
    class Slow(xpnn.Adam):
        def numbers(self, t, factor=1.0):
            return super().numbers(t, factor / 2)

    class Falling(xpnn.schedules.Schedule):
        unit = "epoch"

        def __call__(self, time):
            return 1.0 / (1.0 + time)

    space = {**SPACE, "optimizer": Slow, "schedule": Falling()}
    whole = rows(search(None, space))
    interrupted(lambda: search(tmp_path / "s", space), times=2, noted=False)
    again = search(tmp_path / "s", {**SPACE, "optimizer": Slow, "schedule": Falling()})
    assert rows(again) == whole


@pytest.mark.parametrize("backend", ["torch", "strict", "numpy float64"])
def test_on_other_backends(tmp_path, backend):
    name, _, dtype = backend.partition(" ")
    if name == "torch":
        pytest.importorskip("torch")
    if name == "strict":
        pytest.importorskip("array_api_strict")
    options = {"backend": name, "dtype": dtype or None, "halving": Halving(1, 2)}
    whole = rows(search(None, **options))
    interrupted(lambda: search(tmp_path / "s", **options))
    assert rows(search(tmp_path / "s", **options)) == whole


# -- refusing ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"x": X + 1}, DataError, r"search\.run: expected the X that .*/s was begun with, got another\. Give it as"),
        ({"y": 1 - Y}, DataError, r"expected the y that .*/s was begun with, got another\. .* or remove the file"),
        (
            {"X_val": X[:9], "y_val": Y[:9]},
            DataError,
            r"expected the X_val that .*/s was begun with, got one where there was none\.",
        ),
        ({"epochs": 4}, OptionError, r"expected epochs=3, with which .*/s was begun, got 4\. Give it as it was, or"),
        ({"halving": Halving()}, OptionError, r"expected halving=None, .* got 'Halving\(min_epochs=1, eta=3\.0\)'"),
        ({"seed": 1}, OptionError, r"expected seed=0, .*, got 1\."),
        ({"monitor": "val_accuracy"}, OptionError, r"expected monitor='val_loss', .* got 'val_accuracy'"),
        ({"mode": "max"}, OptionError, r"expected mode='min', .* got 'max'"),
        ({"metrics": ()}, OptionError, r"expected metrics=\['accuracy'\], .* got \[\]"),
        ({"dtype": "float64"}, OptionError, r"expected dtype=None, .* got 'float64'"),
        ({"together": 1}, OptionError, r"expected together='auto', .* got 1\."),
        ({"class_weight": {0: 1.0, 1: 2.0}}, OptionError, r"expected class_weight=None, .* got \{'0': 1\.0, '1': 2"),
        ({"validation_fraction": 0.3}, OptionError, r"expected validation_fraction=0\.2, .* got 0\.3\."),
        ({"loss": xpnn.Focal()}, OptionError, r"expected loss='CrossEntropy\(.*\)', .* got 'Focal\("),
        ({"space": {**SPACE, "lr": [0.01]}}, OptionError, r"expected the 4 configurations that .* begun with, got 2\."),
        (
            {"space": {**SPACE, "lr": [0.01, 0.2]}},
            OptionError,
            r"another number 3: lr 0\.2 in place of 0\.1\. Give those, or remove the file to search anew\.",
        ),
        (
            {"space": {**SPACE, "schedule": xpnn.CosineDecay()}},
            OptionError,
            r"another number 1: schedule \"CosineDecay\(.* in place of None\.",
        ),
    ],
)
def test_another_search_is_refused(tmp_path, changed, error, message):
    search(tmp_path / "s")
    content = (tmp_path / "s").read_bytes()
    with pytest.raises(error, match=message):
        search(tmp_path / "s", **changed)
    assert (tmp_path / "s").read_bytes() == content


def test_make_in_place_of_a_loss_is_refused(tmp_path):
    search(tmp_path / "s")
    with pytest.raises(OptionError, match=r"expected make=None, .* got 'make'"):
        search(tmp_path / "s", [{"width": 4, "lr": 0.1}], make=cut_search.make)


def test_files_that_are_none(tmp_path):
    xpnn.save(xpnn.mlp([2, 2]), tmp_path / "net")
    with pytest.raises(
        FileFormatError, match=r"expected a file that a search wrote, got .*/net, which holds something"
    ):
        search(tmp_path / "net")
    search(tmp_path / "s")
    with pytest.raises(FileFormatError, match=r"load: .*/s holds a search\. Pass it to xpnn\.search\.run as checkpoin"):
        xpnn.load(tmp_path / "s")
    raw = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(raw[:-3])
    with pytest.raises(FileFormatError, match=r"search\.run: load: .*/s.* Or remove it to search anew\.$") as caught:
        search(tmp_path / "s")
    assert "\n" not in str(caught.value)
    (tmp_path / "s").write_bytes(raw.replace(b'rung\\": 0', b'rung\\": 1'))
    with pytest.raises(FileFormatError, match=r"expected the content that .*/s was written with, got other bytes"):
        search(tmp_path / "s")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"got the folder"):
        search(tmp_path / "folder")
    for bad in (-1, float("nan"), "30"):
        with pytest.raises(OptionError, match=r"expected checkpoint_seconds >= 0, got"):
            search(tmp_path / "new", checkpoint_seconds=bad)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("rung",), 3, r"it has trials, rungs or groups that are not there"),
        (("rung",), -1, r"rung is -1, not a whole number of at least 0"),
        (("sizes",), [5], r"its networks are grouped as another version, or another machine, would do it"),
        (("sizes",), [0], r"sizes\[0\] is 0, not a whole number of at least 1"),
        (("waiting",), [0, 0], r"it has trials, rungs or groups that are not there"),
        (("waiting",), [7], r"it has trials, rungs or groups that are not there"),
        (("ended",), [7], r"it has trials, rungs or groups that are not there"),
        (("trials",), [], r"it has trials, rungs or groups that are not there"),
        (("trials", 0, "status"), "finished", r"trials\[0\]\.status is 'finished', not"),
        (("trials", 0, "history"), [{"epoch": 2}], r"\[0\]\.val_loss is missing"),
        (("trials", 0, "history"), [{"epoch": 2, "val_loss": 0.1}], r"a history has epochs that there were not"),
        (("groups", 0, "start"), 5, r"it has trials, rungs or groups that are not there"),
        (("groups", 0, "trials"), [], r"a group has no trials"),
        (("groups", 0, "trials"), [3], r"3 is not in list"),
        (("groups", 0, "trials"), [2, 0], r"a group has trials of others|other epochs|shape"),
        (("groups", 0, "trainer", "epoch"), 9, r"a trainer has made other epochs than its trials"),
        (("groups", 0, "trainer", "history"), [], r"a trainer has made other epochs than its trials"),
        (("groups", 0, "trainer"), {}, r"epoch is missing"),
    ],
)
def test_what_a_file_says_is_compared_with_what_it_holds(tmp_path, path, value, message):
    """Whoever knows how a digest is made can write any file."""
    file = tmp_path / "s"
    interrupted(lambda: search(file))
    tensors, meta = read(file)
    place = meta["search"]
    for name in path[:-1]:
        place = place[name]
    assert path[-1] in place if isinstance(place, dict) else path[-1] < len(place)
    place[path[-1]] = value
    write(file, tensors, {"search": meta["search"]})
    with pytest.raises(FileFormatError, match=rf"^search\.run: expected what a search writes, .*{message}"):
        search(file)


# -- writing ----------------------------------------------------------------------------------------------------
def test_a_path_that_cannot_be_written_to_is_told_before_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("xpnn.Trainer.fit", lambda *args, **options: pytest.fail("nothing shall be trained"))
    with pytest.raises(DataError, match=r"writing .*: expected a folder that can be written to"):
        search(tmp_path / "file" / "s")


def test_a_disk_that_is_full_for_a_while(tmp_path, monkeypatch, caplog):
    """The error tells; and what was written before is there to go on from."""
    whole = rows(search(None))
    real = xpnn.search.checkpoint.write
    calls = [0]

    def full(*args):
        calls[0] += 1
        if calls[0] > 2:
            raise DataError("writing s: expected a folder that can be written to, got: No space left on device.")
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr("xpnn.search.checkpoint.write", full)
        with pytest.raises(DataError, match="No space left on device"):
            search(tmp_path / "s", checkpoint_seconds=0)
    assert "What was written before is kept." in caplog.text
    assert rows(search(tmp_path / "s")) == whole


def test_writing_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    """Many groups of long writings: their ends are written now and then."""
    written = []
    real = xpnn.search.checkpoint.write

    def slow(*args):
        written.append(time.perf_counter())
        time.sleep(0.02)
        real(*args)

    monkeypatch.setattr("xpnn.search.checkpoint.write", slow)
    began = time.perf_counter()
    search(tmp_path / "s", {"lr": [0.001 * k for k in range(1, 13)], "batch_size": 60}, together=1, epochs=1)
    assert len(written) <= 3 + (time.perf_counter() - began) / 0.4
