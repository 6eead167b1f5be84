"""The commands of "Your table in five minutes" do what the page shows, on the table that it writes."""

from __future__ import annotations

import re
import shlex

import pytest
from commands import run
from places import PROJECT

PAGE = (PROJECT / "docs" / "your-table.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What each command prints, run in the order of the page, where the table was written."""
    for package in ("matplotlib", "jinja2", "sklearn"):
        pytest.importorskip(package, reason=f"needs {package}: pip install 'xpnn[sklearn,report]'")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("table"))
        exec(compile(blocks("python")[0], "your-table.md", "exec"), {})
        with open("flats.csv", encoding="utf-8") as file:
            lines = file.read().splitlines()
        for name, kept in (("new.csv", [line.rpartition(",")[0] for line in lines[:50]]), ("later.csv", lines[:90])):
            with open(name, "w", encoding="utf-8") as file:
                file.write("\n".join(kept) + "\n")
        found = {}
        for line in "".join(blocks("sh")).splitlines():
            program, *arguments = shlex.split(line, comments=True)
            if program == "xpnn":
                ran = run(*(argument for argument in arguments if argument != "--open"))
                assert ran.status == 0, (line, ran.err)
                found[arguments[0]] = ran.out
    return found


def test_every_command_is_run(printed):
    assert list(printed) == ["check", "train", "report", "predict", "evaluate"]
    assert "0 errors" in printed["check"]
    assert "49 predictions written to new-predictions.csv" in printed["predict"]
    assert "on 89 rows" in printed["evaluate"]


def test_training_prints_what_the_page_shows(printed):
    """Word by word; a score may differ by a fifth, for recipes change."""
    (shown,) = (block for block in blocks("text") if "Beside simple models" in block)
    words = [word for word in shown.split() if word.strip("-")]
    seen = printed["train"].partition("test rows:")
    seen = [word for word in (seen[1] + seen[2]).partition("wrote ")[0].split() if word.strip("-")]
    assert [NUMBER.sub("N", word) for word in words] == [NUMBER.sub("N", word) for word in seen]
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(" ".join(seen)), strict=True)
    for ours, theirs in pairs:
        a, b = (float(number.replace(",", "").rstrip(".")) for number in (ours, theirs))
        assert b == pytest.approx(a, rel=0.2), (ours, theirs)
