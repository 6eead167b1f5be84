"""The exercises of the course: a right answer passes, and usual mistakes are told apart."""

from __future__ import annotations

import re

import pytest
from mistakes_of_lessons import COURSE, MISTAKES, render, said_of, solution

from xpnn.errors import DataError, OptionError
from xpnn.lessons import LESSONS, check_source, find_lesson

each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.file)


def test_there_are_ten_in_their_order():
    assert [lesson.number for lesson in LESSONS] == list(range(1, 11))
    with pytest.raises(OptionError, match="from 1 to 10, got 11"):
        find_lesson(11)


@each_lesson
def test_the_solution_of_the_page_is_right(lesson):
    checked = check_source(lesson, solution(lesson.number), lesson.file)
    assert checked.wrong is None
    assert len(checked.right) >= 3


@each_lesson
def test_the_code_to_begin_with_is_not_yet_right(lesson):
    checked = check_source(lesson, lesson.start, lesson.file)
    assert checked.wrong
    assert "rror" not in checked.wrong or "Error" in checked.wrong


def test_usual_mistakes_are_named():
    assert all(sum(mistake.lesson == lesson.number for mistake in MISTAKES) >= 3 for lesson in LESSONS)
    wanting = {}
    for mistake in MISTAKES:
        said = said_of(mistake)
        if not re.search(mistake.said, said):
            wanting[mistake.lesson, mistake.name] = said
    assert wanting == {}


def test_the_page_of_mistakes_shows_what_is_said():
    def without_numbers(page):  # which the last bits of a training may change
        return re.sub(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", "#", page)

    page = (COURSE / "mistakes.md").read_text(encoding="utf-8")
    assert without_numbers(page) == without_numbers(render()), "run python ci/make_mistakes.py"


def test_other_ways_to_write_it_are_right():
    """Loops, lists and names of one's own."""
    by_lists = """
def perceptron(X, y, epochs):
    w, b, out = [0.0] * len(X[0]), 0, []
    for _ in range(epochs):
        n = 0
        for x, t in zip(X, y):
            p = 1 if sum(a * c for a, c in zip(w, x)) + b >= 0 else 0
            if p != t:
                w = [a + (t - p) * c for a, c in zip(w, x)]
                b += int(t) - p
                n += 1
        out.append(n)
    return w, b, out
"""
    assert check_source(LESSONS[0], by_lists).wrong is None
    stopping = by_lists.replace("        out.append(n)", "        out.append(n)\n        if n == 0: break")
    assert check_source(LESSONS[0], stopping).wrong is None
    in_place = """
import numpy as np

def numeric_gradient(f, w, h=1e-5):
    g = np.empty(w.shape)
    for i in range(w.size):
        w.flat[i] += h
        up = f(w)
        w.flat[i] -= 2 * h
        g.flat[i] = (up - f(w)) / (2 * h)
        w.flat[i] += h
    return g

def relative_error(a, n):
    return np.sqrt(((a - n) ** 2).sum()) / max(np.sqrt((a**2).sum()) + np.sqrt((n**2).sum()), 1e-30)
"""
    assert check_source(LESSONS[5], in_place).wrong is None
    one_hot = """
import numpy as np

def loss_and_gradient(scores, labels):
    top = np.max(scores, axis=-1, keepdims=True)
    logp = scores - top - np.log(np.sum(np.exp(scores - top), axis=-1, keepdims=True))
    y = np.eye(scores.shape[1])[labels]
    return -np.sum(y * logp) / len(y), (np.exp(logp) - y) / len(y)
"""
    assert check_source(LESSONS[3], one_hot).wrong is None
    one_by_one = """
import math
import numpy as np

def sigmoid(z):
    return np.vectorize(lambda t: 1 / (1 + math.exp(-t)) if t > 0 else math.exp(t) / (1 + math.exp(t)))(z)

def sigmoid_slope(z):
    return sigmoid(z) * sigmoid(-np.asarray(z))
"""
    assert check_source(LESSONS[1], one_by_one).wrong is None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1 / 0", r"me\.py: expected it to run, got ZeroDivisionError in line 1"),
        ("import no_such_thing", r"ModuleNotFoundError in line 1"),
        ("raise SystemExit(0)", r"expected it to run, got SystemExit in line 1"),
        ("def Sigmoid(z): return z", r"expected it to define sigmoid, got Sigmoid\. Did you mean"),
        ("", r"expected it to define sigmoid, got nothing\. `xpnn lesson 2` shows"),
    ],
)
def test_there_is_nothing_to_check(source, said):
    with pytest.raises(DataError, match=said):
        check_source(LESSONS[1], source, "me.py")


def test_what_stops_in_the_answer_is_wrong_and_has_its_line():
    checked = check_source(LESSONS[1], "def sigmoid(z):\n    return y\nsigmoid_slope = 3", "me.py")
    assert checked.wrong == "It stops with NameError in line 2: name 'y' is not defined"
    checked = check_source(LESSONS[1], "def sigmoid(): return 1\nsigmoid_slope = 3", "me.py")
    assert checked.wrong.startswith("It stops with TypeError: sigmoid() takes 0 positional arguments")


def test_what_it_prints_is_kept_up_to_a_bound():
    source = "print('look')\nfor k in range(10_000): print('again', k)\n" + solution(2)
    checked = check_source(LESSONS[1], source)
    assert checked.printed.startswith("look\nagain 0\n")
    assert len(checked.printed) == 4001
    assert checked.wrong is None
