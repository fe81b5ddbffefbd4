"""A rollout generated in two calls, so that the proxy can judge its rubric while the rest is still being written.

    one call    | rubric ------- | evaluation, verdict ------------ | proxy |
    two calls   | rubric ------- | evaluation, verdict ------------ |
                                 | proxy |

The first call stops at `</rubric>`, the second continues from the exact tokens of the first with the same request id:
verl sends it to the same replica, whose prefix cache holds them. The result is one output, as of one call. Nothing here
imports verl: see `early_rubric_loop` for the agent loop, docs/early-rubric.md for when this helps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

CLOSING = "</rubric>"
COMPLETED = "completed"
"""verl's stop reason of a call that ended at its limit, an end of sequence or a stop string."""
MEMORYLESS = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "logprobs", "max_tokens", "max_new_tokens"}
)
"""Sampling parameters that have the same effect in two calls as in one. (repetition_penalty counts the prompt too; a
seed would repeat the first call's noise in the second, and other penalties would ignore the first call's output.)"""


class TwoCalls:
    """Replaces verl's server client in one rollout; `generate` has the same signature and result.

    decode: text of tokens, special tokens left out. on_closed: called with the text so far once it has a closed
    rubric. response_length, max_model_len: verl's limits of a rollout and of the model, in tokens (None: no limit).
    """

    def __init__(
        self,
        server: Any,
        decode: Callable[[Sequence[int]], str],
        on_closed: Callable[[str], None],
        response_length: int,
        max_model_len: int | None = None,
    ) -> None:
        self.server, self.decode, self.on_closed = server, decode, on_closed
        self.response_length, self.max_model_len = response_length, max_model_len

    async def generate(
        self, request_id: str, *, prompt_ids: list[int], sampling_params: dict[str, Any], **rest: Any
    ) -> Any:
        """verl's TokenOutput of the whole response."""
        if not sampling_params.keys() <= MEMORYLESS:
            return await self.server.generate(
                request_id=request_id, prompt_ids=prompt_ids, sampling_params=sampling_params, **rest
            )
        first = await self.server.generate(
            request_id=request_id,
            prompt_ids=prompt_ids,
            # The server returns the tokens of the stop string in any case; with it in the text, both agree.
            sampling_params={**sampling_params, "stop": [CLOSING], "include_stop_str_in_output": True},
            **rest,
        )
        text = self.decode(first.token_ids)
        if CLOSING in text:
            self.on_closed(text)
        left = self._left(prompt_ids, first.token_ids, sampling_params)
        # Aborted, at its limit, or ended by an end of sequence; any other call stopped at the tag.
        if first.stop_reason != COMPLETED or left < 1 or not self.decode(first.token_ids[-1:]):
            return first
        unlimited = {key: value for key, value in sampling_params.items() if key != "max_new_tokens"}
        second = await self.server.generate(
            request_id=request_id,
            prompt_ids=[*prompt_ids, *first.token_ids],
            sampling_params={**unlimited, "max_tokens": left},
            **rest,
        )
        return joined(first, second)

    def _left(self, prompt_ids: Sequence[int], generated: Sequence[int], sampling_params: dict[str, Any]) -> int:
        """Tokens that may follow: without this limit, verl's server would allow a whole response again."""
        requested = sampling_params.get("max_tokens", sampling_params.get("max_new_tokens"))
        limit = self.response_length if requested is None else requested
        if self.max_model_len is not None:
            limit = min(limit, self.max_model_len - len(prompt_ids))
        return limit - len(generated)


def joined(first: Any, second: Any) -> Any:
    """One TokenOutput of two, where the second's prompt was the first's prompt and output."""
    log_probs = None if first.log_probs is None else [*first.log_probs, *(second.log_probs or [])]
    preempted = [part.num_preempted for part in (first, second) if part.num_preempted is not None]
    # The weights' version may change between the calls; of the prefix cache, only the prompt's hits are counted.
    from_first = {
        key: first.extra_fields[key] for key in ("min_global_steps", "num_cached_tokens") if key in first.extra_fields
    }
    return second.model_copy(
        update={
            "token_ids": [*first.token_ids, *second.token_ids],
            "log_probs": log_probs,
            "routed_experts": _joined_experts(first.routed_experts, second.routed_experts, len(second.token_ids)),
            "num_preempted": sum(preempted) if preempted else None,
            "extra_fields": {**second.extra_fields, **from_first},
        }
    )


def _joined_experts(first: Any, second: Any, new: int) -> Any:
    """Rows of the first call, then those of the second's new tokens, as verl joins resumed rollouts."""
    if first is None or second is None or new == 0:
        return first
    import numpy as np

    return np.concatenate([first, second[-new:]])


class Judging:
    """The proxy's call for one rollout: started at most once, then awaited or cancelled."""

    def __init__(self, judge: Callable[[str], Awaitable[dict[str, Any] | None]]) -> None:
        self.judge = judge
        self._task: asyncio.Task[dict[str, Any] | None] | None = None

    def start(self, text: str) -> None:
        if self._task is None:
            self._task = asyncio.ensure_future(self._run(text))

    async def _run(self, text: str) -> dict[str, Any] | None:
        return await self.judge(text)

    async def result(self) -> dict[str, Any] | None:
        """The result of `judge`; None when it was never started."""
        return None if self._task is None else await self._task

    async def cancel(self) -> None:
        """Cancel the call if it is still running; returns when the proxy's client has freed its slot."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
