"""A rollout generated in two calls has the same tokens as in one, and reports its rubric as soon as it is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from proxygrm.rl.plugins.early_rubric import CLOSING, TwoCalls

pytestmark = pytest.mark.slow

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
    """A server that continues any beginning of `script` with the rest of it, as vLLM does: a stop string is searched in
    the output of this call, and the token that completes it is kept. abort: the call that is aborted at once.
    stop_after: tokens after which it stops anyway, because it reads its text differently."""

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
    """The output of two calls, and the texts given to `on_closed`."""
    closed: list[str] = []
    server = TwoCalls(policy, decode, closed.append, **{"response_length": policy.default, **limits})
    before = dict(sampling)
    output = asyncio.run(
        server.generate("r", prompt_ids=PROMPT, sampling_params=sampling, image_data=["p"], priority=3)
    )
    assert sampling == before
    return output, closed


scripts = st.lists(st.integers(0, END), max_size=12).map(lambda script: [*script, END])


@given(scripts, st.integers(1, 13), st.booleans())
def test_two_calls_give_the_tokens_and_log_probabilities_of_one(script, most, log_probs):
    def policy() -> Policy:
        return Policy(script, default=most, log_probs=log_probs)

    whole = asyncio.run(policy().generate(request_id="r", prompt_ids=PROMPT, sampling_params=SAMPLING))
    split = policy()
    output, closed = generated(split)
    assert (output.token_ids, output.log_probs) == (whole.token_ids, whole.log_probs)
    assert len(split.calls) <= 2
    assert len(closed) == (CLOSING in decode(whole.token_ids))
    assert all(CLOSING in text and decode(whole.token_ids).startswith(text) for text in closed)


def test_both_calls_are_one_request_with_the_same_images_and_only_the_first_stops() -> None:
    policy = Policy([0, 6, 1, 6, 1, 6, END])
    output, closed = generated(policy)
    first, second = policy.calls
    assert closed == ["<rubric>x</rubric>"]
    assert first["sampling_params"] == {**SAMPLING, "stop": [CLOSING], "include_stop_str_in_output": True}
    assert second["sampling_params"] == {**SAMPLING, "max_tokens": 47}
    assert second["prompt_ids"] == [*PROMPT, 0, 6, 1]
    rest = [{k: v for k, v in call.items() if k not in ("sampling_params", "prompt_ids")} for call in policy.calls]
    assert rest == [{"request_id": "r", "image_data": ["p"], "priority": 3}] * 2
    assert output.num_preempted == 3
    assert output.extra_fields == {
        "global_steps": 2,
        "min_global_steps": 1,
        "max_global_steps": 2,
        "num_cached_tokens": 10,
    }


def test_a_tag_in_the_middle_of_a_token_is_detected_and_the_token_kept() -> None:
    policy = Policy([0, 6, 5, 6, 1, END])  # x</rubric><eval>x</rubric>
    output, closed = generated(policy)
    assert closed == ["<rubric>x</rubric><eval>"]
    assert output.token_ids == policy.script
    assert policy.calls[1]["prompt_ids"] == [*PROMPT, 0, 6, 5]


@pytest.mark.parametrize("script", [[0, 6, END], [0, 6, 6, 6], [0, 2, 2, END], [END], []])
def test_without_a_closed_rubric_there_is_one_call_and_nothing_to_judge(script: list[int]) -> None:
    policy = Policy(script, default=4)
    assert generated(policy)[1] == []
    assert len(policy.calls) == 1


def test_a_server_that_stops_without_a_tag_in_the_text_is_called_again() -> None:
    policy = Policy([0, 6, 6, 6, END], stop_after=2)
    output, closed = generated(policy)
    assert (output.token_ids, closed) == ([0, 6, 6, 6, END], [])


def test_the_rubric_is_reported_before_the_second_call_begins() -> None:
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
def test_a_rubric_that_fills_the_response_is_reported_and_ends_it(
    sampling: dict[str, Any], limits: dict[str, int]
) -> None:
    policy = Policy([0, 6, 1, 6, 6])
    output, closed = generated(policy, {**SAMPLING, **sampling}, **limits)
    assert closed == ["<rubric>x</rubric>"]
    assert (output.token_ids, len(policy.calls)) == ([0, 6, 1], 1)


def test_a_requested_limit_counts_both_calls_and_has_one_name() -> None:
    for name in ("max_tokens", "max_new_tokens"):
        policy = Policy([0, 6, 1, 6, 6, 6])
        output, _ = generated(policy, {**SAMPLING, name: 5})
        assert output.token_ids == [0, 6, 1, 6, 6]
        assert policy.calls[1]["sampling_params"] == {**SAMPLING, "max_tokens": 2}


@pytest.mark.parametrize(
    "own", [{"seed": 1}, {"stop": ["x"]}, {"presence_penalty": 0.5}, {"min_tokens": 4}, {"stop_token_ids": [6]}]
)
def test_sampling_that_two_calls_would_change_is_left_to_one(own: dict[str, Any]) -> None:
    policy = Policy([0, 6, 1, 6, END])
    _, closed = generated(policy, {**SAMPLING, **own})
    assert closed == []
    assert [call["sampling_params"] for call in policy.calls] == [{**SAMPLING, **own}]


def test_an_aborted_call_ends_the_rollout_with_what_there_is() -> None:
    policy = Policy([0, 6, 1, 6, END], abort=0)
    output, closed = generated(policy)
    assert (output.token_ids, closed, len(policy.calls)) == ([], [], 1)
    policy = Policy([0, 6, 1, 6, END], abort=1)
    output, closed = generated(policy)
    assert (output.token_ids, output.log_probs, output.stop_reason) == ([0, 6, 1], [0.0, -0.1, -0.2], "aborted")
    assert len(closed) == 1
