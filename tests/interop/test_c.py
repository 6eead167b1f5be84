"""C99 headers: every part of the library and whole models, compiled without a warning and run under sanitizers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cases import LAYERS, LOSSES
from exported import HOSTILE, predictors, shaken
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import run, runnable
from places import PROJECT

import xpnn
from xpnn.data import Standardizer, load_csv
from xpnn.data.targets import NumberTargets
from xpnn.errors import OptionError
from xpnn.interop.c_check import Program, compiler
from xpnn.interop.c_header import CHeader
from xpnn.interop.checked import compare
from xpnn.interop.subject import subject_of
from xpnn.tabular import TabularClassifier, TabularRegressor

pytestmark = pytest.mark.skipif(not compiler(), reason="needs a C compiler (cc, gcc or clang)")

STRICT = ("-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def checked(subjects, *rows, level="-O1"):
    """Compile models into one program, and compare each with what the model answers for its rows, and for others."""
    headers = [CHeader(subject.graph, f"model {k}") for k, subject in enumerate(subjects)]
    checks = []
    with Program(headers, (level, *STRICT)) as program:
        for k, raw in (pair for each in rows for pair in enumerate(each)):
            subject = subjects[k]
            try:
                checks.append(compare(subject, raw, lambda columns, k=k: program.run(k, columns), by="C"))
            except OptionError as error:
                raise AssertionError(f"{k}: {subject.graph!r}: {error}\n{headers[k].text[-6000:]}") from error
    return checks


# -- every part ----------------------------------------------------------------------------------------------------
def test_every_layer_and_link():
    subjects, rows = [], []
    for case in LAYERS:
        subjects.append(subject_of(shaken(case.net())))
        rows.append(case.x(20))
    for case in LOSSES:
        net = shaken(xpnn.mlp([3, case.n_out], replicas=2))
        subjects.append(subject_of(net, loss=case.loss))
        rows.append(np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32))
    for check in checked(subjects, rows, level="-O0"):
        assert max(check.differences.values()) < 2e-6


@settings(max_examples=2)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 18), min_size=2, max_size=4),
            st.sampled_from(["relu", "tanh", "gelu", "selu", "prelu", "mish", "softplus"]),
            st.sampled_from([None, "batch", "layer", "rms"]),
            st.booleans(),
            st.sampled_from([None, 1, 3]),
            st.sampled_from(["float32", "float64"]),
        ),
        min_size=4,
        max_size=4,
    )
)
def test_networks_of_any_shape(kinds):
    subjects, rows = [], []
    for sizes, activation, norm, residual, replicas, dtype in kinds:
        net = xpnn.mlp(sizes, activation, norm=norm, residual=residual, replicas=replicas, dtype=dtype)
        subjects.append(subject_of(shaken(net)))
        rows.append(np.random.default_rng(1).standard_normal((200, sizes[0])).astype(dtype))
    checked(subjects, rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_functions_are_as_exact_as_a_float_wherever_they_are_called(dtype):
    """Of our own are exp, expm1, tanh, erf and sigmoid of floats: in the tails, at 0, and of what is no number."""
    acts = [xpnn.ELU(), xpnn.Tanh(), xpnn.GELU(), xpnn.Sigmoid(), xpnn.Softplus(), xpnn.Softmax(), xpnn.Mish()]
    nets = [xpnn.Sequential(act, n_in=2, dtype=dtype) for act in acts]
    x = np.concatenate([np.linspace(-110, 110, 4001), np.linspace(-1e-3, 1e-3, 101), [0.0, -0.0, 1e30, -1e30, np.nan]])
    rows = np.stack([x, np.zeros_like(x)], axis=1).astype(dtype)
    subjects = [subject_of(net) for net in nets]
    with Program([CHeader(s.graph, f"act {k}") for k, s in enumerate(subjects)], ("-O2", *STRICT)) as program:
        for k, subject in enumerate(subjects):
            told, truth = program.run(k, {"features": rows})["outputs"], subject.answers(rows)["outputs"]
            np.testing.assert_allclose(told, truth.astype(np.float32), rtol=1e-5, atol=1e-6, err_msg=repr(acts[k]))


# -- whole models --------------------------------------------------------------------------------------------------
def test_models_of_tables(classifier, regressor):
    subjects = [subject_of(model) for model, _ in (classifier, regressor)]
    tables = [table for _, table in (classifier, regressor)]
    for check in checked(subjects, tables, [subject.rows(300) for subject in subjects]):
        assert check.labels_differ in (0, None)
        assert max(check.differences.values()) < 1e-6


@settings(max_examples=2)
@given(st.lists(predictors(), min_size=3, max_size=3))
def test_tables_of_any_kind(made):
    subjects = [subject_of(model) for model, _ in made]
    checked(subjects, [table for _, table in made], [subject.rows(100) for subject in subjects])


def test_estimators(fitted_estimators):
    subjects = [subject_of(model) for model, _ in fitted_estimators]
    for check in checked(subjects, [rows for _, rows in fitted_estimators]):
        assert not check.labels_differ


@pytest.mark.parametrize("name", ["california", "adult"])
def test_real_tables(name, tabular_dir, tmp_path):
    file, target, header = {
        "california": ("california_housing.csv", "median_house_value", True),
        "adult": ("adult-train.csv", "14", False),
    }[name]
    lines = (tabular_dir / file).read_text(encoding="utf-8").splitlines()[:2500]
    (tmp_path / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = load_csv(tmp_path / file, target=target, header=header)
    columns = {column: table.cells[column] for column in table.cells if column != target}
    kind = TabularRegressor if name == "california" else TabularClassifier
    model = kind(preset="quick", epochs=1, hidden=(32,), random_state=0).fit(columns, table.cells[target])
    (check,) = checked([subject_of(model)], [columns])
    assert check.rows > 2400
    assert not check.labels_differ


def test_names_and_words_cannot_be_code(tmp_path):
    rng = np.random.default_rng(0)
    columns = {name: rng.standard_normal(160) for name in HOSTILE}
    columns |= {f"{name}?": rng.choice(np.asarray([*HOSTILE[4:], None], dtype=object), 160) for name in HOSTILE[:6]}
    labels = np.asarray(HOSTILE[4:10], dtype=object)[np.arange(160) % 6]
    model = TabularClassifier(preset="quick", epochs=1, hidden=(8,), random_state=0).fit(columns, labels)
    subject = subject_of(model)
    header = CHeader(subject.graph, '"; #error')
    assert len(set(header.members.values())) == len(header.members)
    assert all(re.fullmatch("[a-z][a-z0-9_]*", member) for member in header.members.values())
    assert header.text.isascii()
    (check,) = checked([subject], [columns])
    assert check.labels_differ == 0


def test_a_category_with_a_zero_character_is_refused():
    table = {"kind": np.array(["a\0b", "c", "d"] * 9, dtype=object)}
    model = TabularClassifier(preset="quick", epochs=1, hidden=(4,)).fit(table, ["u", "v", "w"] * 9)
    subject = subject_of(model)
    with pytest.raises(OptionError, match=r"without the character 0, .* got 'a\\x00b'"):
        CHeader(subject.graph)


def test_several_targets_and_features(tmp_path):
    X = 100.0 + 10.0 * np.random.default_rng(0).standard_normal((50, 4))
    net = shaken(xpnn.mlp([4, 6, 2]))
    model = xpnn.Predictor(net, xpnn.Huber(), NumberTargets().fit(X[:, :2]), Standardizer().fit(X))
    check = model.to_c(tmp_path / "several.h", rows=X)
    assert (check.rows, check.by) == (50, "a C compiler")
    text = (tmp_path / "several.h").read_text()
    assert "static inline void several_predict(const double *x, float *out)" in text
    assert "out[0] to out[1]: prediction." in text


def test_the_head_says_what_is_used(classifier, tmp_path):
    model, table = classifier
    model.to_c(tmp_path / "my model.h", rows=table, name="flat")
    text = (tmp_path / "my model.h").read_text()
    head = text[: text.index("*/")]
    called = set(re.search(r"calls (.*) of libm", head).group(1).split(", "))
    body = text[text.index("static inline int flat_predict") :]
    everything = text[text.index("static inline") :]
    assert {name for name in re.findall(r"(?<![a-z0-9_])([a-z0-9]+)\(", everything)} <= called | {
        *("for", "if", "while", "sizeof", "memcpy", "strlen", "strncmp"),
    }
    size = {"float": 4, "double": 8, "int64_t": 8, "unsigned char": 1}
    found = re.findall(r"^    (float|double|int64_t|unsigned char) [fdnb]\[(\d+)\];", body, re.M)
    assert f"its values {sum(int(n) * size[kind] for kind, n in found):,} bytes of the stack" in head
    assert "malloc" not in text
    assert "*flat_classes[3] = {" in text.replace("const ", "")


def test_the_program_on_the_page(tmp_path, monkeypatch):
    """It compiles, its row is one of the header's, and it prints what the model answers."""
    page, names = PROJECT / "docs" / "without-xpnn.md", {"__name__": "__main__"}
    monkeypatch.chdir(tmp_path)
    run(page, runnable(page)[0], names)
    model = names["model"]
    model.to_c("flats.h", rows=names["flats"])
    declared, program = re.findall(r"^```c\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    header = Path("flats.h").read_text()
    assert all(part in header for part in declared.split("\n\n"))
    Path("main.c").write_text(program)
    subprocess.run([*compiler(), "-std=c99", "-Wall", "-Wextra", "-Werror", "main.c", "-o", "main", "-lm"], check=True)
    if other := shutil.which("c++"):  # the header, not the program, whose variable is called class
        Path("main.cc").write_text('#include "flats.h"\nint main() { return flats_classes[0] == 0; }\n')
        subprocess.run([other, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "main.cc"], check=True)
    told = subprocess.run(["./main"], capture_output=True, text=True, check=True).stdout
    row = {"floor area (m²)": [140.0], "town": ["Bonn"]}
    assert told == f"dear, p = {model.predict_proba(row)[0, 1]:.3f}\n"


# -- when it cannot be checked -------------------------------------------------------------------------------------
def test_without_a_compiler_it_is_said_how_to_go_on(classifier, tmp_path, monkeypatch):
    model, table = classifier
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError, match=r"expected a C compiler .* \(--no-check\)"):
        model.to_c(tmp_path / "m.h", rows=table)
    assert not (tmp_path / "m.h").exists()
    assert model.to_c(tmp_path / "m.h", check=False) is None
    assert (tmp_path / "m.h").is_file()


def test_what_a_compiler_refuses_is_shown(tmp_path, monkeypatch):
    net = xpnn.mlp([2, 3])
    monkeypatch.setattr(CHeader, "_includes", lambda self: "#error no libraries here")
    with pytest.raises(OptionError, match=r"^to_c: expected .* to take the file, got: [\s\S]*no libraries here"):
        net.to_c(tmp_path / "net.h")
    assert not list(tmp_path.iterdir())


def test_what_answers_otherwise_is_not_written(classifier, tmp_path, monkeypatch):
    model, table = classifier
    monkeypatch.setattr(Program, "run", lambda self, k, columns: _wrong(self.headers[k], len(columns["size"])))
    with pytest.raises(OptionError, match="to answer as the model does"):
        model.to_c(tmp_path / "m.h", rows=table)
    assert not (tmp_path / "m.h").exists()


def _wrong(header, n):
    return {"label": np.full(n, header.classes[0], dtype=object), "probabilities": np.zeros((n, 3))}
