"""An answer to an exercise, run and checked: in a process of its own, which may take so long and no longer.

`check_file` starts that process, in which `main` runs the file and the check of its lesson.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from ..arguments import suggest
from ..errors import DataError
from ..files import read_content
from .course import find_lesson
from .lesson import AnswerError, Lesson

__all__ = ["MOST_PRINTED", "Checked", "check_file", "check_source", "main"]

#: What the child runs.
_PROGRAM = "from xpnn.lessons.answer import main; main()"
#: Bytes of a file that can be an answer.
_MOST = 1_000_000
#: What helps where NumPy's own words do not.
_HINTS = {
    r"broadcast|core dimension|not aligned": ". Look at the shapes in that line: which axis should meet which?",
    r"only .* arrays can be converted": ". The functions of math take one number, those of numpy arrays too.",
}
#: Characters of what an answer prints that are kept.
MOST_PRINTED = 4000


@dataclass(frozen=True)
class Checked:
    """What came of checking an answer.

    Attributes
    ----------
    right : list of str
        What is right, in the order in which it was looked at.
    wrong : str, optional
        What is not, and why; nothing behind it was looked at.
    printed : str
        What the answer itself printed.
    """

    right: list[str]
    wrong: str | None = None
    printed: str = ""


def check_file(lesson: Lesson, path: str | Path, *, seconds: float = 60.0) -> Checked:
    """Run a file in a process of its own, and check what it defines.

    Raises
    ------
    DataError
        If there is nothing to check: no such file, no Python, an error while it runs, not the names asked for.
    """
    source = _source(path)
    paths = f"import sys; sys.path[:] = {sys.path!r}; "  # the very modules of this process
    command = [sys.executable, "-c", paths + _PROGRAM, str(lesson.number), os.fspath(path)]
    try:
        child = subprocess.run(
            command, input=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Checked([], f"It did not end within {seconds:g} s. Does a loop never end?")
    try:
        found = json.loads(child.stdout)
    except ValueError:
        return Checked([], f"It ended Python itself, with status {child.returncode}, before it could be checked.")
    if "unfit" in found:
        raise DataError(found["unfit"])
    return Checked(**found)


def _source(path: str | Path) -> bytes:
    """Read a file, and refuse what is not Python."""
    source = read_content(path, "lesson", most=_MOST)
    try:
        ast.parse(source, filename=os.fspath(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        raise DataError(f"{path}: expected Python, got an error{line}: {why}. Mend that line first.") from None
    return source


def check_source(lesson: Lesson, source: str | bytes, name: str = "answer.py") -> Checked:
    """Run code in this process, and check what it defines; `name` stands for the file in messages."""
    module = ModuleType("answer")
    sys.modules["answer"] = module  # where dataclasses and pickles look for it
    printed = _Kept()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            exec(compile(source, name, "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            raise DataError(f"{name}: expected it to run, got {_said(error, name)}. Mend that first.") from None
        checked = _checked(lesson, module, name)
    return replace(checked, printed=printed.text())


def _checked(lesson: Lesson, module: ModuleType, name: str) -> Checked:
    defined = vars(module)
    for wanted in lesson.names:
        if wanted not in defined:
            own = [key for key, value in defined.items() if key[0] != "_" and not isinstance(value, ModuleType)]
            hint = suggest(wanted, own, "`xpnn lesson " + f"{lesson.number}` shows how it may begin.")
            got = ", ".join(own[:5]) or "nothing"
            raise DataError(f"{name}: expected it to define {wanted}, got {got}. {hint}")
    right: list[str] = []
    try:
        right.extend(lesson.check(defined))
    except AnswerError as wrong:
        return Checked(right, str(wrong))
    except (Exception, SystemExit) as error:
        return Checked(right, f"It stops with {_said(error, name)}")
    return Checked(right)


def _said(error: BaseException, name: str) -> str:
    """Name an error and the line of the answer from which it came."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
    where = f" in line {lines[-1]}" if lines else ""
    text = " ".join(str(error).split()) or "no message"
    hint = next((hint for pattern, hint in _HINTS.items() if re.search(pattern, text)), "")
    return f"{type(error).__name__}{where}: {text}{hint}"


class _Kept(io.TextIOBase):
    """Keeps the beginning of what is printed: an endless loop that prints must not fill the memory."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._left, self._lost = MOST_PRINTED, False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._parts += [text[: self._left]] * (self._left > 0)
        self._lost |= len(text) > self._left
        self._left = max(self._left - len(text), 0)
        return len(text)

    def text(self) -> str:
        return "".join(self._parts) + ("…" * self._lost)


# -- in the child -----------------------------------------------------------------------------------------------
def main() -> None:
    """Check the code on standard input, and print what came of it as one JSON object."""
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whatever compiled code prints is not an answer
    number, name = int(sys.argv[1]), sys.argv[2]
    # Files beside it can be imported, but do not stand before the modules of others.
    sys.path.append(os.path.dirname(os.path.abspath(name)))
    found: dict[str, Any]
    try:
        found = vars(check_source(find_lesson(number), sys.stdin.buffer.read(), name))
    except DataError as error:
        found = {"unfit": str(error)}
    os.write(answers, json.dumps(found).encode())
    os._exit(0)  # whatever threads the answer has left running
