"""What the site adds to the Markdown of docs/: formulas, lists of public names, files of the repository.

- ``$...$`` and ``$$...$$`` become MathML while the site is built; nothing is rendered in the browser.
- ``<!-- all of xpnn.plots -->`` becomes an entry of the API reference for each public name of that module that the page
  does not list itself.
- ``<!-- help of every command -->`` becomes what ``xpnn COMMAND --help`` prints, for each command.
- A link that leaves docs/, such as one to an example or a test, leads to a page that shows that file.
"""

from __future__ import annotations

import argparse
import html
import importlib
import importlib.resources
import logging
import os
import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.xpnn")  # below "mkdocs", so that --strict counts its warnings

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
SHOWN = "files"  # the folder of the site that shows files of the repository
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "sh", ".json": "json", ".yml": "yaml", ".ipynb": "json"}
FONT = "STIXTwoMath-Regular.ttf"  # SIL Open Font License 1.1; comes with the package ziamath
BAR = re.compile(r'<mover>((?:(?!</?mover).)*)<mo stretchy="true">¯</mo></mover>')
NABLA = '<mi mathvariant="normal">∇</mi>'
BOLD = {ord(str(digit)): chr(0x1D7CE + digit) for digit in range(10)}
LONG = 40  # characters of LaTeX from which an inline formula may be wider than a phone


# -- formulas ---------------------------------------------------------------------------------------------------
def mathml(latex: str, display: str) -> str:
    """Convert a formula; what the converter or the browsers do not know is a warning, which fails the build."""
    known = re.sub(r"(\\(?:begin|end)){aligned}", r"\1{split}", latex)  # the same in the converter's words
    for name, sign in (("langle", "⟨"), ("rangle", "⟩")):  # which it does not know after \Bigl
        known = re.sub(rf"\\{name}(?![A-Za-z])", sign, known)
    try:
        out = convert(known, display=display)
    except Exception as error:
        log.warning(f"formula {latex!r}: {error!r}")
        return html.escape(latex)
    out = re.sub(r"&#x([0-9A-Fa-f]+);", lambda found: html.escape(chr(int(found[1], 16))), out)
    # Names of functions, ∂ and ∇ are identifiers: as operators they would have space on both sides.
    out = re.sub(r"<mo>([A-Za-z]{2,}|∂)</mo>", r"<mi>\1</mi>", out).replace("<mo>∇</mo>", NABLA)
    # A bar is an accent: as something set above it would be small.
    out = BAR.sub(r'<mover accent="true">\1<mo stretchy="false">¯</mo></mover>', out)
    # Browsers have no bold numbers of their own, but Unicode has.
    out = re.sub(r'<mn mathvariant="bold">(\d+)</mn>', lambda found: f"<mn>{found[1].translate(BOLD)}</mn>", out)
    unknown = re.findall(
        r'\\[A-Za-z]+|(?<=>)&(?=<)|mathvariant="(?!normal).*?"', re.sub(r"<mtext>.*?</mtext>", "", out)
    )
    if unknown:
        log.warning(f"formula {latex!r}: {', '.join(unknown)} would not be shown")
    return out.replace("<math ", f'<math alttext="{html.escape(latex, quote=True)}" ', 1)


def on_page_content(content: str, **kwargs: Any) -> str:
    """Replace what arithmatex has marked by MathML."""

    def block(found: re.Match[str]) -> str:
        return f'<div class="formula">{mathml(html.unescape(found[1]).strip(), "block")}</div>'

    def inline(found: re.Match[str]) -> str:
        latex = html.unescape(found[1]).strip()
        kind = "formula formula-long" if len(latex) > LONG else "formula"
        return f'<span class="{kind}">{mathml(latex, "inline")}</span>'

    content = re.sub(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', block, content, flags=re.DOTALL)
    return re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', inline, content, flags=re.DOTALL)


# -- navigation -------------------------------------------------------------------------------------------------
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Write out the entries that have a star: the pages that match and are not listed, as index.md has them."""
    listed = set(re.findall(r"[\w/-]+\.md", repr(config.nav)))

    def pages(pattern: str) -> list[str]:
        found = {path.relative_to(DOCS).as_posix() for path in DOCS.glob(pattern)} - listed
        index = DOCS.joinpath(pattern).with_name("index.md")
        order = re.findall(r"\]\(([\w-]+\.md)\)", index.read_text() if index.exists() else "")
        places = {posixpath.join(posixpath.dirname(pattern), name): place for place, name in enumerate(order)}
        return sorted(found, key=lambda uri: (not uri.endswith("index.md"), places.get(uri, len(places)), uri))

    def written_out(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {title: written_out(below) for title, below in entry.items()}
        if isinstance(entry, list):
            parts = [pages(each) if isinstance(each, str) and "*" in each else [written_out(each)] for each in entry]
            return [each for part in parts for each in part]
        return entry

    config.nav = written_out(config.nav)
    return config


# -- Markdown ---------------------------------------------------------------------------------------------------
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[`~]*\s*$", flags=re.MULTILINE | re.DOTALL)
ITEM = re.compile(r"^(?:\d+\.|[-*]) .*\n(?:(?: .*|\s*)\n)*", flags=re.MULTILINE)


def outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    """Change everything but the fenced blocks at the margin."""
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])


def deepened(markdown: str) -> str:
    """Indent what belongs to a list item by 4, as Python-Markdown asks; everybody else takes 2 or 3 as well."""

    def item(found: re.Match[str]) -> str:
        first, *rest = found[0].split("\n")
        depth = min((len(line) - len(line.lstrip()) for line in rest if line.strip()), default=4)
        return "\n".join([first, *(" " * (4 - depth) * bool(line.strip()) + line for line in rest)])

    return ITEM.sub(item, markdown)


# -- files of the repository --------------------------------------------------------------------------------------
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def outside(target: str, origin: Path) -> Path | None:
    """Return the file or folder of the repository outside docs/ that a link of `origin` leads to, if it does."""
    path = unquote(target.partition("#")[0])
    if not path or re.match(r"[a-z]+:", path):
        return None
    found = (origin.parent / path).resolve()
    if not found.exists() or not found.is_relative_to(PROJECT) or found.is_relative_to(DOCS):
        return None
    return found


def shown_uri(path: Path) -> str:
    """Return the page (or, of a picture, the copy) that shows a file."""
    name = path.relative_to(PROJECT).as_posix()
    return f"{SHOWN}/{name}" if path.suffix in (".md", ".png", ".gif", ".svg") else f"{SHOWN}/{name}.md"


def shown(path: Path) -> str:
    """Return the Markdown that shows a file or the files of a folder."""
    name = path.relative_to(PROJECT).as_posix()
    if path.suffix == ".md":
        return path.read_text()
    head = f"---\nsearch:\n  exclude: true\n---\n# {name}\n\n"
    if path.is_dir():
        inside = sorted(each for each in path.iterdir() if each.suffix in LANGUAGES)
        return head + "".join(f"- [{each.name}]({path.name}/{each.name})\n" for each in inside)
    return f"{head}~~~~~~~{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}\n~~~~~~~\n"


def origin_of(file: File) -> Path:
    """Return the file of the repository from which a page comes."""
    name = file.src_uri.removeprefix(f"{SHOWN}/")
    if name == file.src_uri:
        return DOCS / name
    path = PROJECT / name
    return path if path.exists() else path.with_suffix("")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the font of formulas, and a page for each file that a page links to, and so on from there."""
    font = Path(str(importlib.resources.files("ziamath"))) / "fonts" / FONT
    files.append(File.generated(config, f"site/{FONT}", abs_src_path=str(font)))
    waiting = [file for file in files.documentation_pages() if file.inclusion.is_included()]
    while waiting:
        file = waiting.pop()
        for _, target, _ in LINK.findall(FENCE.sub("", file.content_string)):
            path = outside(target, origin_of(file))
            if path is None or files.get_file_from_path(shown_uri(path)):
                continue
            uri = shown_uri(path)
            if uri.endswith(".md"):
                new = File.generated(config, uri, content=shown(path))
                waiting.append(new)
            else:
                new = File.generated(config, uri, abs_src_path=str(path))
            files.append(new)
    return files


def on_page_markdown(markdown: str, page: Page, **kwargs: Any) -> str:
    """Lead links to the pages that show files, and write out lists of public names."""
    origin, here = origin_of(page.file), posixpath.dirname(page.file.src_uri)

    def led(found: re.Match[str]) -> str:
        target, anchor = found[2].partition("#")[::2]
        path = outside(target, origin)
        if path is not None:
            uri = shown_uri(path)
        elif page.file.src_uri.startswith(f"{SHOWN}/") and (origin.parent / target).resolve().is_relative_to(DOCS):
            uri = (origin.parent / target).resolve().relative_to(DOCS).as_posix()
        else:
            return found[0]
        return f"{found[1]}{posixpath.relpath(uri, here)}{'#' * bool(anchor)}{anchor}{found[3]}"

    markdown = outside_fences(markdown, lambda text: LINK.sub(led, deepened(text)))
    markdown = ALL_OF.sub(lambda found: entries(found[1], markdown), markdown)
    return markdown.replace(EVERY_COMMAND, helps()) if EVERY_COMMAND in markdown else markdown


# -- public names -------------------------------------------------------------------------------------------------
ALL_OF = re.compile(r"^<!-- all of ([\w.]+) -->$", flags=re.MULTILINE)


def entries(module: str, page: str) -> str:
    """Return an entry for each public name of a module that `page` does not list itself.

    What `xpnn` names, too, is called as people write it: `xpnn.ReLU`, not `xpnn.layers.ReLU`.
    """
    listed = set(re.findall(r"^::: [\w.]*?(\w+)$", page, flags=re.MULTILINE))
    top, home = importlib.import_module("xpnn"), importlib.import_module(module)
    parts = []
    for name in home.__all__:
        value, called = getattr(home, name), f"{module}.{name}"
        if name in listed:
            continue
        if getattr(top, name, None) is value:
            parts.append(f"::: xpnn.{name}")
        elif called in sys.modules:  # a function in a module of its name, which would be shown in its place
            options = f"    options:\n      heading: {called}\n      toc_label: {name}"
            parts.append(f"::: {value.__module__}.{name}\n{options}")
        else:
            parts.append(f"::: {called}")
    return "\n\n".join(parts)


# -- command line -------------------------------------------------------------------------------------------------
EVERY_COMMAND = "<!-- help of every command -->"


def helps() -> str:
    """Return a section for each command of the command line, with its help."""
    from xpnn.cli import make_parser

    os.environ["COLUMNS"] = "90"  # argparse asks for the width of the terminal
    (commands,) = (action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction))
    parts = [f"## xpnn {name}\n\n```text\n{parser.format_help()}```\n" for name, parser in commands.choices.items()]
    return "\n".join(parts)
