"""verl's asynchronous reward function: called once per rollout, as soon as it is generated.

verl loads it by `reward.custom_reward_function.{path,name,reward_kwargs}`; it runs in reward workers, while other
rollouts are being generated. It never raises: an exception would discard the whole group of rollouts. A rollout that
cannot be scored is returned as unscored, with the reason, and the sampler decides what happens to the step.
"""

from __future__ import annotations

import json
import logging
import textwrap
import traceback
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from proxygrm.core.labels import as_label, same_label
from proxygrm.rewards.base import PROXY, Answer, Post, Rating, Rollout
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.step_rollouts import LABEL_MISMATCH
from proxygrm.serving.chat.failures import ChatFailed

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
log = logging.getLogger(__name__)


@cache
def _options(path: str) -> RewardOptions:
    return RewardOptions.read(path)


@cache
def _client(endpoints: str) -> Any:
    """One client per process: its connections belong to the one event loop of the reward worker."""
    from proxygrm.serving.pool.client import ProxyClient

    return ProxyClient(endpoints)


@cache
def _service(name: str, urls: tuple[str, ...], key: str) -> Any:
    """One client per process, as above."""
    from proxygrm.serving.chat.service_client import ServiceClient

    return ServiceClient(urls, key)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any],
    options: str,
    **_: Any,
) -> dict[str, float | str]:
    """Score and its parts for one rollout: the columns of the reward, and those that all have (`_row`).

    `extra_info`: of the row; for rewards of pairs question, response_1, response_2, label, images (paths). `options`:
    path of the reward options. Returns `score` = 0 with `unscored` = 1 when there is no reward.
    """
    reward_options = _options(options)
    call = Call(Rollout(solution_str, ground_truth, extra_info, reward_options.urls), reward_options)
    try:
        return _row(call, await _rate(call))
    except (Exception, SystemExit) as error:  # counted by name, logged once, and limited by max_unscored
        _log_once(error)
        return _row(call, unscored(f"error_{type(error).__name__}"))


class Call:
    """What a reward asks about one rollout, and how that call went."""

    def __init__(self, rollout: Rollout, options: RewardOptions) -> None:
        self.rollout, self.options, self.early = rollout, options, False
        self.went: Mapping[str, Any] = {}

    async def ask(self, sent: Any) -> Answer:
        if isinstance(sent, Post):
            return await _post(self.options.reward.asks, sent, self.options)
        early: Mapping[str, Any] = self.rollout.extra_info.get(EARLY) or {}
        self.early = early.get("sent") == sent
        self.went = early if self.early else await _call_proxy(self.rollout.extra_info, sent, self.options)
        return Answer(self.went["opinion"], self.went["why"])


async def _rate(call: Call) -> Rating:
    reward, rollout = call.options.reward, call.rollout
    if reward.judges_pairs:
        if not same_label(rollout.extra_info["label"], rollout.label):
            return unscored(LABEL_MISMATCH)
        call.rollout = replace(rollout, label=str(as_label(rollout.label)))
    if call.options.service_keys:
        call.rollout = replace(call.rollout, service_keys=call.options.keys)
    return await reward.rate(call.rollout, reward.read(rollout.text), call.ask)


def unscored(problem: str) -> Rating:
    return Rating(0.0, unscored=True, problem=problem)


async def judge_early(
    text: str, ground_truth: Any, extra_info: Mapping[str, Any], options: str
) -> dict[str, float | str | None] | None:
    """The opinion on a rollout that begins with `text`, to be put into `extra_info[EARLY]` of `compute_score`; None
    when `compute_score` would not ask either. Arguments as there. Never raises.

    Whatever follows a closed rubric does not change it; `compute_score` still compares the two.
    """
    try:
        reward_options = _options(options)
        reward = reward_options.reward
        sent = reward.to_judge(reward.read(text)) if reward.asks == PROXY else None
        if sent is None or (reward.judges_pairs and not same_label(extra_info["label"], ground_truth)):
            return None
    except Exception:  # compute_score raises it too, and counts it
        return None
    try:
        return {"sent": sent, **await _call_proxy(extra_info, sent, reward_options)}
    except Exception as error:
        _log_once(error)
        return {"sent": sent, "opinion": None, "why": f"error_{type(error).__name__}"}


async def _post(service: str, sent: Post, options: RewardOptions) -> Answer:
    try:
        client = _service(service, options.urls[service], options.keys.get(service, ""))
        return Answer(body=await client.post(sent.path, sent.body))
    except ChatFailed as error:
        _log_once(error)
        return Answer(why=f"{service}_{error.reason}")


async def _call_proxy(pair: Mapping[str, Any], rubric: str, options: RewardOptions) -> dict[str, Any]:
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


def _row(call: Call, rating: Rating) -> dict[str, float | str]:
    """Every row of a run has the same keys: verl refuses validation rows that differ. So numbers without a column
    are JSON text here; the sampler reads them back."""
    reward, rollout = call.options.reward, call.rollout
    asked = {"early": float(call.early), **{name: call.went.get(name, default) for name, default in NO_CALL.items()}}
    return {
        "score": rating.score,
        **{name: float(rating.numbers.get(name, 0.0)) for name in reward.columns},
        "unscored": float(rating.unscored),
        "problem": rating.problem,
        **(asked if reward.asks == PROXY else {}),
        "numbers": json.dumps({name: value for name, value in rating.numbers.items() if name not in reward.columns}),
        "id": str(rollout.extra_info.get("id", "")),
        "label": str(rollout.label),
        reward.text_column: rollout.text,
    }


_logged: set[str] = set()


def _log_once(error: BaseException) -> None:
    """The first error of each kind goes to the worker's log with its traceback, behind bars: it is not what ended the
    training, should that end (`proxygrm.core.runtime.log_tail` looks for such a line)."""
    if type(error).__name__ not in _logged:
        _logged.add(type(error).__name__)
        text = textwrap.indent("".join(traceback.format_exception(error)), "| ")
        log.warning("cannot score a rollout; further errors of this kind are only counted\n%s", text)
