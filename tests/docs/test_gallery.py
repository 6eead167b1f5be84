"""The gallery shows every example, with figures that show something and the sentence that the script ends with."""

from __future__ import annotations

import re

import pytest
from places import PROJECT
from tools import form_of_finding, load_tool

EXAMPLES = sorted(PROJECT.glob("examples/*.py"))
FIGURES = PROJECT / "docs" / "images" / "gallery"


@pytest.fixture(scope="module")
def gallery():
    pytest.importorskip("PIL")
    return load_tool("make_gallery")


@pytest.fixture(scope="module")
def entries(gallery):
    return gallery.parse(gallery.PAGE.read_text(encoding="utf-8"))


def test_the_curriculum_links_every_example(gallery):
    listed = [name for names in gallery.chapters().values() for name in names]
    assert sorted(listed) == [example.stem for example in EXAMPLES]


def test_every_row_of_the_curriculum_is_ticked(gallery, entries):
    topics = 0
    for line in gallery.CURRICULUM.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|") or line.startswith(("| |", "|---")):
            continue
        topics += 1
        ticked, topic, examples, figures, _ = (cell.strip() for cell in line.strip("|").split("|"))
        assert ticked == "✓", topic
        names = re.findall(r"\]\(\.\./examples/(\w+)\.py\)", examples)
        assert names, f"{topic}: no example"
        assert re.findall(r"\]\(gallery\.md#(\w+)\)", figures) == names, topic
        assert all(name in entries for name in names), topic
    assert topics > 40


def test_the_page_is_what_its_script_makes_of_it(gallery, entries):
    assert gallery.render(entries) == gallery.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_entry(example, gallery, entries):
    entry = entries[example.stem]
    assert entry.title == gallery.title(example)
    assert form_of_finding(example).fullmatch(entry.finding), "run python ci/make_gallery.py"
    assert entry.figures, "an example without a figure"
    for figure in entry.figures:
        assert not gallery.is_empty(FIGURES / figure), figure


def test_figures_are_those_of_the_page_and_small(entries):
    shown = {figure for entry in entries.values() for figure in entry.figures}
    files = list(FIGURES.iterdir())
    assert {file.name for file in files} == shown
    assert sum(file.stat().st_size for file in files) < 4e6
    for file in files:
        assert file.stat().st_size < (1e6 if file.suffix == ".gif" else 4e5), file.name


def test_an_empty_picture_is_found(gallery, tmp_path):
    from PIL import Image

    Image.new("RGB", (200, 100), "white").save(tmp_path / "white.png")
    assert gallery.is_empty(tmp_path / "white.png")
    drawn = Image.new("L", (200, 100), "white")
    drawn.paste(Image.linear_gradient("L").resize((60, 60)), (20, 20))
    drawn.save(tmp_path / "drawn.png")
    assert not gallery.is_empty(tmp_path / "drawn.png")


def test_shrinking_keeps_the_colours_of_thin_lines(gallery, tmp_path):
    import numpy as np
    from PIL import Image

    from xpnn.plots import OKABE_ITO

    pixels = np.full((200, 2400, 3), 255, np.uint8)
    pixels[:100] = np.linspace(0, 255, 2400).astype(np.uint8)[:, None]
    colours = np.asarray([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in OKABE_ITO])
    for k, colour in enumerate(colours):
        pixels[110 + 10 * k : 116 + 10 * k, 200:400] = colour
    Image.fromarray(pixels).save(tmp_path / "lines.png")
    gallery.shrink(tmp_path / "lines.png", tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as picture:
        small = np.asarray(picture.convert("RGB")).astype(int)
    assert small.shape == (100, 1200, 3)
    for k, colour in enumerate(colours):
        assert np.abs(small[56 + 5 * k, 150] - colour).max() <= 8


def test_the_form_of_a_finding_is_strict(tmp_path):
    script = tmp_path / "script.py"
    script.write_text('n = 3\nprint(f"Of {n} starts all solve the problem.")\nprint(f"wrote {n}")\n')
    form = form_of_finding(script)
    assert form.fullmatch("Of 12 starts all solve the problem.")
    assert not form.fullmatch("Of 12 starts some solve the problem.")
    script.write_text('print(f"{1}")\nprint("wrote x")\n')
    with pytest.raises(AssertionError, match="no sentence"):
        form_of_finding(script)
