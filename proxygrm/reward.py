"""The reward of a rollout: accuracy and proxy agreement looked up in a table, plus half a point for the format.

The paper's ablation compares eleven ways to put accuracy and proxy agreement together. Its plain sum
("implicit" aggregation) is the best and the default; the others are conditional ("explicit"). The columns are
(accuracy, proxy) with + for right/agrees, and "failed" where there is no proxy opinion.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from proxygrm.critique import Critique, Problem, parse
from proxygrm.errors import UserError

FORMAT_WEIGHT = 0.5


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


@dataclass(frozen=True)
class RewardParts:
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


def rubric_to_judge(response: str) -> str | None:
    """The closed rubric to send to the proxy; None when there is none, or when it names the winner.

    Sending a rubric that names the winner would reward the leak and not the rubric.
    """
    critique = parse(response)
    return f"<rubric>\n{critique.rubric}\n</rubric>" if _judgeable(critique) else None


def score(
    response: str,
    ground_truth: str | int,
    proxy_reward: float | None,
    aggregation: str | int = "sum",
    use_proxy: bool = True,
) -> RewardParts:
    """Reward of one rollout. Pure.

    `ground_truth`: the label, 1 or 2. `proxy_reward`: +1.0 when the proxy's verdict is the label, -1.0 when it is
    not, None when the proxy could not be asked or gave no verdict. `use_proxy=False`: score = a + 0.5 f.

    A rollout with no judgeable rubric (see `rubric_to_judge`) takes the table's "failed" column: that is the
    rollout's own doing and is learnt from. With a judgeable rubric and no opinion it also takes that column for the
    record, but is marked unscored.

    Raises ValueError for a label or a proxy reward that is none: wrong data must not become a reward.
    """
    label = str(ground_truth).strip()
    if label not in ("1", "2"):
        raise ValueError(f"ground truth is {ground_truth!r}, it must be 1 or 2")
    if proxy_reward is not None and proxy_reward not in (1.0, -1.0):
        raise ValueError(f"proxy reward is {proxy_reward!r}, it must be 1.0, -1.0 or None")
    critique = parse(response)
    right = critique.verdict is not None and str(critique.verdict) == label
    accuracy, well_formed = (1.0 if right else -1.0), (1.0 if critique.well_formed else 0.0)
    problem = critique.reason
    if not use_proxy:
        return RewardParts(accuracy, well_formed, None, accuracy + FORMAT_WEIGHT * well_formed, False, problem)

    row = AGGREGATIONS[resolve_aggregation(aggregation)]
    judgeable = _judgeable(critique)
    opinion = proxy_reward if judgeable else None
    unscored = judgeable and opinion is None
    value = row.value(right, None if opinion is None else opinion > 0)
    if problem is None and not judgeable:
        problem = Problem.NAMES_WINNER.value
    if unscored:
        problem = "unscored"
    return RewardParts(accuracy, well_formed, opinion, value + FORMAT_WEIGHT * well_formed, unscored, problem)


def _judgeable(critique: Critique) -> bool:
    return critique.rubric is not None and Problem.NAMES_WINNER not in critique.problems
