"""``xpnn lesson``: the exercises of the course, and whether an answer is right."""

from __future__ import annotations

import argparse
import sys
import textwrap
from typing import Any

from ..arguments import printable
from ..errors import OptionError
from ..lessons import LESSONS, Lesson, check_file, find_lesson
from .options import above_zero, add_json, add_number, print_json, whole

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "lesson",
        usage="xpnn lesson [NUMBER] [--start | --check FILE.py] [options]",
        help="the exercises of the course, and whether an answer is right",
        description="List the lessons of the course, print the exercise of one, or check an answer to it: what is "
        "right, and what is wrong and why. The answer is run as any program of yours, in a process of its own. Exit "
        "status 1 if it is wrong, 2 if there is nothing to check.",
    )
    parser.add_argument("number", nargs="?", type=whole, metavar="NUMBER", help=f"a lesson, 1 to {len(LESSONS)}")
    parser.add_argument(
        "--start", action="store_true", help="print the code to begin with and nothing else; > FILE.py keeps it"
    )
    parser.add_argument("--check", metavar="FILE.py", help="a file with an answer to its exercise")
    text = "time that an answer may take; default 60"
    add_number(parser, "--seconds", above_zero, text, default=60.0, metavar="N")
    add_json(parser)
    parser.set_defaults(run=run_lesson)


def run_lesson(args: argparse.Namespace) -> int:
    """List, print or check."""
    if args.number is None:
        for option, given in (("--check", args.check is not None), ("--start", args.start)):
            if given:
                hint = f"Try xpnn lesson 1 {option}."
                raise OptionError(f"{option}: expected the number of a lesson before it, got none. {hint}")
        _list(args)
        return 0
    lesson = find_lesson(args.number)
    if args.start and (args.check is not None or args.json):
        other = "--json" if args.check is None else "--check"
        raise OptionError(f"--start: expected no {other} beside it, got both. Leave one out.")
    if args.start:
        print(lesson.start, end="")
        return 0
    if args.check is None:
        _print_exercise(lesson, args)
        return 0
    return _check(lesson, args)


def _plain(lesson: Lesson) -> dict[str, Any]:
    keys = ("number", "title", "goal", "minutes", "file", "names")
    return {**{key: getattr(lesson, key) for key in keys}, "page": f"docs/course/{lesson.page}"}


def _list(args: argparse.Namespace) -> None:
    if args.json:
        print_json({"lessons": [_plain(lesson) for lesson in LESSONS]})
        return
    for lesson in LESSONS:
        print(f"{lesson.number:2}  {lesson.title:24}{lesson.minutes:3} min  {lesson.goal}")
    print("\n`xpnn lesson 1` prints the first exercise. The lessons themselves are in docs/course.")


def _print_exercise(lesson: Lesson, args: argparse.Namespace) -> None:
    if args.json:
        print_json({**_plain(lesson), "task": lesson.task, "start": lesson.start})
        return
    print(f"Lesson {lesson.number}: {lesson.title} ({lesson.minutes} minutes, docs/course/{lesson.page})")
    print(f"Afterwards you can {lesson.goal}.\n\n{lesson.task}\n\n{lesson.file} may begin so:\n")
    print(textwrap.indent(lesson.start, "    "))
    print(f"Begin:         xpnn lesson {lesson.number} --start > {lesson.file}")
    print(f"Is it right?   xpnn lesson {lesson.number} --check {lesson.file}")


def _check(lesson: Lesson, args: argparse.Namespace) -> int:
    found = check_file(lesson, args.check, seconds=args.seconds)
    if args.json:
        print_json({"lesson": lesson.number, "right": found.right, "wrong": found.wrong, "printed": found.printed})
        return 0 if found.wrong is None else 1
    if found.printed:
        print(printable(found.printed, keep="\n\t").rstrip("\n"), file=sys.stderr)
    for step in found.right:
        print(f"right: {printable(step)}")
    if found.wrong is not None:
        print(f"WRONG: {printable(found.wrong, keep=chr(10))}")
        return 1
    after = LESSONS[lesson.number :][:1]
    print(
        f"Lesson {lesson.number} is done. "
        + (f"Next: xpnn lesson {after[0].number} ({after[0].title})" if after else "That was the last one")
        + "."
    )
    return 0
