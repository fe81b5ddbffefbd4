"""A policy's answer as JSON: what is repaired, what is rebuilt, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygrm.process.policy_json import FALLBACK_NOTE, read_policy
from support.linear_time import assert_linear

WHOLE = {"reasoningprocess": [{"steptext": "AB = 3", "visualdependency": None}], "finalanswer": "A"}


@pytest.mark.parametrize("as_upstream", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        json.dumps(WHOLE),
        f"Sure:\n```json\n{json.dumps(WHOLE, indent=1)}\n```\nDone.",
        f"It is {json.dumps(WHOLE)} indeed.",
        json.dumps(WHOLE)[:-1] + ",}",
        json.dumps(WHOLE).replace('"', "\N{LEFT DOUBLE QUOTATION MARK}"),
    ],
)
def test_the_json_may_be_fenced_between_sentences_or_slightly_off(text: str, as_upstream: bool) -> None:
    answer = read_policy(text, as_upstream)
    assert (answer.row, answer.ok, answer.problem) == (WHOLE, True, "")


def test_latex_keeps_its_backslashes_and_released_loses_those_that_json_knows() -> None:
    text = r'{"reasoningprocess":[{"steptext":"\frac{1}{2} \times \alpha \\beta \n so"}],"finalanswer":"\theta"}'
    ours, released = read_policy(text).row, read_policy(text, as_upstream=True).row
    assert ours["reasoningprocess"][0]["steptext"] == "\\frac{1}{2} \\times \\alpha \\beta \n so"
    assert ours["finalanswer"] == r"\theta"
    assert released["reasoningprocess"][0]["steptext"] == "\frac{1}{2} \times \\alpha \\beta \n so"
    assert released["finalanswer"] == "\theta"


def test_a_line_break_within_a_text_is_kept() -> None:
    text = '{"reasoningprocess":[{"steptext":"one\ntwo"}],"finalanswer":"A"}'
    assert read_policy(text).row["reasoningprocess"][0]["steptext"] == "one\ntwo"


def test_an_answer_that_is_cut_off_keeps_its_whole_steps() -> None:
    text = '{"reasoningprocess":[{"steptext":"one","visualdependency":"AB = 3"},{"steptext":"two","visualdep'
    answer = read_policy(text)
    steps = [{"steptext": "one", "visualdependency": "AB = 3"}, {"steptext": "two", "visualdependency": None}]
    assert answer.row == {"reasoningprocess": steps, "finalanswer": ""} | FALLBACK_NOTE
    assert (answer.ok, answer.problem) == (True, "rebuilt")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("I cannot see the image.", "not_json"), ("", "not_json"), ('{"finalanswer": "A"}', "no_steps"),
        ('{"reasoningprocess": [], "finalanswer": "A"}', "no_steps"),
        ('{"reasoningprocess": ["one"], "finalanswer": "A"}', "bad_step"),
        ("x" * 1_000_001, "too_long"),
    ],
)  # fmt: skip
def test_an_answer_without_steps_keeps_its_text_and_says_why(text: str, problem: str) -> None:
    answer = read_policy(text)
    assert (answer.ok, answer.problem) == (False, problem)
    assert answer.row == {"error": problem, "rawoutput": text[:1_000_000]}


def test_a_missing_or_numeric_final_answer() -> None:
    steps = '{"reasoningprocess":[{"steptext":"one"}]'
    assert read_policy(steps + "}").problem == "no_final_answer"
    assert read_policy(steps + ',"finalanswer": 4.50}').row["finalanswer"] == "4.5"


def test_of_several_objects_the_last_with_steps_counts() -> None:
    draft = json.dumps(WHOLE | {"finalanswer": "B"})
    assert read_policy(f'{draft} No: {json.dumps(WHOLE)} {{"done": 1}}').row == WHOLE
    assert read_policy(f"{draft} No: {json.dumps(WHOLE)}", as_upstream=True).row["finalanswer"] == "B"


@given(st.text())
def test_any_text_is_read_or_refused_and_never_raises(text: str) -> None:
    for as_upstream in (False, True):
        answer = read_policy(text, as_upstream)
        assert answer.ok or answer.row["rawoutput"] == text


PROSE = st.text(st.characters(exclude_categories=["C"], exclude_characters="\\"), min_size=1)


@given(st.lists(PROSE, min_size=1, max_size=5), PROSE)
def test_proper_json_without_backslashes_is_read_as_it_is(texts: list[str], final: str) -> None:
    row = {"reasoningprocess": [{"steptext": text, "visualdependency": None} for text in texts], "finalanswer": final}
    assert read_policy(json.dumps(row, ensure_ascii=False)).row == row


@pytest.mark.parametrize(
    "part",
    [
        '{"',
        '"',
        "\\",
        '"steptext":"',
        "```{",
        "{",
        '"steptext": "a\\',
        "```",
        "```{}",
        "\N{LEFT DOUBLE QUOTATION MARK}",
    ],
)
@pytest.mark.parametrize("as_upstream", [False, True])
def test_reading_takes_linear_time(part: str, as_upstream: bool) -> None:
    assert_linear(lambda size: read_policy(part * size, as_upstream), 40_000 // len(part))
