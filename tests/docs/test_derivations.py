"""The derivation pages: complete, equal to the source, run, sensitive to errors, and fit to be shown as formulas.

``python tests/docs/test_derivations.py --write`` puts the present source into every excerpt.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest

import xpnn
from xpnn import layers, losses, optim, regularizers

PROJECT = Path(__file__).resolve().parents[2]  # this file is a command too
FOLDER = PROJECT / "docs" / "derivations"
PAGES = sorted(FOLDER.glob("*.md"))
PARTS = ("Formula", "Derivative, step by step", "Code", "Shapes", "Check")
RULE_PARTS = ("Formula", "Derivation, step by step", "Code", "Check")  # the shapes of all rules are the same
OTHER_SECTIONS = ("The mean of a loss, and sample weights", "A whole network by hand")


# -- reading pages ----------------------------------------------------------------------------------------------
def fences(text: str) -> str:
    """Return the text with the insides of code blocks blanked, line for line."""
    inside, lines = False, []
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        lines.append("" if inside and not fence else line)
        inside ^= fence
    assert not inside, "a code block is not closed"
    return "\n".join(lines)


def sections(text: str) -> dict[str, str]:
    """Return each heading's text up to the next heading of its rank or above; parts are called ``Title/Part``."""
    lines, plain = text.splitlines(), fences(text).splitlines()
    heads = [(i, len(m[1]), m[2]) for i, line in enumerate(plain) if (m := re.match(r"(#+) (.+)", line))]
    found: dict[str, str] = {}
    for k, (start, rank, title) in enumerate(heads):
        end = next((i for i, r, _ in heads[k + 1 :] if r <= rank), len(lines))
        parent = next((t for _, r, t in reversed(heads[:k]) if r < rank), "")
        name = f"{parent}/{title}" if title in {*PARTS, *RULE_PARTS} else title
        assert name not in found, f"two sections {name}"
        found[name] = "\n".join(lines[start + 1 : end])
    return found


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


TEXTS = {page.name: page.read_text() for page in PAGES}
SECTIONS = {page.name: sections(TEXTS[page.name]) for page in PAGES}


def section(title: str) -> dict[str, str]:
    """Return the sections of the one page on which `title` is a heading."""
    homes = [found for found in SECTIONS.values() if title in found]
    assert len(homes) == 1, f"{len(homes)} pages have a section {title}"
    return homes[0]


# -- what must have a section -----------------------------------------------------------------------------------
def exported(module, base) -> list[str]:
    """Names of the classes in a module's `__all__` that are `base`, without `base` itself."""
    things = ((name, getattr(module, name)) for name in module.__all__)
    return [n for n, thing in things if inspect.isclass(thing) and issubclass(thing, base) and thing is not base]


LAYERS = exported(layers, layers.Layer)
LOSSES = exported(losses, losses.Loss)
PENALTIES = exported(regularizers, regularizers.Regularizer)
RULES = exported(optim, optim.Optimizer)
LAWS = ("First weights",)  # derived, not differentiated: its shapes are in the formula
BRIEF = {*RULES, *LAWS}
MATHS = [*LAYERS, *LOSSES, *PENALTIES, *OTHER_SECTIONS]


def class_of(name: str) -> type:
    return next(getattr(module, name) for module in (layers, losses, regularizers, optim) if hasattr(module, name))


def test_there_are_classes_to_look_for():
    assert {"Linear", "Embedding", "SELU"} <= set(LAYERS)
    assert {"CrossEntropy", "Hinge"} <= set(LOSSES)
    assert {"L1", "L2", "SpectralNorm"} <= set(PENALTIES)
    assert {"SGD", "AdamW", "LBFGS"} <= set(RULES)
    assert set(LAYERS + LOSSES + PENALTIES) <= set(xpnn.__all__)


@pytest.mark.parametrize("title", [*MATHS, *RULES, *LAWS])
def test_every_section_has_all_its_parts(title):
    found = section(title)
    parts = RULE_PARTS if title in BRIEF else PARTS
    places = [found[title].index(f"# {part}\n") for part in parts]  # KeyError, ValueError: the part is missing
    assert places == sorted(places)
    inside = {part: found[f"{title}/{part}"] for part in parts}
    assert inside["Formula"].count("$$") >= 2
    steps = inside[parts[1]]
    assert steps.count("$") >= 4
    assert len(re.sub(r"\$.*?\$", "", steps, flags=re.DOTALL).split()) >= 20, "steps want words"
    if title not in BRIEF:
        assert re.search(r"kink|jumps", steps), "say whether there is a kink"
        assert re.search(r"[Ss]table|overflow", steps), "say why nothing overflows"
        rows = [line for line in inside["Shapes"].splitlines() if line.startswith("|")]
        assert len(rows) >= 4
        assert "(..." in inside["Shapes"]
    assert blocks(inside["Code"], "py")
    checks = blocks(inside["Check"], "python")
    assert len(checks) == 1
    assert checks[0].count("assert ") >= 2
    assert re.search(r"# .*[Bb]y hand", checks[0]), "a number for the reader to follow by hand"
    if title not in BRIEF:
        assert "check_gradients(" in checks[0] or "h = 1e-5" in checks[0], "compare with differences"


# -- excerpts ---------------------------------------------------------------------------------------------------
EXCERPT = re.compile(r"<!-- source: (\S+) (.+?) -->\n```py\n(.*?)```", flags=re.DOTALL)


def excerpt(path: str, names: list[str]) -> str:
    """Return the named functions, methods and values of a source file, without docstrings.

    Methods stand under their class's line, in the order asked for.  The indentation is that of the file, so that a
    formatter leaves the excerpt alone.
    """
    source = (PROJECT / path).read_text()
    lines, tree = source.splitlines(), ast.parse(source)
    pieces: list[str] = []
    owner = None
    for name in names:
        scope, _, member = name.rpartition(".")
        homes = (
            [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == scope] if scope else [tree]
        )
        nodes = [node for home in homes for node in home.body if member in defined(node)]
        assert nodes, f"{path} has no {name}: name in the page's marker what replaced it"
        piece = code(nodes[0], lines)
        single = "\n" not in piece
        if not scope:
            gap = "" if not pieces else "\n" if single and owner == "values" else "\n\n\n"
            pieces.append(gap + piece)
            owner = "values" if single else None
        elif scope != owner:
            head = lines[homes[0].lineno - 1]
            pieces.append(("\n\n\n" if pieces else "") + head + "\n" + piece)
            owner = scope
        else:
            pieces.append("\n\n" + piece)
    return "".join(pieces) + "\n"


def defined(node: ast.stmt) -> set[str]:
    """Names that a statement defines."""
    if isinstance(node, ast.FunctionDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return {node.target.id}
    return set()


def code(node: ast.stmt, lines: list[str]) -> str:
    """Return the lines of a statement; of a function without its docstring."""
    assert node.end_lineno is not None
    if not isinstance(node, ast.FunctionDef):
        return "\n".join(lines[node.lineno - 1 : node.end_lineno])
    start = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
    first = node.body[0]
    if ast.get_docstring(node) is None:
        return "\n".join(lines[start : node.end_lineno])
    assert first.end_lineno is not None
    body = "\n".join(lines[first.end_lineno : node.end_lineno]).lstrip("\n")
    return "\n".join([*lines[start : first.lineno - 1], body])


def refreshed(text: str) -> str:
    """Return a page with the present source in every excerpt."""

    def put(match: re.Match[str]) -> str:
        path, names = match[1], match[2].split()
        return f"<!-- source: {path} {' '.join(names)} -->\n```py\n{excerpt(path, names)}```"

    return EXCERPT.sub(put, text)


@pytest.mark.parametrize("name", TEXTS)
def test_excerpts_equal_the_source(name):
    text = TEXTS[name]
    found = EXCERPT.findall(text)
    assert len(found) == text.count("<!-- source:") == len(re.findall(r"^```py$", text, flags=re.MULTILINE))
    for path, names, shown in found:
        assert shown == excerpt(path, names.split()), f"{name}: {names} has changed. Run {Path(__file__).name} --write."


@pytest.mark.parametrize("title", [*LAYERS, *LOSSES, *PENALTIES, *RULES])
def test_the_code_shown_is_the_code_of_the_class(title):
    """The excerpts hold something of the class's own, and what it inherits of the passes stands on its page."""
    shown = EXCERPT.findall(section(title)[f"{title}/Code"])
    assert any(name.startswith(f"{title}.") for _, names, _ in shown for name in names.split())
    whole_page = next(TEXTS[name] for name, sections_ in SECTIONS.items() if title in sections_)
    on_page = {name for _, names, _ in EXCERPT.findall(whole_page) for name in names.split()}
    cls = class_of(title)
    for method in {"forward", "backward", "rows", "add", "rule", "_direction"} & set(dir(cls)):
        home = next(c for c in cls.__mro__ if method in vars(c))
        assert f"{home.__name__}.{method}" in on_page, f"{title} does not show its {method}"


def test_a_spoiled_excerpt_is_noticed_and_mended():
    name, text = next((n, t) for n, t in TEXTS.items() if "def backward" in t)
    spoiled = text.replace("def backward", "def backwards", 1)
    assert spoiled != text
    assert refreshed(spoiled) == text
    assert refreshed(text) == text, name


# -- checks -----------------------------------------------------------------------------------------------------
def run(title: str) -> None:
    """Run the python blocks of a section by themselves."""
    names: dict[str, object] = {}
    for block in blocks(section(title)[title], "python"):
        exec(compile(block, f"<{title}>", "exec"), names)


@pytest.mark.parametrize("title", [*MATHS, *RULES, *LAWS, "Derivations"])
def test_checks_pass_alone(title):
    assert blocks(section(title)[title], "python")
    run(title)


def off(array):
    """An array of the same kind that is wrong by a thousandth."""
    return array * 1.001 + 0.001


def wrong_output(self, old, *args, **options):
    y, cache = old(self, *args, **options)
    return off(y), cache


def wrong_dx(self, old, *args, **options):
    dx = old(self, *args, **options)
    return None if dx is None else off(dx)


def wrong_grads(self, old, *args, **options):
    dx = old(self, *args, **options)
    for grad in self.grads.values():
        grad[...] = off(grad)
    return dx


def wrong_loss(self, old, *args):
    value, d = old(self, *args)
    return off(value), d


def wrong_slope(self, old, *args):
    value, d = old(self, *args)
    return value, off(d)


def wrong_penalty(self, old, store):
    return off(old(self, store))


def wrong_pull(self, old, store):
    value = old(self, store)
    for name in store.matrices():
        store.param_grads[name][...] = off(store.param_grads[name])
    return value


def wrong_move(self, old, store, scalars):
    old(self, store, scalars)
    store.values[...] = off(store.values)


NORM = layers.LayerNorm.__base__
WITH_PARAMETERS = ["Linear", "PReLU", "BatchNorm", "LayerNorm", "RMSNorm", "Residual", "Embedding", "Scale"]
WITH_PARAMETERS += ["ParametricActivation", "NumericalEmbedding", "Columns"]
WITH_PARAMETERS += ["MemberScale", "MemberLinear", "MemberHead"]
ERRORS = [
    *((name, "forward", wrong_output) for name in LAYERS),
    *((name, "backward", wrong_dx) for name in LAYERS if name != "Embedding"),  # it returns none
    *((name, "backward", wrong_grads) for name in WITH_PARAMETERS),
    *((name, "rows", wrong_loss) for name in LOSSES),
    *((name, "rows", wrong_slope) for name in LOSSES),
    *((name, "add", wrong_penalty) for name in PENALTIES),
    *((name, "add", wrong_pull) for name in PENALTIES),
    *((name, "rule", wrong_move) for name in RULES if name != "LBFGS"),
]


def test_every_layer_with_parameters_is_in_the_list():
    trained = {name for name in LAYERS if "param_specs" in vars(class_of(name)) or issubclass(class_of(name), NORM)}
    assert trained == set(WITH_PARAMETERS)


@pytest.mark.parametrize(("name", "method", "wrong"), ERRORS, ids=[f"{n}-{w.__name__}" for n, _, w in ERRORS])
def test_checks_fail_if_the_code_is_wrong(monkeypatch, name, method, wrong):
    cls = class_of(name)
    old = getattr(cls, method)
    monkeypatch.setattr(cls, method, lambda self, *args, **options: wrong(self, old, *args, **options))
    with pytest.raises(AssertionError):
        run(name)


def test_the_check_of_lbfgs_fails_if_its_direction_is_wrong(monkeypatch):
    old = optim.LBFGS._direction
    monkeypatch.setattr(optim.LBFGS, "_direction", staticmethod(lambda *args: off(old(*args))))
    with pytest.raises(AssertionError):
        run("LBFGS")


@pytest.mark.parametrize("name", ["HeNormal", "HeUniform", "LeCunNormal", "XavierNormal", "XavierUniform"])
def test_the_check_of_first_weights_fails_if_a_law_is_wrong(monkeypatch, name):
    law = getattr(xpnn.initializers, name)
    old = law.sample
    monkeypatch.setattr(law, "sample", lambda self, *args: 1.05 * old(self, *args))
    with pytest.raises(AssertionError):
        run("First weights")


@pytest.mark.parametrize(
    ("title", "cls", "method", "wrong"),
    [
        ("The mean of a loss, and sample weights", losses.Loss, "value_and_grad", wrong_loss),
        ("The mean of a loss, and sample weights", losses.Loss, "value_and_grad", wrong_slope),
        ("A whole network by hand", layers.Linear, "forward", wrong_output),
        ("A whole network by hand", layers.Linear, "backward", wrong_dx),
        ("A whole network by hand", layers.Linear, "backward", wrong_grads),
        ("A whole network by hand", losses.BinaryCrossEntropy, "rows", wrong_slope),
    ],
    ids=["mean-value", "mean-slope", "network-forward", "network-backward", "network-grads", "network-loss"],
)
def test_the_other_checks_fail_too(monkeypatch, title, cls, method, wrong):
    old = getattr(cls, method)
    monkeypatch.setattr(cls, method, lambda self, *args, **options: wrong(self, old, *args, **options))
    with pytest.raises(AssertionError):
        run(title)


def test_the_check_of_the_mean_fails_if_weights_are_forgotten(monkeypatch):
    old = losses.Loss.value_and_grad

    def forgetful(self, pred, y, sample_weight=None):
        return old(self, pred, y, sample_weight)[0], old(self, pred, y)[1]

    monkeypatch.setattr(losses.Loss, "value_and_grad", forgetful)
    with pytest.raises(AssertionError):
        run("The mean of a loss, and sample weights")


# -- formulas and the list --------------------------------------------------------------------------------------
def formulas(text: str) -> list[tuple[str, str]]:
    """Return (display, LaTeX) of every formula outside of code."""
    plain = re.sub(r"`[^`\n]*`", "", fences(text).replace("```", ""))
    display = re.findall(r"^ *\$\$\n(.*?)^ *\$\$$", plain, flags=re.MULTILINE | re.DOTALL)
    plain = re.sub(r"^ *\$\$\n.*?^ *\$\$$", "", plain, flags=re.MULTILINE | re.DOTALL)
    assert "$$" not in plain, "the signs of a displayed formula stand on lines of their own"
    inline = re.findall(r"\$([^$\n]+)\$", plain)
    assert "$" not in re.sub(r"\$[^$\n]+\$", "", plain), "a formula is not closed on its line"
    assert all(tex == tex.strip() for tex in inline), "no blanks inside the dollar signs"
    return [("block", tex) for tex in display] + [("inline", tex) for tex in inline]


@pytest.mark.parametrize("name", TEXTS)
def test_formulas_can_be_shown_without_a_network(name):
    latex2mathml = pytest.importorskip("latex2mathml.converter", reason="needs latex2mathml: pip install latex2mathml")
    found = formulas(TEXTS[name])
    assert len(found) >= 5
    for display, tex in found:
        mathml = latex2mathml.convert(tex, display=display)
        # what the converter does not know comes through as it is
        assert "\\" not in mathml, tex


@pytest.mark.parametrize("name", TEXTS)
def test_tables_keep_their_columns(name):
    """A bar in a formula would end the cell."""
    widths: dict[int, int] = {}
    for number, line in enumerate(fences(TEXTS[name]).splitlines()):
        if line.startswith("|"):
            widths[number] = widths.get(number - 1, line.count("|"))
            assert line.count("|") == widths[number], line


@pytest.mark.parametrize("name", TEXTS)
def test_steps_stay_one_list(name):
    """Renderers differ on steps without a blank line before them, and on lists that begin with a later number."""
    expected, indented, blank = 1, False, True
    for line in fences(TEXTS[name]).splitlines():
        if step := re.match(r"(\d+)\. ", line):
            assert int(step[1]) in (1, expected), line
            assert not indented or blank, f"a blank line is missing before: {line}"
            expected, indented = int(step[1]) + 1, False
        elif line.startswith("    "):
            indented |= blank
        elif line:
            expected = 1
        blank = not line


def test_the_list_names_every_page():
    links = set(re.findall(r"\]\(([\w-]+\.md)\)", SECTIONS["index.md"]["The pages"]))
    assert links == set(TEXTS) - {"index.md"}


def test_anchors_exist():
    """Links to a heading of another page find it; anchors are made as Python-Markdown does."""
    for name, text in TEXTS.items():
        for page, anchor in re.findall(r"\]\(([\w-]+\.md)#([\w-]+)\)", text):
            heads = re.findall(r"^#+ (.+)$", fences(TEXTS[page]), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", h).lower()) for h in heads}, (name, page)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python tests/docs/test_derivations.py --write")
    for page in PAGES:
        new = refreshed(page.read_text())
        if new != page.read_text():
            page.write_text(new)
            sys.stdout.write(f"refreshed {page.relative_to(PROJECT)}\n")
