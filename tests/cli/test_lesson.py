"""``xpnn lesson``: the list, an exercise, and answers that are right, wrong, endless or no answers at all."""

from __future__ import annotations

import pytest
from commands import refused, run

from xpnn.lessons import LESSONS

RIGHT = """
import numpy as np
from beside import law
print("drawing")

def he_normal(n_in, n_out, rng):
    return law(rng, np.sqrt(2 / n_in), (n_in, n_out))
"""


@pytest.fixture
def answer(tmp_path):
    """A function that writes an answer, beside a module that it may import."""
    (tmp_path / "beside.py").write_text("def law(rng, *rest): return rng.normal(0, *rest)\n")
    (tmp_path / "json.py").write_text("raise SystemExit(9)\n")  # does not stand before Python's

    def write(source):
        path = tmp_path / "my answer.py"
        path.write_text(source, encoding="utf-8")
        return path

    return write


def test_list():
    ran = run("lesson")
    assert ran.status == 0
    assert [line for lesson in LESSONS for line in ran.out.splitlines() if lesson.title in line]
    found = run("lesson", "--json").json["lessons"]
    assert [each["number"] for each in found] == list(range(1, 11))
    assert found[2]["page"] == "docs/course/3-forward.md"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.file)
def test_exercise(lesson):
    ran = run("lesson", lesson.number)
    assert ran.status == 0
    assert lesson.task in ran.out
    assert all(f"    {line}" in ran.out for line in lesson.start.splitlines() if line)
    assert ran.out.endswith(f"xpnn lesson {lesson.number} --check {lesson.file}\n")
    assert run("lesson", lesson.number, "--json").json["start"] == lesson.start
    assert run("lesson", lesson.number, "--start") == (0, lesson.start, "")


def test_right(answer):
    ran = run("lesson", 7, "--check", answer(RIGHT.replace("drawing", "drawing\\x1b[2J")))
    assert ran.status == 0, ran.out + ran.err
    assert ran.out.splitlines()[0] == "right: shape (n_in, n_out)"
    assert ran.out.endswith("Lesson 7 is done. Next: xpnn lesson 8 (Down the hill).\n")
    assert ran.err == "drawing\\x1b[2J\n"  # escapes are shown


def test_wrong(answer):
    path = answer(RIGHT.replace("2 / n_in", "2 / n_out"))
    ran = run("lesson", 7, "--check", path, "--json")
    assert ran.status == 1
    assert ran.json["right"] == ["shape (n_in, n_out)"]
    assert "This is 2 / n_out: what comes forward is a sum over n_in inputs." in ran.json["wrong"]
    assert ran.json["printed"] == "drawing\n"


@pytest.mark.parametrize(
    ("source", "seconds", "said"),
    [
        ("while True: print('again')", 1, "WRONG: It did not end within 1 s. Does a loop never end?"),
        ("import os; os._exit(3)", 60, "WRONG: It ended Python itself, with status 3, before it could be checked."),
        ("import os; os.write(1, b'{}')\ndef he_normal(*a): os._exit(0)", 60, "WRONG: It ended Python itself"),
    ],
)
def test_no_end(answer, source, seconds, said):
    ran = run("lesson", 7, "--check", answer(source), "--seconds", seconds)
    assert ran.status == 1
    assert ran.out.startswith(said)


def test_nothing_to_check(answer, tmp_path):
    refused(run("lesson", 7, "--check", tmp_path / "none.py"), r"none\.py")
    refused(run("lesson", 7, "--check", tmp_path), "folder|directory")
    refused(run("lesson", 7, "--check", answer("def f(:\n")), r"expected Python, got an error in line 1")
    refused(run("lesson", 7, "--check", answer("\0")), r"expected Python, got an error")
    refused(run("lesson", 7, "--check", answer("x = 1")), r"expected it to define he_normal, got x")
    refused(run("lesson", 11), r"expected a number from 1 to 10, got 11")
    refused(run("lesson", "three"), r"expected a whole number")
    refused(run("lesson", "--check", "a.py"), r"--check: expected the number of a lesson before it")
    refused(run("lesson", "--start"), r"--start: expected the number of a lesson before it")
    refused(run("lesson", 7, "--start", "--json"), r"--start: expected no --json beside it")
    refused(run("lesson", 7, "--start", "--check", "a.py"), r"--start: expected no --check beside it")
    refused(run("lesson", 7, "--check", "a.py", "--seconds", "0"), r"expected a number above 0")
