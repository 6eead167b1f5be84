"""MNIST is found, fetched and verified; the network is a server on this machine with tiny files."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from places import PROJECT

from xpnn.data import mnist
from xpnn.data.digits import load_digits
from xpnn.data.idx import write_idx
from xpnn.errors import BackendUnavailableError, DataError, FileFormatError

PARTS = {
    "X_train": ("train-images-idx3-ubyte", (6, 28, 28)),
    "y_train": ("train-labels-idx1-ubyte", (6,)),
    "X_test": ("t10k-images-idx3-ubyte", (4, 28, 28)),
    "y_test": ("t10k-labels-idx1-ubyte", (4,)),
}


@pytest.fixture
def tiny(monkeypatch):
    """Four small arrays, whose checksums stand in for those of MNIST."""
    rng = np.random.default_rng(0)
    arrays = {part: rng.integers(0, 10, shape, dtype=np.uint8) for part, (_, shape) in PARTS.items()}
    arrays["X_train"][0, 0, 0] = 255
    files = {}
    for part, (name, _) in PARTS.items():
        header = bytes([0, 0, 8, arrays[part].ndim])
        header += b"".join(side.to_bytes(4, "big") for side in arrays[part].shape)
        files[part] = (name, hashlib.md5(header + arrays[part].tobytes()).hexdigest())
    monkeypatch.setattr(mnist, "_FILES", files)
    return arrays


def write_all(folder, arrays, suffix=".gz", infix="-idx"):
    folder.mkdir(parents=True, exist_ok=True)
    for part, array in arrays.items():
        write_idx(folder / (PARTS[part][0].replace("-idx", infix) + suffix), array)


@pytest.fixture
def serve():
    """Serve folders over HTTP; gives their addresses and the list of requested paths."""
    servers = []

    def start(folder):
        asked = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *args):
                asked.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("infix", ["-idx", ".idx"])
@pytest.mark.parametrize("folder", [".", "mnist"])
def test_files_are_found_under_each_name(tmp_path, tiny, suffix, infix, folder):
    write_all(tmp_path / folder, tiny, suffix, infix)
    data = mnist.load_mnist(tmp_path, download=False)
    assert data.X_train.dtype == np.float32
    assert data.X_train.shape == (6, 784)
    np.testing.assert_array_equal(data.X_train, tiny["X_train"].reshape(6, 784).astype(np.float32) / 255)
    assert data.X_train[0, 0] == 1.0
    assert data.y_test.dtype == np.int64
    np.testing.assert_array_equal(data.y_test, tiny["y_test"])


def test_raw_gives_the_bytes_of_the_images(tmp_path, tiny):
    write_all(tmp_path, tiny)
    X_train, y_train, X_test, _ = mnist.load_mnist(tmp_path, download=False, raw=True)
    assert X_train.dtype == np.uint8
    assert y_train.dtype == np.int64
    np.testing.assert_array_equal(X_train, tiny["X_train"])
    np.testing.assert_array_equal(X_test, tiny["X_test"])


def test_the_environment_variable_names_the_folder(tmp_path, tiny, monkeypatch):
    write_all(tmp_path / "mnist", tiny)
    monkeypatch.setenv("XPNN_DATA", str(tmp_path))
    assert len(mnist.load_mnist(download=False).X_test) == 4


def test_missing_files_without_download_say_what_to_do(tmp_path, tiny):
    with pytest.raises(DataError, match=r"expected train-images-idx3-ubyte .*Pass download=True, or fetch"):
        mnist.load_mnist(tmp_path, download=False)


def test_a_damaged_file_is_named_with_both_checksums(tmp_path, tiny):
    write_all(tmp_path, tiny)
    tiny["y_test"][0] += 1
    write_all(tmp_path, tiny)
    words = r"expected MD5 \w{32} for the uncompressed content of .*t10k-labels.*got \w{32} \(12 bytes\).*delete"
    with pytest.raises(FileFormatError, match=words):
        mnist.load_mnist(tmp_path)


def test_a_file_that_unpacks_to_more_than_mnist_is_refused(tmp_path, tiny):
    write_all(tmp_path, tiny)
    name = next(tmp_path.glob("*/t10k-labels*"), None) or next(tmp_path.glob("t10k-labels*"))
    name.unlink()
    (name.parent / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(48_000_000)))
    with pytest.raises(FileFormatError, match=r"load_mnist: expected at most 47,040,016 bytes from .+t10k-labels"):
        mnist.load_mnist(tmp_path, download=False)


def test_download_goes_to_the_next_mirror_after_404_and_wrong_bytes(tmp_path, tiny, serve):
    write_all(tmp_path / "good", tiny)
    wrong = {part: array + 1 for part, array in tiny.items()}
    write_all(tmp_path / "bad", wrong)
    (tmp_path / "bad" / "train-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8b cut")
    (tmp_path / "empty").mkdir()
    (empty, _), (bad, _), (good, asked) = (serve(tmp_path / name) for name in ("empty", "bad", "good"))
    home = tmp_path / "home"
    data = mnist.load_mnist(home, mirrors=(empty, bad.rstrip("/"), good))
    np.testing.assert_array_equal(data.y_train, tiny["y_train"])
    assert sorted(f.name for f in (home / "mnist").iterdir()) == sorted(f"{n}.gz" for n, _ in PARTS.values())
    assert len(asked) == 4
    again = mnist.load_mnist(home, mirrors=(good,))
    np.testing.assert_array_equal(again.X_test, data.X_test)
    assert len(asked) == 4, "files on disk are not fetched again"


def test_download_into_a_folder_named_mnist_does_not_nest(tmp_path, tiny, serve):
    write_all(tmp_path / "good", tiny)
    mnist.load_mnist(tmp_path / "mnist", mirrors=(serve(tmp_path / "good")[0],))
    assert all(f.is_file() for f in (tmp_path / "mnist").iterdir())


def test_another_compression_of_the_right_bytes_is_right(tmp_path, tiny, serve):
    write_all(tmp_path / "good", tiny)
    for f in (tmp_path / "good").iterdir():
        f.write_bytes(gzip.compress(gzip.decompress(f.read_bytes()), compresslevel=1, mtime=7))
    assert len(mnist.load_mnist(tmp_path, mirrors=(serve(tmp_path / "good")[0],)).y_train) == 6


def test_wrong_bytes_everywhere_are_a_format_error_and_leave_nothing(tmp_path, tiny, serve):
    write_all(tmp_path / "bad", {part: array + 1 for part, array in tiny.items()})
    words = r"expected to fetch train-images.*MD5 \w{32} \(uncompressed\), got http.*MD5 \w{32} of 4720 bytes"
    with pytest.raises(FileFormatError, match=words):
        mnist.load_mnist(tmp_path / "home", mirrors=(serve(tmp_path / "bad")[0],))
    assert list((tmp_path / "home" / "mnist").iterdir()) == []


def test_no_network_says_how_to_put_the_files_by_hand(tmp_path, tiny):
    words = "got http://127.0.0.1:9.*Check the network or pass other mirrors; .* put it into .*mnist"
    with pytest.raises(DataError, match=words):
        mnist.load_mnist(tmp_path, mirrors=("http://127.0.0.1:9/",))
    assert list((tmp_path / "mnist").iterdir()) == []
    with pytest.raises(DataError, match=r"got no mirror to try"):
        mnist.load_mnist(tmp_path, mirrors=())


def test_a_folder_that_cannot_be_made_is_named(tmp_path, tiny):
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=r"expected a folder to write to, got .*Pass another data_dir, or set XPNN_DATA"
    ):
        mnist.load_mnist(tmp_path / "file")


def real_folder() -> Path:
    here = os.environ.get("XPNN_DATA") or PROJECT.parent / "shared" / "data" / "mnist"
    folder = Path(here)
    if not [*folder.glob("train-images*"), *folder.glob("mnist/train-images*")]:
        pytest.skip("MNIST is not on this machine: set XPNN_DATA to the folder that holds it")
    return folder


def test_the_real_files_are_mnist():
    X_train, y_train, X_test, y_test = mnist.load_mnist(real_folder(), download=False)
    assert X_train.shape == (60_000, 784)
    assert X_test.shape == (10_000, 784)
    assert X_train.dtype == np.float32
    assert (X_train.min(), X_train.max()) == (0.0, 1.0)
    assert X_train.mean() == pytest.approx(0.1307, abs=1e-4)
    np.testing.assert_array_equal(y_train[:5], [5, 0, 4, 1, 9])
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(y_train), counts)
    np.testing.assert_array_equal(y_test[:5], [7, 2, 1, 0, 4])


def test_digits_come_from_scikit_learn():
    X, y = load_digits()
    assert X.shape == (1797, 64)
    assert X.dtype == np.float32
    assert y.dtype == np.int64
    assert (X.min(), X.max()) == (0.0, 1.0)
    assert np.bincount(y).min() == 174


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(BackendUnavailableError, match=r"needs scikit-learn.*pip install 'xpnn\[sklearn\]'"):
        load_digits()
