"""The released comparison: its forms, its numbers as latex2sympy2 1.9.1 and sympy print them, and its bounds."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from proxygrm.process.match.answers import answers_equal
from proxygrm.process.match.arithmetic import NoNumber, value_of
from proxygrm.process.match.latex_number import released_value
from proxygrm.process.match.released import released_form

FORMS = [
    ("\\boxed{12}", "12"), ("so \\boxed{3} or \\boxed{4}", "4"), ("\\boxed{\\frac{1}{2}}", "\\frac{1"),
    ("The answer is B.", "b"), ("x = 5", "5"), ("\\pi \\approx 3.14", "3.14"), ("12 km", "12"),
    ("12\\text{ cm}", "12{cm}"),
    ("30^\\circ", "30"), ("30^{\\circ}", "30"), ("0.5", "\\frac{1}{2}"), ("3/4", "\\frac{3}{4}"), (".25", "0.25"),
    ("\\sqrt3", "\\sqrt{3}"), ("\\frac12", "\\frac12"), ("\\sqrt2+\\frac12", "\\sqrt{2}+\\frac{1}{2}"), ("50\\%", "50"),
    ("\\dfrac{1}{2}", "\\frac{1}{2}"), ("$7$", "7"), ("", ""), ("a}b", "a"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "form"), FORMS)
def test_the_form_of_an_answer(text: str, form: str) -> None:
    assert released_form(text) == form


PAIRS: list[tuple[Any, Any, bool]] = [
    ("0.001", "0.004", True), ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}", False), ("(A)", "A", False),
    ("Option A", "A", False), ("A. 40", "A", False), ("100", "100\N{DEGREE SIGN}", False), ("b", "B", True),
    ("1/3", "0.33", True), ("1e3", "1000", False), ("\\pi", "3.14159", False), ("2\\sqrt{4}", "4", False),
    ("\\sqrt[3]{8}", "2", False), ("1,000", "1000", True), ("2^{3}", "8", True), ("3!", "6", False), ("", "", False),
    (" ", "1", False), (12, "12", True), (None, "None", False), ("None", None, False), (True, "true", True),
    ("2(3)", "6", True), ("40)", "40", True), ("2^-1", "0.5", False), ("9^{9^{9}}", "9^{9^{9}}", True),
    ("9^{9^{9}}", "9^{9^9}1", False), ("1/0", "1/0", True), ("1/0", "2/0", False), ("12{cm}", "12", False),
]  # fmt: skip


@pytest.mark.parametrize(("pred", "answer", "equal"), PAIRS)
def test_the_released_verdict_on_a_pair(pred: Any, answer: Any, equal: bool) -> None:
    assert answers_equal(pred, answer, as_upstream=True) is equal


def test_released_a_letter_stands_for_its_option_on_the_gold_side_alone() -> None:
    assert answers_equal("40", "B", ["30", "40"], as_upstream=True)
    assert not answers_equal("B", "40", ["30", "40"], as_upstream=True)
    assert not answers_equal("40", "C", ["30", "40"], as_upstream=True)


SEEN = [
    # text, what str(latex2sympy(text)) is in latex2sympy2 1.9.1 with sympy 1.14, evaluated by Python
    ("2\\frac{1}{2}", 1.0), ("1/2/3", 1 / 6), ("-2^2", -4), ("2^3^2", 64), ("2^{3^2}", 512), ("6/2(1+2)", 1.0),
    ("1/2(3)", 1 / 6), ("--2", 2), ("2*-3", -6), ("-\\frac{1}{2\\times3}", -1.5), ("-4^{1/2}", -2.0),
    ("2-12/0.5", -4.0), ("5.", 5), (".5", 0.5), ("1_000", 1), ("0^0", 1), ("2^{-1}", 0.5), ("1.5\\times10^{3}", 1500.0),
    ("\\{3\\}", 3), ("[4]", 4),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), SEEN)
def test_numbers_are_read_as_latex2sympy_prints_them(text: str, value: float) -> None:
    assert released_value(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text",
    [
        "", "()", "\\frac{}{}", "\\frac12", "\\sqrt{4}", "4^{0.5}", "\\pi", "e", "x", "2**3", "3!", "|-3|", "(1,2)",
        "10,5", "2^-1", "1/0", "(-8)^{1/3}", "5%", "\N{VULGAR FRACTION ONE HALF}", "\N{ARABIC-INDIC DIGIT THREE}",
        "2|", "2(",
        "9^{9^{9}}", "(" * 400, "9" * 401, "2^{10000000}",
    ],
)  # fmt: skip
def test_names_and_broken_or_boundless_texts_are_no_number(text: str) -> None:
    with pytest.raises(NoNumber):
        released_value(text)


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "a", "1 < 2", "[1]", "(1, 2)", "1 if 1 else 2", "9**9**9", "1e999*0", "'1'",
     "True", "1j", "1//2"],
)  # fmt: skip
def test_only_arithmetic_is_evaluated(text: str) -> None:
    if text == "1e999*0":
        assert value_of(text) != value_of(text)  # NaN, which compares with nothing
        return
    with pytest.raises(NoNumber):
        value_of(text)


def test_random_arithmetic_is_bounded() -> None:
    rng = random.Random(5)
    parts = ["9", "99", "^{", "}", "^", "(", ")", "\\frac{", "}{", "+", "-", "*", "/", "\\sqrt[3]{", "1,000", "."]
    start = time.process_time()
    for _ in range(1000):
        text = "".join(rng.choices(parts, k=rng.randint(1, 40)))
        assert answers_equal(text, "2", as_upstream=True) in (True, False)
    assert time.process_time() - start < 20
