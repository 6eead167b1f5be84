"""Plain data is compared with what it should be, entry by entry."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.schema import ANY, NUMBER, at_least, expect, misfit

BIG = 2**70


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (int, [0, -3, 2**63], [True, 1.0, "1", None, BIG, -BIG, [1]]),
        (float, [0, -3, 1.5], [True, "1", None, BIG, math.nan, math.inf, {}]),
        (NUMBER, [0, 1.5, math.nan, -math.inf], [True, "1", None, BIG]),
        (str, ["", "x"], [1, None, b"x", ["x"]]),
        (bool, [True, False], [0, 1, "true", None]),
        (None, [None], [0, False, "", "None"]),
        ("number", ["number"], ["Number", "", None, 1]),
        (at_least(1), [1, 7], [0, -1, True, 1.0, "1", BIG]),
        (at_least(0, float), [0, 0.5], [-0.5, math.nan, math.inf, "0"]),
        ([int], [[], [1, 2], (1,)], [1, [1, "2"], {"0": 1}, "12", None]),
        ((None, str), [None, "x"], [1, [], ["x"]]),
        ({"a": int}, [{"a": 1}, {"a": 1, "b": None}], [{}, {"a": "1"}, [], None, {"A": 1}]),
        ({str: int}, [{}, {"a": 1, "b": 2}], [{"a": "1"}, [], 1]),
        ({"a": str, str: int}, [{"a": "x"}, {"a": "x", "b": 2}], [{"a": "x", "b": "y"}, {"b": 2}, {"a": 1}]),
        (ANY, [None, 1, [], "x"], []),
    ],
)
def test_each_kind(kind, right, wrong):
    assert [value for value in right if misfit(value, kind) is not None] == []
    assert [value for value in wrong if misfit(value, kind) is None] == []


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "rows is missing"),
        ({"rows": 3}, "rows is 3, not a list"),
        ({"rows": [{"n": 1}, {"n": True}]}, "rows[1].n is True, not a whole number"),
        ({"rows": [{"n": -1}]}, "rows[0].n is -1, not a whole number of at least 0 or null"),
        ({"rows": [{"n": "x" * 99}]}, f"rows[0].n is 'xxx{'x' * 53}..., not a whole number"),
        ([], "all of it is [], not an object"),
    ],
)
def test_messages_name_the_place(value, message):
    kind = {"rows": [{"n": at_least(0) if "null" not in message else (at_least(0), None)}]}
    with pytest.raises(ValueError) as caught:  # noqa: PT011, compared below
        expect(value, kind)
    assert str(caught.value).startswith(message.replace("null", "None"))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
KINDS = ({"a": int}, {"a": [float], "b": (str, None)}, [{str: NUMBER}], {"a": {"b": [at_least(1)]}}, (int, [bool]))


@settings(max_examples=100)
@given(PLAIN, st.sampled_from(KINDS))
def test_any_plain_data_fit_or_are_told(value, kind):
    value = json.loads(json.dumps(value))
    found = misfit(value, kind)
    if found is None:
        expect(value, kind)
    else:
        with pytest.raises(ValueError, match=r"is missing|, not "):
            expect(value, kind)
