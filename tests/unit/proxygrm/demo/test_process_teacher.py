"""The demo's teacher of process reward: it judges by its rules, and changes one fact of a description."""

from __future__ import annotations

import json
import random

import pytest

from proxygrm.critique.prompts.process import contradict_prompt, judgements_prompt
from proxygrm.demo.process_service import agrees, contradicted, reply
from proxygrm.process.judgements import Judged, read_judgements

SEEN = "The image shows two red circle, at the left."


@pytest.mark.parametrize(
    ("step", "judged"),
    [
        ("There are two of them.", Judged(1, None, "there are two of them")),
        ("There are three of them.", Judged(-1, "visual_value", "there are three of them")),
        ("It is a blue shape.", Judged(-1, "visual_object", "it is a blue shape")),
        ("They are at the top.", Judged(-1, "visual_structure", "they are at the top")),
        ("2 + 2 = 4.", Judged(1, None, None)),
        ("2 + 2 = 5.", Judged(-1, "calculation", None)),
        ("So that is it.", Judged(1, None, None)),
    ],
)
@pytest.mark.parametrize("right", [True, False, None])
def test_each_step_is_judged_by_itself(step, judged, right):
    steps = ["First of all.", step]
    text = reply(judgements_prompt("How many?", SEEN, steps, right), [])
    assert read_judgements(text or "", 2) == [Judged(1, None, None), judged]


@pytest.mark.parametrize("description", [SEEN, "The number of shapes is 1. Each is a red square.", "A square in fog."])
def test_one_fact_of_a_description_is_changed_by_the_seed(description):
    changed = [
        json.loads(reply(contradict_prompt("How many?", description), [], seed) or "")["image_description"]
        for seed in range(20)
    ]
    for text in changed:
        pairs = list(zip(description.split(), text.split(), strict=True))
        assert sum(one != other for one, other in pairs) == 1
    again = reply(contradict_prompt("How many?", description), [], 3)
    assert json.loads(again or "")["image_description"] == changed[3]
    if description == SEEN:
        assert not any(agrees(text, SEEN) for text in changed)


def test_a_description_without_a_fact_stays_as_it_is():
    assert contradicted("Something.", random.Random(0)) == "Something."
