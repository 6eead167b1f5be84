"""Make docs/gallery.md: run every example in full, collect its figures and the sentence that it ends with.

The order and the headings are those of docs/curriculum.md.  Some examples use MNIST: set XPNN_DATA to its folder.

Run: python ci/make_gallery.py [--only NAME ...]
"""

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageSequence

PROJECT = Path(__file__).resolve().parents[1]
CURRICULUM = PROJECT / "docs" / "curriculum.md"
PAGE = PROJECT / "docs" / "gallery.md"
FIGURES = PROJECT / "docs" / "images" / "gallery"
WIDTH = 1200  # of the pictures on the page

INTRODUCTION = """# Gallery

Every example, with the sentence it ends with and the figures it writes. Each is one short script that fails if its
finding does not hold. Run one with `python examples/NAME.py`; `--quick` makes it short, `--backend` chooses the array
library, `--out` the folder of its figures. The [curriculum](curriculum.md) lists them by topic.

This page is made by `python ci/make_gallery.py`.
"""


class Entry(NamedTuple):
    """What the page says of one example."""

    title: str
    finding: str
    figures: list[str]


def chapters() -> dict[str, list[str]]:
    """Return the headings of the curriculum, and under each the examples that it is the first to link to."""
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for line in CURRICULUM.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            found[line[3:]] = []
        for name in re.findall(r"\]\(\.\./examples/(\w+)\.py\)", line):
            if name not in seen:
                seen.add(name)
                found[list(found)[-1]].append(name)
    return found


def title(script: Path) -> str:
    """Return the first line of a script's docstring."""
    text = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    if not text:
        raise SystemExit(f"{script.name}: expected a docstring")
    return text.splitlines()[0]


def finding(printed: str) -> str:
    """Return the sentence that an example ends with, before the files it wrote.

    It is the last line; one that begins in lower case goes on from the line above.
    """
    *lines, last = [line for line in printed.splitlines() if line.strip() and not line.startswith("wrote ")]
    while lines and last[0].islower():
        last = f"{lines.pop()} {last}"
    return last


def written(printed: str) -> list[Path]:
    """Return the files that an example says it wrote."""
    return [Path(line.removeprefix("wrote ")) for line in printed.splitlines() if line.startswith("wrote ")]


def is_empty(path: Path) -> bool:
    """Say whether a picture, or a frame of it, shows next to nothing."""
    with Image.open(path) as picture:
        for frame in ImageSequence.Iterator(picture):
            counts = frame.convert("L").histogram()
            if sum(counts) - max(counts) < 0.01 * sum(counts) or sum(count > 0 for count in counts) < 8:
                return True
    return False


def shrink(source: Path, target: Path) -> None:
    """Write a picture no wider than the page needs, in few colours; a GIF as it is."""
    if source.suffix == ".gif":
        target.write_bytes(source.read_bytes())
        return
    with Image.open(source) as picture:
        flat = picture.convert("RGB")
        if flat.width > WIDTH:
            flat = flat.resize((WIDTH, round(flat.height * WIDTH / flat.width)), Image.Resampling.LANCZOS)
        # Maximum coverage keeps rare colours: the median cut would give two thin lines one colour.
        few = flat.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
        few.save(target, optimize=True)


def run(name: str) -> Entry:
    """Run one example in full and keep its figures."""
    script = PROJECT / "examples" / f"{name}.py"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(script), "--out", folder],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or "skipped:" in done.stdout:
            raise SystemExit(f"{name}: {done.stderr.strip() or done.stdout.strip()}")
        files = written(done.stdout)
        if not files or any(is_empty(file) for file in files):
            raise SystemExit(f"{name}: expected figures that show something, got {files}")
        for file in files:
            shrink(file, FIGURES / file.name)
    sentence = finding(done.stdout)
    if re.search(r"[*_<`$\\]", sentence):
        raise SystemExit(f"{name}: expected a sentence without Markdown's signs, got {sentence}")
    return Entry(title(script), sentence, [file.name for file in files])


def parse(page: str) -> dict[str, Entry]:
    """Return the entries of a page by the name of the example."""
    found = {}
    for part in page.split("\n### ")[1:]:
        name = re.match(r"\[(\w+)\]", part)[1]
        sentence = re.search(r"^> (.*)$", part, re.MULTILINE)[1]
        figures = re.findall(r"\]\(images/gallery/([^)]+)\)", part)
        found[name] = Entry(part.split("\n\n")[1], sentence, figures)
    return found


def render(entries: dict[str, Entry]) -> str:
    """Write the page."""
    parts = [INTRODUCTION]
    for heading, names in chapters().items():
        if names:
            parts.append(f"## {heading}\n")
        for name in names:
            entry = entries[name]
            notebook = f"examples/notebooks/{name}.ipynb"
            also = f" Also as a [notebook](../{notebook})." if (PROJECT / notebook).exists() else ""
            parts.append(f"### [{name}](../examples/{name}.py)\n\n{entry.title}\n\n> {entry.finding}\n")
            words = re.sub(r"[`\[\]]", "", entry.title)  # for those who cannot see the figure
            parts += [f"![{words}](images/gallery/{figure})\n" for figure in entry.figures]
            if also:
                parts.append(f"{also.strip()}\n")
    return "\n".join(parts)


def main() -> None:
    """Run the examples, write the page, remove figures that nothing shows any more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these; keep the rest of the page")
    args = parser.parse_args()
    names = [name for listed in chapters().values() for name in listed]
    FIGURES.mkdir(parents=True, exist_ok=True)
    entries = parse(PAGE.read_text(encoding="utf-8")) if args.only else {}
    for name in args.only or names:
        entries[name] = run(name)
        print(f"{name}: {entries[name].finding}", flush=True)
    PAGE.write_text(render(entries), encoding="utf-8")
    shown = {figure for name in names for figure in entries[name].figures}
    for file in FIGURES.iterdir():
        if file.name not in shown:
            file.unlink()
    size = sum(file.stat().st_size for file in FIGURES.iterdir())
    print(f"{len(names)} examples, {len(shown)} figures, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
