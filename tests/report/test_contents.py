"""Every entry of a run's files is of its kind before a page is made of it."""

from __future__ import annotations

import copy
import json

import pytest
from commands import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpnn.predictor import Predictor
from xpnn.report.contents import misfit_in_run

pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'xpnn[plots]'")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Scores, evidence and predictor of a run over images, and of one over points."""
    found = {}
    for source in ("digits", "xor"):
        out = tmp_path_factory.mktemp(source)
        assert run("train", source, "--epochs", 1, "--hidden", 4, "--quiet", "--out", out).status == 0
        texts = [(out / name).read_text(encoding="utf-8") for name in ("scores.json", "evidence.json")]
        found[source] = (*map(json.loads, texts), Predictor.load(out / "model.safetensors"))
    return found


def changed(thing, path, value):
    thing = copy.deepcopy(thing)
    where = thing
    for key in path[:-1]:
        where = where[key]
    if value is ...:
        del where[path[-1]]
    else:
        where[path[-1]] = value
    return thing


IN_SCORES = [
    (("options", "seed"), ..., "options.seed"),
    (("options", "hidden"), {"a": 1}, "options.hidden"),
    (("versions", "xpnn"), 3, "versions.xpnn"),
    (("seconds",), "long", "seconds"),
    (("best_epoch",), True, "best_epoch"),
    (("notes",), "one", "notes"),
    (("machine", "cores"), [2], "machine.cores"),
    (("scores", "rows"), True, "rows"),
    (("scores", "rows"), 10**9, "confusion"),
    (("scores", "accuracy"), 1.5, "accuracy"),
    (("scores", "cross_entropy"), None, "cross_entropy"),
    (("scores", "confusion", 0, 0), -1, "confusion"),
    (("scores", "confusion", 0, 0), 0.5, "confusion"),
    (("scores", "on"), None, "on"),
    (
        ("audit",),
        [{"severity": "note", "check": "", "column": None, "value": 1, "seen": "", "advice": "", "x": 1}],
        "audit",
    ),
]
IN_EVIDENCE = [
    (("rows",), 0, "rows"),
    (("wrong",), "2", "wrong"),
    (("image",), [0, 8], "image"),
    (("image",), [8, 9], "mistakes[0]"),
    (("mistakes", 0, "pixels"), "not base 64", "mistakes[0].pixels"),
    (("mistakes", 0, "sure"), 2, "mistakes[0].sure"),
    (("mistakes", 0, "row"), "1", "mistakes[0].row"),
    (("mistakes", 0, "truth"), 1, "mistakes[0].truth"),
    (("findings",), [{"name": "x"}], "findings[0].evidence"),
    (("diagnosed",), None, "diagnosed"),
]


def test_what_training_writes_fits(made):
    for info, evidence, predictor in made.values():
        assert misfit_in_run(info, evidence, predictor) is None
        assert misfit_in_run(info, None, predictor) is None


@pytest.mark.parametrize(("path", "value", "said"), IN_SCORES)
def test_entries_of_the_scores(made, path, value, said):
    info, evidence, predictor = made["digits"]
    assert misfit_in_run(changed(info, path, value), evidence, predictor) == ("scores.json", said)


@pytest.mark.parametrize(("path", "value", "said"), IN_EVIDENCE)
def test_entries_of_the_evidence(made, path, value, said):
    info, evidence, predictor = made["digits"]
    assert misfit_in_run(info, changed(evidence, path, value), predictor) == ("evidence.json", said)


def test_as_many_values_as_columns(made):
    info, evidence, predictor = made["xor"]
    mistake = {**(evidence["mistakes"] or [{"row": 1, "truth": "0", "prediction": "1", "sure": 1.0}])[0], "values": [1]}
    assert misfit_in_run(info, {**evidence, "mistakes": [mistake]}, predictor) == ("evidence.json", "mistakes[0]")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_fits_or_is_named(made, data):
    info, evidence, predictor = made["digits"]
    value = data.draw(st.sampled_from([None, True, -1, 2**70, float("nan"), "x", [], {}, [[]], {"a": [None]}]))
    key = data.draw(st.sampled_from([*info, *info["scores"]]))
    scores = info if key in info else {**info, "scores": {**info["scores"], key: value}}
    scores = {**scores, key: value} if key in info else scores
    found = misfit_in_run(scores, evidence, predictor)
    assert found is None or found[0] == "scores.json"
    key = data.draw(st.sampled_from([*evidence]))
    found = misfit_in_run(info, {**evidence, key: value}, predictor)
    assert found is None or found[0] == "evidence.json"
