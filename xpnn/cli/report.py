"""``xpnn report``: one HTML page of a run, or of several side by side; or the card of its model."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path
from typing import Any

from ..arguments import printable
from ..errors import OptionError
from ..report import check_requirements, read_run, write_card, write_comparison, write_report
from .options import add_json, print_json

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "report",
        usage="xpnn report RUN [RUN ...] [options]\n       xpnn report RUN --card [options]",
        help="write a page of a run or of several, or a model card",
        description="Write a page that holds all of itself, to read or to send: score, diagnosis, simple models beside "
        "the network, curves, probabilities, importance of columns, groups of rows, mistakes, settings. Of several "
        "runs it compares scores, settings and curves. With --card it is Markdown for those who are to use the model, "
        "with the front matter of model hubs and lines to fill in. It needs the folder that xpnn train wrote, and no "
        "data.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a folder from xpnn train")
    text = "file to write; default report.html in RUN; of several comparison.html here; of a card README.md in RUN"
    parser.add_argument("--out", metavar="FILE", help=text)
    text = "write a model card instead; one that was filled in is not replaced; default: no"
    parser.add_argument("--card", action="store_true", help=text)
    parser.add_argument("--open", action="store_true", help="show the page in the web browser")
    add_json(parser)
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    """Write the page."""
    if args.card and (len(args.runs) > 1 or args.open):
        got = "--open, which shows pages" if args.open else f"{len(args.runs)} runs"
        raise OptionError(f"--card: expected one run to write the card of, got {got}. Leave it out.")
    if not args.card:
        check_requirements("a page")
    folders = [Path(folder).expanduser() for folder in args.runs]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise OptionError("expected different runs, got one twice. Name each once.")
    out = Path(args.out).expanduser() if args.out else None
    if out is not None and out.is_dir():
        raise OptionError(f"--out: expected a file, got the folder {str(out)!r}. Try {out / 'report.html'}.")
    runs = [read_run(folder) for folder in folders]
    if args.card:
        path = write_card(runs[0], out or folders[0] / "README.md")
    elif len(runs) == 1:
        path = write_report(runs[0], out or folders[0] / "report.html")
    else:
        path = write_comparison(runs, out or Path("comparison.html"))
    if args.json:
        print_json(
            {
                "file": str(path),
                "bytes": path.stat().st_size,
                "runs": [
                    {
                        "folder": str(run.folder),
                        "source": run.info["source"],
                        "epochs": run.info["epochs"],
                        "scores": run.info["scores"],
                        "findings": (run.evidence or {}).get("findings", []),
                    }
                    for run in runs
                ],
            }
        )
    else:
        print(f"wrote {printable(str(path))}")
    if args.open and not webbrowser.open(path.resolve().as_uri()):
        print(f"no web browser was found: open {path} yourself", file=sys.stderr)
    return 0
