"""The registry of rewards: what each asks and returns, and how one is chosen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proxygrm.core.settings import with_assignments
from proxygrm.rewards import REWARDS, Reward
from proxygrm.rewards.accuracy import Accuracy
from proxygrm.rewards.base import Answer, Ask, Rating, Rollout
from proxygrm.rewards.proxy_agreement import ProxyAgreement
from proxygrm.rewards.proxy_verdict import ProxyVerdict
from proxygrm.rl.config import RlSettings
from support.refusals import refused

GOOD = "<rubric>Names the colour (100%)<justify>Why.</justify></rubric><eval>It says red.</eval><answer>1</answer>"
LEAK = GOOD.replace("Names the colour", "Response 1 is better")
SHOWN = "<rubric>\nNames the colour (100%)\n</rubric>"


def rated(reward: Reward, text: str, answer: Answer | None = None, label: str = "1") -> tuple[Rating, list[Any]]:
    """The rating, and what was asked. answer: of the server; None where nobody may be asked."""
    asked: list[Any] = []

    async def ask(sent: Any) -> Answer:
        asked.append(sent)
        assert answer is not None
        return answer

    return asyncio.run(reward.rate(Rollout(text, label), reward.read(text), ask)), asked


def test_every_kind_has_the_name_it_is_registered_by() -> None:
    assert [kind().kind for kind in REWARDS.values()] == list(REWARDS)


def test_a_reward_is_chosen_and_its_options_are_set_in_one_go() -> None:
    settings = with_assignments(RlSettings(), ["reward.aggregation=bonus", "reward.deny_leaks=false"])
    assert settings.reward == ProxyAgreement(aggregation="bonus", deny_leaks=False)
    assert with_assignments(settings, ["reward=accuracy"]).reward == Accuracy()


@pytest.mark.parametrize(
    ("assignment", "code", "values"),
    [
        ("reward=proxy", "settings.unknown-name", {"name": "proxy", "known": list(REWARDS)}),
        ("reward.agregation=sum", "settings.unknown-name", {"path": "reward.agregation"}),
        ("reward.aggregation=11", "reward.unknown-aggregation", {"name": "11"}),
        ("reward.deny_leaks=maybe", "settings.wrong-type", {"value": "maybe"}),
    ],
)
def test_a_bad_option_is_refused_by_its_name(assignment: str, code: str, values: dict[str, Any]) -> None:
    with refused(code, **values):
        with_assignments(RlSettings(), [assignment])


@pytest.mark.parametrize(
    ("answer", "rating"),
    [
        (Answer(1.0), Rating(2.5, {"accuracy": 1.0, "format": 1.0, "proxy": 1.0})),
        (Answer(-1.0), Rating(0.5, {"accuracy": 1.0, "format": 1.0, "proxy": -1.0})),
        (
            Answer(None, "proxy_timeout"),
            Rating(1.5, {"accuracy": 1.0, "format": 1.0, "proxy": 0.0}, unscored=True, problem="proxy_timeout"),
        ),
    ],
)
def test_the_proxy_is_shown_the_rubric_and_a_lost_answer_is_no_reward(answer: Answer, rating: Rating) -> None:
    assert rated(ProxyAgreement(), GOOD, answer) == (rating, [SHOWN])


def test_what_names_the_winner_is_sent_only_where_leaks_are_allowed() -> None:
    rating, asked = rated(ProxyAgreement(), LEAK)
    assert (rating.score, rating.problem, rating.unscored, asked) == (1.5, "rubric_names_winner", False, [])
    assert rated(ProxyAgreement(deny_leaks=False), LEAK, Answer(1.0))[0].score == 2.5


@pytest.mark.parametrize(
    ("reward", "text", "label", "score"),
    [
        (Accuracy(), GOOD, "1", 1.5),
        (Accuracy(), GOOD, "2", -0.5),
        (Accuracy(), "<answer>1</answer>", "1", 1.0),
        (ProxyVerdict(), "<think>x</think><answer>1</answer>", "1", 1.5),
        (ProxyVerdict(), "<think>x</think><answer>2</answer>", "1", -0.5),
    ],
)
def test_without_a_judge_accuracy_and_format_count(reward: Reward, text: str, label: str, score: float) -> None:
    rating, asked = rated(reward, text, label=label)
    assert (rating.score, rating.unscored, rating.numbers["proxy"], asked) == (score, False, 0.0, [])


class Lengths(Reward):
    """A reward with a column, and a number that not every rollout has."""

    columns = ("length",)

    async def rate(self, rollout: Rollout, parsed: str, ask: Ask) -> Rating:
        numbers = {"length": float(len(parsed))}
        return Rating(1.0, numbers | ({"blanks": 1.0} if " " in parsed else {}))


def test_by_default_the_figures_of_a_step_are_the_means_of_all_numbers_of_scored_rollouts() -> None:
    rows = [
        {"unscored": 0.0, "length": 2.0, "numbers": {"blanks": 1.0}},
        {"unscored": 0.0, "length": 4.0},
        {"unscored": 1.0, "length": 0.0, "numbers": {"blanks": 9.0}},
    ]
    assert Lengths().metrics(rows) == {"reward/length": 3.0, "reward/part/blanks": 1.0}
    assert Lengths().metrics([]) == Lengths().metrics(rows[2:]) == {}
