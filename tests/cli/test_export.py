"""``xpnn export``: files of other formats from a run."""

from __future__ import annotations

import runpy

import numpy as np
import pytest
from commands import refused, run

import xpnn
from xpnn.data import load_csv
from xpnn.interop.c_check import compiler

pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'xpnn[onnx]'")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a small table, and the table."""
    folder = tmp_path_factory.mktemp("export")
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{'uvw'[k % 3]},{'yes' if a > 0 else 'no'}" for k, a in enumerate(rng.normal(size=150))]
    table = folder / "table.csv"
    table.write_text("a,kind,y\n" + "\n".join(rows) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnn.cli.results._pictures", lambda *args: [])
        patch.setattr("xpnn.cli.problem.Problem.trained", lambda *args: None)
        done = run(
            "train", table, "--target", "y", "--preset", "quick", "--epochs", 2, "--quiet", "--out", folder / "run"
        )
    assert done.status == 0, done.err
    return folder / "run", table


def test_the_rows_of_the_training_are_compared(trained, tmp_path):
    folder, table = trained
    done = run("export", folder, "--onnx", tmp_path / "m.onnx")
    assert done.status == 0
    lines = done.out.splitlines()
    assert lines[0] == f"wrote {tmp_path / 'm.onnx'}, compared with the model on rows of table.csv"
    assert lines[1].split()[:3] == ["rows", "checked", "150"]
    assert lines[2].split() == ["labels", "equal", "150"]
    assert lines[3].startswith("max |Δ| probabilities")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    columns = load_csv(table).read()
    feeds = {"a": columns["a"][:, None], "kind": columns["kind"][:, None].astype(object)}
    label, _ = session.run(["label", "probabilities"], feeds)
    assert label.tolist() == xpnn.load_predictor(folder).predict(columns).tolist()


def test_several_formats_are_traced_and_asked_once(trained, tmp_path, monkeypatch):
    folder, _ = trained
    from xpnn.interop import subject

    traced, answered = [], []
    of, proba = subject._of_predictor, xpnn.Predictor.predict_proba
    monkeypatch.setattr(subject, "_of_predictor", lambda *args: traced.append(1) or of(*args))
    monkeypatch.setattr(xpnn.Predictor, "predict_proba", lambda *args: answered.append(1) or proba(*args))
    files = tmp_path / "m.onnx", tmp_path / "m.py"
    done = run("export", folder, "--onnx", files[0], "--python", files[1])
    assert done.status == 0, done.err
    assert all(file.is_file() for file in files)
    assert (len(traced), len(answered)) == (1, 1)


def test_other_rows_and_made_up_ones(trained, tmp_path, monkeypatch):
    folder, table = trained
    other = tmp_path / "other.csv"
    other.write_text("kind;a\nu;1.5\n;\nz;-2\n")
    done = run("export", folder, "--onnx", tmp_path / "m.onnx", "--rows", other, "--delimiter", ";", "--json")
    assert done.json["onnx"]["rows"] == 3
    assert done.json["onnx"]["of"] == "rows of other.csv"
    assert done.json["onnx"]["labels_differ"] == 0
    kept = table.read_bytes()
    table.rename(tmp_path / "gone.csv")
    try:
        assert (
            "compared with the model on made-up rows\nrows checked               500"
            in run("export", folder, "--onnx", tmp_path / "m.onnx").out
        )
        table.write_text("b,c\n1,2\n")
        done = run("export", folder, "--onnx", tmp_path / "m.onnx")
        assert done.status == 0
        assert "cannot be read as in training" in done.err
        assert "made-up rows" in done.out
    finally:
        table.write_bytes(kept)


def test_what_is_wrong_is_told_in_a_line(trained, tmp_path):
    folder, _ = trained
    file = tmp_path / "m.onnx"
    refused(run("export", folder), "expected a format and a file, got none")
    refused(run("export", folder, "--onnx", tmp_path), "expected a file to write, got the folder")
    refused(run("export", folder, "--onnx", file, "--rows", bad(tmp_path)), "expected the training columns")
    refused(run("export", tmp_path / "nowhere", "--onnx", file), "nowhere")
    assert not file.exists()


def bad(folder):
    path = folder / "bad.csv"
    path.write_text("b\n1\n")
    return path


def test_arrays(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", X=rng.normal(size=(60, 3)).astype(np.float32), y=rng.integers(0, 2, 60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnn.cli.results._pictures", lambda *args: [])
        patch.setattr("xpnn.cli.problem.Problem.trained", lambda *args: None)
        done = run("train", tmp_path / "d.npz", "--epochs", 1, "--hidden", "4", "--quiet", "--out", tmp_path / "run")
    assert done.status == 0, done.err
    done = run("export", tmp_path / "run", "--onnx", tmp_path / "m.onnx")
    assert "rows of d.npz" in done.out
    assert done.out.splitlines()[2].split() == ["labels", "equal", "60"]


def test_the_model_and_other_files_are_not_overwritten(trained, tmp_path):
    folder, _ = trained
    model = folder / "model.safetensors"
    before = model.read_bytes()
    for given in (folder, model):
        refused(run("export", given, "--onnx", model), "got '.*model.safetensors', which is the model. Name another")
    assert model.read_bytes() == before
    same = str(tmp_path / "m")
    refused(
        run("export", folder, "--onnx", same, "--python", same),
        "expected a file for each format, got '.*m' for several",
    )
    (tmp_path / "none.csv").write_text("a,kind\n")
    done = run("export", folder, "--python", same, "--rows", tmp_path / "none.csv")
    assert done.status == 2
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", ["network", "trainer"])
def test_networks_and_trainers(kind, tmp_path):
    """Features go in, outputs come out, and where the loss is known what it makes of them."""
    net = xpnn.mlp([3, 5, 2])
    if kind == "network":
        xpnn.save(net, tmp_path / "net.safetensors")
    else:
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).save(tmp_path / "net.safetensors")
    X = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    done = run(
        *("export", tmp_path / "net.safetensors", "--onnx", tmp_path / "m.onnx", "--python", tmp_path / "m.py"),
        *("--rows", tmp_path / "X.npy"),
    )
    assert done.status == 0, done.err
    assert [line.split()[2] for line in done.out.splitlines() if line.startswith("rows checked")] == ["30", "30"]
    assert done.out.count("on rows of X.npy") == 2
    told = runpy.run_path(str(tmp_path / "m.py"))["predict"](X)
    np.testing.assert_allclose(told["outputs"], net.predict(X), atol=1e-6)
    assert ("predictions" in told) == (kind == "trainer")
    assert "made-up rows" in run("export", tmp_path / "net.safetensors", "--onnx", tmp_path / "m.onnx").out
    done = run("export", tmp_path / "net.safetensors", "--onnx", tmp_path / "m.onnx", "--rows", "moons")
    refused(done, "expected arrays for a network, got 'moons'")


# -- C and Python ----------------------------------------------------------------------------------------------------
def test_c_and_python_are_compared_too(trained, tmp_path):
    if not compiler():
        pytest.skip("needs a C compiler (cc, gcc or clang)")
    folder, table = trained
    done = run("export", folder, "--c", tmp_path / "m.h", "--python", tmp_path / "m.py")
    assert done.status == 0, done.err
    lines = done.out.splitlines()
    wrote = [line for line in lines if line.startswith("wrote ")]
    assert wrote == [
        f"wrote {tmp_path / name}, compared with the model on rows of table.csv" for name in ("m.h", "m.py")
    ]
    assert [line.split()[-1] for line in lines if line.startswith("labels equal")] == ["150", "150"]
    label = runpy.run_path(str(tmp_path / "m.py"))["predict"](load_csv(table).read())["label"]
    assert label.tolist() == xpnn.load_predictor(folder).predict(load_csv(table)).tolist()


def test_no_check_writes_unchecked_and_says_so(trained, tmp_path, monkeypatch):
    folder, _ = trained
    monkeypatch.setenv("CC", str(tmp_path / "nothing"))
    refused(run("export", folder, "--c", tmp_path / "m.h"), "expected a C compiler .*--no-check")
    assert not (tmp_path / "m.h").exists()
    done = run("export", folder, "--c", tmp_path / "m.h", "--no-check")
    assert done.out == f"wrote {tmp_path / 'm.h'}, not compared with the model\n"
    assert (tmp_path / "m.h").is_file()
    done = run("export", folder, "--python", tmp_path / "m.py", "--no-check", "--json")
    assert done.json == {"python": {"file": str(tmp_path / "m.py"), "checked": False}}
    refused(run("export", folder, "--onnx", tmp_path / "m.onnx", "--no-check"), "--onnx, which is always checked")
