"""Usual mistakes in the exercises of the course, as changes of the solutions that its pages show."""

from __future__ import annotations

import functools
import re
import warnings
from typing import NamedTuple

from places import PROJECT

from xpnn.lessons import LESSONS, check_source, find_lesson

COURSE = PROJECT / "docs" / "course"


class Mistake(NamedTuple):
    """What is done in place of what, and what is said of it."""

    lesson: int
    name: str
    right: str  # a piece of the solution
    wrong: str  # what stands there instead
    said: str  # a regular expression of the message


SHAPES = r"ValueError in line \d+: .* which axis should meet which"

# fmt: off
MISTAKES = [
    Mistake(1, "z > 0 in place of z >= 0", "b >= 0", "b > 0", r"z = 0 counts as class 1"),
    Mistake(1, "the bias does not learn", "b = b + error", "b = b", r"bias does not learn"),
    Mistake(1, "it turns away from the row", "w + error * x", "w - error * x", r"w moves away, b does not"),
    Mistake(1, "away, and the bias too", "error = wanted - int(x @ w + b >= 0)", "error = int(x @ w + b >= 0) - wanted",
            r"moves away: add x where y is 1"),
    Mistake(1, "mistakes of all epochs together", "mistakes.append(0)",
            "mistakes.append(mistakes[-1] if mistakes else 0)",
            r"begin at 0 in each epoch"),
    Mistake(1, "a number in place of a list", "return w, b, mistakes", "return w, b, sum(mistakes)",
            r"list with the mistakes of each epoch"),
    Mistake(1, "it learns from rows that are right", "w = w + error * x\n            b = b + error",
            "w = w + (2 * wanted - 1) * x\n            b = b + (2 * wanted - 1)", r"Only mistakes teach"),
    Mistake(1, "no return", "    return w, b, mistakes", "", r"Is the return missing"),
    Mistake(2, "overflow", "np.where(z >= 0, 1, small) / (1 + small)", "1 / (1 + np.exp(-z))",
            r"exponential of -\|z\|"),
    Mistake(2, "e^z for e^-z", "np.where(z >= 0, 1, small)", "np.where(z <= 0, 1, small)", r"sign of the exponent"),
    Mistake(2, "the slope of z, not of a", "a * (1 - a)", "z * (1 - z)", r"first a = sigmoid\(z\)"),
    Mistake(2, "the value for the slope", "a * (1 - a)", "a", r"sigmoid itself, not its slope"),
    Mistake(2, "one number at a time", "small = np.exp(-np.abs(z))", "import math; small = math.exp(-abs(z))",
            r"TypeError in line 5: .* take one number"),
    Mistake(2, "tanh", "np.where(z >= 0, 1, small) / (1 + small)", "np.tanh(z)", r"This is tanh"),
    Mistake(3, "no bias", ' + self.params["bias"]', "", r"bias is missing"),
    Mistake(3, "* for @", "x @ self", "x * self", SHAPES),
    Mistake(3, "W x", 'x @ self.params["weight"]', 'self.params["weight"] @ x', SHAPES),
    Mistake(3, "no cache", "return y, x", "return y", r"expected the output and a cache"),
    Mistake(3, "a ReLU inside", "return y, x", "return abs(y) / 2 + y / 2, x", r"ReLU has crept in"),
    Mistake(3, "weights by rows", "(self.n_in, self.n_out)", "(self.n_out, self.n_in)",
            r"expected weight of shape \(2, 3\)"),
    Mistake(3, "no xpnn.Layer", "class MyLayer(xpnn.Layer)", "class MyLayer", r"made from xpnn\.Layer"),
    Mistake(4, "the sum, not the mean", ".mean()", ".sum()", r"loss: .* sum over the rows"),
    Mistake(4, "the gradient of the sum", "gradient / len(labels)", "gradient", r"not divided by the number of rows"),
    Mistake(4, "truth minus probabilities", "gradient / len(labels)", "-gradient / len(labels)", r"sign is wrong"),
    Mistake(4, "overflow", " - scores.max(axis=1, keepdims=True)", "", r"largest score of each row"),
    Mistake(4, "softmax down the columns", "e.sum(axis=1, keepdims=True)\n    loss = (np.log(total[:, 0])",
            "e.sum(axis=0, keepdims=True)\n    loss = (np.log(total[0, labels])",
            r"sum of softmax runs down the columns"),
    Mistake(4, "no minus", "(np.log(total[:, 0]) - moved[rows, labels])", "(moved[rows, labels] - np.log(total[:, 0]))",
            r"a minus is missing"),
    Mistake(4, "a clipped probability", "(np.log(total[:, 0]) - moved[rows, labels])",
            "-np.log(np.clip((e / total)[rows, labels], 1e-12, 1))", r"probability is clipped"),
    Mistake(5, "no transposed W", 'self.params["weight"].T if', 'self.params["weight"] if', SHAPES),
    Mistake(5, "X and dy the wrong way round", "cache.T @ dy", "dy.T @ cache", SHAPES),
    Mistake(5, "divided by the rows again", "cache.T @ dy", "cache.T @ dy / len(dy)", r"loss has done that already"),
    Mistake(5, "the mean for b", "dy.sum(axis=-2)", "dy.mean(axis=-2)", r"mean over the rows; the sum"),
    Mistake(5, "the sum over all for b", "dy.sum(axis=-2)", "dy.sum()", r"one sum over everything"),
    Mistake(5, "added", '["weight"][...] = cache', '["weight"][...] += cache', r"write =, not \+="),
    Mistake(5, "bound to a new array", '["weight"][...] = cache', '["weight"] = cache', r"view of one large buffer"),
    Mistake(5, "dy handed on as it is", 'dy @ self.params["weight"].T if need_dx else None', "dy if need_dx else None",
            r"gradient to x: expected"),
    Mistake(5, "no return", "return dy @", "dy @", r"Is a return missing"),
    Mistake(5, "need_dx not asked", " if need_dx else None", "", r"None where need_dx is False"),
    Mistake(5, "another function in evaluation", "return x @ self", "return (1 + (not train)) * x @ self",
            r"its gradient to x in evaluation is wrong"),
    Mistake(5, "no backward", "def backward", "def back", r"expected it to be written"),
    Mistake(6, "to one side", "(f(up) - f(down)) / (2 * h)", "(f(up) - f(w)) / h", r"to one side alone"),
    Mistake(6, "h for 2 h", "/ (2 * h)", "/ h", r"2 h apart"),
    Mistake(6, "not divided", "/ (2 * h)", "", r"not divided by 2 h"),
    Mistake(6, "down minus up", "f(up) - f(down)", "f(down) - f(up)", r"wrong order"),
    Mistake(6, "w is moved", "up, down = w.copy(), w.copy()", "up, down = w, w.copy()", r"Put each element back"),
    Mistake(6, "rows and columns alone", "np.ndindex(*w.shape)",
            "[(i, j) for i in range(len(w)) for j in range(w.shape[1])]",
            r"IndexError in line \d+"),
    Mistake(6, "the absolute error", "np.linalg.norm(a - n) / size if size else 0.0", "np.linalg.norm(a - n)",
            r"absolute error"),
    Mistake(6, "0 / 0", " if size else 0.0", "", r"both? .*0.*divided by 0|gradients that are 0"),
    Mistake(7, "the variance for the spread", "np.sqrt(2 / n_in)", "2 / n_in", r"take its root"),
    Mistake(7, "the misprint 2 / sqrt(n)", "np.sqrt(2 / n_in)", "2 / np.sqrt(n_in)", r"misprint"),
    Mistake(7, "LeCun", "np.sqrt(2 / n_in)", "np.sqrt(1 / n_in)", r"LeCun"),
    Mistake(7, "Xavier", "np.sqrt(2 / n_in)", "np.sqrt(2 / (n_in + n_out))", r"Xavier"),
    Mistake(7, "n_out", "np.sqrt(2 / n_in)", "np.sqrt(2 / n_out)", r"2 / n_out"),
    Mistake(7, "zeros", "rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out))", "np.zeros((n_in, n_out))", r"stay equal"),
    Mistake(7, "transposed", "(n_in, n_out))", "(n_out, n_in))", r"Rows are inputs"),
    Mistake(7, "a generator of its own", "rng.normal(0", "np.random.default_rng(0).normal(0", r"from another seed"),
    Mistake(7, "a uniform law", "rng.normal(0, np.sqrt(2 / n_in)", "rng.uniform(-np.sqrt(6 / n_in), np.sqrt(6 / n_in)",
            r"Take rng\.normal"),
    Mistake(8, "no division by 1 - beta^t", "m / (1 - beta1**t), v / (1 - beta2**t)", "m, v", r"far too small"),
    Mistake(8, "beta1 and beta2 exchanged", "    m = beta1", "    beta1, beta2 = beta2, beta1\n    m = beta1",
            r"exchanged"),
    Mistake(8, "uphill", "w - lr", "w + lr", r"uphill"),
    Mistake(8, "no square", "g**2", "g", r"not of its square"),
    Mistake(8, "no root", "np.sqrt(size)", "size", r"root of v is missing"),
    Mistake(8, "eps before the division", "lr * up / (np.sqrt(size) + eps)",
            "lr * np.sqrt(1 - beta2**t) * up / (np.sqrt(v) + eps)", r"before it is divided"),
    Mistake(8, "eps under the root", "np.sqrt(size) + eps", "np.sqrt(size + eps)", r"under the root"),
    Mistake(8, "the divided m and v kept", "return w, m, v", "return w, up, size", r"divided twice"),
    Mistake(8, "the array that came in", "    w = w - lr", "    w -= lr", r"stay as they were"),
    Mistake(9, "not scaled", " / (1 - rate)", "", r"not scaled up"),
    Mistake(9, "divided by rate", "/ (1 - rate)", "/ rate", r"divided by rate"),
    Mistake(9, "multiplied", "/ (1 - rate)", "* (1 - rate)", r"do not multiply"),
    Mistake(9, "rate as the share that stays", "rng.random(x.shape) >= rate", "rng.random(x.shape) < rate",
            r"share that is dropped"),
    Mistake(9, "whole columns", "rng.random(x.shape)", "rng.random(x.shape[1])", r"drawn by itself"),
    Mistake(9, "in evaluation too", "if not train:", "if False:", r"drops in evaluation"),
    Mistake(9, "in evaluation only", "if not train:", "if train:", r"asked the right way"),
    Mistake(9, "scaled in evaluation", "return x\n", "return x * (1 - rate)\n", r"scaled in training already"),
    Mistake(9, "x itself", "return x * mask / (1 - rate)", "x *= mask\n    x /= 1 - rate\n    return x",
            r"not x \*= mask"),
    Mistake(10, "not scaled", "X.mean(axis=0), X.std(axis=0)", "0.0, 1.0", r"both columns on one scale"),
    Mistake(10, "scaled by its own", "(X_new - mean) / spread",
            "(X_new - X_new.mean(axis=0)) / (X_new.std(axis=0) + 1e-9)",
            r"not by their own"),
    Mistake(10, "a straight line", "[2, 16, 2]", "[2, 2]", r"straight line"),
    Mistake(10, "probabilities", ".argmax(axis=1)", "", r"argmax\(axis=1\)"),
    Mistake(10, "of one class", ".argmax(axis=1)", "[:, 1]", r"expected labels 0 and 1"),
    Mistake(10, "no function", "    return predict\n", "    return net\n", r"expected a function"),
]
# fmt: on


def solution(number: int) -> str:
    """The solution that the page of a lesson shows."""
    page = (COURSE / find_lesson(number).page).read_text(encoding="utf-8")
    (code,) = re.findall(r"<summary>A solution</summary>\n\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return code


@functools.cache
def said_of(mistake: Mistake) -> str:
    """What the check says of a mistake."""
    right = solution(mistake.lesson)
    assert right.count(mistake.right) == 1, f"{mistake.right!r} is not, or not once, in the solution"
    lesson = find_lesson(mistake.lesson)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's: a learner sees them too
        wrong = check_source(lesson, right.replace(mistake.right, mistake.wrong), lesson.file).wrong
    assert wrong is not None, f"{mistake.name}: nothing is found"
    return wrong


def cell(text: str) -> str:
    """A text as a cell of a table; what NumPy says in its own words, which its versions change, is left out."""
    text = re.sub(
        r"(It stops with \w+ in line \d+): .*?(?=\. (?:Look|The functions)|$)", r"\1: …", " ".join(text.split())
    )
    return re.sub(r"([|*_\[\]])", r"\\\1", text)


def render() -> str:
    """The page of all mistakes."""
    parts = [
        "# Mistakes in the exercises\n\nFor those who teach: what is usually done wrong in the exercises of the "
        "[course](index.md), and what the check says of it. Each line is a test: the solution of the page, with that "
        "one mistake in it.\n"
    ]
    for lesson in LESSONS:
        parts.append(f"## Lesson {lesson.number}: {lesson.title}\n\n| mistake | what is said |\n|---|---|")
        for mistake in MISTAKES:
            if mistake.lesson == lesson.number:
                parts.append(f"| {cell(mistake.name)} | {cell(said_of(mistake))} |")
        parts.append("")
    return "\n".join(parts)
