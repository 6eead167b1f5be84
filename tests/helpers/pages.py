"""Pages of the documentation: their blocks, and running them.

A block marked ``text`` right below one of ``python`` is what that prints, then its warnings, then the error that
ends it (``ShapeError: ...``). White space does not count, ``...`` stands for anything, fractions may differ by 1 %, and
numbers below 1e-6 are rounding noise.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import re
import warnings
from pathlib import Path
from typing import NamedTuple

from places import PROJECT

PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
#: Packages that a page on serving uses, and the extra "test" does not install.
SERVING = ("dask", "fastapi", "mlflow", "pyspark", "ray", "skops")
OPTIONAL = ("jax", "keras", "torch", *SERVING)  # packages that a page may use and the extra "test" does not install


class Block(NamedTuple):
    """A runnable block of a page."""

    line: int
    code: str
    shown: str | None  # the text block right below it

    @property
    def needs(self) -> str | None:
        """The optional package that the block imports."""
        return next(
            (name for name in OPTIONAL if re.search(rf"^(import|from) {name}\b", self.code, re.MULTILINE)), None
        )


def runnable(page: Path) -> list[Block]:
    text = page.read_text()
    fences = list(re.finditer(r"^(`{3,})(.*)\n((?:.*\n)*?)\1`*$", text, flags=re.MULTILINE))
    found = []
    for fence, after in itertools.zip_longest(fences, fences[1:]):
        if fence[2].split() == ["python"]:
            below = after is not None and after[2] == "text" and not text[fence.end() : after.start()].strip()
            found.append(Block(text.count("\n", 0, fence.start(3)), fence[3], after[3] if after and below else None))
    return found


def run(page: Path, block: Block, names: dict[str, object], *, warned: bool = True) -> None:
    """Run a block and compare what it prints, warns of (unless not `warned`) and raises with what the page shows."""
    where = f"{page.relative_to(PROJECT)}:{block.line}"
    printed, raised = io.StringIO(), ""
    with contextlib.redirect_stdout(printed), warnings.catch_warnings(record=block.shown is not None) as caught:
        if block.shown is not None:
            warnings.simplefilter("always" if warned else "ignore")
        if block.code.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block.code, names, where, str(page), block.line)
            result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False)
            assert not result.failed, printed.getvalue()
            names.update(test.globs)
            return
        try:
            exec(compile("\n" * block.line + block.code, str(page), "exec"), names)
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
            if block.shown is None or f"{type(error).__name__}:" not in block.shown:
                raise
    if block.shown is not None:
        lines = [
            printed.getvalue(),
            *(f"{each.category.__name__}: {each.message}" for each in (caught or () if warned else ())),
            raised,
        ]
        seen = "\n".join(filter(None, lines))
        assert alike(block.shown.split(), seen.split()), f"{where} shows\n{block.shown}\nbut gives\n{seen}"


NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


def alike(shown: list[str], seen: list[str]) -> bool:
    """Compare words."""
    for place, word in enumerate(shown):
        if word == "...":
            rest = shown[place + 1 :]
            return any(alike(rest, seen[start:]) for start in range(place, len(seen) + 1))
        if place >= len(seen) or not same_word(word, seen[place]):
            return False
    return len(shown) == len(seen)


def same_word(shown: str, seen: str) -> bool:
    if shown == seen:
        return True
    theirs, ours = NUMBER.split(shown), NUMBER.split(seen)
    if theirs[::2] != ours[::2]:
        return False
    for a, b in zip(theirs[1::2], ours[1::2], strict=True):
        small = 0 < max(float(a), float(b)) < 1e-6
        if a != b and not small and ("." not in a or abs(float(a) - float(b)) > 0.01 * abs(float(a))):
            return False
    return True
