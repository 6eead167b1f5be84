"""The documentation site: built with warnings as errors, whole in itself, and pleasant at every width.

The site is built once, with MkDocs, into a folder of the test run. Its pages are read as HTML, and some are looked at
in a real browser, served by this machine.
"""

from __future__ import annotations

import ast
import functools
import html.parser
import importlib
import importlib.util
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from places import PROJECT

CONFIG = PROJECT / "docs" / "site" / "mkdocs.yml"
NEEDS = ("mkdocs", "material", "mkdocstrings", "latex2mathml", "ziamath")
BUDGET = 60.0  # seconds of processor time for a build
PUBLIC = [
    "xpnn",
    "xpnn.calibration",
    "xpnn.data",
    "xpnn.errors",
    "xpnn.estimators",
    "xpnn.initializers",
    "xpnn.interop.keras",
    "xpnn.interop.torch",
    "xpnn.layers",
    "xpnn.losses",
    "xpnn.metrics",
    "xpnn.optim",
    "xpnn.plots",
    "xpnn.regularizers",
    "xpnn.schedules",
    "xpnn.search",
    "xpnn.testing",
    "xpnn.training",
]


# -- building -----------------------------------------------------------------------------------------------------
def build(target: Path) -> None:
    """Build the site; beside it goes what the build said, and last of all the file that says it is done."""
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "", "PYTHONDONTWRITEBYTECODE": "1"}
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(CONFIG), "--site-dir", str(target)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    said = {"status": done.returncode, "log": done.stdout + done.stderr, "seconds": seconds}
    whole = target.with_suffix(".part")
    whole.write_text(json.dumps(said))
    whole.rename(target.with_suffix(".json"))


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The site's folder and what its build said; where tests run in several processes, one builds for all."""
    for name in NEEDS:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install 'xpnn[docs]'")
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    target, said = root / "site", root / "site.json"
    try:
        (root / "site.lock").mkdir()
    except FileExistsError:
        until = time.monotonic() + 600
        while not said.exists():
            assert time.monotonic() < until, "another process began to build the site and has not ended"
            time.sleep(0.2)
    else:
        build(target)
    return target, json.loads(said.read_text())


@pytest.fixture(scope="session")
def site(built):
    target, said = built
    if said["status"]:
        pytest.skip("the site was not built: test_builds_without_a_warning fails and says why")
    return target


def test_builds_without_a_warning(built):
    _, said = built
    assert said["status"] == 0, said["log"]
    assert not re.findall(r"^(?:WARNING|ERROR).*", said["log"], flags=re.MULTILINE)
    assert said["seconds"] < BUDGET


# -- reading ------------------------------------------------------------------------------------------------------
LOADS = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}
SILENT = ("script", "style", "pre", "code", "math")


class Reader(html.parser.HTMLParser):
    """Collects what a page names, links to and loads, and its text outside code and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.formulas: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag in LOADS and values.get(LOADS[tag]):
            self.loads.append(values[LOADS[tag]])
        if tag == "img":
            self.images.append(values)
        if tag == "math":
            self.formulas.append(values.get("alttext", ""))
        if tag in SILENT:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data):
        if not self._open:
            self.text += data


@pytest.fixture(scope="session")
def pages(site):
    """Each page of the site by its path; the one for missing pages is named from the server's root."""
    return {
        path.relative_to(site).as_posix(): Reader(path.read_text())
        for path in sorted(site.rglob("*.html"))
        if path.name != "404.html"
    }


def local(page: str, target: str) -> tuple[str, str] | None:
    """Return the file in the site, and the place in it, that a link of a page leads to; None if it leads out."""
    parts = urlsplit(urljoin(f"http://site/{page}", target))
    return (unquote(parts.path).lstrip("/"), unquote(parts.fragment)) if parts.netloc == "site" else None


def test_every_page_of_docs_is_there(site):
    sources = [path.relative_to(PROJECT / "docs") for path in PROJECT.glob("docs/**/*.md")]
    assert len(sources) > 20
    for source in sources:
        assert (site / source.with_suffix(".html")).is_file(), source


def test_links_and_anchors_resolve(site, pages):
    broken = []
    count = 0
    for name, page in pages.items():
        for target in [*page.links, *page.loads]:
            found = local(name, target)
            if found is None:
                continue
            file, anchor = found
            count += 1
            if not (site / file).is_file():
                broken.append(f"{name}: {target}")
            elif anchor and file in pages and anchor not in pages[file].ids:
                broken.append(f"{name}: {target} (no such place)")
    assert count > 1000
    assert not broken, "\n".join(sorted(set(broken))[:50])


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for name, page in pages.items():
        assert not [target for target in page.loads if re.match(r"(?:[a-z]+:)?//", target)], name
    sheets = list(site.rglob("*.css"))
    assert len(sheets) >= 3
    for sheet in sheets:
        text = sheet.read_text()
        assert not re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", text), sheet.name
    fonts = list(site.rglob("*.ttf"))
    assert len(fonts) == 1
    assert fonts[0].read_bytes()[:4] == b"\x00\x01\x00\x00"


def test_images_have_words(pages):
    described = [image for page in pages.values() for image in page.images]
    assert described
    assert all((image.get("alt") or "").strip() for image in described)


def test_formulas_are_rendered(pages):
    for name, page in pages.items():
        assert not re.search(r"\$\$|\\\(|\\\[|:math:|\.\. math|\]_", page.text), name
        assert all(page.formulas), name
    assert r"Y = X W + \mathbf{1} b" in pages["api/layers.html"].formulas  # from a docstring
    assert r"\odot" in pages["symbols.html"].formulas  # from a page
    assert sum(len(page.formulas) for page in pages.values()) > 500


def test_formulas_are_mathml(site):
    for path in site.rglob("*.html"):
        for formula in re.findall(r"<math .*?</math>", path.read_text(), flags=re.DOTALL):
            shown = re.sub(r"<[^>]*>", "", formula)
            assert "\\" not in shown, f"{path.name}: {shown}"
            assert shown.strip(), path.name


def test_the_modules_for_pytorch_are_all_listed():
    """By name: the site is built where PyTorch is not installed, too."""
    body = ast.parse((PROJECT / "xpnn" / "interop" / "torch_modules.py").read_text(encoding="utf-8")).body
    (names,) = (ast.literal_eval(n.value) for n in body if ast.unparse(n).startswith("__all__ ="))
    page = (PROJECT / "docs" / "api" / "interop.md").read_text(encoding="utf-8")
    assert re.findall(r"^::: xpnn\.interop\.torch_modules\.(\w+)$", page, flags=re.MULTILINE) == names


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(module, pages):
    home, top = importlib.import_module(module), importlib.import_module("xpnn")
    entries = {place for name, page in pages.items() if name.startswith("api/") for place in page.ids}
    missing = []
    for name in home.__all__:
        value = getattr(home, name)
        if isinstance(value, type(home)) or name.startswith("__"):
            continue
        called = f"{module}.{name}"
        # Where a module has the name of its function, an entry of that name would show the module.
        places = {f"{value.__module__}.{name}" if called in sys.modules else called}
        if getattr(top, name, None) is value:
            places.add(f"xpnn.{name}")
        if not places & entries:
            missing.append(name)
    assert not missing


def test_entries_show_what_their_docstrings_say(pages):
    text = " ".join(pages["api/training.html"].text.split())
    assert "Passes over the data; a second call goes on where the first ended." in text
    assert "If the data or options do not fit; nothing has been trained then." in text
    assert "References" in pages["api/layers.html"].text
    assert "Nair and Hinton" in pages["api/layers.html"].text
    assert "-------" not in text


def test_every_command_is_in_the_reference(pages):
    ids = pages["api/cli.html"].ids
    assert {"xpnn-train", "xpnn-predict", "xpnn-evaluate", "xpnn-gradcheck", "xpnn-parity", "xpnn-doctor"} <= ids


def test_files_of_the_repository_are_shown(site, pages):
    shown = re.sub(r"<[^>]*>", "", (site / "files/examples/xor.py.html").read_text())
    assert "def main(" in shown
    assert any(target.endswith("files/examples/xor.py.html") for target in pages["curriculum.html"].links)
    assert any(target.endswith("examples/xor.py.html") for target in pages["files/examples.html"].links)
    assert "How to add a layer" in pages["files/CONTRIBUTING.html"].text


# -- the parts ----------------------------------------------------------------------------------------------------
def part(name: str):
    """Import a file of docs/site."""
    pytest.importorskip("latex2mathml")
    pytest.importorskip("mkdocstrings_handlers.python")
    spec = importlib.util.spec_from_file_location(f"site_{name}", CONFIG.with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("latex", "has"),
    [
        (r"\mathbf{1} b", "\N{MATHEMATICAL BOLD DIGIT ONE}"),
        (r"\frac{\partial L}{\partial x}", "<mi>∂</mi>"),
        (r"\operatorname{sign}(x)", "<mi>sign</mi>"),
        (r"\nabla J", '<mi mathvariant="normal">∇</mi>'),
        (r"\bar X", '<mover accent="true"><mi>X</mi>'),
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "<mtable"),
        (r"\Bigl\langle a, b \Bigr\rangle", "⟨"),
        (r"a < b", "&lt;"),
    ],
)
def test_formula(latex, has, caplog):
    with caplog.at_level(logging.WARNING):
        out = part("hooks").mathml(latex, "inline")
    assert has in out
    assert out.startswith("<math ")
    assert not caplog.records


@pytest.mark.parametrize(
    "latex", [r"\nosuchthing x", r"\mathcal L", r"\begin{gathered} a & b \end{gathered}", r"a_b_c"]
)
def test_formula_that_would_not_be_shown_fails_the_build(latex, caplog):
    with caplog.at_level(logging.WARNING):
        part("hooks").mathml(latex, "block")
    (record,) = caplog.records
    assert record.name.startswith("mkdocs.")  # which --strict counts
    assert latex in record.getMessage().replace("\\\\", "\\")


def test_lists_are_indented_as_python_markdown_asks():
    given = "1. a\n   b\n\n   $$\n   c\n   $$\n\n2. d\n\ne\n\n- f\n  - g\n\n```text\n1. x\n   y\n```\n"
    wanted = "1. a\n    b\n\n    $$\n    c\n    $$\n\n2. d\n\ne\n\n- f\n    - g\n\n```text\n1. x\n   y\n```\n"
    hooks = part("hooks")
    assert hooks.outside_fences(given, hooks.deepened) == wanted
    assert hooks.outside_fences(wanted, hooks.deepened) == wanted


def test_docstrings_become_markdown():
    numpydoc = part("numpydoc")
    given = (
        "Rectifier, :math:`y =\n\\max(x, 0)` [1]_, as `Linear` and `nothing`.\n\n"
        ".. math:: a = b \\qquad\n          c = d\n\n"
        "Parameters\n----------\nx : array\n    Of :math:`n` rows.\n\n"
        "References\n----------\n.. [1] Somebody,\n   somewhere.\n\n"
        "Examples\n--------\n>>> `Linear`\n"
    )
    known, others = numpydoc.taken_apart(numpydoc.to_markdown(given))
    assert "Rectifier, $y = \\max(x, 0)$<sup>[1]</sup>, as [`Linear`][xpnn.Linear] and `nothing`." in known
    assert "$$\na = b \\qquad c = d\n$$" in known
    assert "Of $n$ rows." in known
    assert ">>> `Linear`" in known
    assert "References" not in known
    assert others == ["**References**\n\n1. Somebody,\n   somewhere.\n"]


# -- looking ------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def address(site):
    """Where the site is served from, as search needs."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


LOOK = """
document.fonts.ready.then(fonts => ({
  fonts: [...fonts].filter(font => font.status === 'loaded').map(font => font.family),
  boxes: [...document.querySelectorAll('div.formula')].map(box => ({
    wide: box.scrollWidth > box.clientWidth + 1, scrolls: getComputedStyle(box).overflowX === 'auto'
  }))
}))
"""


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["derivations/chain-rule.html", "quickstart.html", "symbols.html"])
def test_page_fits(name, width, address, browser):
    page = browser(f"{address}/{name}", width=width, height=800, script=LOOK)
    # The menu of narrow pages waits beyond the left edge.
    assert not [line for line in page.overflow if "md-sidebar" not in line]
    assert not [line for line in page.errors if "favicon" not in line]
    assert all(request.startswith((address, f"blob:{address}")) for request in page.requests)
    assert len(page.text) > 500
    boxes = page.result["boxes"]
    assert all(box["scrolls"] for box in boxes)
    if name.startswith("derivations"):  # whose formulas are long
        assert any("STIX Two Math" in family for family in page.result["fonts"])
        assert any(box["wide"] for box in boxes) is (width < 500)


SEARCH = """
(async () => {
  const input = document.querySelector('input[name=query]');
  document.querySelector('label[for=__search]').click();
  input.focus();
  for (let turn = 0; turn < 200; turn++) {
    input.value = 'label smoothing';
    input.dispatchEvent(new Event('keyup', {bubbles: true}));
    input.dispatchEvent(new Event('input', {bubbles: true}));
    await new Promise(done => setTimeout(done, 100));
    const found = [...document.querySelectorAll('.md-search-result__link')].map(link => link.getAttribute('href'));
    if (found.length) return found;
  }
  return [];
})()
"""


def test_search_finds(address, browser):
    page = browser(f"{address}/index.html", width=1280, height=800, script=SEARCH)
    assert any("CrossEntropy" in link or "cross-entropy" in link for link in page.result), page.result
