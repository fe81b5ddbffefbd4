"""Rewards of a policy that answers questions: the rule, a reward model, and the paper's hybrid of both."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from proxygrm.rewards.answers import AnswerMatch, Hybrid, RewardModelScore, sigmoid
from proxygrm.rewards.base import Answer, Post, Rating, Reward, Rollout
from support.refusals import refused

ROW = {
    "question": "Which colour?",
    "images": ["/i/1.png"],
    "answers": ["red"],
    "choices": [],
    "reference": "It is red.",
}
RIGHT = {"matches": 1.0, "has_answer": 1.0}
WRONG = {"matches": 0.0, "has_answer": 1.0}


def rated(reward: Reward, text: str, reply: Any = None, **row: Any) -> tuple[Rating, list[Post]]:
    asked: list[Post] = []

    async def ask(sent: Post) -> Answer:
        asked.append(sent)
        return reply if isinstance(reply, Answer) else Answer(body=reply)

    rollout = Rollout(text, "red", {**ROW, **row})
    return asyncio.run(reward.rate(rollout, reward.read(text), ask)), asked


def test_the_rule_compares_final_answers() -> None:
    assert rated(AnswerMatch(), "So the answer is Red.") == (Rating(1.0, RIGHT), [])
    assert rated(AnswerMatch(), "\\boxed{blue}") == (Rating(0.0, WRONG), [])
    assert rated(AnswerMatch(), "B", answers=["blue"], choices=["red", "blue"])[0].score == 1.0
    assert rated(AnswerMatch(), "scarlet", answers=["red", "scarlet"])[0].score == 1.0


def test_without_a_reference_answer_the_rule_has_no_reward() -> None:
    assert rated(AnswerMatch(), "red", answers=[]) == (Rating(0.0, unscored=True, problem="no_answer"), [])


@pytest.mark.parametrize(("squash", "score"), [(False, -2.0), (True, sigmoid(-2.0))])
def test_a_reward_model_s_score_is_the_reward_whatever_the_answer(squash: bool, score: float) -> None:
    rating, (post,) = rated(RewardModelScore(squash=squash), "red", {"scores": [-2.0], "how": "scalar"})
    assert rating == Rating(score, RIGHT | {"model_score": -2.0, "asked": 1.0})
    assert (post.path, post.body) == (
        "/score",
        {"question": "Which colour?", "images": ["/i/1.png"], "responses": ["red"]},
    )


def test_the_hybrid_is_1_for_a_match_and_else_the_sigmoid_of_the_score() -> None:
    assert rated(Hybrid(), "red") == (Rating(1.0, RIGHT), [])
    rating, asked = rated(Hybrid(), "blue", {"scores": [3.0]})
    assert (rating, len(asked)) == (Rating(sigmoid(3.0), WRONG | {"model_score": 3.0, "asked": 1.0}), 1)
    rating, _ = rated(Hybrid(), "blue", {"scores": [3.0]}, answers=[])
    assert rating == Rating(sigmoid(3.0), {"model_score": 3.0, "asked": 1.0})


@pytest.mark.parametrize(("verdict", "share"), [(1, 1.0), (2, 0.0), (None, 0.5)])
def test_a_model_that_writes_compares_with_the_reference_in_both_orders(verdict: int | None, share: float) -> None:
    for reward in (RewardModelScore(compares=True), Hybrid(compares=True)):
        rating, (post,) = rated(reward, "blue", {"verdict": verdict, "critiques": []})
        assert rating == Rating(share, WRONG | {"model_score": share, "asked": 1.0})
        assert post.path == "/compare"
        assert (post.body["response_1"], post.body["response_2"], post.body["orders"]) == ("blue", "It is red.", "both")


def test_a_comparison_without_a_reference_has_no_reward() -> None:
    rating, asked = rated(RewardModelScore(compares=True), "blue", reference="")
    assert (rating.unscored, rating.problem, asked) == (True, "no_reference", [])


@pytest.mark.parametrize("body", [None, {}, {"scores": []}, {"scores": [1.0, 2.0]}, {"scores": [float("nan")]}, [1]])
def test_an_answer_that_is_no_score_is_no_reward(body: Any) -> None:
    rating, _ = rated(Hybrid(), "blue", body)
    assert (rating.score, rating.unscored, rating.problem) == (0.0, True, "reward_model_garbage")


def test_a_server_that_dies_leaves_the_rollout_unscored_with_its_cause() -> None:
    for reward in (Hybrid(), RewardModelScore()):
        rating, _ = rated(reward, "blue", Answer(why="reward_model_connection"))
        assert rating == Rating(0.0, WRONG, unscored=True, problem="reward_model_connection")


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_policy_that_writes_nothing_is_counted_and_never_sent(text: str) -> None:
    rating, asked = rated(Hybrid(), text)
    assert (rating, asked) == (Rating(0.0, WRONG, problem="empty"), [])
    assert rated(AnswerMatch(), text) == (Rating(0.0, WRONG, problem="empty"), [])
    assert rated(RewardModelScore(), text) == (Rating(0.0, unscored=True, problem="empty"), [])


def solution(answer: str, steps: int = 1) -> str:
    process = [{"steptext": "It is seen.", "visualdependency": None}] * steps
    return json.dumps({"reasoningprocess": process, "finalanswer": answer})


def test_with_steps_the_final_answer_counts_and_what_is_no_solution_earns_nothing() -> None:
    assert rated(AnswerMatch(steps=True), f"```json\n{solution('red')}\n```") == (Rating(1.0, RIGHT), [])
    assert rated(Hybrid(steps=True), solution("red")) == (Rating(1.0, RIGHT), [])
    for reward in (RewardModelScore(steps=True), Hybrid(steps=True)):
        rating, (post,) = rated(reward, solution("blue"), {"scores": [0.75], "how": "process-mean"})
        score = sigmoid(0.75) if reward.kind == "hybrid" else 0.75
        assert rating == Rating(score, WRONG | {"model_score": 0.75, "asked": 1.0})
        assert post.body["responses"] == [solution("blue")]
    for reward in (AnswerMatch(steps=True), RewardModelScore(steps=True), Hybrid(steps=True)):
        for text in ("red", solution("red", steps=257)):
            assert rated(reward, text) == (Rating(0.0, RIGHT, problem="no_steps"), []), "right, and worth nothing"
        assert rated(reward, solution("red", steps=0)) == (Rating(0.0, WRONG, problem="no_steps"), [])
        assert rated(reward, " ") == (Rating(0.0, WRONG, problem="empty"), [])
    rows = [{"unscored": 0, "problem": problem, "has_answer": 0, "asked": 0} for problem in ("no_steps", "", "", "")]
    assert AnswerMatch(steps=True).metrics(rows)["reward/no_steps"] == 0.25


def test_steps_have_no_reference_to_be_compared_with() -> None:
    with refused("settings.contradiction", name="compares"):
        Hybrid(compares=True, steps=True)


def test_the_figures_of_a_step_are_over_the_rollouts_they_concern() -> None:
    base = {"unscored": 0, "problem": "", "matches": 0.0, "has_answer": 0.0, "model_score": 0.0, "asked": 0.0}
    rows = [
        base | {"matches": 1.0, "has_answer": 1.0},
        base | {"has_answer": 1.0, "asked": 1.0, "model_score": -1.0},
        base | {"asked": 1.0, "model_score": 3.0},
        base | {"unscored": 1, "problem": "empty", "asked": 1.0, "model_score": 9.0},
    ]
    figures = Hybrid().metrics(rows)
    assert figures == {
        "reward/empty": 0.25, "reward/matches": 0.5, "reward/asked": 0.5, "reward/model_score": 1.0
    }  # fmt: skip
    assert "reward/asked" not in AnswerMatch().metrics(rows)
