"""Which rubrics give the winner away: rubrics as models write them, of both kinds."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygrm.critique import rubric as module
from proxygrm.critique.rubric import names_winner

LEAKS = [
    "1. Visual accuracy (60%): Response 1 correctly identifies the red bicycle.\n2. Clarity (40%)",
    "1. Accuracy (50%): the dog is brown, as Response 2 correctly states.\n2. Completeness (50%): covers the scene",
    "1. Counting (70%): there are 3 boats; Response 1 miscounts them.\n2. Style (30%)",
    "Accuracy (80%) - Response 2 hallucinates a second umbrella. Brevity (20%).",
    "- Correctness (60%): the first response is wrong about the colour\n- Detail (40%): more is better",
    "- Correctness (60%)\n- Detail (40%)\nOverall, the second answer is better.",
    "Accuracy (60%): Response 1 is accurate, whereas Response 2 invents a cat. Fluency (40%).",
    "Accuracy (60%): Response 1 misses the sign while Response 2 reads it. Fluency (40%).",
    "Fidelity (70%): Response 2 is more faithful than Response 1. Safety (30%).",
    "Reading the chart (100%): prefer Response 1 over Response 2.",
    "Reading the chart (100%). Choose 2.",
    "Reading the chart (100%). Pick the first response.",
    "Reading the chart (100%). Verdict: 1",
    "Reading the chart (100%)\nBetter response: 2",
    "Reading the chart (100%)\n**Winner:** Response 1",
    "Reading the chart (100%)\n1",
    "Reading the chart (100%)\n**2**\n",
    "Reading the chart (100%)\n[[A]]",
    "Reading the chart (100%) [[ 2 ]]",
    "2",
    "* 1 *\nReading the chart (100%)",
    "1 is better because it names the shape (100%)",
    "Shape (50%), colour (50%). The former is preferred.",
    "Response A matches the image best (100%)",
    "Assistant 2 fails to mention the stop sign (50%). Tone (50%).",
    "Colour (100%): a good answer says red. Response 1 says red. Therefore it is the better one.",
    "RESPONSE 2 WINS (100%)",
    "Colour (60%): response #1 gets it right. Length (40%).",
    "Colour (60%): response_2 deserves a higher score. Length (40%).",
    "Colour (60%): Response (1) is superior. Length (40%).",
    "Ｒｅｓｐｏｎｓｅ　１ is better (100%)",
    "Resp\u200bonse 1 is bet\u00adter (100%)",
    "Colour (100%): Response 1 is right, unlike Response 2.",
    "Colour (100%): Response 1 names it, but Response 2 is incorrect.",
    "Colour (100%): Response 1 says red, Response 2 does not",
    "Good answers say red (100%), so response two should be preferred.",
    "Score Response 1 higher for its detail (50%) and be strict on grammar (50%)",
    "Colour (100%). <think>easy</think> answer>1",
    "Answer 1 is better on colour (100%)",
    "The reader should go with 2, for its precision (100%)",
    "The preferred response must be 1 (100%)",
    "Colour (100%): Response 1 > Response 2",
    "Colour (100%). **Response 2** >> **Response 1**",
    "Reward Response 2 for reading the sign (100%)",
    "Penalise Response 1 for its third boat (100%)",
]

CRITERIA = [
    "1. Visual accuracy (60%): names the red bicycle and the two people.\n2. Clarity (40%): one clear sentence.",
    "1. **Factual correctness** (50%): claims agree with the image.\n2. **Completeness** (30%)\n3. **Brevity** (20%)",
    "1. Counting (70%): says that there are 2 boats.\n2. Style (30%)",
    "1. Counting (70%): the correct answer 2 is given.\n2. Style (30%)",
    "1. Final answer (80%): the answer is 1.5 kg.\n2. Units (20%)",
    "1. The chosen option B is correct for the multiple-choice question (80%)\n2. Reasoning (20%)",
    "1. Gives the answer 2 and explains it (70%)\n2. Correct units (30%)",
    "1. The model must answer 2 questions correctly (100%)",
    "Response 1 and Response 2 must both name the correct colour (100%)",
    "Responses 1 and 2 are held to the same standard: the correct count (100%)",
    "Check whether Response 1 correctly names the dog, and whether Response 2 does (100%)",
    "Weigh how accurate Response 1 is and how accurate Response 2 is (100%)",
    "Judge whether Response 1 is more accurate than Response 2 (100%)",
    "Do not favour Response 1 merely because it comes first (10%); accuracy (90%)",
    "Never prefer the second response for its length. Accuracy (100%).",
    "The better response identifies the sign as a stop sign (100%)",
    "The winner names all 2 colours (100%)",
    "A response that a careful reader would prefer gives 1 to 2 sentences (100%)",
    "Accuracy is better than fluency: a correct short response beats a long wrong one (100%)",
    "First, the response must be correct (60%). Second, the answer must be short (40%).",
    "The first sentence should answer the question correctly (60%); the second sentence may add detail (40%)",
    "1. The man on the right is holding a phone; good responses say so (100%)",
    "1. Mentions 1 or 2 of the following correctly: sky, sea (100%)",
    "(1) correct colour 50%, (2) correct shape 50%",
    "1) Correct colour - 50%\n2) Correct shape - 50%",
    "**1. Accuracy (60%)** correct objects\n**2. Relevance (40%)** better focus",
    "Criteria:\n1. Correctness: 70%\n2. Good grammar: 30%",
    "| Criterion | Weight |\n|---|---|\n| Correctness | 60% |\n| Better detail | 40% |",
    "1. Reads the chart correctly: the value for 2012 is higher than for 2011 (100%)",
    "1. Solves the equation correctly, x = 2 (80%)\n2. Shows the steps (20%)",
    "1. Step 1 is correct (50%)\n2. Step 2 is correct (50%)",
    "1. In image 1 the cat is on the mat, in image 2 it is not (100%)",
    "1. Player 1 wins the point in the image; a correct response says so (100%)",
    "1. Vitamin A is correct; vitamin B is wrong (100%)",
    "1. A good response is accurate. A bad one is not (100%)",
    "Each response is checked for hallucinated objects, wrong counts and missed text (100%)",
    "Neither response should be preferred for length, order or names (20%); correctness decides (80%)",
    "1. 精确性 (60%)：回答应正确描述图片\n2. 清晰度 (40%)",
    "1. الدقة (60%)\n2. الوضوح (40%)",
    "",
]  # fmt: skip


@pytest.mark.parametrize("rubric", LEAKS)
def test_a_rubric_that_names_the_winner_is_detected(rubric):
    assert names_winner(rubric)


@pytest.mark.parametrize("rubric", CRITERIA)
def test_a_rubric_of_criteria_is_not_a_leak(rubric):
    assert not names_winner(rubric)


@pytest.mark.parametrize("rubric", [leak for leak in LEAKS if "Response 1" in leak])
def test_naming_the_other_side_is_as_much_of_a_leak(rubric):
    swapped = re.sub("Response ([12])", lambda m: f"Response {3 - int(m[1])}", rubric)
    assert names_winner(swapped)


@pytest.mark.parametrize("leak", LEAKS)
def test_a_leak_is_found_among_innocent_criteria(leak):
    innocent = "1. Names the colour (50%)\n2. Is short (50%)\n"
    assert names_winner(innocent + leak)
    assert names_winner(leak + "\n" + innocent)


def test_the_fast_check_never_misses_a_rubric_that_names_the_winner():
    for leak in LEAKS:
        assert module._may_name(module._plain(leak)), leak


pieces = st.sampled_from(
    ["Response 1", "Response 2", " is ", "better", "correct", ". ", "\n", "while ", "the first answer ", "verdict: ",
     "2", "1", "whether ", "[[A]]", "(50%)", "it is the best", "ü"]
)  # fmt: skip


@given(st.lists(pieces, max_size=20).map("".join) | st.text())
def test_detection_never_raises(text):
    assert names_winner(text) in (True, False)


@given(st.lists(pieces, max_size=8).map("".join))
def test_the_quick_look_agrees_with_the_patterns_on_any_sentence(text):
    if module._LONE_DIGIT.search(f"\n{text}"):
        assert module._may_name(text)
    for sentence in module._SENTENCE.split(text):
        if module._DECLARES.search(sentence) or module._sides(sentence):
            assert module._may_name(sentence), sentence
