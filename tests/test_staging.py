"""Files that take their places together: each moment at which a process may be cut off, and what the next one finds."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading

import pytest

from xpnn.errors import DataError, FileFormatError
from xpnn.staging import STAGING, Staging, plan_of, recover

NEW, OLD = {"a.txt": "new a", "b.txt": "new b"}, {"a.txt": "old a", "c.txt": "old c"}


class Cut(BaseException):
    """A process that ends."""


def put(folder, files):
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def replace_all(folder, *, keep=False):
    with Staging(folder) as staging:
        staging.clear()
        staging.start({"n": 1})
        put(staging.path, NEW | {"checkpoint": "half way"})
        staging.commit(list(NEW), remove=["c.txt"], keep=keep)


# -- commits ----------------------------------------------------------------------------------------------------
def test_files_take_their_places(tmp_path):
    put(tmp_path, OLD | {"mine.txt": "of somebody else"})
    replace_all(tmp_path)
    assert content(tmp_path) == NEW | {"mine.txt": "of somebody else"}
    assert recover(tmp_path) is None
    assert plan_of(tmp_path) is None


def test_what_is_kept_is_gone_on_with(tmp_path):
    replace_all(tmp_path, keep=True)
    assert recover(tmp_path) is None  # all that is in the folder counts
    assert plan_of(tmp_path) == {"n": 1}
    with Staging(tmp_path) as staging:
        assert json.loads((staging.path / "state.json").read_text())["kept"] is True
        assert (staging.path / "checkpoint").read_text() == "half way"
        staging.start({"n": 1})
    assert recover(tmp_path) == "unfinished"
    with Staging(tmp_path) as staging:
        staging.discard()
    assert content(tmp_path) == NEW


def test_every_cut_leaves_the_old_or_the_new(tmp_path, monkeypatch):
    """Each call that changes a folder is the last one, in turn."""
    seen, over, last = set(), False, 0
    while not over:
        last += 1
        folder = tmp_path / str(last)
        put(folder, OLD)
        calls = 0

        def counted(function, last=last):
            def call(*args, **options):
                nonlocal calls
                calls += 1
                if calls >= last:  # a process that has ended does nothing more
                    raise Cut
                return function(*args, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("replace", "unlink", "rmdir"):
                patch.setattr(os, name, counted(getattr(os, name)))
            try:
                replace_all(folder)
                over = True
            except Cut:
                pass
        state = recover(folder)
        left = {path.name: path.read_text() for path in folder.iterdir() if path.name != STAGING}
        assert left in (OLD, NEW)
        assert (state is None) or left == OLD
        seen.add((state, left == NEW))
        with Staging(folder) as staging:
            staging.clear()
        assert content(folder) == left
    assert seen == {(None, False), ("unfinished", False), (None, True)}
    assert last > 8


def test_an_older_file_passes_on_its_mode_and_a_link_is_followed(tmp_path):
    put(tmp_path, {"a.txt": "old"})
    (tmp_path / "a.txt").chmod(0o600)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "b.txt").symlink_to(tmp_path / "elsewhere" / "b.txt")
    replace_all(tmp_path)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o600
    assert (tmp_path / "b.txt").is_symlink()
    assert (tmp_path / "elsewhere" / "b.txt").read_text() == "new b"


def test_what_is_no_regular_file_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "a.txt").read_text()), daemon=True)
    reader.start()
    replace_all(tmp_path)
    reader.join(10)
    assert read == ["new a"]
    assert stat.S_ISFIFO((tmp_path / "a.txt").stat().st_mode)


def test_a_folder_removed_meanwhile_is_made_again(tmp_path):
    import shutil

    folder = tmp_path / "run"
    with Staging(folder) as staging:
        staging.start({})
        shutil.rmtree(folder)
        staging.path.mkdir(parents=True)
        put(staging.path, NEW)
        staging.commit(list(NEW))
    assert content(folder) == NEW


# -- one at a time ----------------------------------------------------------------------------------------------
def test_a_second_writer_is_refused(tmp_path):
    with Staging(tmp_path) as staging:
        staging.start({})
        assert recover(tmp_path) == "running"
        with (
            pytest.raises(DataError, match=r"one in which a training is running\. Wait for its end"),
            Staging(tmp_path),
        ):
            pass
    assert recover(tmp_path) == "unfinished"


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    script = "import os, sys; from xpnn.staging import Staging\n"
    script += "with Staging(sys.argv[1]) as s: s.start({'n': 2}); os.kill(os.getpid(), 9)"
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert ran.returncode == -9
    assert recover(tmp_path) == "unfinished"
    with Staging(tmp_path) as staging:
        assert staging.plan == {"n": 2}
        staging.discard()
    assert content(tmp_path) == {}


def test_entering_leaves_no_trace(tmp_path):
    with Staging(tmp_path) as staging:
        assert staging.plan is None
    assert content(tmp_path) == {}


# -- damage -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", "null", '{"plan": 1}', '{"plan": {}, "commit": {}}', '{"plan": {}, "commit": [1]}'),
        *('{"plan": {}, "commit": {"files": ["../x"], "remove": [], "keep": false}}',),
        *('{"plan": {}, "commit": {"files": [], "remove": ["/etc/x"], "keep": false}}',),
        *('{"plan": {}, "commit": {"files": [".unfinished"], "remove": [], "keep": false}}',),
        *('{"plan": {}, "commit": {"files": [3], "remove": [], "keep": false}}', "[" * 100_000),
    ],
    ids=lambda text: text[:60],
)
def test_a_damaged_state_is_refused_and_touches_nothing(tmp_path, text):
    put(tmp_path, OLD)
    (tmp_path / STAGING).mkdir()
    (tmp_path / STAGING / "state.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"state\.json: expected the state of a training, got a damaged file"):
        recover(tmp_path)
    with pytest.raises(FileFormatError), Staging(tmp_path):
        pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()} == OLD


def test_a_place_that_cannot_be_taken_is_told_and_the_journal_stays(tmp_path):
    (tmp_path / "b.txt").mkdir()
    with pytest.raises(OSError, match=r"b\.txt"):
        replace_all(tmp_path)
    state = json.loads((tmp_path / STAGING / "state.json").read_text())
    assert state["commit"]["files"] == ["a.txt", "b.txt"]
    with pytest.raises(DataError, match=r"files of a run are still to take their places, got: .*\. Mend the folder's"):
        recover(tmp_path)
    (tmp_path / "b.txt").rmdir()
    assert recover(tmp_path) is None
    assert content(tmp_path) == NEW
