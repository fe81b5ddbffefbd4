"""The demo's task in steps: what is drawn, what a rule reads of it, and the planted errors of its policy."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from proxygrm.critique.prompts.process import audit_prompt, describe_prompt, policy_prompt, step_prompt
from proxygrm.demo.process_service import describe, reply
from proxygrm.demo.sums import MORE, NUMBERS, Solution, draw_number, question, read_sum_question, solution
from proxygrm.process.checklist import checklist_of, steps_in


@pytest.mark.parametrize("number", NUMBERS)
def test_the_description_of_a_drawn_image_has_its_number(number):
    for seed in range(8):
        image = draw_number(number, random.Random(seed))
        assert f"The number of shapes is {number}. " in describe([image], question(2))


@pytest.mark.parametrize("more", MORE)
def test_a_question_says_how_many_it_adds(more):
    assert read_sum_question(question(more)) == more
    assert read_sum_question("How many shapes are drawn?") is None


def test_a_misread_number_makes_the_first_step_wrong_and_its_sum_is_right():
    for number in NUMBERS:
        drawn = solution(number, 5, "perception", random.Random(0))
        assert drawn.read < number or (number, drawn.read) == (1, 2)
        assert drawn.answer == drawn.read + 5
        assert drawn.labels == (-1, 1)


def test_a_wrong_sum_reads_the_image_right():
    drawn = solution(3, 2, "reasoning", random.Random(0))
    assert drawn.read == 3
    assert drawn.answer == 6
    assert drawn.labels == (1, -1)


@pytest.mark.parametrize("error", ["", "perception", "reasoning"])
def test_the_rules_judge_each_step_as_it_was_drawn(error):
    image = draw_number(3, random.Random(1))
    drawn = solution(3, 4, error, random.Random(2))
    description = json.loads(reply(describe_prompt(question(4)), [image]))["image_description"]
    texts = [text for text, _ in drawn.steps]
    verdicts = [reply(step_prompt(question(4), description, texts[: at + 1]), [image]) for at in range(2)]
    assert tuple(map(int, verdicts)) == drawn.labels


def test_the_rules_audit_the_number_that_is_claimed():
    description = "The number of shapes is 3. Each is a red cross."
    audits = [json.loads(reply(audit_prompt(description, f"- the number is {claim}"), [])) for claim in (3, 2)]
    assert [audit["p_score"] for audit in audits] == [1.0, 0.5]


def test_the_policy_answers_in_two_steps_with_errors_of_both_kinds():
    image, seen = draw_number(2, random.Random(5)), Counter[tuple[bool, bool]]()
    for seed in range(200):
        row = json.loads(reply(policy_prompt(question(3)), [image], seed))
        steps = steps_in(row["reasoningprocess"])
        assert checklist_of(steps).visual_indices == (0,)
        drawn = Solution(int(steps[0].text[-2]), 3, int(row["finalanswer"]))
        assert tuple((step.text, step.dependency) for step in steps) == drawn.steps
        seen[drawn.read == 2, drawn.answer == drawn.read + 3] += 1
    assert seen[True, True] > 50
    assert seen[False, True] > 30
    assert seen[True, False] > 30
    assert not seen[False, False]
