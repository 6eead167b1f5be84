"""Files are replaced only as they may be, and read only as far as they should be."""

from __future__ import annotations

import errno
import gzip
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnn
from xpnn.errors import DataError, FileFormatError
from xpnn.files import EXPANSION, atomic_path, existing_file, parse_json, read_content, read_json


def write(path, text):
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# -- what is there already ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("relative", [True, False])
def test_a_link_stays_and_its_target_is_replaced(tmp_path, relative):
    (tmp_path / "deep").mkdir()
    real = tmp_path / "deep" / "real.txt"
    real.write_text("old")
    (tmp_path / "first").symlink_to("deep/real.txt" if relative else real)
    (tmp_path / "second").symlink_to("first")
    write(tmp_path / "second", "new")
    assert real.read_text() == "new"
    assert (tmp_path / "second").is_symlink()
    assert (tmp_path / "first").is_symlink()
    assert sorted(os.listdir(tmp_path / "deep")) == ["real.txt"]


def test_a_link_to_nothing_makes_its_target(tmp_path):
    (tmp_path / "link").symlink_to("new/deep/target")
    write(tmp_path / "link", "made")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "new" / "deep" / "target").read_text() == "made"


def test_links_in_a_circle_are_told(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(
        DataError, match=r"^writing .+a: expected a folder that can be written to, got: Too many levels"
    ):
        write(tmp_path / "a", "new")
    assert (tmp_path / "a").is_symlink()


def test_a_linked_folder_is_written_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link" / "a.txt", "new")
    assert (tmp_path / "real" / "a.txt").read_text() == "new"


@pytest.mark.parametrize("given", [0o600, 0o640, 0o755, 0o664])
def test_a_file_keeps_its_mode(tmp_path, given):
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(given)
    with atomic_path(tmp_path / "f") as temporary:
        assert mode(temporary) == given, "before there is anything to be read in it"
        temporary.write_text("new")
    assert (mode(tmp_path / "f"), (tmp_path / "f").read_text()) == (given, "new")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_what_the_umask_leaves(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / "f", "new")
    finally:
        os.umask(before)
    assert mode(tmp_path / "f") == 0o666 & ~mask


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_a_file_keeps_its_owner(tmp_path):
    (tmp_path / "f").write_text("old")
    os.chown(tmp_path / "f", 1234, 2345)
    write(tmp_path / "f", "new")
    found = (tmp_path / "f").stat()
    assert (found.st_uid, found.st_gid) == (1234, 2345)


def test_other_names_of_a_file_keep_the_old_content(tmp_path):
    """As a backup of hard links needs it."""
    (tmp_path / "f").write_text("old")
    os.link(tmp_path / "f", tmp_path / "backup")
    write(tmp_path / "f", "new")
    assert ((tmp_path / "f").read_text(), (tmp_path / "backup").read_text()) == ("new", "old")


def test_a_read_only_file_is_respected(tmp_path):
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o444)
    with pytest.raises(
        DataError, match=r"^writing .+f: expected a file that may be changed, got one that is read-only"
    ):
        write(tmp_path / "f", "new")
    assert (tmp_path / "f").read_text() == "old"
    assert os.listdir(tmp_path) == ["f"]


def test_a_folder_is_told_before_anything_is_written(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"got: folder is itself a folder\."), atomic_path(tmp_path / "folder"):
        pytest.fail("nothing is to be done for nothing")


@pytest.mark.parametrize("name", ["n" * 255, "é" * 120, "a" * 200 + ".safetensors"], ids=["long", "wide", "ending"])
def test_names_as_long_as_names_may_be(tmp_path, name):
    write(tmp_path / name, "new")
    assert (tmp_path / name).read_text() == "new"


def test_names_that_no_system_takes_are_told(tmp_path):
    with pytest.raises(DataError, match=r"^writing .+: expected a folder that can be written to, got: embedded null"):
        write(tmp_path / "a\0b", "new")


# -- what is no regular file -------------------------------------------------------------------------------------
@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_to(tmp_path, linked):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    write(tmp_path / ("link" if linked else "pipe"), "x" * 200_000)
    reader.join()
    assert got == ["x" * 200_000]
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link", "pipe"]


def test_a_device_stays_a_device(tmp_path):
    write("/dev/null", "gone")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    if Path("/dev/full").exists():
        with pytest.raises(DataError, match=r"writing /dev/full: .* got: No space left on device"):
            write("/dev/full", "x")
        assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


PROGRAM = """
import sys
from xpnn.files import atomic_path
print("before")
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("written\\n")
print("after")
"""


@pytest.mark.parametrize("into", ["pipe", "file"])
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "out.txt"])
def test_standard_output_is_written_to_in_order(tmp_path, into, name):
    if name == "out.txt" and into == "pipe":
        pytest.skip("a pipe has no such name")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / name) if name == "out.txt" else name]
    with (tmp_path / "out.txt").open("wb") as out:
        ran = subprocess.run(command, stdout=subprocess.PIPE if into == "pipe" else out, check=True, cwd=tmp_path)
    said = ran.stdout.decode() if into == "pipe" else (tmp_path / "out.txt").read_text()
    assert said == "before\nwritten\nafter\n"
    assert os.listdir(tmp_path) == ["out.txt"]


# -- however it ends ---------------------------------------------------------------------------------------------
ENDLESS = """
import sys
from xpnn.files import atomic_path
with atomic_path(sys.argv[1]) as temporary, temporary.open("w") as file:
    print("begun", flush=True)
    while True:
        file.write("new" * 10_000)
"""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_told_as_one(tmp_path, number):
    path = tmp_path / "a.txt"
    path.write_text("old")
    message = rf"^writing {path}: expected room for the file, got: {os.strerror(number)}\. Choose another path, or free"

    def fill(temporary):
        temporary.write_text("ne")
        raise OSError(number, os.strerror(number))

    with pytest.raises(DataError, match=message), atomic_path(path) as temporary:
        fill(temporary)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    (tmp_path / "f").write_text("old")
    with subprocess.Popen([sys.executable, "-c", ENDLESS, tmp_path / "f"], stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"begun\n"
        time.sleep(0.05)
        writer.kill()
    assert (tmp_path / "f").read_text() == "old"


@pytest.mark.parametrize("target", ["file", "link", "nothing"])
def test_an_error_in_the_block_leaves_everything_as_it_was(tmp_path, target):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(TypeError), atomic_path(tmp_path / target) as temporary:
        temporary.write_text("half", encoding=3)
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "file").read_text() == "old"


WRITERS = {
    "save": lambda path: xpnn.save(xpnn.mlp([2, 2]), path),
    "write_idx": lambda path: xpnn.data.write_idx(path, [1.0, 2.0]),
    "to_csv": lambda path: xpnn.History([{"epoch": 1}]).to_csv(path),
    "to_json": lambda path: xpnn.History([{"epoch": 1}]).to_json(path),
    "save_figure": lambda path: xpnn.plots.save_figure(xpnn.plots.plot_activation("relu"), path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_follows_links_and_keeps_modes(tmp_path, writer):
    name = "real.png" if writer == "save_figure" else "real"
    (tmp_path / name).write_text("old")
    (tmp_path / name).chmod(0o600)
    link = tmp_path / f"link{Path(name).suffix}"
    link.symlink_to(name)
    WRITERS[writer](link)
    assert link.is_symlink()
    assert mode(tmp_path / name) == 0o600
    assert (tmp_path / name).read_bytes() != b"old"


# -- reading -----------------------------------------------------------------------------------------------------
def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(
            DataError, match=r"^reading: expected a file, got .+, a pipe or a device\. Write its content"
        ):
            existing_file(path, "reading")


def test_a_file_made_to_fill_memory_is_refused_before_it_does(tmp_path):
    free, ratio = EXPANSION
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(bytes(4 * free), compresslevel=9))
    most = free + ratio * path.stat().st_size
    with pytest.raises(
        FileFormatError, match=rf"^load_csv: expected at most {most:,} bytes from .+got more\. It is dama"
    ):
        xpnn.data.load_csv(path)


def test_what_compresses_well_is_read_where_it_is_small(tmp_path):
    (tmp_path / "zeros.gz").write_bytes(gzip.compress(bytes(1 << 20)))
    assert read_content(tmp_path / "zeros.gz", "reading") == bytes(1 << 20)
    with pytest.raises(FileFormatError, match="expected at most 1,000 bytes"):
        read_content(tmp_path / "zeros.gz", "reading", most=1_000)


@settings(max_examples=30)
@given(st.binary(max_size=400), st.data())
def test_a_gzip_file_is_whole_or_refused(tmp_path_factory, content, data):
    packed = bytearray(gzip.compress(content))
    packed[data.draw(st.integers(2, len(packed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "changed.gz"
    path.write_bytes(packed)
    try:
        assert read_content(path, "reading") == content
    except FileFormatError as error:
        assert str(error).startswith("reading: expected")  # noqa: PT017


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, '{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 1}}', "9" * 10_000, "", "{"]
)
def test_json_that_is_none_or_too_much_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"too deep|twice|Exceeds the limit|Expecting"):
        parse_json(text)


def test_the_object_in_a_json_file(tmp_path):
    (tmp_path / "f").write_text(json.dumps({"a": [1, None]}))
    assert read_json(tmp_path / "f", "Train again.") == {"a": [1, None]}
    for content, message in ((b"\xff", "got a damaged file"), (b"[" * 9_000, "lie too deep"), (b"[]", "got a list")):
        (tmp_path / "f").write_bytes(content)
        with pytest.raises(FileFormatError, match=rf"f: expected .*{message}.* Train again\.$"):
            read_json(tmp_path / "f", "Train again.")
