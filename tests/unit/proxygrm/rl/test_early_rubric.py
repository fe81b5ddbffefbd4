"""A rollout in two calls: the same tokens as in one, and the proxy asked once, in time, for what it may see."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from proxygrm.core.errors import UserError
from proxygrm.rewards.proxy_agreement import rubric_to_judge
from proxygrm.rl.config import RlSettings
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.early_rubric import CLOSING, Judging, TwoCalls
from proxygrm.rl.plugins.reward_fn import EARLY, _client, compute_score, judge_early
from proxygrm.serving.endpoints import Endpoints
from support.proxy.stub import Server, stubs

PIECES = ["<rubric>", "</rubric>", "</rub", "ric>", "c>", "</rubric><eval>", "x", "</rubric>\n", "<justify>", "é"]
END = len(PIECES)  # an end of sequence: a token without text
PROMPT = [101, 102, 103]
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, "logprobs": True}


def decode(ids: Sequence[int]) -> str:
    return "".join(PIECES[i] for i in ids if i != END)


class Output(BaseModel):
    """The fields of verl's TokenOutput."""

    token_ids: list[int]
    log_probs: list[float] | None = None
    routed_experts: Any = None
    stop_reason: str | None = "completed"
    num_preempted: int | None = None
    extra_fields: dict[str, Any] = {}


class Policy:
    """A server that continues any beginning of `script` with the rest of it, as vLLM would: a stop string is looked
    for in what this call writes, and the token that completes it stays whole. abort: the call that is aborted at once.
    stop_after: tokens after which it stops anyway, having read its text otherwise than we do."""

    def __init__(
        self,
        script: Sequence[int],
        *,
        default: int = 50,
        log_probs: bool = True,
        abort: int = -1,
        stop_after: int | None = None,
    ) -> None:
        self.script, self.default, self.log_probs, self.abort = list(script), default, log_probs, abort
        self.stop_after = stop_after
        self.calls: list[dict[str, Any]] = []

    async def generate(self, **call: Any) -> Output:
        self.calls.append(call)
        sampling, done = dict(call["sampling_params"]), call["prompt_ids"][len(PROMPT) :]
        assert call["prompt_ids"][: len(PROMPT)] == PROMPT
        assert self.script[: len(done)] == done, "not the tokens that were generated"
        if len(self.calls) - 1 == self.abort:
            return Output(token_ids=[], stop_reason="aborted", extra_fields={"global_steps": 7})
        most = sampling.get("max_tokens", sampling.get("max_new_tokens", self.default))
        assert most >= 1
        new: list[int] = []
        for token in self.script[len(done) : len(done) + most]:
            new.append(token)
            stopping = sampling.get("stop", [])
            if (
                token == END
                or any(stop in decode(new) for stop in stopping)
                or (stopping and len(new) == self.stop_after)
            ):
                break
        at = len(self.calls)
        steps = {"global_steps": at, "min_global_steps": at, "max_global_steps": at, "num_cached_tokens": 10 * at}
        chances = [-0.1 * (len(done) + i) for i in range(len(new))] if self.log_probs else None
        return Output(token_ids=new, log_probs=chances, num_preempted=at, extra_fields=steps)


def generated(policy: Policy, sampling: dict[str, Any] = SAMPLING, **limits: Any) -> tuple[Output, list[str]]:
    """The output of two calls, and what was told of closed rubrics."""
    told: list[str] = []
    server = TwoCalls(policy, decode, told.append, **{"response_length": policy.default, **limits})
    before = dict(sampling)
    found = asyncio.run(server.generate("r", prompt_ids=PROMPT, sampling_params=sampling, image_data=["p"], priority=3))
    assert sampling == before
    return found, told


scripts = st.lists(st.integers(0, END), max_size=12).map(lambda script: [*script, END])


@given(scripts, st.integers(1, 13), st.booleans())
def test_two_calls_give_the_tokens_and_log_probabilities_of_one(script, most, log_probs):
    def policy() -> Policy:
        return Policy(script, default=most, log_probs=log_probs)

    whole = asyncio.run(policy().generate(request_id="r", prompt_ids=PROMPT, sampling_params=SAMPLING))
    split = policy()
    found, told = generated(split)
    assert (found.token_ids, found.log_probs) == (whole.token_ids, whole.log_probs)
    assert len(split.calls) <= 2
    assert len(told) == (CLOSING in decode(whole.token_ids))
    assert all(CLOSING in text and decode(whole.token_ids).startswith(text) for text in told)


def test_both_calls_are_one_request_with_the_same_pictures_and_only_the_first_stops() -> None:
    policy = Policy([0, 6, 1, 6, 1, 6, END])
    found, told = generated(policy)
    first, second = policy.calls
    assert told == ["<rubric>x</rubric>"]
    assert first["sampling_params"] == {**SAMPLING, "stop": [CLOSING], "include_stop_str_in_output": True}
    assert second["sampling_params"] == {**SAMPLING, "max_tokens": 47}
    assert second["prompt_ids"] == [*PROMPT, 0, 6, 1]
    rest = [{k: v for k, v in call.items() if k not in ("sampling_params", "prompt_ids")} for call in policy.calls]
    assert rest == [{"request_id": "r", "image_data": ["p"], "priority": 3}] * 2
    assert found.num_preempted == 3
    assert found.extra_fields == {
        "global_steps": 2,
        "min_global_steps": 1,
        "max_global_steps": 2,
        "num_cached_tokens": 10,
    }


def test_a_tag_in_the_middle_of_a_token_is_seen_and_the_token_kept_whole() -> None:
    policy = Policy([0, 6, 5, 6, 1, END])  # x</rubric><eval>x</rubric>
    found, told = generated(policy)
    assert told == ["<rubric>x</rubric><eval>"]
    assert found.token_ids == policy.script
    assert policy.calls[1]["prompt_ids"] == [*PROMPT, 0, 6, 5]


@pytest.mark.parametrize("script", [[0, 6, END], [0, 6, 6, 6], [0, 2, 2, END], [END], []])
def test_without_a_closed_rubric_there_is_one_call_and_nobody_is_told(script: list[int]) -> None:
    policy = Policy(script, default=4)
    assert generated(policy)[1] == []
    assert len(policy.calls) == 1


def test_a_server_that_saw_the_tag_where_we_do_not_is_asked_to_go_on() -> None:
    policy = Policy([0, 6, 6, 6, END], stop_after=2)
    found, told = generated(policy)
    assert (found.token_ids, told) == ([0, 6, 6, 6, END], [])


def test_the_rubric_is_told_before_the_second_call_begins() -> None:
    policy = Policy([0, 6, 1, 6, END])
    calls_then: list[int] = []
    server = TwoCalls(policy, decode, lambda _: calls_then.append(len(policy.calls)), response_length=50)
    asyncio.run(server.generate("r", prompt_ids=PROMPT, sampling_params=SAMPLING))
    assert (calls_then, len(policy.calls)) == ([1], 2)


@pytest.mark.parametrize(
    ("sampling", "limits"),
    [
        ({}, {"response_length": 3}),
        ({"max_tokens": 3}, {}),
        ({"max_new_tokens": 3}, {}),
        ({}, {"max_model_len": len(PROMPT) + 3}),
    ],
)
def test_a_rubric_that_fills_the_response_is_told_and_ends_it(sampling: dict[str, Any], limits: dict[str, int]) -> None:
    policy = Policy([0, 6, 1, 6, 6])
    found, told = generated(policy, {**SAMPLING, **sampling}, **limits)
    assert told == ["<rubric>x</rubric>"]
    assert (found.token_ids, len(policy.calls)) == ([0, 6, 1], 1)


def test_an_asked_limit_counts_both_calls_and_goes_by_one_name() -> None:
    for name in ("max_tokens", "max_new_tokens"):
        policy = Policy([0, 6, 1, 6, 6, 6])
        found, _ = generated(policy, {**SAMPLING, name: 5})
        assert found.token_ids == [0, 6, 1, 6, 6]
        assert policy.calls[1]["sampling_params"] == {**SAMPLING, "max_tokens": 2}


@pytest.mark.parametrize(
    "own", [{"seed": 1}, {"stop": ["x"]}, {"presence_penalty": 0.5}, {"min_tokens": 4}, {"stop_token_ids": [6]}]
)
def test_sampling_that_two_calls_would_change_is_left_to_one(own: dict[str, Any]) -> None:
    policy = Policy([0, 6, 1, 6, END])
    _, told = generated(policy, {**SAMPLING, **own})
    assert told == []
    assert [call["sampling_params"] for call in policy.calls] == [{**SAMPLING, **own}]


def test_an_aborted_call_ends_the_rollout_with_what_there_is() -> None:
    policy = Policy([0, 6, 1, 6, END], abort=0)
    found, told = generated(policy)
    assert (found.token_ids, told, len(policy.calls)) == ([], [], 1)
    policy = Policy([0, 6, 1, 6, END], abort=1)
    found, told = generated(policy)
    assert (found.token_ids, found.log_probs, found.stop_reason) == ([0, 6, 1], [0.0, -0.1, -0.2], "aborted")
    assert len(told) == 1


# What the proxy is asked, and how often.

GOOD = (
    "<rubric>Names the colour (100%)<justify>secret why</justify></rubric>"
    "<eval>secret evaluation </rubric></eval><answer>1</answer>"
)
LEAK = GOOD.replace("Names the colour", "Response 1 is better")
PAIR = {"id": "p", "question": "What?", "response_1": "Red.", "response_2": "Blue.", "label": 1, "images": []}
TAGS = ["<rubric>", "</rubric>", "<justify>", "</justify>", "<eval>", "</eval>", "<answer>1</answer>", "<Eval>"]


@given(st.lists(st.sampled_from([*TAGS, "A", " ", "Response 1 wins. ", "\n"]), max_size=12).map("".join))
def test_what_is_shown_of_a_rubric_is_the_same_when_it_closes_as_at_the_end(text):
    head, tag, after = text.partition(CLOSING)
    if tag:
        for beginning in (head + tag, head + tag + after[:3]):
            assert rubric_to_judge(beginning) == rubric_to_judge(text)
            assert rubric_to_judge(beginning, False) == rubric_to_judge(text, False)
    else:
        assert rubric_to_judge(text) is None


def run(tmp_path: Path, server: Server, scene: Any, **options: Any) -> Any:
    """`scene(options path)` with `server` as the proxy."""

    async def whole() -> Any:
        async with stubs(server) as urls:
            endpoints = Endpoints(tuple(urls), api_key="key", max_tokens=64).write(tmp_path / "endpoints.json")
            written = RewardOptions(
                rollouts=str(tmp_path), stop_file="s", group_size=2, endpoints=str(endpoints), **options
            ).write(tmp_path / "options.json")
            try:
                return await scene(str(written))
            finally:
                await _client(str(endpoints)).aclose()

    return asyncio.run(whole())


def test_an_early_opinion_is_the_reward_s_and_the_proxy_is_asked_once(tmp_path: Path) -> None:
    server = Server()

    async def scene(options: str) -> Any:
        early = await judge_early(GOOD.partition(CLOSING)[0] + CLOSING, "1", PAIR, options)
        handed_on = json.loads(json.dumps(early))  # it leaves the process
        rows = [await compute_score("d", GOOD, "1", PAIR | extra, options) for extra in ({EARLY: handed_on}, {})]
        return early, rows

    early, (with_it, without) = run(tmp_path, server, scene)
    assert early is not None
    assert {"rubric": rubric_to_judge(GOOD), "opinion": 1.0, "why": "", "proxy_asked": 1.0}.items() <= early.items()
    assert len(server.seen) == 2  # one for the early opinion, one for the rollout that had none
    assert server.seen[0]["body"] == server.seen[1]["body"]
    assert "secret" not in json.dumps(server.seen)
    assert (with_it["early"], without["early"]) == (1.0, 0.0)
    differs = {"early": 0.0, "proxy_latency_s": 0.0}
    assert with_it | differs == without | differs


def test_an_opinion_on_another_rubric_is_not_taken(tmp_path: Path) -> None:
    server = Server(verdict="2")

    async def scene(options: str) -> Any:
        other = {"rubric": "<rubric>\nother\n</rubric>", "opinion": 1.0, "why": ""}
        return await compute_score("d", GOOD, "1", PAIR | {EARLY: other}, options)

    row = run(tmp_path, server, scene)
    assert (row["proxy"], row["early"], len(server.seen)) == (-1.0, 0.0, 1)


@pytest.mark.parametrize(
    ("text", "truth", "options"),
    [
        (LEAK, "1", {}),
        (GOOD, "2", {}),  # a wrong label in the data
        (GOOD, "1", {"use_proxy": False}),
        ("<eval>x</eval>" + GOOD, "1", {}),
        (GOOD.replace("<justify>", "<eval>"), "1", {}),
    ],
)
def test_what_the_reward_would_not_send_is_not_sent_early(tmp_path: Path, text: str, truth: str, options: dict) -> None:
    server = Server()

    async def scene(path: str) -> Any:
        early = await judge_early(text.partition(CLOSING)[0] + CLOSING, truth, PAIR, path)
        await compute_score("d", text, truth, PAIR, path)
        return early

    assert run(tmp_path, server, scene, **options) is None
    assert server.seen == []


def test_a_proxy_without_an_answer_leaves_the_rollout_unscored_and_is_not_asked_again(tmp_path: Path) -> None:
    server = Server(verdict="neither")

    async def scene(options: str) -> Any:
        early = await judge_early(GOOD, "1", PAIR, options)
        asked = len(server.seen)
        return await compute_score("d", GOOD, "1", PAIR | {EARLY: early}, options), asked

    row, asked = run(tmp_path, server, scene)
    assert (row["unscored"], row["problem"]) == (1.0, "proxy_unparsed")
    assert len(server.seen) == asked


def test_an_error_of_the_early_opinion_is_counted_like_the_reward_function_s(tmp_path: Path) -> None:
    gone = RewardOptions(rollouts="r", stop_file="s", group_size=2, endpoints=str(tmp_path / "gone.json"))
    path = str(gone.write(tmp_path / "options.json"))
    early = asyncio.run(judge_early(GOOD, "1", PAIR, path))
    row = asyncio.run(compute_score("d", GOOD, "1", PAIR | {EARLY: early}, path))
    assert (row["unscored"], row["problem"]) == (1.0, f"error_{UserError.__name__}")
    assert row["problem"] == asyncio.run(compute_score("d", GOOD, "1", PAIR, path))["problem"]
    assert asyncio.run(judge_early(GOOD, "1", {}, path)) is None


def test_the_proxy_works_while_the_rollout_goes_on_and_is_dropped_with_it(tmp_path: Path) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def behave(*_: Any) -> None:
        arrived.set()
        await go_on.wait()

    server = Server(behave=behave)

    async def scene(options: str) -> Any:
        asked = itertools.count(1)

        async def ask(text: str) -> dict[str, Any] | None:
            assert next(asked) == 1
            return await judge_early(text, "1", PAIR, options)

        judging = Judging(ask)
        assert await judging.result() is None
        judging.start(GOOD)
        judging.start(GOOD)
        await asyncio.wait_for(arrived.wait(), 5)
        await judging.cancel()
        await judging.cancel()
        while server.now:
            await asyncio.sleep(0.01)
        dropped = server.cancelled
        go_on.set()
        again = Judging(lambda text: judge_early(text, "1", PAIR, options))
        again.start(GOOD)
        found = await again.result()
        await again.cancel()
        return dropped, found

    dropped, found = run(tmp_path, server, scene)
    assert dropped == 1
    assert found["opinion"] == 1.0


@pytest.mark.needs("omegaconf")
def test_the_option_names_verl_a_loop_that_exists_and_only_with_a_proxy() -> None:
    import importlib.util

    from omegaconf import OmegaConf

    from support.rl.verl_overrides import as_dict, overrides

    agent = "actor_rollout_ref.rollout.agent."
    keys = as_dict(overrides(RlSettings(early_rubric=True)))
    (loop,) = OmegaConf.load(keys[agent + "agent_loop_config_path"])
    assert loop.name == keys[agent + "default_agent_loop"]
    module, _, name = loop["_target_"].rpartition(".")
    source = Path(importlib.util.find_spec(module).origin).read_text()  # type: ignore[union-attr,arg-type]
    assert f"class {name}(" in source
    for without in (RlSettings(), RlSettings(early_rubric=True, use_proxy=False)):
        assert not any(key.startswith(agent + "default") for key in as_dict(overrides(without)))
