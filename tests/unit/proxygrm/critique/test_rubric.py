from __future__ import annotations

import pytest

from proxygrm.critique.rubric import names_winner, read_items


@pytest.mark.parametrize(
    ("rubric", "expected"),
    [
        ("1. Names red (80%) 2. One sentence (20%)", [("Names red", 80), ("One sentence", 20)]),
        ("- **Accuracy** (60%): fits the image\n- **Clarity** (40%): is short", [
            ("Accuracy: fits the image", 60), ("Clarity: is short", 40)]),
        ("1. Accuracy\n   Weight: 70%\n2. Detail\n   Weight: 30%", [("Accuracy", 70), ("Detail", 30)]),
        ("40% Accuracy\n60% Detail", [("Accuracy", 40), ("Detail", 60)]),
        ("Covers 50% of the area (100%)", [("Covers 50% of the area", 100)]),
        ("a [12.5%] b [87.5 %]", [("a", 12.5), ("b", 87.5)]),
        ("1000% and 3,500%", []),
        ("no weights", []),
        ("", []),
    ],
)  # fmt: skip
def test_items_and_weights_are_read_in_the_shapes_teachers_write(rubric, expected):
    assert [(i.description, i.weight) for i in read_items(rubric)] == expected


@pytest.mark.parametrize(
    "rubric",
    [
        "Accuracy (100%). Response 1 is better.",
        "Response 2 is wrong about the colour (50%)",
        "The first response is correct (80%)",
        "Prefer response 2 (100%)",
        "Response B names the right shape",
        "Response 1 is better than Response 2",
        "Assistant 2 hallucinates a dog (60%)",
        "verdict: 2",
        "the winner is 1",
        "ANSWER 1 IS THE BEST",
    ],
)
def test_a_rubric_that_names_the_winner_is_noticed(rubric):
    assert names_winner(rubric)


@pytest.mark.parametrize(
    "rubric",
    [
        "1. Names the colour red (80%) 2. Answers in one clear sentence (20%)",
        "Response 1 and Response 2 must both name the correct colour (100%)",
        "The response is correct when it counts 2 squares (70%)",
        "The better response names the right shape (100%)",
        "First, answers the question correctly (90%); second, is short (10%)",
        "A response a reader would prefer is short (100%)",
        "Counts 1 circle (50%)",
        "",
    ],
)
def test_a_rubric_that_states_criteria_only_passes(rubric):
    assert not names_winner(rubric)
