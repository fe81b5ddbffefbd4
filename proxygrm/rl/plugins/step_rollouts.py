"""Decisions about one step's rollouts: means of the reward's parts, which are masked, when to stop. Pure.

A row is the result of `reward_fn.compute_score`: score, unscored (0|1), problem ("" or a word), the reward's columns
and `numbers`; where the proxy is asked also early (1: judged before it was complete) and the call
(`reward_fn.NO_CALL`); plus `group`, the id of the prompt it was sampled from.

A rollout without a reward is left out of its group, and GRPO's mean and deviation are of the others: no score is made
up for it, and no prompt is replaced by one that is easier to judge. (verl's sync_refill_failed_groups would replace
prompts, but only groups that failed completely, and by generating again.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from proxygrm.rewards.base import Reward, Row, mean
from proxygrm.serving.pool.tally import quantiles

LABEL_MISMATCH = "label_mismatch"
NO_VERDICT = frozenset({"proxy_unparsed", "proxy_cut_off"})
"""The proxy answered, but without a readable verdict. No reward was lost on the way: a greedy retry would fail in the
same way, and this kind of failure has its own limit."""
FIRST_OF_EACH = "the first error of each kind with its traceback"


class TooManyUnscored(RuntimeError):
    """Too many rollouts have no reward to train on the rest."""


def step_metrics(rows: Sequence[Row], expected: int, reward: Reward, smallest_group: int = 2) -> dict[str, float]:
    """Means over the scored rollouts of a step; `reward/unscored` is the share of `expected` that has no reward.

    Counts: `reward/scored`, `reward/unscored_by/CAUSE`, `reward/left_alone` (scored, but nothing left in their group to
    compare with), `reward/without_variance` (groups whose rollouts all have the same score: no use to an algorithm that
    compares groups). And the figures of the reward itself.
    """
    scored = [row for row in rows if not row["unscored"]]
    metrics = {
        **reward.metrics(rows),
        "reward/score_mean": mean([row["score"] for row in scored]),
        "reward/unscored": unscored_by(rows, expected).total() / expected,
        "reward/rollouts": float(len(rows)),
        "reward/scored": float(len(scored)),
        "reward/left_alone": float(len(scored) - len(kept_rollouts(rows, smallest_group))),
        "reward/without_variance": float(_without_variance(scored)),
    }
    for problem, count in Counter(row["problem"] for row in scored if row["problem"]).items():
        metrics[f"reward/problem/{problem}"] = float(count)
    for cause, count in unscored_by(rows, expected).items():
        metrics[f"reward/unscored_by/{cause}"] = float(count)
    return metrics | proxy_metrics(rows)


def _without_variance(scored: Sequence[Row]) -> int:
    """Groups of several scored rollouts that all have the same score."""
    scores: dict[str, list[float]] = {}
    for row in scored:
        scores.setdefault(row["group"], []).append(row["score"])
    return sum(len(of_group) > 1 and len(set(of_group)) == 1 for of_group in scores.values())


def proxy_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """`proxy/...`: counts and latencies (s, waiting and retries included) of the rollouts with a call to the proxy.

    All reward workers' calls together, under the names of `pool.tally`. `proxy/prefix_hit_share`: calls to a replica
    that another rollout of the same prompt was sent to in this step, so that the prompt was in its cache.
    """
    called = [row for row in rows if row.get("proxy_asked")]
    if not called:
        return {}
    routes = [(row["group"], row["proxy_replica"]) for row in called if row["proxy_replica"]]
    metrics = {
        "calls": float(len(called)),
        "scored": float(sum(not row["unscored"] for row in called)),
        "agreed": float(sum(row.get("proxy", 0.0) > 0 for row in called)),
        "retried": float(sum(row["proxy_retries"] for row in called)),
        "hedged": float(sum(row["proxy_hedged"] for row in called)),
        "prefix_hit_share": 1.0 - len(set(routes)) / len(routes) if routes else 0.0,
        **quantiles(row["proxy_latency_s"] for row in called),
    }
    return {f"proxy/{name}": value for name, value in metrics.items()}


def unscored_by(rows: Sequence[Row], expected: int) -> Counter[str]:
    """Rollouts without a reward by cause; `never_generated` are those that never arrived."""
    causes = Counter(str(row["problem"] or "unknown") for row in rows if row["unscored"])
    if missing := max(0, expected - len(rows)):
        causes["never_generated"] = missing
    return causes


def why_stop(
    rows: Sequence[Row], expected: int, max_unscored: float, max_no_verdict: float, smallest_group: int = 2
) -> str:
    """Why the run has to stop, or "" when it may continue. The limits are shares of `expected`, see
    `config.RlSettings`."""
    mismatched = sum(row["problem"] == LABEL_MISMATCH for row in rows)
    if mismatched:
        return (
            f"{mismatched} rollouts have a label in extra_info that differs from reward_model.ground_truth, or is not "
            "1 or 2: the training file is inconsistent, convert it again"
        )
    causes = unscored_by(rows, expected)
    breakdown = ", ".join(f"{count} {cause}" for cause, count in causes.most_common())
    no_verdict = sum(count for cause, count in causes.items() if cause in NO_VERDICT)
    lost = causes.total() - no_verdict
    if lost > max_unscored * expected:
        of_proxy = sum(count for cause, count in causes.items() if cause.startswith("proxy_")) - no_verdict
        hint = "Look at the proxy's log" if of_proxy > lost / 2 else f"The stage's trainer.log has {FIRST_OF_EACH}"
        if causes["proxy_image_missing"] > lost / 2:
            hint = "`proxygrm data check` on the training file names the images"
        return (
            f"{lost} of {expected} rollouts have lost their reward ({breakdown}); the limit is {max_unscored:.0%} "
            f"(max_unscored). {hint}"
        )
    if no_verdict > max_no_verdict * expected:
        return (
            f"the proxy gave no verdict on {no_verdict} of {expected} rollouts ({breakdown}); the limit is "
            f"{max_no_verdict:.0%} (max_no_verdict). Train the proxy for longer, or raise its max_tokens "
            "if answers are cut off"
        )
    if rows and not kept_rollouts(rows, smallest_group):
        rollouts = "a rollout" if smallest_group == 1 else "two rollouts"
        return f"no prompt of the step has {rollouts} with a reward ({causes.total()} of {expected} have none)"
    return ""


def kept_rollouts(rows: Sequence[Row], smallest_group: int = 2) -> list[int]:
    """Positions to train on: scored rollouts of groups with at least `smallest_group` of them.

    For an algorithm that compares a group's rollouts, one has no baseline (verl would take its raw score for the
    advantage).
    """
    sizes = Counter(row["group"] for row in rows if not row["unscored"])
    return [i for i, row in enumerate(rows) if not row["unscored"] and sizes[row["group"]] >= smallest_group]
