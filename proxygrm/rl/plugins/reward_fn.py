"""verl's asynchronous reward function: called once a rollout, as soon as it is generated.

verl loads it by `reward.custom_reward_function.{path,name,reward_kwargs}`; it runs in reward workers, beside the
generation of the other rollouts. It never raises: an exception would throw away the whole group of rollouts. What
it cannot score is returned as unscored, with the reason, and the sampler decides what becomes of the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from proxygrm.core.labels import as_label, same_label
from proxygrm.critique.contract import parse
from proxygrm.rewards.proxy_agreement import RewardParts, rubric_to_judge, score, score_proxy
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.parts import LABEL_MISMATCH

EARLY = "early_opinion"
"""Key of `extra_info` for what the proxy said while the rollout was still being generated (`judge_early`)."""
NOT_ASKED = {
    "proxy_asked": 0.0,
    "proxy_latency_s": 0.0,
    "proxy_retries": 0.0,
    "proxy_hedged": 0.0,
    "proxy_replica": "",
    "proxy_soft": -1.0,
}
"""Of a row: was the proxy asked, how long did it take with waiting and retries, which replica answered (or was asked
last, "" if none), and the probability of verdict 1 (proxy mode `verdict`; -1 if there is none). The reward does not
look at that."""
UNSCORED = RewardParts(accuracy=0.0, format=0.0, proxy=None, score=0.0, unscored=True, problem=None)


@cache
def _options(path: str) -> RewardOptions:
    return RewardOptions.read(path)


@cache
def _client(endpoints: str) -> Any:
    """One client a process: its connections belong to the one event loop of the reward worker."""
    from proxygrm.serving.pool.client import ProxyClient

    return ProxyClient(endpoints)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: Mapping[str, Any],
    options: str,
    **_: Any,
) -> dict[str, float | str]:
    """Score and its parts for one rollout; keys as in `proxygrm.rl.plugins.parts`, plus id, label and critique.

    `extra_info`: question, response_1, response_2, label, images (paths) of the pair; `options`: path of the
    reward options. Returns `score` = 0 with `unscored` = 1 when there is no reward.
    """
    try:
        return await _scored(solution_str, ground_truth, extra_info, _options(options))
    except Exception as error:  # counted by name, shown once, and limited by max_unscored
        _show_once(error)
        return _row(UNSCORED, solution_str, ground_truth, extra_info, f"error_{type(error).__name__}")


async def _scored(
    text: str, ground_truth: str, pair: Mapping[str, Any], options: RewardOptions
) -> dict[str, float | str]:
    if not same_label(pair["label"], ground_truth):
        return _row(UNSCORED, text, ground_truth, pair, LABEL_MISMATCH)
    ground_truth = str(as_label(ground_truth))
    if options.task == "proxy":
        parts = score_proxy(text, ground_truth)
        return _row(parts, text, ground_truth, pair, parts.problem or "")
    found: Mapping[str, Any] = {"opinion": None, "why": ""}
    in_time = False
    critique = parse(text)
    rubric = rubric_to_judge(critique, options.deny_leaks) if options.use_proxy else None
    if rubric is not None:
        early = pair.get(EARLY) or {}
        in_time = early.get("rubric") == rubric
        found = early if in_time else await _opinion(pair, rubric, options)
    parts = score(critique, ground_truth, found["opinion"], options.aggregation, options.use_proxy, options.deny_leaks)
    problem = found["why"] if parts.unscored else parts.problem or ""
    return _row(parts, text, ground_truth, pair, problem, in_time, found)


async def judge_early(
    text: str, ground_truth: str, pair: Mapping[str, Any], options: str
) -> dict[str, float | str | None] | None:
    """The proxy's opinion on a rollout that begins with `text`, to be put into `extra_info[EARLY]` of
    `compute_score`; None when that would not ask the proxy either. Arguments as there. Never raises.

    A rubric once closed is the same whatever follows it; `compute_score` compares them all the same.
    """
    try:
        found = _options(options)
        rubric = rubric_to_judge(text, found.deny_leaks) if found.use_proxy else None
        if rubric is None or not same_label(pair["label"], ground_truth):
            return None
    except Exception:  # compute_score meets it too, and counts it
        return None
    try:
        return {"rubric": rubric, **await _opinion(pair, rubric, found)}
    except Exception as error:
        _show_once(error)
        return {"rubric": rubric, "opinion": None, "why": f"error_{type(error).__name__}"}


async def _opinion(pair: Mapping[str, Any], rubric: str, options: RewardOptions) -> dict[str, float | str | None]:
    """opinion: +1.0 if the proxy's verdict is the label, -1.0 if not, None without verdict; why: reason for None;
    and how the call went, as in NOT_ASKED."""
    judgement = await _client(options.endpoints).judge(
        pair["question"],
        pair["response_1"],
        pair["response_2"],
        rubric,
        images=list(pair["images"]),
        label=as_label(pair["label"]),
    )
    return {
        "opinion": None if judgement.agrees is None else 1.0 if judgement.agrees else -1.0,
        "why": f"proxy_{judgement.cause}" if judgement.agrees is None else "",
        "proxy_asked": 1.0,
        "proxy_latency_s": judgement.latency_s,
        "proxy_retries": float(judgement.retries),
        "proxy_hedged": float(judgement.hedged),
        "proxy_replica": judgement.replica or "",
        "proxy_soft": -1.0 if judgement.soft is None else judgement.soft,
    }


def _row(
    parts: RewardParts,
    text: str,
    ground_truth: str,
    pair: Mapping[str, Any],
    problem: str,
    early: bool = False,
    call: Mapping[str, Any] = NOT_ASKED,
) -> dict[str, float | str]:
    # Every row has the same keys: verl refuses validation rows that differ.
    return {
        "score": parts.score,
        "accuracy": parts.accuracy,
        "format": parts.format,
        "proxy": parts.proxy or 0.0,
        "unscored": float(parts.unscored),
        "problem": problem,
        "early": float(early),
        **{name: call.get(name, nothing) for name, nothing in NOT_ASKED.items()},
        "id": str(pair.get("id", "")),
        "label": str(ground_truth),
        "critique": text,
    }


_shown: set[str] = set()


def _show_once(error: Exception) -> None:
    """The first error of each kind goes to the worker's log with its traceback."""
    import traceback

    if type(error).__name__ not in _shown:
        _shown.add(type(error).__name__)
        traceback.print_exception(error)
