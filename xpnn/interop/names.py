"""What a model's own words become in other languages: identifiers, strings and comments that hold nothing but text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from ..errors import OptionError

__all__ = ["c_comment", "c_identifiers", "c_string", "identifier"]

# Words of C and C++, and names that common headers and compilers define as macros.
_TAKEN = {
    word
    for line in (
        "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl complex concept",
        "const const_cast consteval constexpr constinit continue decltype default delete do double dynamic_cast else",
        "enum errno explicit export extern false float for friend goto i386 if imaginary import inline int linux long",
        "module mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register",
        "reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast stderr stdin",
        "stdout struct switch template this thread_local throw true try typedef typeid typename typeof union unix",
        "unsigned using virtual void volatile wchar_t while xor xor_eq",
    )
    for word in line.split()
}


def identifier(name: str) -> str:
    """Return a name in lower case that C, C++ and Python take for one of their own making.

    Examples
    --------
    >>> identifier("Größe (m²)"), identifier("2nd floor"), identifier("int"), identifier("__x"), identifier("日本")
    ('grosse_m2', 'x2nd_floor', 'int_', 'x', 'x')
    """
    plain = unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    word = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")
    if not word or word[0].isdigit():
        word = f"x{word}"
    return f"{word}_" if word in _TAKEN else word[:60]


def c_identifiers(names: Iterable[str]) -> list[str]:
    """Return a different identifier for each name.

    Examples
    --------
    >>> c_identifiers(["a b", "a-b", "a_b_2", "A B"])
    ['a_b', 'a_b_2', 'a_b_2_2', 'a_b_3']
    """
    made: list[str] = []
    for name in names:
        word = found = identifier(name)
        number = 2
        while found in made:
            found, number = f"{word}_{number}", number + 1
        made.append(found)
    return made


def c_string(text: str) -> str:
    r"""Return a string literal of C that holds a text in UTF-8.

    Raises OptionError for a text with a zero character, at which C's strings end.

    Examples
    --------
    >>> print(c_string('a "b"'), c_string("ü?"))
    "a \"b\"" "\303\274\?"
    """
    if "\0" in text:
        raise OptionError(
            f"to_c: expected names and categories without the character 0, at which text ends in C, got {text!r}. "
            "Train without it."
        )
    plain = {byte: chr(byte) for byte in range(32, 127)} | {34: r"\"", 92: r"\\", 63: r"\?"}  # ??/ would be a backslash
    return '"' + "".join(plain.get(byte, f"\\{byte:03o}") for byte in text.encode("utf-8", "replace")) + '"'


def c_comment(text: str) -> str:
    r"""Return a text as it may stand in a comment of C, in quotes.

    Examples
    --------
    >>> print(c_comment("price */ in €"))
    "price * / in \u20ac"
    """
    shown = "".join(c if " " <= c <= "~" else f"\\u{ord(c):04x}" for c in text.replace("\\", "/"))
    for pair in ("*/", "/*", "//", "??"):
        while pair in shown:
            shown = shown.replace(pair, " ".join(pair))
    return f'"{shown}"'
