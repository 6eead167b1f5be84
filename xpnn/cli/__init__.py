"""The command line: data and training, predictions, checks of the code, the course.

Commands are check, train, search, predict, evaluate, export, report, gradcheck, parity, bench, lesson, doctor and info.

Exit status 0 is success, 1 a check that failed, 2 bad input (one line on stderr, no traceback), 130 Ctrl-C, 143
SIGTERM, 129 a terminal that hung up.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from .. import __version__
from ..arguments import printable, suggest
from ..errors import XpnnError
from . import bench, check, export, info, lesson, report, score, search, system, train, trust
from .interrupts import Signals, status_of, word_of
from .options import in_options
from .streams import Lasting, open_missing
from .terminal import Shown

__all__ = ["main", "make_parser"]


# How argparse words it.
_CHOICE = re.compile(r"invalid choice: '(?P<given>[^']*)' \(choose from (?P<known>.*)\)$")


class _Parser(argparse.ArgumentParser):
    commands: Any = None  # what `add_subparsers` returned

    def __init__(self, **options: Any) -> None:
        # No abbreviations: a script that says --test would break the day --test-something is added.
        super().__init__(
            **{"allow_abbrev": False, **options},
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28),
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse a command line; of an option that is not known say which one is like it."""
        found, left = self.parse_known_args(args, namespace)
        if left:
            known = self._options(getattr(found, "command", None))
            options = [word.partition("=")[0] for word in left if word.startswith("-")]
            hint = suggest(options[0], known, "") if options else ""
            self.error(f"unrecognized arguments: {' '.join(left)}" + (f". {hint}" if hint else ""))
        if self.commands is not None and found.command is None:
            self.error("the following arguments are required: COMMAND")
        return found

    def _options(self, command: str | None) -> list[str]:
        """Return the options of the command that was given, or those of this parser."""
        chosen = self if self.commands is None else self.commands.choices.get(command, self)
        return re.findall(r"--[a-z][\w-]*", chosen.format_help())

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and where help is."""
        if choice := _CHOICE.search(message):
            hint = suggest(choice["given"], re.findall(r"[\w.-]+", choice["known"]), "")
            message += f". {hint}" if hint else ""
        if message.endswith("expected one argument"):
            message += ", and one that begins with - after =, as in --missing=-999,NA"
        end = "" if message.endswith("?") else "."
        print(f"{self.prog}: {printable(message)}{end} See {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="xpnn",
        description="Neural networks on any array library: train, predict, and check that it is right.",
        epilog="`xpnn COMMAND --help` tells all options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"xpnn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", prog="xpnn")  # asked for in `parse_args`
    parser.commands = commands
    for module in (check, train, search, score, export, report, trust, bench, lesson, system, info):
        module.add_commands(commands)
    return parser


@contextlib.contextmanager
def _telling_choices() -> Iterator[None]:
    """Let the library say on stderr what it chooses by itself, as backend "auto" does."""
    log, handler = logging.getLogger("xpnn"), logging.StreamHandler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, by default that of the process, and return the exit status.

    SystemExit is raised after ``--help`` (0), and if the arguments themselves are wrong (2).
    """
    open_missing()
    argv = list(sys.argv[1:] if argv is None else argv)
    out, err, signals = Lasting(Shown(sys.stdout)), Lasting(Shown(sys.stderr)), Signals()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if not argv:
                make_parser().print_help()
                return 0
            with signals.caught():
                # A run keeps the command that made it.
                args = make_parser().parse_args(argv, argparse.Namespace(argv=argv, signals=signals))
                status = _run(args)
        except KeyboardInterrupt as error:
            print(word_of(error), file=sys.stderr)
            return status_of(error)
        finally:
            out.flush()
            err.flush()
        if out.problem:
            print(f"xpnn {args.command}: stdout: {out.problem}.", file=sys.stderr)
            status = status or 2
    return status


def _run(args: argparse.Namespace) -> int:
    """Run a command, and tell in one line what kept it from its end."""
    try:
        with _telling_choices():
            status: int = args.run(args)
        return status
    except XpnnError as error:
        problem = in_options(str(error))
    except OSError as error:
        problem = f"{error.filename or 'file'}: {error.strerror or error}."
    except MemoryError:
        problem = (
            "out of memory. Try a smaller --batch-size, or data as .npy files, which are read from disk as needed."
        )
    print(f"xpnn {args.command}: {problem}", file=sys.stderr)
    return 2
