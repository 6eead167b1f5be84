"""The command line: ``xpnn train | predict | evaluate | gradcheck | parity | doctor | info``.

Exit status 0 is success, 1 a check that failed, 2 bad input (one line on stderr, no traceback), 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..errors import XpnnError
from . import score, system, train, trust

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line, and where help is."""
        print(f"{self.prog}: {message}. See {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="xpnn",
        description="Neural networks on any array library: train, predict, and check that it is right.",
        epilog="`xpnn COMMAND --help` tells all options of a command.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (train, score, trust, system):
        module.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit status.
    """
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except XpnnError as error:
        print(f"xpnn {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `xpnn ... | head`: the reader has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        print(f"xpnn {args.command}: {error.filename or 'file'}: {error.strerror or error}.", file=sys.stderr)
        return 2
    except MemoryError:
        print(
            f"xpnn {args.command}: out of memory. Try a smaller --batch-size, or data as .npy files, "
            "which are read from disk as needed.",
            file=sys.stderr,
        )
        return 2
