"""``xpnn train --resume``: what it goes on with, what it refuses, and what it finds already done."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from commands import refused, run, tensors, train
from places import backend_or_skip

import xpnn
from xpnn.report import read_run
from xpnn.staging import STAGING, Staging

BASE = ("--epochs", 6, "--patience", 5, "--hidden", "6", "--dropout", 0.2, "--batch-size", 32)


pytestmark = pytest.mark.usefixtures("no_pictures")


class BrokenError(Exception):
    """Stands for a kill: nothing answers it."""


@pytest.fixture
def cut(monkeypatch):
    """Trainings that end at a step, as by a kill or by an error that is passed; `cut(None)` mends it."""

    def at(step, error=BrokenError):
        def end(trainer):
            if step is not None and trainer.step == step:
                raise error

        for module in ("course", "tables"):
            monkeypatch.setattr(
                f"xpnn.cli.{module}.ProgressBar", lambda **options: xpnn.LambdaCallback(on_batch_end=end)
            )

    return at


@pytest.fixture
def table(tmp_path):
    """A CSV file."""
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'yes' if a + b > 0 else 'no'}" for a, b in rng.normal(size=(200, 2))]
    path = tmp_path / "table.csv"
    path.write_text("a,b,y\n" + "\n".join(rows) + "\n")
    return path


def history(folder):
    return [{name: v for name, v in row.items() if name != "seconds"} for row in read_run(folder).history]


def same(one, another):
    """All that does not tell time or chance is equal, to the bit."""
    assert tensors(one) == tensors(another)
    assert history(one) == history(another)
    infos = [read_run(folder).info for folder in (one, another)]
    for name in ("scores", "options", "epochs", "best_epoch", "stopped", "notes"):
        assert infos[0][name] == infos[1][name]


def broken(*args):
    """Begin a training that breaks."""
    with pytest.raises(BrokenError):
        run("train", *args)


# -- going on ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["numpy", "torch", "strict", "cupy", "auto"])
def test_goes_on_to_the_bit(tmp_path, cut, backend):
    if backend != "auto":
        backend_or_skip(backend)
    base = ("moons", *BASE, "--ema", 0.9, "--backend", backend)
    train(*base, "--out", tmp_path / "whole")
    cut(50)
    broken(*base, "--out", tmp_path / "run", "--checkpoint-seconds", 1e-9)
    refused(
        run("report", tmp_path / "run"), r"whose training has not ended\. Go on with `xpnn train --resume .*/run`, or"
    )
    cut(None)
    ran = run("train", "--resume", tmp_path / "run", "--json")  # prints JSON alone
    assert ran.json["epochs"] == 6
    assert not (tmp_path / "run" / STAGING).exists()
    same(tmp_path / "run", tmp_path / "whole")


def test_one_without_a_checkpoint_begins_again(tmp_path, cut, table):
    base = (table, "--target", "y", *BASE)
    train(*base, "--out", tmp_path / "whole")
    cut(12)
    broken(*base, "--out", tmp_path / "run")
    cut(None)
    assert run("train", *base, "--resume", "--out", tmp_path / "run").status == 0
    same(tmp_path / "run", tmp_path / "whole")


def test_an_interrupt_is_read_and_gone_on_with(tmp_path, cut, table, monkeypatch):
    base = (table, "--target", "y", *BASE, "--report")
    train(*base, "--out", tmp_path / "whole")
    cut(14, KeyboardInterrupt)
    monkeypatch.chdir(tmp_path)  # paths are those of the folder in which the run was begun
    ran = run("train", "table.csv", *base[1:], "--out", "run")
    assert ran.status == 130
    assert ran.out.endswith("\nto go on: xpnn train --resume run\n")
    assert read_run("run").info["stopped"] == "interrupted"
    assert run("evaluate", "run/model.safetensors", table).status == 0
    cut(None)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ran = run("train", "--resume", tmp_path / "run", "--quiet")
    assert ran.status == 0
    assert "\ngoing on after 2 epochs\n" in ran.out
    assert (tmp_path / "run" / "report.html").is_file()
    assert not (tmp_path / "run" / STAGING).exists()
    one, another = read_run(tmp_path / "run"), read_run(tmp_path / "whole")
    assert one.info["command"].startswith("xpnn train table.csv --target y")
    assert tensors(tmp_path / "run") == tensors(tmp_path / "whole")
    assert one.info["scores"] == another.info["scores"]


def test_an_older_run_stays_until_the_new_one_has_ended(tmp_path, cut):
    out = ("--out", tmp_path)
    train("moons", *BASE, *out)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    cut(60)
    broken("moons", *BASE, "--seed", 1, *out)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    told = f"the run that is in {tmp_path} stays until this one has ended, which replaces it\n"
    assert told in run("train", "moons", "--epochs", 1, "--max-seconds", 9, "--quiet", "--out", tmp_path).out
    assert told not in run("train", "moons", "--epochs", 1, "--quiet", "--out", tmp_path / "new").out
    shutil.rmtree(tmp_path / "new")
    cut(60)
    broken("moons", *BASE, "--seed", 1, *out)
    assert (tmp_path / STAGING / "history.csv").read_text().count("\n") > 1
    shutil.rmtree(tmp_path / STAGING)
    assert read_run(tmp_path).info["options"]["seed"] == 0


def test_what_failed_after_the_fit_is_done_again(tmp_path, monkeypatch):
    train("moons", *BASE, "--out", tmp_path / "whole")

    def full(*args):
        raise OSError(28, "No space left on device", "model.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr("xpnn.cli.run.write_results", full)
        ran = run("train", "moons", *BASE, "--quiet", "--out", tmp_path / "run")
    refused(ran, "model.safetensors: No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr("xpnn.Trainer.fit", full)  # nothing is left to train
        assert run("train", "--resume", tmp_path / "run", "--quiet").status == 0
    same(tmp_path / "run", tmp_path / "whole")


def test_a_new_run_says_that_it_gives_an_unfinished_one_up(tmp_path, cut):
    cut(30)
    broken("moons", *BASE, "--out", tmp_path)
    cut(None)
    said = "the unfinished run in this folder is given up; --resume would have gone on with it\n"
    assert said in run("train", "moons", *BASE, "--quiet", "--out", tmp_path).out
    assert said not in run("train", "moons", *BASE, "--quiet", "--out", tmp_path).out


def test_epochs_may_be_raised(tmp_path, cut):
    base = ("moons", "--patience", 20, "--schedule", "constant", "--hidden", "6")
    train(*base, "--epochs", 8, "--out", tmp_path / "whole")
    cut(60, KeyboardInterrupt)
    assert run("train", *base, "--epochs", 6, "--out", tmp_path / "run").status == 130
    cut(None)
    refused(
        run("train", "--resume", tmp_path / "run", "--epochs", 5), r"--epochs: expected at least 6, .* got 5\. Raise"
    )
    assert run("train", "--resume", tmp_path / "run", "--epochs", 8, "--quiet").status == 0
    same(tmp_path / "run", tmp_path / "whole")


def test_a_disk_that_is_full_for_a_while(tmp_path, monkeypatch):
    """The history cannot be written: training ends, its best weights are kept, and it goes on later."""
    train("moons", *BASE, "--out", tmp_path / "whole")
    place = Staging.place

    def full(self, name):
        if self.path.parent.name == "run" and not (self.path / "checkpoint.safetensors").exists():
            raise OSError(28, "No space left on device", str(self.folder / name))
        place(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Staging, "place", full)
        ran = run("train", "moons", *BASE, "--quiet", "--out", tmp_path / "run")
    refused(ran, r"No space left on device.* The best weights so far are kept\.")
    assert read_run(tmp_path / "run").info["stopped"] == "failed"
    assert run("train", "--resume", tmp_path / "run", "--quiet").status == 0
    same(tmp_path / "run", tmp_path / "whole")


# -- refusing ---------------------------------------------------------------------------------------------------
@pytest.fixture
def unfinished(tmp_path, cut, table):
    cut(14, KeyboardInterrupt)
    assert run("train", table, "--target", "y", *BASE, "--out", tmp_path / "run").status == 130
    cut(None)
    return tmp_path / "run"


@pytest.mark.parametrize("given", [("--lr", 0.5), ("--hidden", "6,6"), ("--drop", "a"), ("--residual",), ("--seed", 3)])
def test_other_options_are_refused(unfinished, table, given):
    message = (
        rf"--resume: expected the options .* {given[0]} \S+, got \S+\. Give them as they were, or leave --resume out"
    )
    refused(run("train", "--resume", unfinished, *given), message)
    refused(run("train", table, "--target", "y", *BASE, *given, "--resume", "--out", unfinished), message)
    assert read_run(unfinished).info["stopped"] == "interrupted"  # nothing was touched
    assert run("train", table, "--target", "y", *BASE, "--resume", "--quiet", "--out", unfinished).status == 0


def test_an_option_that_is_left_out_is_another(unfinished, table):
    options = [str(option) for option in BASE]
    at = options.index("--dropout")
    del options[at : at + 2]
    message = r"--dropout 0\.2, got none"
    refused(run("train", table, "--target", "y", *options, "--resume", "--out", unfinished), message)


def test_other_data_are_refused(unfinished, table):
    text = table.read_text()
    table.write_text(text.replace("yes", "Yes", 1))
    refused(
        run("train", "--resume", unfinished), r"expected the data that the run began with, got another content in .*csv"
    )
    table.unlink()
    refused(run("train", "--resume", unfinished), r"got no file .*csv\. Put the file back")
    table.write_text(text)
    assert run("train", "--resume", unfinished, "--quiet").status == 0


def test_other_versions_are_told(unfinished):
    file = unfinished / STAGING / "state.json"
    state = json.loads(file.read_text())
    state["plan"]["versions"]["numpy"] = "1.0"
    file.write_text(json.dumps(state))
    said = f"begun with other versions, so last bits may differ: numpy 1.0, now {np.__version__}\n"
    assert said in run("train", "--resume", unfinished, "--quiet").out


def test_folders_without_a_run(tmp_path):
    refused(
        run("train", "--resume", tmp_path), r"expected the folder of a run that has not ended, got .* Pass the folder"
    )
    refused(run("train", "--resume", tmp_path, "--out", "x"), r"--out: expected no option beside the folder")
    refused(run("train", "--resume", tmp_path / "none"), r"expected a file .* got '.*none'\. Check the name")
    assert not list(tmp_path.iterdir())


def test_a_running_one_is_left_alone(tmp_path):
    with Staging(tmp_path) as staging:
        staging.start({})
        refused(run("train", "--resume", tmp_path), r"expected a run that has ended, got one that is running in")
        refused(
            run("train", "moons", "--epochs", 1, "--out", tmp_path), "in which a training is running. Wait for its end"
        )
        refused(run("report", tmp_path), r"whose training has not ended\. Wait for its end\.")


@pytest.mark.parametrize("plan", [{}, {"argv": 3, "cwd": "."}, {"argv": ["train", "xor"], "cwd": 3}])
def test_a_damaged_plan_is_refused(tmp_path, plan):
    with Staging(tmp_path) as staging:
        staging.start(plan)
    refused(run("train", "--resume", tmp_path), "expected the plan of a run, got a damaged one. Remove this folder")


@pytest.mark.parametrize(("name", "got"), [("model.safetensors", "a folder"), ("scores.json", "one that is read-only")])
def test_what_could_not_be_replaced_is_told_before_training(tmp_path, name, got):
    if got == "a folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("{}")
        (tmp_path / name).chmod(0o444)
    refused(
        run("train", "xor", "--out", tmp_path),
        rf"--out: expected .*{name} to be a file that may be replaced, got {got}",
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]


# -- done -------------------------------------------------------------------------------------------------------
def test_a_finished_run_needs_nothing(tmp_path, table):
    base = ("train", table, "--target", "y", *BASE, "--out", tmp_path / "run")
    assert run(*base, "--resume", "--quiet").status == 0  # there was nothing: it begins
    before = tensors(tmp_path / "run")
    said = f"the run in {tmp_path / 'run'} has ended, after 6 epochs: nothing is left to do\n"
    assert run(*base, "--resume") == (0, said, "")
    assert run("train", "--resume", tmp_path / "run") == (0, said, "")
    ran = run("train", "--resume", tmp_path / "run", "--json")
    assert (ran.status, ran.json["epochs"]) == (0, 6)
    assert sorted(ran.json["files"]) == sorted(map(str, (tmp_path / "run").iterdir()))
    refused(run(*base, "--resume", "--lr", 0.3), r"--lr 0\.04, got 0\.3")
    refused(run("train", "--resume", tmp_path / "run", "--epochs", 9), r"--epochs 6, got 9")
    table.write_text(table.read_text().replace("yes", "Yes", 1))
    refused(run(*base, "--resume"), "got another content in")
    assert tensors(tmp_path / "run") == before
    for damaged in ("[]", "[" * 200_000):
        (tmp_path / "run" / "scores.json").write_text(damaged)
        refused(run(*base, "--resume"), r"scores\.json: expected what xpnn train writes, got a damaged file")


def test_damaged_scores_of_an_older_run_cost_no_new_one(tmp_path, table):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "scores.json").write_text("[" * 200_000)
    train(table, "--target", "y", *BASE, "--out", tmp_path / "run")
    assert read_run(tmp_path / "run").info["epochs"] == 6


def test_whoever_opens_a_model_finishes_what_a_kill_cut_short(tmp_path, table):
    base = ("train", table, "--target", "y", *BASE, "--out", tmp_path / "run", "--quiet")
    commands = {"predict": (table, "--out", "-"), "info": (), "evaluate": (table,)}
    for model in ("run", "run/model.safetensors"):
        for command, rest in commands.items():
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            assert run(*base).status == 0
            staging = tmp_path / "run" / STAGING
            staging.mkdir()
            (tmp_path / "run" / "model.safetensors").rename(staging / "model.safetensors")
            commit = {"files": ["model.safetensors"], "remove": [], "keep": False}
            (staging / "state.json").write_text(json.dumps({"plan": {}, "commit": commit}))
            assert run(command, tmp_path / model, *rest).status == 0
            assert not staging.exists()


# -- one folder, one run ----------------------------------------------------------------------------------------
@pytest.fixture
def two(tmp_path):
    for seed in (0, 1):
        train("moons", *BASE, "--seed", seed, "--out", tmp_path / str(seed))
    return tmp_path


def test_files_bear_the_id_of_their_run(two):
    info, run_0 = json.loads((two / "0" / "scores.json").read_text()), read_run(two / "0")
    assert info == run_0.predictor.info
    assert (run_0.evidence or {})["run"] == info["run"]["id"] != read_run(two / "1").info["run"]["id"]
    assert set(info["run"]["files"]) == {"history.csv", "evidence.json"}


@pytest.mark.parametrize("name", ["model.safetensors", "scores.json", "history.csv", "evidence.json"])
def test_files_of_two_runs_are_refused(two, name):
    shutil.copy(two / "1" / name, two / "0" / name)
    refused(
        run("report", two / "0"), r"expected a file of the run that model\.safetensors is of, got one of another run"
    )


@pytest.mark.parametrize("name", ["model.safetensors", "scores.json", "evidence.json"])
def test_files_of_two_runs_without_ids_are_refused_where_they_differ(two, name):
    """As older versions wrote them; a kill between two files left them side by side."""
    for folder in (two / "0", two / "1"):
        model, info = (
            xpnn.predictor.Predictor.load(folder / "model.safetensors"),
            json.loads((folder / "scores.json").read_text()),
        )
        del info["run"], model.info["run"]
        model.save(folder / "model.safetensors")
        (folder / "scores.json").write_text(json.dumps(info))
    assert run("report", two / "0").status == 0
    shutil.copy(two / "1" / name, two / "0" / name)
    if name != "evidence.json":  # which told nothing of its run
        refused(run("report", two / "0"), "got one of another run or one that was changed")


def test_what_an_older_run_left_goes_with_it(tmp_path, monkeypatch):
    def pictures(out, *args):
        (out / "boundary.png").write_bytes(b"a picture")
        return [out / "boundary.png"]

    monkeypatch.setattr("xpnn.cli.results._pictures", pictures)
    train("moons", *BASE, "--report", "--out", tmp_path)
    (tmp_path / "mine.png").write_bytes(b"a picture")
    assert read_run(tmp_path).boundary is not None
    monkeypatch.setattr("xpnn.cli.results._pictures", lambda *args: [])
    train("moons", *BASE, "--out", tmp_path)
    files = {"model.safetensors", "scores.json", "history.csv", "evidence.json", "mine.png"}
    assert {path.name for path in tmp_path.iterdir()} == files
