"""Tables looked over before training: each fault is planted and found, and a clean table is left in peace."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from commands import refused, run

import xpnn
from xpnn.data import Audit, AuditFinding, Table, audit, load_csv
from xpnn.data.audit.column import alike
from xpnn.errors import DataError, DTypeError, OptionError, ShapeError

Columns = dict[str, Any]


@pytest.fixture(scope="module")
def iris() -> Columns:
    """The flowers, with the names of their species; of the two rows that are one, one."""
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    table = datasets.load_iris()
    X, rows = np.unique(table.data, axis=0, return_index=True)
    order = np.random.default_rng(0).permutation(len(X))
    species = np.array([table.target_names[k] for k in table.target[rows]], dtype=object)
    names = [name.removesuffix(" (cm)").replace(" ", "_") for name in table.feature_names]
    return {**{name: X[order, j] for j, name in enumerate(names)}, "species": species[order]}


def rows(columns: Columns, index) -> Columns:
    return {name: column[index] for name, column in columns.items()}


def with_values(columns: Columns, name: str, where, value) -> Columns:
    """The same table with other values in some rows of a column."""
    column = columns[name].copy()
    column[where] = value
    return {**columns, name: column}


def checks(found: Audit) -> set[str]:
    return {finding.check for finding in found}


# -- a clean table ----------------------------------------------------------------------------------------------
def test_a_clean_table_is_left_in_peace(iris):
    found = audit(iris, "species")
    assert list(found) == []
    assert (
        str(found)
        == "149 rows; 4 columns of numbers, 0 of categories; target 'species' (classification).\nNothing found."
    )
    halves = rows(iris, slice(0, 100)), rows(iris, slice(100, None))
    assert list(audit(halves[0], "species", test=halves[1])) == []
    assert list(audit(iris)) == []
    flowers = {name: column for name, column in iris.items() if name != "species"}
    assert list(audit(flowers, "sepal_length")) == []


# -- planted faults ---------------------------------------------------------------------------------------------
class Fault(NamedTuple):
    """How to spoil the flowers, and what is to be found."""

    check: str
    spoil: Callable[[Columns], Any]  # to the table, or to the table and the test table
    severity: str
    column: str | None
    value: float
    seen: str  # part of what is said
    advice: str = ""
    target: str | None = "species"
    options: dict[str, Any] = {}  # noqa: RUF012


N = 149
RNG = np.random.default_rng(1)
NOISE = RNG.normal(size=N)
SHUFFLED = RNG.permutation(N)


def adds(**columns):
    """Return how to add columns."""
    return lambda table: {**{name: make(table) for name, make in columns.items()}, **table}


def words(*some: str, n: int = N):
    """Return a column that repeats some words."""
    return lambda _: np.array([some[k % len(some)] for k in SHUFFLED[:n] % N], dtype=object)


def splits(change, at: int = 100):
    """Return how to cut a table in two and change the second part."""
    return lambda table: (rows(table, slice(0, at)), change(rows(table, slice(at, None)), rows(table, slice(0, at))))


def quantity(make):
    """Return how to put a column of numbers in the place of the species."""
    return lambda table: {**{k: v for k, v in table.items() if k != "species"}, "y": make(table)}


def spelt(old: str, new: str, n: int):
    """Return how to spell a label otherwise in n rows."""
    return lambda t: with_values(t, "species", np.flatnonzero(t["species"] == old)[:n], new)


def each(function, name="species"):
    return lambda t: {**t, name: np.array([function(v) for v in t[name]], dtype=object)}


GRADES = np.repeat([3, 4, 5, 6, 7, 8], [4, 15, 50, 55, 20, 5]).astype(float)

FAULTS = {
    # one column
    "no values": Fault(
        "no values", adds(x=lambda t: np.full(N, np.nan)), "warning", "x", N, "All 149 rows", "--drop x"
    ),
    "few missing": Fault(
        "missing values", lambda t: with_values(t, "petal_width", slice(0, 3), np.nan), "note", "petal_width", 3, "2.0%"
    ),
    "many missing": Fault(
        "missing values",
        lambda t: with_values(t, "petal_width", slice(0, 90), np.nan),
        "warning",
        "petal_width",
        90,
        "90 rows of 149 (60.4%)",
        "leave it out",
    ),
    "missing words": Fault(
        "missing values",
        adds(w=lambda t: np.array(["a", "b", None, "a", "b"] * 29 + ["a"] * 4)),
        "note",
        "w",
        29,
        "19.5%",
    ),
    "constant": Fault("constant", adds(x=lambda t: np.full(N, 7.0)), "warning", "x", 1, "Every value is 7.0"),
    "constant word": Fault("constant", adds(x=words("a")), "warning", "x", 1, "Every value is 'a'"),
    "constant or missing": Fault(
        "constant", adds(x=lambda t: np.where(NOISE > 1, 1.0, np.nan)), "warning", "x", 1, "that is there", "yes or no"
    ),
    "nearly constant": Fault(
        "nearly constant", adds(x=lambda t: (np.arange(N) == 5) * 1.0), "note", "x", 1, "All but 1 row hold 0.0 (99.3%)"
    ),
    "infinite": Fault(
        "infinite",
        lambda t: with_values(t, "petal_width", [3, 5], [np.inf, 1e300]),
        "error",
        "petal_width",
        2,
        "2 rows",
    ),
    "a code": Fault(
        "stand-in value",
        lambda t: with_values(t, "petal_width", slice(0, 9), -999.0),
        "warning",
        "petal_width",
        9,
        "9 rows hold -999",
        "--missing=-999,",
    ),
    "a code near": Fault(
        "stand-in value",
        lambda t: with_values(t, "petal_width", slice(0, 9), -1.0),
        "warning",
        "petal_width",
        9,
        "9 rows hold -1",
    ),
    "a slip of the unit": Fault(
        "outliers",
        lambda t: with_values(t, "petal_width", 7, 180.0),
        "warning",
        "petal_width",
        1,
        "the farthest is 180, where that half is 0.3 to 1.8",
        "decimal point",
    ),
    "far": Fault("outliers", lambda t: with_values(t, "petal_width", 7, 30.0), "note", "petal_width", 1, "1 value lie"),
    "skew": Fault(
        "skew", adds(x=lambda t: np.exp(2 * NOISE)), "note", "x", pytest.approx(6, abs=4), "to the right", "log"
    ),
    "skew to the left": Fault(
        "skew", adds(x=lambda t: -np.exp(2 * NOISE)), "note", "x", pytest.approx(-6, abs=4), "to the left", "bins"
    ),
    "capped": Fault(
        "capped",
        adds(x=lambda t: np.minimum(NOISE, 0.8)),
        "note",
        "x",
        int((NOISE >= 0.8).sum()),
        "largest value, 0.8,",
    ),
    "scales": Fault("scales", adds(x=lambda t: 1e4 * NOISE), "note", None, pytest.approx(2e4, rel=0.5), "x has"),
    "thousands": Fault(
        "text numbers",
        adds(x=lambda t: np.array([f"{v:,.0f}" for v in 5000 + 900 * NOISE], dtype=object)),
        "warning",
        "x",
        N,
        "read as text",
        "without separators",
    ),
    "decimal commas": Fault(
        "text numbers",
        adds(x=lambda t: np.array([f"{v:.2f}".replace(".", ",") for v in NOISE], dtype=object)),
        "warning",
        "x",
        N,
        "read as text",
    ),
    "units": Fault(
        "text numbers",
        adds(x=lambda t: np.array([f"{v:.2f} kg" for v in NOISE], dtype=object)),
        "warning",
        "x",
        N,
        "with a sign",
        "Cut 'kg' off",
    ),
    "stray words": Fault(
        "text numbers",
        adds(x=lambda t: np.array([f"{v:.2f}" if k % 10 else "unknown" for k, v in enumerate(NOISE)], dtype=object)),
        "warning",
        "x",
        15,
        "All but 15 rows hold numbers; the others hold 'unknown'",
        "--missing=unknown",
    ),
    "text in a numeric column": Fault(
        "text numbers", adds(x=words("a", "b")), "error", "x", N, "said to hold numbers", options={"numeric": ["x"]}
    ),
    "dates": Fault(
        "dates",
        adds(x=lambda t: np.array([f"2024-{1 + k % 12:02}-{1 + k % 28:02}" for k in range(N)], dtype=object)),
        "note",
        "x",
        84,
        "'2024-01-01': read as days elapsed, and what varies of year to hour",
    ),
    "dates in two formats": Fault(
        "dates",
        adds(
            x=lambda t: np.array(
                [f"2024-{1 + k % 12:02}-{1 + k % 28:02}" if k % 2 else f"{1 + k % 28:02}.01.2024" for k in range(N)],
                dtype=object,
            )
        ),
        "warning",
        "x",
        56,
        "Dates in two formats, such as",
        "Write them in one, such as 2020-01-31",
    ),
    "numbered rows": Fault(
        "identifier", adds(x=lambda t: 1000.0 + SHUFFLED), "warning", "x", N, "149 rows", "--drop x"
    ),
    "named rows": Fault(
        "identifier", adds(x=lambda t: np.array([f"flower {k}" for k in SHUFFLED], dtype=object)), "warning", "x", N, ""
    ),
    "free text": Fault(
        "many categories",
        adds(x=lambda t: np.array([f"flower {k % 140}" for k in SHUFFLED], dtype=object)),
        "warning",
        "x",
        140,
        "140 different categories in 149 rows",
        "leaves it out",
    ),
    "free text that tells": Fault(
        "text left out",
        adds(x=lambda t: np.array([f"{s[:3]} {k}" for k, s in enumerate(t["species"])], dtype=object)),
        "warning",
        "x",
        pytest.approx(1, abs=1e-9),
        "rows with 'ver' in it have species 'versicolor' in 100.0%, all rows in 33.6%",
        "whether it holds this",
    ),
    "spellings": Fault(
        "spellings", adds(x=words("New York", "new-york", "Oslo")), "warning", "x", 1, "'New York', 'new-york'", "alike"
    ),
    "spellings by blanks": Fault(
        "spellings", adds(x=words("Rome ", "Rome", "Oslo")), "note", "x", 1, "'Rome', 'Rome '"
    ),
    "same numbers": Fault(
        "same columns",
        adds(x=lambda t: -2.0 * t["petal_width"] + 1),
        "note",
        "petal_width",
        2,
        "Given x",
        "--drop petal_width",
    ),
    "same order": Fault(
        "same columns",
        lambda t: {"a": NOISE, "b": np.exp(-NOISE) / 100, **t},
        "note",
        "b",
        2,
        "Given a",
    ),
    "same words": Fault(
        "same columns",
        lambda t: {"a": words("u", "v", "w")(t), "b": words("3", "1", "2")(t).astype(float), **t},
        "note",
        "b",
        2,
        "Given a",
    ),
    # the target
    "missing target": Fault(
        "missing target",
        lambda t: with_values(t, "species", [1, 2], None),
        "error",
        "species",
        2,
        "2 rows of 149 (1.3%)",
    ),
    "no target at all": Fault("missing target", each(lambda v: None), "error", "species", 149, "No row has a target."),
    "one label": Fault("single value", each(lambda v: "setosa"), "error", "species", 1, "nothing to learn"),
    "a full stop": Fault(
        "labels alike",
        spelt("setosa", "setosa.", 20),
        "error",
        "species",
        2,
        "'setosa' (30 rows) and 'setosa.' (20 rows)",
        "--strip-target '.'",
    ),
    "capitals": Fault(
        "labels alike", spelt("setosa", "Setosa", 20), "error", "species", 2, "'Setosa' (20", "Write them"
    ),
    "blanks": Fault("labels alike", spelt("setosa", "setosa ", 20), "note", "species", 2, "blanks at their ends"),
    "a slip": Fault("labels alike", spelt("setosa", "sestosa", 1), "warning", "species", 1, "nearly like 'setosa'"),
    "rare labels": Fault("rare labels", spelt("setosa", "rosa", 1), "warning", "species", 1, "a single row: 'rosa'"),
    "class balance": Fault(
        "class balance",
        lambda t: rows(t, np.flatnonzero((t["species"] != "setosa") | (t["petal_width"] > 0.4))),
        "note",
        "species",
        pytest.approx(50 / 2),
        "25 rows for each of 'setosa' (2 rows)",
        "--class-weight balanced",
    ),
    "ids as target": Fault(
        "classes or quantity",
        lambda t: {**t, "species": np.array([f"flower {k}" for k in range(N)], dtype=object)},
        "error",
        "species",
        N,
        "hardly repeat",
    ),
    "grades": Fault(
        "classes or quantity", quantity(lambda t: GRADES), "note", "y", 6, "taken for classes", "--task regression", "y"
    ),
    "halves": Fault(
        "classes or quantity",
        quantity(lambda t: np.round(NOISE).clip(-2, 2) / 2),
        "note",
        "y",
        5,
        "only 5 different values",
        "--task classification",
        "y",
    ),
    "numbers of classes": Fault(
        "classes or quantity",
        quantity(lambda t: (SHUFFLED % 25).astype(float)),
        "note",
        "y",
        25,
        "taken for a quantity",
        "--task classification",
        "y",
    ),
    "fractions as classes": Fault(
        "classes or quantity",
        quantity(lambda t: np.round(NOISE).clip(-2, 2) / 2),
        "warning",
        "y",
        5,
        "with fractions",
        "--task regression",
        "y",
        {"task": "classification"},
    ),
    "words as a quantity": Fault(
        "classes or quantity", dict, "error", "species", 3, "words such as", options={"task": "regression"}
    ),
    "a quantity as text": Fault(
        "text numbers",
        quantity(lambda t: np.array([f"{v:.2f}" if k else "n.a." for k, v in enumerate(NOISE)], dtype=object)),
        "error",
        "y",
        1,
        "read as classes",
        "--missing=n.a.",
        "y",
    ),
    "infinite target": Fault(
        "infinite",
        quantity(lambda t: np.where(NOISE > 2, np.inf, NOISE)),
        "error",
        "y",
        int((NOISE > 2).sum()),
        "",
        "",
        "y",
    ),
    "one-hot": Fault(
        "one-hot target",
        lambda t: {
            **{k: v for k, v in t.items() if k != "species"},
            **{f"is_{s}": (t["species"] == s) * 1.0 for s in ("setosa", "virginica", "versicolor")},
        },
        "error",
        "is_setosa",
        3,
        "one of 3 columns",
        "one column of labels",
        "is_setosa",
    ),
    # leaks
    "the target again": Fault(
        "leak",
        adds(code=lambda t: np.unique(t["species"].astype(str), return_inverse=True)[1].astype(float)),
        "error",
        "code",
        N,
        "It alone determines species",
        "--drop code",
    ),
    "finer than the target": Fault(
        "leak",
        adds(kind=lambda t: np.array([f"{s} {k % 3}" for k, s in enumerate(t["species"])], dtype=object)),
        "error",
        "kind",
        N,
        "It alone determines species",
    ),
    "gaps that tell": Fault(
        "leak",
        lambda t: {
            "seen": np.where(t["species"] == "setosa", np.nan, 1.0),
            **each(lambda s: "setosa" if s == "setosa" else "other")(t),
        },
        "error",
        "seen",
        N,
        "It alone determines species",
    ),
    "all but one row": Fault(
        "leak",
        lambda t: (
            lambda big: with_values(big, "kind", 0, "virginica" if big["species"][0] != "virginica" else "setosa")
        )({"kind": np.tile(t["species"], 2), **rows(t, np.tile(np.arange(N), 2))}),
        "warning",
        "kind",
        297,
        "It alone tells species in 99.7% of the rows; the largest class has 33.6%",
    ),
    "thresholds": Fault(
        "leak",
        adds(
            z=lambda t: 20.0 * (t["species"] == "versicolor") + 40.0 * (t["species"] == "virginica") + NOISE.clip(-3, 3)
        ),
        "warning",
        "z",
        N,
        "Thresholds on it alone separate all labels of species",
    ),
    "the target times two": Fault(
        "leak",
        lambda t: {"x": 2 * t["sepal_length"], **t},
        "error",
        "x",
        N,
        "determines sepal_length",
        "",
        "sepal_length",
    ),
    "the target, bent": Fault(
        "leak", lambda t: {"z": np.exp(NOISE), **quantity(lambda t: NOISE)(t)}, "error", "z", N, "determines y", "", "y"
    ),
    "the target and noise": Fault(
        "leak",
        lambda t: {"z": NOISE + 1e-3 * RNG.permutation(NOISE), **quantity(lambda t: NOISE)(t)},
        "error",
        "z",
        pytest.approx(1, abs=1e-4),
        "but for scale and a little noise",
        "",
        "y",
    ),
    # rows
    "a repeated row": Fault(
        "duplicate rows", lambda t: rows(t, [*range(N), 3]), "note", None, 1, "1 row (0.7%) repeat", "chance"
    ),
    "repeated rows": Fault(
        "duplicate rows", lambda t: rows(t, [*range(N), *range(30)]), "warning", None, 30, "(16.8%)", "before you split"
    ),
    "contradicting rows": Fault(
        "contradicting rows",
        lambda t: (lambda more: with_values(more, "species", slice(N, None), "rosa"))(rows(t, [*range(N), *range(10)])),
        "warning",
        None,
        20,
        "at best 93.7% of all can be right",
    ),
    # a test table
    "a full stop in the test table": Fault(
        "labels alike",
        splits(lambda test, train: each(lambda s: s + ".")(test)),
        "error",
        "species",
        49,
        "49 rows of the test table (100.0%) have such",
        "--strip-target '.'",
    ),
    "capitals in the test table": Fault(
        "labels alike",
        splits(lambda test, train: each(str.upper)(test)),
        "error",
        "species",
        49,
        "",
        "upper and lower case",
    ),
    "unseen labels": Fault(
        "unseen labels",
        splits(lambda test, train: with_values(test, "species", [0, 1], "rosa")),
        "error",
        "species",
        2,
        "2 rows of the test table (4.1%) have labels that training never saw: 'rosa'",
    ),
    "labels not tested": Fault(
        "labels not tested",
        splits(lambda test, train: rows(test, np.flatnonzero(test["species"] != "setosa"))),
        "note",
        "species",
        1,
        "'setosa'",
    ),
    "shared rows": Fault(
        "shared rows",
        splits(lambda test, train: {k: np.concatenate([v, train[k][:7]]) for k, v in test.items()}),
        "error",
        None,
        7,
        "7 rows of the test table (12.5%)",
        "learnt by heart",
    ),
    "shared rows of a coarse table": Fault(
        "shared rows",
        lambda t: splits(lambda test, train: test)(
            {"a": (NOISE > 0) * 1.0, "b": (SHUFFLED % 3) * 1.0, "species": t["species"]}
        ),
        "warning",
        None,
        49,
        "repeat each other",
    ),
    "no such column": Fault(
        "columns of the test table",
        splits(lambda test, train: {k: v for k, v in test.items() if k != "petal_width"}),
        "error",
        None,
        1,
        "no 'petal_width'",
    ),
    "a column more": Fault(
        "columns of the test table",
        splits(lambda test, train: {**test, "more": test["petal_width"]}),
        "note",
        None,
        1,
        "'more'",
    ),
    "text in the test table": Fault(
        "columns of the test table",
        splits(lambda test, train: {**test, "petal_width": np.array(["wide", *map(str, test["petal_width"][1:])])}),
        "error",
        "petal_width",
        1,
        "Numbers in training, text in the test table",
        "--missing",
    ),
    "shift": Fault(
        "shift",
        splits(lambda test, train: {**test, "petal_width": test["petal_width"] + 1.0}),
        "warning",
        "petal_width",
        pytest.approx(1.3, abs=0.3),
        "standard deviations higher in the test table",
    ),
    "shift of a constant": Fault(
        "shift",
        lambda t: splits(lambda test, train: {**test, "x": test["x"] + 1.0})(adds(x=lambda t: np.full(N, 1.0))(t)),
        "warning",
        "x",
        np.inf,
        "its mean",
    ),
    "shift of categories": Fault(
        "shift",
        lambda t: splits(lambda test, train: {**test, "x": words("a", n=49)(test)})(adds(x=words("a", "b"))(t)),
        "warning",
        "x",
        pytest.approx(0.5, abs=0.05),
        "'a' has 48.0% in training, 100.0% in the test table",
    ),
    "shift of the labels": Fault(
        "shift",
        splits(lambda test, train: rows(test, np.flatnonzero(test["species"] != "setosa"))),
        "warning",
        "species",
        pytest.approx(0.33, abs=0.06),
        "'setosa' has",
    ),
    "shift of gaps": Fault(
        "shift",
        splits(lambda test, train: with_values(test, "petal_width", slice(0, 20), np.nan)),
        "warning",
        "petal_width",
        pytest.approx(20 / 49),
        "0.0% miss it in training, 40.8% in the test table",
    ),
    "unseen categories": Fault(
        "unseen categories",
        lambda t: splits(lambda test, train: with_values(test, "x", [0], "c"))(adds(x=words("a", "b"))(t)),
        "note",
        "x",
        1,
        "1 row of the test table (2.0%) holds categories that training never saw: 'c'",
    ),
    "many unseen categories": Fault(
        "unseen categories",
        lambda t: splits(lambda test, train: with_values(test, "x", range(0, 40, 2), "c"))(adds(x=words("a", "b"))(t)),
        "warning",
        "x",
        20,
        "'c'",
    ),
}


def spoilt(fault: Fault, iris: Columns) -> Audit:
    made = fault.spoil(dict(iris))
    table, test = made if isinstance(made, tuple) else (made, None)
    return audit(table, fault.target, test=test, **fault.options)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name, iris):
    fault = FAULTS[name]
    found = spoilt(fault, iris)
    matching = [f for f in found if (f.check, f.column) == (fault.check, fault.column)]
    assert len(matching) == 1, str(found)
    (finding,) = matching
    assert finding.severity == fault.severity
    assert finding.value == fault.value
    assert fault.seen.lower() in finding.seen.lower()
    assert fault.advice in finding.advice
    assert finding.seen.endswith(".")
    assert finding.advice.endswith(".")
    assert (finding in found.errors) is (fault.severity == "error")


def declared_checks() -> set[str]:
    """The names of all checks in the source."""
    names = set()
    for path in sorted(Path(xpnn.data.__file__).parent.glob("audit/*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "AuditFinding":
                names |= {node.args[1].value} if isinstance(node.args[1], ast.Constant) else {"classes or quantity"}
    return names


def test_every_check_has_a_planted_fault():
    assert declared_checks() == {fault.check for fault in FAULTS.values()}


def test_the_two_flowers_that_are_one():
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    table = datasets.load_iris()
    (finding,) = audit({**{str(j): table.data[:, j] for j in range(4)}, "y": table.target}, "y")
    assert str(finding) == (
        "note: duplicate rows: 1 row (0.7%) repeats an earlier one in every column. Perhaps chance; look at some."
    )


# -- what is no fault --------------------------------------------------------------------------------------------
PEACEFUL = {
    "amounts that are mostly 0": {"x": np.where(NOISE > 0.5, NOISE, 0.0)},
    "school years": {"x": words("11th", "HS-grad", "1st-4th", "Masters")(None)},
    "booleans": {"x": NOISE > 0},
    "numbers as objects": {"x": np.array([float(v) for v in NOISE], dtype=object)},
    "addresses": {"x": words("10.0.0.1", "10.0.0.2", "192.168.0.1")(None)},
    "letters": {"x": words("a", "A", "b")(None)},
    "grades with signs": {"x": words("A+", "A", "A-")(None)},
    "three levels": {"x": SHUFFLED % 3 - 1.0},
}


@pytest.mark.parametrize("name", PEACEFUL)
def test_ordinary_columns_are_left_in_peace(name, iris):
    assert list(audit({**PEACEFUL[name], **iris}, "species")) == []


def test_numbers_that_are_categories(iris):
    table = {"shop": (SHUFFLED % 7).astype(float), **iris}
    train, test = rows(table, slice(0, 100)), rows(table, slice(100, None))
    test["shop"] = np.where(np.arange(49) < 3, 99.0, test["shop"])
    assert "unseen categories" not in checks(audit(train, "species", test=test))
    found = audit(train, "species", test=test, categorical=["shop"])
    assert (found.n_numbers, found.n_categories) == (4, 1)
    assert [f.value for f in found if f.check == "unseen categories"] == [3]


def test_endings_are_taken_off(iris):
    train, test = rows(iris, slice(0, 100)), rows(iris, slice(100, None))
    test["species"] = np.array([label + "." for label in test["species"]], dtype=object)
    assert [f.check for f in audit(train, "species", test=test)] == ["labels alike"]
    assert list(audit(train, "species", test=test, strip_target=".")) == []


def test_a_test_table_without_the_target(iris):
    train, test = rows(iris, slice(0, 100)), rows(iris, slice(100, None))
    assert list(audit(train, "species", test={k: v for k, v in test.items() if k != "species"})) == []


def test_labels_are_the_same_as_numbers_and_as_text(iris):
    codes = {"setosa": 1, "versicolor": 2, "virginica": 3}
    table = {**iris, "species": np.array([float(codes[s]) for s in iris["species"]])}
    train, test = rows(table, slice(0, 100)), rows(table, slice(100, None))
    test["species"] = np.array([f"{v:g}" for v in test["species"]], dtype=object)
    assert list(audit(train, "species", test=test)) == []


def test_what_is_dropped_is_not_looked_at(iris):
    table = {"id": np.arange(float(N)), "leak": iris["species"], **iris}
    assert checks(audit(table, "species")) == {"identifier", "leak"}
    assert list(audit(table, "species", drop=["id", "leak"])) == []


def test_an_identifier_hides_no_repeats(iris):
    table = rows(iris, [*range(N), *range(30)])
    table["id"] = np.arange(float(N + 30))
    assert [f.value for f in audit(table, "species") if f.check == "duplicate rows"] == [30]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_tables_of_a_few_rows_are_no_error(n, iris):
    table = rows({**iris, "w": words("a", "b")(None)}, slice(0, n))
    for target in (None, "species", "sepal_length"):
        audit(table, target, test=table)


def test_names_that_look_alike():
    assert alike(["yes", "Yes", "no", "n o", "NO "]) == [["Yes", "yes"], ["NO ", "no"]]
    assert alike(["-1", "1", "+1", "A", "a", ">1", "<1", "10.5", "105"]) == []


# -- what is told ------------------------------------------------------------------------------------------------
def test_the_worst_comes_first_and_the_count_last(iris):
    table = with_values({"id": np.arange(float(N)), **iris}, "petal_width", [0, 1], [np.nan, np.inf])
    found = audit(table, "species")
    assert [f.severity for f in found] == ["error", "warning", "note"]
    lines = str(found).splitlines()
    assert lines[0] == "149 rows; 5 columns of numbers, 0 of categories; target 'species' (classification)."
    assert lines[-1] == "1 error, 1 warning, 1 note."
    assert max(map(len, lines)) < 140
    assert "--drop id" in str(found)


def test_findings_that_many_columns_share_are_cut_short(iris):
    found = audit({**{f"x{k}": np.zeros(N) for k in range(30)}, **iris}, "species")
    assert len(found) == 30
    text = str(found)
    assert "and 26 more" in text
    assert "such as x4." in text
    assert text.count("Every value is 0.0.") == 4
    assert text.endswith("0 errors, 30 warnings, 0 notes.")


def test_everything_as_plain_values(iris):
    found = audit({"x": np.full(N, 1.0), **iris}, "species", test=iris)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["rows"] == told["test_rows"] == N
    assert (told["numbers"], told["categories"], told["target"], told["task"]) == (5, 0, "species", "classification")
    assert told["counts"] == {"errors": 2, "warnings": 1, "notes": 0}  # no column x, and all rows shared
    assert told["findings"][2] == {
        "severity": "warning",
        "check": "constant",
        "column": "x",
        "value": 1,
        "seen": "Every value is 1.0.",
        "advice": "Leave it out (--drop x).",
    }
    assert [AuditFinding(**finding) for finding in told["findings"]] == list(found)


def test_a_table_from_a_file_brings_its_target(tmp_path, iris):
    path = write(tmp_path / "iris.csv", iris)
    found = audit(load_csv(path, target="species"))
    assert list(found) == []
    assert found.target == "species"
    assert list(audit(Table(["x"], {"x": NOISE}))) == []


# -- wrong use ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": "speceis"}, DataError, r"expected the target to be a column, got 'speceis'\. .*'species'\?"),
        (
            {"target": "species", "drop": ["species"]},
            DataError,
            r"expected the target to be kept, got 'species' in drop",
        ),
        ({"drop": ["petal"]}, OptionError, r"expected columns in drop, got 'petal'\. .* There are 'sepal_length'"),
        ({"categorical": ["x"]}, OptionError, r"expected columns in categorical, got 'x'"),
        ({"numeric": ["x"]}, OptionError, r"expected columns in numeric, got 'x'"),
        ({"task": "clasification"}, OptionError, r"expected task among .*, got 'clasification'\. .*'classification'\?"),
    ],
    ids=str,
)
def test_wrong_options(options, error, message, iris):
    with pytest.raises(error, match=message):
        audit(iris, **options)


def test_tables_that_are_none(iris):
    with pytest.raises(DataError, match=r"^audit: expected at least one column and one row, got none"):
        audit({})
    with pytest.raises(DataError, match=r"^audit: expected at least one column and one row, got none"):
        audit({"x": []})
    with pytest.raises(DataError, match=r"^audit: expected a column to look at, got all 2 dropped"):
        audit({"x": [1], "y": [1]}, drop=["x", "y"])
    with pytest.raises(ShapeError, match=r"^audit: expected columns of one length, got x: 1, y: 2"):
        audit({"x": [1], "y": [1, 2]})
    with pytest.raises(DTypeError, match=r"column 'x': expected numbers or text"):
        audit({"x": np.array(["2020-01-01"], dtype="datetime64[D]")})
    with pytest.raises(DataError, match=r"^audit: expected numbers or text in column 'x'"):
        audit({"x": np.array([1.0, [2]], dtype=object)})


# -- the command ---------------------------------------------------------------------------------------------------
def write(path, columns: Columns) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_the_command_prints_what_is_found(tmp_path, iris):
    some = np.flatnonzero(iris["species"] == "setosa")[:15]
    path = write(tmp_path / "t.csv", with_values({"id": np.arange(N), **iris}, "species", some, "Setosa."))
    ran = run("check", path, "--target", "species")
    assert ran.status == 0
    assert ran.out.startswith(f"{path}: 149 rows; 5 columns of numbers")
    assert "labels alike" in ran.out
    assert ran.out.endswith("1 error, 1 warning, 0 notes.\n")
    assert ran.err == "note: header row found: id, sepal_length, sepal_width, petal_length, petal_width, species\n"
    assert run("check", path, "--target", -1, "--strict").status == 1
    assert run("check", path, "--strict").status == 0, "without a target nobody looks at labels"
    assert run("check", path, "--target", "species", "--drop", "id").out.endswith("1 error, 0 warnings, 0 notes.\n")


def test_the_command_in_json(tmp_path, iris):
    clean = write(tmp_path / "clean.csv", rows(iris, slice(0, 100)))
    test = write(tmp_path / "test.csv", each(lambda s: s + ".")(rows(iris, slice(100, None))))
    told = run("check", clean, "--target", "species", "--test-file", test, "--json", "--strict")
    assert told.status == 1
    assert told.json["counts"] == {"errors": 1, "warnings": 0, "notes": 0}
    assert told.json["findings"][0]["advice"] == "The labels end in '.'; strip it with --strip-target '.'."
    assert (told.json["file"], told.json["test_file"]) == (str(clean), str(test))
    told = run("check", clean, "--target", "species", "--test-file", test, "--strip-target", ".", "--json", "--strict")
    assert told.status == 0
    assert told.json["findings"] == []


def test_the_options_of_reading_are_heeded(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("".join(f"{k * 10};{'none' if k % 5 else k}\n" for k in range(60)))
    told = run("check", path, "--header", "no", "--delimiter", ";", "--missing", "none", "--json").json
    assert [(f["check"], f["column"], f["value"]) for f in told["findings"]] == [("missing values", "1", 48)]
    told = run("check", path, "--categorical", "0,1", "--json").json
    assert (told["numbers"], told["categories"]) == (0, 2)
    told = run("check", path, "--target", "0", "--task", "classification", "--numeric", "1", "--json").json
    assert {(f["check"], f["column"]) for f in told["findings"]} >= {
        ("classes or quantity", "0"),
        ("text numbers", "1"),
    }


def test_bad_input_is_refused(tmp_path, iris):
    path = write(tmp_path / "iris.csv", iris)
    refused(run("check", tmp_path / "irsi.csv"), r"^xpnn check: .*expected the file .*Did you mean iris\.csv\?")
    refused(run("check", path, "--target", "speces"), r"^xpnn check: .*got 'speces'\. Did you mean 'species'\?")
    refused(run("check", path, "--drop", "x"), r"^xpnn check: .*expected columns in drop, got 'x'")
    refused(run("check", path, "--strip-target", "."), r"^xpnn check: --strip-target needs .*Add --target COLUMN\.")
    refused(run("check", tmp_path / "x.npz"), r"^xpnn check: expected a CSV file, got ")
    refused(run("check", "digits"), r"^xpnn check: expected a CSV file, got digits")


def test_help(monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    ran = run("check", "--help")
    assert ran.status == 0
    assert ran.out.startswith("usage: xpnn check FILE ")
    for option in ("--target", "--test-file", "--strip-target", "--strict", "--json", "--missing", "--categorical"):
        assert option in ran.out


# -- real tables ---------------------------------------------------------------------------------------------------
def test_adult(tabular_dir):
    """The full stop after the labels of its test file, and the cap of capital gains."""
    files = tabular_dir / "adult-train.csv", "--target", -1, "--test-file", tabular_dir / "adult-test.csv", "--json"
    found = {(f["check"], f["column"]): f for f in run("check", *files).json["findings"]}
    finding = found["labels alike", "14"]
    assert finding["severity"] == "error"
    assert "'<=50K', '<=50K.'" in finding["seen"]
    assert finding["advice"] == "The labels end in '.'; strip it with --strip-target '.'."
    assert "159 rows hold 99999" in found["stand-in value", "10"]["seen"]
    assert found["same columns", "4"]["seen"].startswith("Given 3,"), "education, in words and as a number"
    assert {name for check, name in found if check == "missing values"} == {"1", "6", "13"}
    assert found["duplicate rows", None]["value"] == 24
    told = run("check", *files, "--strip-target", ".").json
    assert told["counts"]["errors"] == 0


def test_california_housing(tabular_dir):
    """The price that was cut off at 500,001, and the 207 blocks without a number of bedrooms."""
    told = run("check", tabular_dir / "california_housing.csv", "--target", "median_house_value", "--json").json
    found = {(f["check"], f["column"]): f for f in told["findings"]}
    assert told["task"] == "regression"
    assert found["capped", "median_house_value"]["value"] == 965
    assert "500001" in found["capped", "median_house_value"]["seen"]
    assert found["missing values", "total_bedrooms"]["value"] == 207
    assert told["counts"]["errors"] == told["counts"]["warnings"] == 0
