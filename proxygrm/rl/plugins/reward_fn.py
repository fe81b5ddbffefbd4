"""verl's asynchronous reward function: called once per rollout, as soon as it is generated.

verl loads it by `reward.custom_reward_function.{path,name,reward_kwargs}`; it runs in reward workers, while other
rollouts are being generated. It never raises: an exception would discard the whole group of rollouts. A rollout that
cannot be scored is returned as unscored, with the reason, and the sampler decides what happens to the step.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

from proxygrm.core.labels import as_label, same_label
from proxygrm.critique.contract import parse
from proxygrm.rewards.proxy_agreement import RewardParts, rubric_to_judge, score, score_proxy
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.step_rollouts import LABEL_MISMATCH

EARLY = "early_opinion"
"""Key of `extra_info` for the proxy's opinion from before the rollout was complete (`judge_early`)."""
NO_CALL = {
    "proxy_asked": 0.0,
    "proxy_latency_s": 0.0,
    "proxy_retries": 0.0,
    "proxy_hedged": 0.0,
    "proxy_replica": "",
    "proxy_soft": -1.0,
}
"""The fields of a row about the proxy's call, as they are without one: whether the proxy was called, how long it took
with waiting and retries, which replica answered (or was called last, "" if none), and the probability of verdict 1
(proxy mode `verdict`; -1 if there is none). The reward does not use them."""
UNSCORED = RewardParts(accuracy=0.0, format=0.0, proxy=None, score=0.0, unscored=True, problem=None)
log = logging.getLogger(__name__)


@cache
def _options(path: str) -> RewardOptions:
    return RewardOptions.read(path)


@cache
def _client(endpoints: str) -> Any:
    """One client per process: its connections belong to the one event loop of the reward worker."""
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
    """Score and its parts for one rollout; keys as in `proxygrm.rl.plugins.step_rollouts`, plus id, label and critique.

    `extra_info`: question, response_1, response_2, label, images (paths) of the pair; `options`: path of the
    reward options. Returns `score` = 0 with `unscored` = 1 when there is no reward.
    """
    try:
        return await _score(solution_str, ground_truth, extra_info, _options(options))
    except Exception as error:  # counted by name, logged once, and limited by max_unscored
        _log_once(error)
        return _row(UNSCORED, solution_str, ground_truth, extra_info, f"error_{type(error).__name__}")


async def _score(
    text: str, ground_truth: str, pair: Mapping[str, Any], options: RewardOptions
) -> dict[str, float | str]:
    if not same_label(pair["label"], ground_truth):
        return _row(UNSCORED, text, ground_truth, pair, LABEL_MISMATCH)
    ground_truth = str(as_label(ground_truth))
    if options.task == "proxy":
        parts = score_proxy(text, ground_truth)
        return _row(parts, text, ground_truth, pair, parts.problem or "")
    call: Mapping[str, Any] = {"opinion": None, "why": ""}
    is_early = False
    critique = parse(text)
    rubric = rubric_to_judge(critique, options.deny_leaks) if options.use_proxy else None
    if rubric is not None:
        early = pair.get(EARLY) or {}
        is_early = early.get("rubric") == rubric
        call = early if is_early else await _call_proxy(pair, rubric, options)
    parts = score(critique, ground_truth, call["opinion"], options.aggregation, options.use_proxy, options.deny_leaks)
    problem = call["why"] if parts.unscored else parts.problem or ""
    return _row(parts, text, ground_truth, pair, problem, is_early, call)


async def judge_early(
    text: str, ground_truth: str, pair: Mapping[str, Any], options: str
) -> dict[str, float | str | None] | None:
    """The proxy's opinion on a rollout that begins with `text`, to be put into `extra_info[EARLY]` of `compute_score`;
    None when `compute_score` would not call the proxy either. Arguments as there. Never raises.

    Whatever follows a closed rubric does not change it; `compute_score` still compares the two.
    """
    try:
        reward_options = _options(options)
        rubric = rubric_to_judge(parse(text), reward_options.deny_leaks) if reward_options.use_proxy else None
        if rubric is None or not same_label(pair["label"], ground_truth):
            return None
    except Exception:  # compute_score raises it too, and counts it
        return None
    try:
        return {"rubric": rubric, **await _call_proxy(pair, rubric, reward_options)}
    except Exception as error:
        _log_once(error)
        return {"rubric": rubric, "opinion": None, "why": f"error_{type(error).__name__}"}


async def _call_proxy(pair: Mapping[str, Any], rubric: str, options: RewardOptions) -> dict[str, float | str | None]:
    """opinion: +1.0 if the proxy's verdict is the label, -1.0 if not, None without verdict; why: reason for None;
    and the fields of NO_CALL."""
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
    call: Mapping[str, Any] = NO_CALL,
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
        **{name: call.get(name, default) for name, default in NO_CALL.items()},
        "id": str(pair.get("id", "")),
        "label": str(ground_truth),
        "critique": text,
    }


_logged: set[str] = set()


def _log_once(error: Exception) -> None:
    """The first error of each kind goes to the worker's log with its traceback."""
    if type(error).__name__ not in _logged:
        _logged.add(type(error).__name__)
        log.warning("cannot score a rollout; further errors of this kind are only counted", exc_info=error)
