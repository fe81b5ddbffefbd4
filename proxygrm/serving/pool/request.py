"""Requests to a replica, without a destination: the proxy's about one pair and one rubric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from proxygrm.critique.prompts import proxy_prompt, template
from proxygrm.serving.chat.request import ChatRequest
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.answer import ProxyAnswer, read_answer
from proxygrm.serving.pool.image import ImageRef
from proxygrm.serving.pool.verdict import TOP_LOGPROBS
from proxygrm.serving.settings import Mode

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class PoolRequest(Generic[Answer]):
    chat: ChatRequest
    """The body; the images are put into it when it is sent."""
    images: tuple[ImageRef, ...]
    read: Callable[[bytes], Answer]
    """The body of a response of status 200. Raises AttemptFailed."""
    path: str = "/v1/chat/completions"


def proxy_request(
    endpoints: Endpoints,
    max_tokens: int,
    texts: tuple[str, str, str, str],
    images: Sequence[ImageRef],
    mode: Mode = "critique",
) -> PoolRequest[ProxyAnswer]:
    """texts: question, response 1, response 2, rubric. The rubric is last: the rest is shared by the rollouts of a
    prompt. max_tokens: of the answer; in the mode `verdict` it is one token, which continues an answer that we have
    started.
    """
    prompt = proxy_prompt(*texts, images=0)
    if mode == "verdict":
        chat = ChatRequest.build(
            endpoints.model,
            prompt,
            max_tokens=1,
            temperature=0,
            answer_start=template("proxy_verdict"),
            extra={"logprobs": True, "top_logprobs": TOP_LOGPROBS},
        )
    else:
        chat = ChatRequest.build(endpoints.model, prompt, max_tokens=max_tokens, temperature=0)
    return PoolRequest(chat, tuple(images), partial(read_answer, mode=mode))
