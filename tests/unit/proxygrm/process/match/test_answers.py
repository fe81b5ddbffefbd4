"""Our comparison of answers: what is equal, what is not, and that no text makes it slow."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxygrm.process.match.answers import answers_equal
from proxygrm.process.match.choices import choices_in, choices_of
from support.linear_time import assert_linear

EQUAL: list[tuple[Any, Any]] = [
    ("sqrt(2)", "\\sqrt{2}"),
    ("2*pi", "2\\pi"),
    ("\\angle 1 = 30^\\circ", "30"),
    ("∠2 = 40°", "40°"),
    ("x_1 = 5", "5"),
    ("x = 2 + 4 = 6", "6"),
    ("\\sqrt{2} \\approx 1.41", "1.41"),
    ("\\sqrt{2} ≈ 1.41", "\\sqrt{2}"),
    ("≈ 1.41", "1.41"),
    ("33.3%", "0.333"),
    ("118", "118掳T"),
    ("20°C", "20"),
    ("0.33", "1/3"),
    ("1/3", "0.33"),
    ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("(A)", "A"),
    ("Option A", "A"),
    ("A. 40", "A"),
    ("100", "100°"),
    ("100^\\circ", "100°"),
    ("100 degrees", "100"),
    ("b", "B"),
    ("0.5", "1/2"),
    ("12", "12 cm"),
    ("12 cm", "12 \\mathrm{~cm}"),
    ("288", "288 \\mathrm{m}^2"),
    ("288 m²", "288 \\mathrm{m}^2"),
    ("288 square meters", "288 \\mathrm{m}^2"),
    ("9\\pi", "Area $=9 \\pi \\mathrm{cm}^{2}$"),
    ("28.27", "Area $=9 \\pi \\mathrm{cm}^{2}$"),
    ("1/5", "Slope $=\\frac{1}{5}$"),
    ("(0, 0)", "(0,0)"),
    ("10\\sqrt{3}", "10 \\sqrt { 3 }"),
    ("17.32", "10 \\sqrt { 3 }"),
    ("4-2\\sqrt3", "$4-2 \\sqrt{3}$"),
    ("1,000", "1000"),
    ("1{,}000", "1000"),
    ("12,\\!345,\\!678", "12345678"),
    ("1\\,000", "1000"),
    ("∞", "\\infty"),
    ("1e3", "1000"),
    ("1.5 \\times 10^3", "1500"),
    ("2 1/2", "2.5"),
    ("2\\frac{1}{2}", "\\frac{5}{2}"),
    ("Yes.", "yes"),
    ("The answer is: 5", "5"),
    ("x=5", "5"),
    ("y=\\sqrt{49-x^2}", "\\sqrt{49-x^2}"),
    ("50%", "50"),
    ("50%", "0.5"),
    ("0.5", "50%"),
    ("A and C", "A, C"),
    ("AC", "A, C"),
    ("C, A", "A, C"),
    (3, "3"),
    (3.0, "3"),
    (5, 5),
    ([1, 2], "1, 2"),
    ("embryonic", "['embryonic', 'fetal']"),
    ("-\\frac{20}{21}", "$-\\frac{20}{21}$"),
    ("5 apples", "5"),
    ("37.230", "37.23"),
    ("$10,208", "10208"),
    ("60 km/h", "60"),
    ("60 km per hour", "60 km/h"),
    ("-3", "−3"),
    ("**A**", "A"),
    ("\\text{A}", "A"),
    ("12 km", "12"),
    ("118", "118°"),
    ("1/2", "0.50"),
    ("\\sqrt[3]{8}", "2"),
    ("\\text{(B)}", "B"),
    ("the correct option is B", "B"),
    ("x = 5 cm", "5"),
    ("AB=10", "10"),
    ("$\\angle ABC = 30^\\circ$", "30"),
    ("B) 7", "B"),
    ("2:3", "2:3"),
    ("√3", "\\sqrt{3}"),
    ("9 \\pi", "9π cm^2"),
    ("１２．５ｃｍ", "12.5"),
    ("（Ｂ）", "B"),
]
DIFFERENT: list[tuple[Any, Any]] = [
    ("5", "2x = 5"),
    ("4", "x^2+y=4"),
    ("1.42", "\\sqrt{2} ≈ 1.41"),
    ("20°C", "20°F"),
    ("0.001", "0.004"),
    ("3.1", "\\pi"),
    ("A car", "A"),
    ("7.4", "7"),
    ("12 m", "12 cm"),
    ("3.14", "3.14159"),
    ("0.54", "0.5"),
    ("1", "\\frac{(x+3)^2}{25}-\\frac{(y+3)^2}{25}=1"),
    ("0.75", "0.75 x^2"),
    (None, None),
    (None, "None"),
    ("", ""),
    ("B", "A"),
    ("A", "ABC"),
    ("9007199254740993", "9007199254740992"),
    ("12", "1, 2"),
    ("(1,2)", "[1,2]"),
    ("2", "-2"),
    ("nan", "nan2"),
    ("AC", "A"),
    ("5", "5.01"),
    ("1/0", "2"),
    ("inf", "2"),
    ("1e400", "1e401"),
    ("9^{9^{9}}", "2"),
    ("٣", "4"),
    ("True", 1),
    ("50%", "5000"),
    ("2 3", "6"),
]


@pytest.mark.parametrize(("pred", "answer"), EQUAL)
def test_these_are_the_same_answer(pred: Any, answer: Any) -> None:
    assert answers_equal(pred, answer)


@pytest.mark.parametrize(("pred", "answer"), DIFFERENT)
def test_these_are_different_answers(pred: Any, answer: Any) -> None:
    assert not answers_equal(pred, answer)


@pytest.mark.parametrize(
    ("pred", "answer", "choices", "equal"),
    [
        ("40", "A", ["40", "50"], True),
        ("50", "A", ["40", "50"], False),
        ("A", "40", ["40", "50"], True),
        ("B", "40", ["40", "50"], False),
        ("(B) 50", "50", ["40", "50"], True),
        ("Yes", "A", ["Yes", "No"], True),
        ("A", "Yes", ["(A) Yes", "(B) No"], True),
        ("Option b", "No", ["Yes", "No"], True),
        ("C", "No", ["Yes", "No"], False),
        ("40 cm", "B", ["30", "$40 \\mathrm{~cm}$"], True),
        ("A", "A", "not a list", True),
        ("40", "A", [None, 3], False),
        ("E", "E", [], True),
        ("I", "A", ["I", "II", "III"], True),
        ("B", "A", ["I", "II", "III"], False),
    ],
)
def test_a_letter_stands_for_its_option_on_either_side(pred: str, answer: str, choices: Any, equal: bool) -> None:
    assert answers_equal(pred, answer, choices) is equal


@pytest.mark.parametrize(
    ("question", "choices"),
    [
        ("Which?\nChoices:\n(A) Yes\n(B) No", ["Yes", "No"]),
        ("Radius? Choices: A. 4; B. 3; C. 2", ["4", "3", "2"]),
        ("Angle 2 is ()\nChoices:\nA:40°\nB:50°\nC:60°", ["40°", "50°", "60°"]),
        ("How long?\nPlease choose one of the following answers: A. $20 \\mathrm{~cm}$ B. $21 \\mathrm{~cm}$",
         ["$20 \\mathrm{~cm}$", "$21 \\mathrm{~cm}$"]),
        ("Triangle A. Its side? A.1 B.2", ["1", "2"]),
        ("How many? Answer: A.", []),
        ("Select from A, B and C. (A) (B) (C)", []),
        ("", []),
    ],
)  # fmt: skip
def test_the_options_of_a_question_are_read_from_its_text(question: str, choices: list[str]) -> None:
    assert choices_in(question) == choices
    assert choices_of({"question": question, "choices": None}) == choices


def test_choices_of_a_row_precede_those_of_its_question() -> None:
    assert choices_of({"question": "Which? (A) Yes (B) No", "choices": [4, 3]}) == [4, 3]
    assert choices_of({}) == choices_of({"question": ["(A) Yes (B) No"]}) == []


@settings(deadline=None)  # the first call imports sympy
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_any_json_value_is_compared_and_null_is_equal_to_nothing(value: Any) -> None:
    assert not answers_equal(value, None)
    assert not answers_equal(None, value)
    assert not answers_equal(float("nan"), float("nan"))  # pandas writes it for null
    assert answers_equal(value, "12", as_upstream=True) in (True, False)
    assert answers_equal(value, "12") in (True, False)


@given(st.floats(-1e9, 1e9).map(lambda value: round(value, 3)), st.sampled_from(["", " cm", "°", " apples", "%"]))
def test_a_number_is_equal_to_itself_with_any_unit_and_not_to_the_next_integer(value: float, unit: str) -> None:
    text = f"{value:.3f}"
    assert answers_equal(f"The answer is {text}{unit}.", text)
    assert not answers_equal(f"{value + 1:.3f}{unit}", text)


def test_a_value_nested_hundreds_deep_is_equal_to_nothing() -> None:
    nested: Any = "1"
    for _ in range(5000):
        nested = [nested]
    assert not answers_equal(nested, "1")
    assert not answers_equal("1", nested, as_upstream=True)


HOSTILE = [
    "9^{9^{9}}", "9^9^9^9", "(", "{", "\\frac", "1+", "9", "9^{", "\\boxed{", "-", "\\sqrt[9]{", "the answer is ", "A ",
    "1,", "A,", "  ", "=", "\\ ", "(A", "the ", "answer ", "\\text{", "\\mathrm {", "٣", "9^{99}", "1 1/2 ", "A. ",
    "/m",
]  # fmt: skip


@pytest.mark.parametrize("part", HOSTILE)
@pytest.mark.parametrize("as_upstream", [False, True])
def test_a_hostile_answer_takes_linear_time(part: str, as_upstream: bool) -> None:
    assert_linear(lambda size: answers_equal(part * (size // len(part)), "2", as_upstream=as_upstream), 50_000)


def test_the_options_of_a_hostile_question_take_linear_time() -> None:
    assert_linear(lambda size: choices_in("A. " * size), 30_000)
