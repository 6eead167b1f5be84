"""The pages of the course: each is whole, and says what its lesson says."""

from __future__ import annotations

import re

import pytest
from mistakes_of_lessons import COURSE

from xpnn.lessons import LESSONS

PARTS = [
    "The idea",
    "The maths",
    "Try it",
    "Three questions",
    "Exercise",
    "What can go wrong",
]
each_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.page)


def parts(lesson):
    head, *rest = re.split(r"^## (.*)\n", (COURSE / lesson.page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return head, dict(zip(rest[::2], rest[1::2], strict=True))


def test_there_is_a_page_for_each_lesson():
    assert {path.name for path in COURSE.glob("*.md")} == {lesson.page for lesson in LESSONS} | {
        "index.md",
        "mistakes.md",
    }


def test_the_index_lists_them():
    index = (COURSE / "index.md").read_text(encoding="utf-8")
    for lesson in LESSONS:
        row = f"| {lesson.number} | [{lesson.title}]({lesson.page}) | {lesson.minutes} | {lesson.goal} |"
        assert row in index.splitlines()


@each_lesson
def test_page_is_whole(lesson):
    head, found = parts(lesson)
    assert head == (
        f"# Lesson {lesson.number}: {lesson.title}\n\n*{lesson.minutes} minutes.* Afterwards you can {lesson.goal}.\n\n"
    )
    assert list(found) == PARTS
    assert len(re.findall(r"^!\[.{20,}\]\(\.\./images/", found["The idea"], re.MULTILINE)) == 1
    assert "../../examples/" in found["The idea"]
    assert "../derivations/" in found["The maths"]
    assert re.search(r"^```python\n.*?^```\n\n```text\n", found["Try it"], re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"^- ", found["Try it"].partition("Change something:")[2], re.MULTILINE)) == 3
    questions = re.split(r"^\*\*\d\.\*\* ", found["Three questions"], flags=re.MULTILINE)[1:]
    assert len(questions) == 3
    for question in questions:
        assert re.search(
            r"<details markdown=\"1\"><summary>Answer</summary>\n\n.+\n\n</details>\n", question, re.DOTALL
        )
    assert f"xpnn lesson {lesson.number} --check {lesson.file}\n" in found["Exercise"]
    assert len(re.findall(r"^- \*\*", found["What can go wrong"], re.MULTILINE)) >= 3


@each_lesson
def test_page_leads_on(lesson):
    after = LESSONS[lesson.number].page if lesson.number < len(LESSONS) else "../write-your-own.md"
    assert f"]({after})" in parts(lesson)[1]["What can go wrong"]
