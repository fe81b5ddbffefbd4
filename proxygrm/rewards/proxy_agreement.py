"""The reward of a rollout: accuracy and proxy agreement looked up in a table, plus half a point for the format.

The paper's ablation compares eleven ways to put accuracy and proxy agreement together. Its plain sum
("implicit" aggregation) is the best and the default; the others are conditional ("explicit"). The columns are
(accuracy, proxy) with + for right/agrees, and "failed" where there is no proxy opinion.

Who takes the "failed" column: a rollout that gave the proxy nothing to judge, which is its own doing and is learnt
from. A rollout whose judgeable rubric got no opinion (proxy down, late or unreadable) lost its reward: it is marked
`unscored`, to be masked, whatever number stands in `score`. Upstream scores such a rollout by the same column as any
other; `upstream.score` does so too.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, NamedTuple

from proxygrm.core.errors import UserError
from proxygrm.core.labels import as_label
from proxygrm.critique.contract import Critique, Problem, parse, parse_proxy_verdict, proxy_well_formed

FORMAT_WEIGHT = 0.5
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


#: name -> row; the position is upstream's number.
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
NUMBERS: dict[str, str] = {str(i): name for i, name in enumerate(AGGREGATIONS)}


class RewardParts(NamedTuple):
    accuracy: float  # +1 right, -1 wrong or no verdict
    format: float  # 1 to the contract, 0 not
    proxy: float | None  # +1 agrees with the label, -1 does not, None: no opinion
    score: float
    unscored: bool  # the proxy owed an opinion and gave none: mask this rollout, do not learn from its score
    problem: str | None  # first thing wrong with the critique (`critique.Problem` value), or "unscored"


def resolve_aggregation(name: str | int) -> str:
    """Name of an aggregation from its name or upstream's number (0..10)."""
    key = NUMBERS.get(str(name), str(name))
    if key not in AGGREGATIONS:
        near = difflib.get_close_matches(key, AGGREGATIONS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(AGGREGATIONS)} (or 0 to 10)"
        raise UserError(f"reward aggregation {str(name)!r} does not exist; {hint}")
    return key


def as_proxy_reward(value: Any) -> float | None:
    """1.0 or -1.0 from a number, None from None. Raises ValueError for anything else, 0 and True included."""
    if value is None:
        return None
    if value in (1, -1) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"proxy reward is {value!r}, it must be 1, -1 or null")


def rubric_to_judge(response: str | Critique, deny_leaks: bool = True) -> str | None:
    """The closed rubric to send to the proxy; None when there is none.

    deny_leaks: nor when it names the winner (`rubric.names_winner`): judging it would reward the leak and not the
    rubric.
    """
    critique = parse(response) if isinstance(response, str) else response
    return critique.shown if _judgeable(critique, deny_leaks) else None


def score(
    response: str | Critique,
    ground_truth: str | int,
    proxy_reward: float | None,
    aggregation: str | int = "sum",
    use_proxy: bool = True,
    deny_leaks: bool = True,
) -> RewardParts:
    """Reward of one rollout. Pure.

    `response`: the text, or what `parse` made of it. `ground_truth`: the label, 1 or 2. `proxy_reward`: +1.0 when the
    proxy's verdict is the label, -1.0 when it is not, None when the proxy could not be asked or gave no verdict.
    `use_proxy=False`: score = a + 0.5 f. `deny_leaks`: see `rubric_to_judge`.

    A rollout with no judgeable rubric takes the table's "failed" column, whatever `proxy_reward` is. With a
    judgeable rubric and no opinion it also takes that column for the record, but is marked unscored.

    Raises ValueError for a label or a proxy reward that is none: wrong data must not become a reward.
    """
    critique = parse(response) if isinstance(response, str) else response
    right = critique.verdict == as_label(ground_truth)
    opinion = as_proxy_reward(proxy_reward)
    accuracy, well_formed = (1.0 if right else -1.0), (1.0 if critique.well_formed else 0.0)
    problem = critique.reason
    if not use_proxy:
        return RewardParts(accuracy, well_formed, None, accuracy + FORMAT_WEIGHT * well_formed, False, problem)

    unscored = False
    if not _judgeable(critique, deny_leaks):
        opinion, problem = None, problem or Problem.NAMES_WINNER.value
    elif opinion is None:
        unscored, problem = True, UNSCORED
    value = aggregate(aggregation, right, opinion) + FORMAT_WEIGHT * well_formed
    return RewardParts(accuracy, well_formed, opinion, value, unscored, problem)


def score_proxy(response: str, ground_truth: str | int) -> RewardParts:
    """Reward of a proxy that is itself trained by RL: a + 0.5 f of its own verdict. Pure.

    The paper's Proxy-RL; its text says accuracy and format and gives no weights, so they are those of the reward
    model. Raises ValueError for a label that is none.
    """
    verdict, label = parse_proxy_verdict(response), as_label(ground_truth)
    accuracy = 1.0 if verdict == label else -1.0
    well_formed = 1.0 if proxy_well_formed(response) else 0.0
    problem = None if well_formed else "proxy_layout" if verdict else "proxy_no_verdict"
    return RewardParts(accuracy, well_formed, None, accuracy + FORMAT_WEIGHT * well_formed, False, problem)


def aggregate(aggregation: str | int, right: bool, opinion: float | None) -> float:
    """Score before the format term; `opinion` is +1, -1 or None as in `score`."""
    row = AGGREGATIONS.get(aggregation) if isinstance(aggregation, str) else None
    if row is None:
        row = AGGREGATIONS[resolve_aggregation(aggregation)]
    return row.value(right, None if opinion is None else opinion > 0)


def _judgeable(critique: Critique, deny_leaks: bool) -> bool:
    return critique.rubric is not None and not (deny_leaks and critique.names_winner)
