"""Chat completions: the one place where a response body of OpenAI's chat API becomes an answer.

A message without text is an answer too: the thought used up `max_tokens`, the model declined, a filter removed the
text. Only a body that is not a chat completion at all is a failure of the service.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CUT_OFF, DECLINED, FILTERED, TOOL_CALLS = "cut_off", "declined", "content_filter", "tool_calls"
REFUSED_BY_SERVICE = "refused_by_service"
"""The HTTP status says that this prompt cannot be served (`failures.FailureKind.PROMPT`): no chat completion came."""
NO_TEXT = frozenset({CUT_OFF, DECLINED, FILTERED, TOOL_CALLS, REFUSED_BY_SERVICE})
"""Causes: why an answer has no text. The values are written to files, so they do not change."""

_LENGTH = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
_CODES_OF_400 = ("context_length_exceeded", "content_filter", "content_policy_violation")
_TEXT_PARTS = (None, "text", "output_text")


class NotAChat(ValueError):
    """The body is not a chat completion. `status`: the HTTP status written in it, 0 when there is none."""

    def __init__(self, detail: str, status: int = 0) -> None:
        super().__init__(detail)
        self.status = status


@dataclass(frozen=True)
class ChatAnswer:
    text: str
    """"" where there is none."""
    finish: str = ""
    """`finish_reason`, "" where it is missing."""
    cause: str | None = None
    """Why there is no text, of NO_TEXT; None when the answer does not show it."""
    refusal: str = ""
    """The words of a model that declined."""
    tokens: int = 0
    """Of the answer, 0 where the service does not count."""
    choice: Mapping[str, Any] | None = None

    @property
    def truncated(self) -> bool:
        """It reached the longest answer allowed."""
        return self.finish.lower() in _LENGTH


def read_chat(body: bytes) -> ChatAnswer:
    """The first choice of a chat completion. Raises NotAChat."""
    try:
        completion = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAChat(body[:200].decode(errors="replace")) from error
    if not isinstance(completion, dict) or "choices" not in completion:
        raise NotAChat(error_detail(completion) or body[:200].decode(errors="replace"), _status(completion))
    usage = completion.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    choices = completion["choices"]
    choice = choices[0] if isinstance(choices, list) and choices else {}
    choice = choice if isinstance(choice, dict) else {}
    if choice.get("error"):  # a gateway whose provider failed half-way
        raise NotAChat(error_detail(choice), _status(choice))
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    text = text_of(message.get("content"))
    finish = choice.get("finish_reason")
    answer = ChatAnswer(
        text=text,
        finish=finish if isinstance(finish, str) else "",
        refusal=_refusal(message),
        tokens=tokens if isinstance(tokens, int) else 0,
        choice=choice,
    )
    return answer if text.strip() else ChatAnswer(**{**vars(answer), "cause": _cause(answer, message)})


def text_of(content: Any) -> str:
    """The text of a message's `content`: itself, or its text parts joined; "" for null. Thoughts are not text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(_part_text(part) for part in parts)


def error_detail(body: Any) -> str:
    """The message of a parsed error body, on one line; "" when there is none in the usual places."""
    for _ in range(3):
        if not isinstance(body, dict):
            break
        body = next((body[name] for name in ("error", "message", "detail") if body.get(name)), None)
    return " ".join(body.split())[:300] if isinstance(body, str) else ""


def response_detail(body: bytes) -> str:
    """The same of a response that is not a 200, whether it is JSON or not."""
    try:
        detail = error_detail(json.loads(body))
    except (ValueError, RecursionError):
        detail = ""
    return detail or " ".join(body[:4096].decode(errors="replace").split())[:300]


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str):
        return part["text"]
    return ""


def _refusal(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = [part.get("refusal") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    refusals = [refusal for refusal in (message.get("refusal"), *parts) if isinstance(refusal, str)]
    return " ".join(" ".join(refusals).split())[:300]


def _cause(answer: ChatAnswer, message: Mapping[str, Any]) -> str | None:
    if answer.refusal:
        return DECLINED
    if answer.truncated:
        return CUT_OFF
    if answer.finish in ("content_filter", "SAFETY", "safety"):
        return FILTERED
    if message.get("tool_calls") or message.get("function_call") or answer.finish in ("tool_calls", "function_call"):
        return TOOL_CALLS
    return None


def _status(body: Any) -> int:
    """The HTTP status that gateways put into a body they send with 200: {"error": {"code": 429, ...}}, vLLM's older
    {"object": "error", "code": 400}, or one of OpenAI's codes for it; 0 when there is none."""
    error = body.get("error", body) if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if code in _CODES_OF_400:
        return 400
    text = str(code)
    return int(text) if re.fullmatch("[45][0-9][0-9]", text) else 0
