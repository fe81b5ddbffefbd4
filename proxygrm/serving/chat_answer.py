"""What a chat completion says: the one place where a response body of OpenAI's chat API becomes an answer.

A message without text is an answer too: the thought used up `max_tokens`, the model declined, a filter took the text
away. Only a body that is no chat completion at all is a fault of the service.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CUT_OFF, DECLINED, FILTERED, TOOL_CALLS = "cut_off", "declined", "content_filter", "tool_calls"
REFUSED_BY_SERVICE = "refused_by_service"
"""An HTTP status that says that this prompt cannot be served (see `teacher.client`): no chat completion came."""
NO_TEXT = frozenset({CUT_OFF, DECLINED, FILTERED, TOOL_CALLS, REFUSED_BY_SERVICE})
"""Causes: why an answer has no text. The values stand in files, so they do not change."""

_LENGTH = frozenset({"length", "max_tokens", "max_output_tokens", "model_length"})
_WORDS_OF_400 = ("context_length_exceeded", "content_filter", "content_policy_violation")
_TEXT_PARTS = (None, "text", "output_text")


class NotAChat(ValueError):
    """The body is no chat completion. `status`: an HTTP status that stands in it, 0 when it holds none."""

    def __init__(self, words: str, status: int = 0) -> None:
        super().__init__(words)
        self.status = status


@dataclass(frozen=True)
class ChatAnswer:
    """text: "" where there is none, with a `cause` of NO_TEXT, or None when nothing in the answer says why. words:
    those of a model that declined. finish: `finish_reason`, "" where it is missing. tokens: of the answer, 0 where the
    service does not count."""

    text: str
    finish: str = ""
    cause: str | None = None
    words: str = ""
    tokens: int = 0
    choice: Mapping[str, Any] | None = None

    @property
    def truncated(self) -> bool:
        """It reached the longest answer allowed."""
        return self.finish.lower() in _LENGTH


def read_chat(body: bytes) -> ChatAnswer:
    """The first choice of a chat completion. Raises NotAChat."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAChat(body[:200].decode(errors="replace")) from error
    if not isinstance(told, dict) or "choices" not in told:
        raise NotAChat(error_words(told) or body[:200].decode(errors="replace"), _status(told))
    usage = told.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    choices = told["choices"]
    choice = choices[0] if isinstance(choices, list) and choices else {}
    choice = choice if isinstance(choice, dict) else {}
    if choice.get("error"):  # a gateway whose provider failed on the way
        raise NotAChat(error_words(choice), _status(choice))
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    text, refusal = text_of(message.get("content")), _refusal(message)
    finish = choice.get("finish_reason")
    answer = ChatAnswer(
        text=text,
        finish=finish if isinstance(finish, str) else "",
        words=refusal,
        tokens=tokens if isinstance(tokens, int) else 0,
        choice=choice,
    )
    return answer if text.strip() else ChatAnswer(**{**vars(answer), "cause": _cause(answer, message)})


def text_of(content: Any) -> str:
    """The text of a message's `content`: itself, or its text parts put together; "" for null. Thoughts are no text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "".join(_part_text(part) for part in parts)


def after_thought(text: str, truncated: bool) -> str:
    """What an answer that was cut off says after its `<think>`: a verdict weighed in the thought is none. Whole answers
    stay as they are, since the contract decides what counts in them."""
    if truncated and text.lstrip().startswith("<think>"):
        return text.rpartition("</think>")[2] if "</think>" in text else ""
    return text


def error_words(told: Any) -> str:
    """What an error body says, on one line; "" when it says nothing in the usual places."""
    for _ in range(3):
        if not isinstance(told, dict):
            break
        told = next((told[name] for name in ("error", "message", "detail") if told.get(name)), None)
    return " ".join(told.split())[:300] if isinstance(told, str) else ""


def _part_text(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type") in _TEXT_PARTS and isinstance(part.get("text"), str):
        return part["text"]
    return ""


def _refusal(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    parts = [part.get("refusal") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    said = [refusal for refusal in (message.get("refusal"), *parts) if isinstance(refusal, str)]
    return " ".join(" ".join(said).split())[:300]


def _cause(answer: ChatAnswer, message: Mapping[str, Any]) -> str | None:
    if answer.words:
        return DECLINED
    if answer.truncated:
        return CUT_OFF
    if answer.finish in ("content_filter", "SAFETY", "safety"):
        return FILTERED
    if message.get("tool_calls") or message.get("function_call") or answer.finish in ("tool_calls", "function_call"):
        return TOOL_CALLS
    return None


def _status(told: Any) -> int:
    """The HTTP status that gateways put into a body they send with 200: {"error": {"code": 429, ...}}, vLLM's older
    {"object": "error", "code": 400}, or one of OpenAI's words for it; 0 when there is none."""
    error = told.get("error", told) if isinstance(told, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if code in _WORDS_OF_400:
        return 400
    text = str(code)
    return int(text) if re.fullmatch("[45][0-9][0-9]", text) else 0
