"""The request about one pair and one rubric, without a destination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from proxygrm.critique.prompts import proxy_prompt, template
from proxygrm.serving.chat.request import ChatRequest
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.image import ImageRef
from proxygrm.serving.pool.verdict import TOP_LOGPROBS
from proxygrm.serving.settings import Mode


@dataclass(frozen=True)
class ProxyRequest:
    chat: ChatRequest
    images: tuple[ImageRef, ...]
    mode: Mode

    @classmethod
    def build(
        cls,
        endpoints: Endpoints,
        max_tokens: int,
        texts: tuple[str, str, str, str],
        images: Sequence[ImageRef],
        mode: Mode = "critique",
    ) -> ProxyRequest:
        """texts: question, response 1, response 2, rubric. The rubric is last: the rest is shared by the rollouts of a
        prompt. max_tokens: of the answer; in the mode `verdict` it is one token, which continues an answer that we
        have started.
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
        return cls(chat, tuple(images), mode)
