"""The course: ten lessons, each with an exercise, and a check that says right or wrong and why.

Examples
--------
>>> from xpnn.lessons import LESSONS, check_source
>>> LESSONS[1].names
('sigmoid', 'sigmoid_slope')
>>> check_source(LESSONS[1], "def sigmoid(z): return z\\ndef sigmoid_slope(z): return 1").wrong
'sigmoid(z): expected [[0.0474259, 0.377541, 0.5], [0.622459, 0.880797, 0.997527]], got [[-3, -0.5, 0], [0.5, 2, 6]].'
"""

from .answer import Checked, check_file, check_source
from .course import LESSONS, find_lesson
from .lesson import AnswerError, Lesson

__all__ = ["LESSONS", "AnswerError", "Checked", "Lesson", "check_file", "check_source", "find_lesson"]
