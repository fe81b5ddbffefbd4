"""Figures of a policy's answers: before and after, by reference answers and judges."""

from __future__ import annotations

import pytest

from proxygrm.evaluate.policy.figures import Answered, Judged, figures
from proxygrm.evaluate.scores.metrics import wilson
from proxygrm.rewards.answers import sigmoid


def answered(number: int, matches: bool | None, text: str = "red", **judged: Judged) -> Answered:
    return Answered(f"q{number}", text, matches, judged=judged)


def test_accuracy_is_over_the_questions_with_an_answer() -> None:
    found = figures([answered(0, True), answered(1, False), answered(2, None), answered(3, False, text=" ")])
    assert (found["questions"], found["with_answer"], found["accuracy"], found["empty"]) == (4, 3, 1 / 3, 1)
    assert (found["accuracy_low"], found["accuracy_high"]) == wilson(1, 3)
    assert "accuracy_change" not in found
    assert figures([answered(0, None)])["accuracy"] is None


def test_over_optimisation_shows_as_a_reward_that_rises_alone() -> None:
    before = [answered(n, n < 30, reward=Judged(score=-1.0), second=Judged(score=0.5)) for n in range(60)]
    after = [answered(n, n < 20, reward=Judged(1.0, 2.0), second=Judged(0.0, 0.1)) for n in range(60)]
    found = figures(after, before)
    assert found["reward_change"] == pytest.approx([3.0, 3.0, 3.0])
    assert found["second_change"] == pytest.approx([-0.4, -0.4, -0.4])
    assert (found["reward_wins"], found["second_wins"]) == (1.0, 0.0)
    assert found["reward_value"] == pytest.approx(sigmoid(2.0))
    mean, low, high = found["accuracy_change"]
    assert mean == pytest.approx(-1 / 6)
    assert low < mean < high < 0


def test_what_is_not_judged_is_counted_by_cause_and_in_no_mean() -> None:
    before = [answered(n, True, reward=Judged(score=0.0)) for n in range(4)]
    after = [
        answered(0, True, reward=Judged(1.0, 1.0)),
        answered(1, True, reward=Judged(cause="ValueError: too long")),
        answered(2, True, text="", reward=Judged(0.0, cause="empty")),
        answered(3, True, reward=Judged(0.5, 0.0)),
    ]
    found = figures(after, before)
    assert (found["reward_unjudged"], found["empty"]) == (1, 1)
    assert found["reward_causes"] == {"ValueError: too long": 1, "empty": 1}
    assert found["reward_wins"] == 0.5
    assert found["reward_score"] == 0.5
    assert found["reward_change"][0] == 0.5


def test_a_judge_that_writes_has_wins_and_no_scores() -> None:
    before = [answered(n, None, second=Judged()) for n in range(2)]
    found = figures([answered(n, None, second=Judged(float(n))) for n in range(2)], before)
    assert found["second_wins"] == 0.5
    assert not {"second_score", "second_value", "second_change"} & set(found)
