"""Numbers and scores as a reader of a page wants them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["count", "duration", "number", "option", "percent", "sentence", "value"]

_NO_BREAK = "\N{NO-BREAK SPACE}"
_ABSENT = "\N{EM DASH}"


def count(n: int) -> str:
    """Return a whole number with its thousands apart.

    Examples
    --------
    >>> count(20640)
    '20,640'
    """
    return f"{n:,}"


def number(x: float | None) -> str:
    """Return four significant digits, or all digits before the point.

    Examples
    --------
    >>> number(48897.3), number(0.0123456), number(None)
    ('48,897', '0.01235', '—')
    """
    if x is None or not math.isfinite(x):
        return _ABSENT
    text = f"{x:,.0f}" if 1e4 <= abs(x) < 1e15 else f"{x:,.4g}"
    return "0" if text == "-0" else text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def percent(share: float | None) -> str:
    """Return a share as a percentage, more exact near 0 and 1, and 0 and 100 only where it is.

    Examples
    --------
    >>> [percent(share).replace(chr(160), " ") for share in (0.871, 0.9989, 1.0, 0.99999)]
    ['87.1 %', '99.89 %', '100 %', '99.99 %']
    """
    if share is None:
        return _ABSENT
    digits = 1 if 0.01 <= share <= 0.99 else 2
    scaled = 100 * share
    if 0 < share < 1:
        scaled = min(max(scaled, 0.01), 99.99)
    return f"{scaled:.{digits}f}".removesuffix(".00") + f"{_NO_BREAK}%"


def duration(seconds: float | None) -> str:
    """Return seconds in the unit that suits.

    Examples
    --------
    >>> duration(3.24).replace(chr(160), " "), duration(200).replace(chr(160), " ")
    ('3.2 s', '3 min 20 s')
    """
    if seconds is None:
        return _ABSENT
    if seconds < 60:
        return f"{seconds:.1f}{_NO_BREAK}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_NO_BREAK}min {rest}{_NO_BREAK}s"
    return f"{minutes // 60}{_NO_BREAK}h {minutes % 60}{_NO_BREAK}min"


def option(name: str) -> str:
    """Spell an option as words.

    Examples
    --------
    >>> option("batch_size"), option("lr")
    ('batch size', 'learning rate')
    """
    return {"lr": "learning rate", "ema": "average of weights"}.get(name, name.replace("_", " "))


def value(given: Any) -> str:
    """Return a value of a table or an option as text.

    Examples
    --------
    >>> value([256, 128]), value(True), value(None), value(0.001), value(20640)
    ('256, 128', 'yes', '—', '0.001', '20640')
    """
    if isinstance(given, bool):
        return "yes" if given else "no"
    if given is None or given == "":
        return _ABSENT
    if isinstance(given, list):
        return ", ".join(map(value, given)) or "none"
    return f"{given:.6g}" if isinstance(given, float) else str(given)


def sentence(info: Mapping[str, Any]) -> str:
    """Say the score of a run in a sentence.

    Examples
    --------
    >>> sentence({"scores": {"on": "test rows", "accuracy": 0.75, "rows": 8}}).replace(chr(160), " ")
    'The network got 6 of 8 test rows right: 75.0 %.'
    """
    scores = info["scores"]
    rows, kind = scores["rows"], "rows of the test file" if scores["on"] == "test file" else scores["on"]
    if "accuracy" in scores:
        right = round(scores["accuracy"] * rows)
        return f"The network got {count(right)} of {count(rows)} {kind} right: {percent(scores['accuracy'])}."
    if "targets" in scores:
        names = ", ".join(each["target"] for each in scores["targets"])
        mean = percent(None if scores["r2"] is None else max(scores["r2"], 0.0))
        return f"On {count(rows)} {kind}, predictions explain {mean} of the variance of {names} on average."
    r2, name = scores["r2"], info.get("target") or "the target"
    explained = "" if r2 is None else f", and explain {percent(max(r2, 0.0))} of its variance"
    off = f"{number(scores['rmse'])} (RMSE){explained}"
    return f"On {count(rows)} {kind}, predictions of {name} are typically off by {off}."
