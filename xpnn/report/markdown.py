r"""Markdown and YAML of data: whatever a name holds, it is shown, and changes nothing around it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import printable

__all__ = ["code", "front_matter", "table", "text"]

# Signs that mean something within a line; those that make it a list, a heading or a rule; links without brackets.
_SIGNS = re.compile(r"[\\`*_\[\]<>|~&$@#]")
_BEGINNINGS = re.compile(r"^(\s*)([-+=]|\d+[.)])")
_LINKS = re.compile(r"(?i)(?<=\bwww)\.|:(?=//)|(?<=\bmailto):")
_PLAIN = re.compile(r"[a-z][a-z0-9_-]*")
_NOT_TEXT = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan", "inf"}
_ESCAPED = {'"': '\\"', "\\": "\\\\"}


def text(plain: str) -> str:
    r"""Return text that Markdown shows as it is: no emphasis, link, HTML or table comes of it.

    Examples
    --------
    >>> print(text("a_b <img src=x> [c](d) | www.e.org"))
    a\_b \<img src=x\> \[c\](d) \| www&#46;e.org
    """
    shown = _SIGNS.sub(r"\\\g<0>", printable(plain))
    shown = _LINKS.sub(lambda found: f"&#{ord(found[0])};", shown)
    return _BEGINNINGS.sub(lambda found: f"{found[1]}{found[2][:-1]}\\{found[2][-1]}", shown)


def code(plain: str, *, cell: bool = False) -> str:
    r"""Return text as code, in which nothing but its end means anything; in a `cell` of a table a bar does, too.

    Examples
    --------
    >>> print(code("a_b"), code("a|b", cell=True), code("`"), code(""))
    `a_b` `a\|b` `` ` `` ` `
    """
    shown = printable(plain)
    shown = shown.replace("|", r"\|") if cell else shown
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    if not shown.strip():
        return f"`{shown or ' '}`"
    beside = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{beside}{shown}{beside}{fence}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()) -> list[str]:
    """Return the lines of a table; the cells are Markdown already, those of some columns `numbers`.

    Examples
    --------
    >>> print(*table(["name", "rows"], [["`a`", "3"]], numbers=[1]), sep="\\n")
    | name | rows |
    |---|---:|
    | `a` | 3 |
    """
    rule = ["---:" if k in numbers else "---" for k in range(len(header))]
    return [f"| {' | '.join(header)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(row)} |" for row in rows)]


def front_matter(values: Mapping[str, Any], comments: Sequence[str] = ()) -> list[str]:
    """Return the lines of YAML between its two rules, comments first.

    Examples
    --------
    >>> print(*front_matter({"tags": ["a-b", "yes"], "of": [{"rows": 1, "name": 'a"b'}]}), sep="\\n")
    ---
    tags:
      - a-b
      - "yes"
    of:
      - rows: 1
        name: "a\\"b"
    ---
    """
    return ["---", *(f"# {comment}" for comment in comments), *_yaml(values), "---"]


def _yaml(value: Any) -> list[str]:
    """Return a mapping or a list in lines."""
    lines: list[str] = []
    items = value.items() if isinstance(value, Mapping) else [(None, each) for each in value]
    for key, each in items:
        named = "-" if key is None else f"{_scalar(key)}:"
        if not isinstance(each, Mapping | list):
            lines.append(f"{named} {_scalar(each)}")
        elif key is not None:
            lines += [named, *(f"  {line}" for line in _yaml(each))]
        else:
            first, *rest = _yaml(each)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        shown = f"{value:.6g}"
        return shown if "e" not in shown else f"{value:.12f}".rstrip("0")
    if _PLAIN.fullmatch(value) and value not in _NOT_TEXT:
        return str(value)
    return f'"{"".join(map(_letter, value))}"'


def _letter(letter: str) -> str:
    """Return a letter within quotes; all that is not sure to be printed, by its number."""
    at = ord(letter)
    if letter in _ESCAPED:
        return _ESCAPED[letter]
    if 0x20 <= at < 0x7F or (0xA1 <= at < 0xD800 and letter.isprintable()):
        return letter
    if 0xD800 <= at < 0xE000:  # half a letter, which no file can hold
        return "\\uFFFD"
    return f"\\x{at:02X}" if at < 0x100 else f"\\u{at:04X}" if at < 0x10000 else f"\\U{at:08X}"
