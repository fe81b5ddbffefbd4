"""The reward of a rollout: accuracy and proxy agreement looked up in a table, plus half a point for the format.

The paper's ablation compares eleven ways to combine accuracy and proxy agreement. Its plain sum ("implicit"
aggregation) is the best and the default; the others are conditional ("explicit"). The columns are (accuracy, proxy)
with + for right/agrees, and "failed" where there is no opinion of the proxy.

The "failed" column is for a rollout that gave the proxy nothing to judge: the policy did that, and learns from it. A
rollout whose judgeable rubric got no opinion (proxy down, late or unreadable) lost its reward: it is marked `unscored`,
to be masked, whatever its `score`. Upstream scores such a rollout by the "failed" column, and so does `upstream.score`.

Everything here takes a parsed `Critique`: a rollout's text is parsed once, by whoever reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from proxygrm.core.errors import UserError
from proxygrm.core.labels import as_label
from proxygrm.core.settings import did_you_mean
from proxygrm.critique.contract import Critique, Problem, parse
from proxygrm.rewards.base import PROXY, Ask, Rating, Rollout
from proxygrm.rewards.critiques import FORMAT_WEIGHT, RewardParts, VerdictReward, accuracy_and_format, rating

UNSCORED = "unscored"


@dataclass(frozen=True)
class Row:
    """Score before the format term. The two signs are accuracy, then proxy agreement."""

    right_agrees: float
    right_disagrees: float
    wrong_agrees: float
    wrong_disagrees: float
    right_failed: float
    wrong_failed: float

    def value(self, right: bool, agrees: bool | None) -> float:
        if agrees is None:
            return self.right_failed if right else self.wrong_failed
        if right:
            return self.right_agrees if agrees else self.right_disagrees
        return self.wrong_agrees if agrees else self.wrong_disagrees


AGGREGATIONS: dict[str, Row] = {
    "sum": Row(2, 0, 0, -2, 1, -1),
    "both_or_nothing": Row(2, -2, -2, -2, 1, -1),
    "both_or_nothing_unit": Row(1, -1, -1, -1, 1, -1),
    "bonus": Row(2.5, -0.5, 0, -2, 0.5, -1),
    "bonus_even": Row(2.5, -0.5, -0.5, -2, 0.5, -1),
    "bonus_even_deep": Row(2.5, -0.5, -0.5, -3, 0.5, -2),
    "sum_distrustful": Row(2, -0.5, 0, -2, 0.5, -1),
    "accuracy_first": Row(1.5, 0.5, -1, -1, 0.5, -1),
    "accuracy_first_suspicious": Row(1.5, 0.5, -1.5, -1, 0.5, -1),
    "accuracy_first_deep": Row(1.5, 0.5, -1.5, -2, 0.5, -2),
    "accuracy_first_unit": Row(1, 0.5, -1, -1, 0.5, -1),
}
"""Rows by name; the position is upstream's number."""
NUMBERS: dict[str, str] = {str(i): name for i, name in enumerate(AGGREGATIONS)}


@dataclass(frozen=True)
class ProxyAgreement(VerdictReward):
    kind: str = field(default="proxy_agreement", init=False)
    aggregation: str = "sum"
    """How accuracy and proxy agreement are combined: a name of `AGGREGATIONS`, or its number."""
    deny_leaks: bool = True
    """A rubric that names the winner is not sent to the proxy, and earns nothing from it."""
    early_rubric: bool = False
    """Let the proxy judge a rubric as soon as it is closed, while evaluation and verdict are still being generated."""
    asks: ClassVar[str] = PROXY

    def __post_init__(self) -> None:
        resolve_aggregation(self.aggregation)

    def read(self, text: str) -> Critique:
        return parse(text)

    def to_judge(self, parsed: Critique) -> str | None:
        return rubric_to_judge(parsed, self.deny_leaks)

    async def rate(self, rollout: Rollout, parsed: Critique, ask: Ask) -> Rating:
        rubric = self.to_judge(parsed)
        answer = await ask(rubric) if rubric is not None else None
        opinion = answer.opinion if answer else None
        parts = score(parsed, rollout.label, opinion, self.aggregation, deny_leaks=self.deny_leaks)
        return rating(parts, answer.why if answer else "")

    @property
    def judges_early(self) -> bool:
        return self.early_rubric


def resolve_aggregation(name: str | int) -> str:
    """Name of an aggregation from its name or upstream's number (0..10)."""
    key = NUMBERS.get(str(name), str(name))
    if key not in AGGREGATIONS:
        hint = did_you_mean(key, AGGREGATIONS, f"there are {', '.join(AGGREGATIONS)} (or 0 to 10)")
        raise UserError(
            f"unknown reward aggregation {str(name)!r}; {hint}",
            code="reward.unknown-aggregation",
            name=str(name),
            known=list(AGGREGATIONS),
        )
    return key


def as_proxy_reward(value: Any) -> float | None:
    """1.0 or -1.0 from a number, None from None. Raises ValueError for anything else, 0 and True included."""
    if value is None:
        return None
    if value in (1, -1) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"proxy reward is {value!r}, it must be 1, -1 or null")


def rubric_to_judge(critique: Critique, deny_leaks: bool = True) -> str | None:
    """The closed rubric to send to the proxy; None when there is none.

    deny_leaks: also None when it names the winner (`rubric.names_winner`): judging it would reward the leak, not the
    rubric.
    """
    return critique.shown if _judgeable(critique, deny_leaks) else None


def score(
    critique: Critique,
    ground_truth: str | int,
    proxy_reward: float | None,
    aggregation: str | int = "sum",
    use_proxy: bool = True,
    deny_leaks: bool = True,
) -> RewardParts:
    """Reward of one rollout. Pure.

    `ground_truth`: the label, 1 or 2. `proxy_reward`: +1.0 when the proxy's verdict is the label, -1.0 when it is not,
    None when the proxy gave no verdict. `use_proxy=False`: score = a + 0.5 f. `deny_leaks`: see `rubric_to_judge`.

    A rollout with no judgeable rubric takes the table's "failed" column, whatever `proxy_reward` is. With a
    judgeable rubric and no opinion it also takes that column for the record, but is marked unscored.

    Raises ValueError for an invalid label or proxy reward: wrong data must not become a reward.
    """
    right = critique.verdict == as_label(ground_truth)
    opinion = as_proxy_reward(proxy_reward)
    accuracy, well_formed = (1.0 if right else -1.0), (1.0 if critique.well_formed else 0.0)
    problem = critique.reason
    if not use_proxy:
        return accuracy_and_format(right, critique.well_formed, problem)

    unscored = False
    if not _judgeable(critique, deny_leaks):
        opinion, problem = None, problem or Problem.NAMES_WINNER.value
    elif opinion is None:
        unscored, problem = True, UNSCORED
    value = aggregate(aggregation, right, opinion) + FORMAT_WEIGHT * well_formed
    return RewardParts(accuracy, well_formed, opinion, value, unscored, problem)


def aggregate(aggregation: str | int, right: bool, opinion: float | None) -> float:
    """Score before the format term; `opinion` is +1, -1 or None as in `score`."""
    row = AGGREGATIONS.get(aggregation) if isinstance(aggregation, str) else None
    if row is None:
        row = AGGREGATIONS[resolve_aggregation(aggregation)]
    return row.value(right, None if opinion is None else opinion > 0)


def _judgeable(critique: Critique, deny_leaks: bool) -> bool:
    return critique.rubric is not None and not (deny_leaks and critique.names_winner)
