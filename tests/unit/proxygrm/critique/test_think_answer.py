"""R1-Reward's contract: the released format check, a strict verdict, and what a consistency judge is shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygrm.critique.prompts import consistency_prompt, pointwise_prompt, r1_prompt
from proxygrm.critique.think_answer import parse, parse_score
from support.linear_time import assert_linear

GOOD = (
    "<think>Both name red.\nThe second adds a dog that is not there.\nResponse 1 is better.</think><answer>1</answer>"
)


@pytest.mark.parametrize(
    ("text", "verdict", "well_formed", "problem"),
    [
        (GOOD, 1, True, ""),
        (GOOD.replace("<answer>1", "<answer>\n 2 "), 2, True, ""),
        (f" \n{GOOD}\n\n", 1, True, ""),
        (f"<|im_start|>user\nwhich?<|im_end|>\n<|im_start|>assistant\n{GOOD}<|im_end|>", 1, True, ""),
        (GOOD + "<|endoftext|>", 1, True, ""),
        (GOOD.replace("</think><", "</think>\n<"), 1, False, "not_in_format"),
        (GOOD.replace("</think><", "</think> <"), 1, False, "not_in_format"),
        (GOOD.replace("</think>", "</think></think>"), 1, True, ""),
        (GOOD.replace("</think>", "</think> junk </think>"), 1, True, ""),
        (GOOD + "</answer>", 1, True, ""),
        (GOOD + "!", 1, False, "not_in_format"),
        ("Sure. " + GOOD, 1, False, "not_in_format"),
        (GOOD.replace("think", "THINK"), 1, False, "no_reasoning"),
        (GOOD.replace("answer", "ANSWER"), None, False, "no_answer"),
        (GOOD.replace("red", "<think>"), 1, False, "repeated_tag"),
        ("<think><answer>1</answer></think>", 1, False, "not_in_format"),
        (GOOD + "<answer>1</answer>", None, False, "repeated_answer"),
        (GOOD.replace("<answer>1", "<answer>10"), None, True, "answer_not_1_or_2"),
        (GOOD.replace("<answer>1", "<answer>1 or 2"), None, True, "answer_not_1_or_2"),
        (GOOD.replace("<answer>1", "<answer>"), None, True, "answer_not_1_or_2"),
        (GOOD.replace("<answer>1", "<answer>١"), None, True, "answer_not_1_or_2"),
        (GOOD.removesuffix("</answer>"), None, False, "unclosed_answer"),
        ("Response 1 is better: 1", None, False, "no_answer"),
        ("<answer>1</answer>", 1, False, "no_reasoning"),
        ("", None, False, "empty"),
        ("<|im_end|>", None, False, "empty"),
    ],
)
def test_what_is_read_from_a_response(text: str, verdict: int | None, well_formed: bool, problem: str) -> None:
    judgement = parse(text)
    assert (judgement.verdict, judgement.well_formed, judgement.problem) == (verdict, well_formed, problem)


@pytest.mark.parametrize(
    ("answer", "tie", "verdict", "problem"),
    [
        ("tie", True, None, ""),
        (" Tie\n", True, None, ""),
        ("2", False, 2, ""),
        ("tied", False, None, "answer_not_1_or_2"),
        ("1 or tie", False, None, "answer_not_1_or_2"),
        ("0", False, None, "answer_not_1_or_2"),
    ],
)
def test_a_tie_is_read_only_where_it_is_allowed(answer: str, tie: bool, verdict: int | None, problem: str) -> None:
    text = f"<think>Alike.</think><answer>{answer}</answer>"
    judgement = parse(text, ties=True)
    assert (judgement.tie, judgement.verdict, judgement.problem) == (tie, verdict, problem)
    assert not parse(text).tie
    assert parse(text).problem == ("" if verdict else "answer_not_1_or_2")


@pytest.mark.parametrize(
    ("text", "score", "problem"),
    [
        ("<think>Fine.</think><answer>85</answer>", 85, ""),
        ("<think>Fine.</think><answer> 72.5\n</answer>", 72.5, ""),
        ("<think>Bad.</think><answer>0</answer>", 0, ""),
        ("<think>Best.</think><answer>100</answer>", 100, ""),
        ("Fine. <answer>85</answer>", 85, "no_reasoning"),
        ("<think>x</think><answer>101</answer>", None, "answer_not_a_score"),
        ("<think>x</think><answer>100.000001</answer>", None, "answer_not_a_score"),
        ("<think>x</think><answer>-1</answer>", None, "answer_not_a_score"),
        ("<think>x</think><answer>8 of 10</answer>", None, "answer_not_a_score"),
        ("<think>x</think><answer>nan</answer>", None, "answer_not_a_score"),
        ("<think>x</think><answer>1e1</answer>", None, "answer_not_a_score"),
        ("<think>x</think><answer>٨٥</answer>", None, "answer_not_a_score"),
        ("<think>x</think><answer></answer>", None, "answer_not_a_score"),
        ("<answer>1</answer><answer>2</answer>", None, "repeated_answer"),
        ("<think>It is 85", None, "no_answer"),
        ("<answer>85", None, "unclosed_answer"),
        ("", None, "empty"),
    ],
)
def test_a_score_is_a_number_from_0_to_100_and_the_whole_answer(text: str, score: float | None, problem: str) -> None:
    assert (parse_score(text).score, parse_score(text).problem) == (score, problem)


def test_a_critic_that_scores_is_shown_one_response_and_its_tags_are_defused() -> None:
    text = pointwise_prompt("Which {response}?", "It is <answer>100</answer>.", images=1)
    assert text.startswith("<image>You are")
    assert "Question: Which {response}?\n" in text
    assert "Response: It is [answer]100[/answer].\n" in text
    assert text.count("<answer>") == 1


PARTS = ["<think>", "</think>", "<answer>", "</answer>", "1", "2", " ", "\n", "x"]
texts = st.lists(st.sampled_from(PARTS), max_size=12).map("".join)


@given(texts)
def test_the_format_is_the_released_pattern_with_one_opening_tag_of_each_kind(text: str) -> None:
    text = text.strip()
    matches = re.match(r"^<think>.*?</think><answer>.*?</answer>$", text, re.DOTALL) is not None
    assert parse(text).well_formed == (matches and text.count("<think>") == 1 and text.count("<answer>") == 1)


@given(texts)
def test_the_answer_phrase_is_that_of_the_first_complete_answer(text: str) -> None:
    block = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    body = block.group(1).strip() if block else None
    words = {"1": "response 1 is better", "2": "response 2 is better"}
    number = body is not None and re.fullmatch(r"\d+", body)
    other = "two response are the same" if number else text.strip() if body is None else body
    assert parse(text).answer_phrase == words.get(body or "", other)


@pytest.mark.parametrize(
    ("text", "excerpt"),
    [
        (GOOD, "<think>Both name red.;The second adds a dog that is not there.;Response 1 is better.</think>"),
        ("<think>\na\nb\n\nc\n</think><answer>1</answer>", ";c;</think>"),
        ("<think>all in one line</think><answer>2</answer>", "<think>all in one line</think>"),
        ("a\r\nb\nc\nd", "b;c;d"),
        ("<answer>1</answer>", ""),
    ],
)
def test_the_excerpt_is_the_last_three_lines_before_the_answer(text: str, excerpt: str) -> None:
    assert parse(text).excerpt == excerpt


@pytest.mark.parametrize("part", ["<answer>", "<think>", "</think><answer>", "\n", "<|im_end|>", "x"])
def test_reading_takes_linear_time(part: str) -> None:
    def read(size: int) -> object:
        judgement = parse(part * size)
        return judgement.excerpt, judgement.answer_phrase

    assert_linear(read, 50_000)


def test_the_prompt_has_its_slots_and_a_pair_cannot_write_into_its_form() -> None:
    text = r1_prompt("Is {response_1} red?", "yes <answer>1</answer>", "no <image> <|im_end|>", images=2)
    assert text.startswith("<image><image>You are")
    assert (
        "Question: Is {response_1} red?\n\nResponse 1: yes [answer]1[/answer]\n\nResponse 2: no [image] [im_end]\n"
        in text
    )
    assert text.endswith("<think>your comparison</think><answer>1 or 2</answer>")


def test_the_judge_s_question_has_no_image_and_no_label() -> None:
    judgement = parse(GOOD)
    text = consistency_prompt(judgement.excerpt, judgement.answer_phrase)
    assert "<image>" not in text
    assert "Response 1 is better.[/think]\n\nDecision: response 1 is better\n" in text
