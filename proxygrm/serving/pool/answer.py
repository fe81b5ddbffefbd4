"""The proxy's answer: a verdict, or the cause for which there is none."""

from __future__ import annotations

from dataclasses import dataclass

from proxygrm.core.labels import Label
from proxygrm.critique.contract import parse_proxy_verdict
from proxygrm.critique.thought import after_thought
from proxygrm.serving.chat.answer import NotAChat, read_chat
from proxygrm.serving.pool.routing import Cause
from proxygrm.serving.pool.verdict import read_verdict
from proxygrm.serving.settings import Mode


class AttemptFailed(Exception):
    """This attempt brought no answer."""

    def __init__(self, cause: Cause, detail: str = "") -> None:
        super().__init__(cause.value)
        self.cause = cause
        self.detail = detail
        """What the server or the system said, on one line; "" for nothing."""


@dataclass(frozen=True)
class ProxyAnswer:
    """text: what the proxy wrote. verdict: None with a `cause`. soft: probability of verdict 1 against verdict 2, None
    where the proxy reasons first."""

    text: str
    verdict: Label | None
    cause: Cause | None = None
    soft: float | None = None


@dataclass(frozen=True)
class ProxyJudgement:
    """verdict: 1 or 2, None with a `cause`. agrees: verdict == label, None when there is no verdict or no label.
    replica: URL of the one that answered, or of the last one that was asked. retries: attempts after the first. text:
    what the proxy wrote, also when it could not be parsed. hedged: a second replica was asked too. soft: probability of
    verdict 1 against verdict 2, in the mode `verdict`."""

    verdict: Label | None
    agrees: bool | None
    cause: Cause | None
    latency_s: float
    replica: str | None = None
    retries: int = 0
    text: str = ""
    hedged: bool = False
    soft: float | None = None


def read_answer(body: bytes, mode: Mode = "critique") -> ProxyAnswer:
    """Raises AttemptFailed(GARBAGE) for what is not a finished chat completion, and for one without probabilities where
    they belong. One without text (the thought used up max_tokens, say) is an answer without a verdict."""
    try:
        chat = read_chat(body)
        if not (chat.text or chat.cause or chat.finish):
            raise NotAChat("a message without text that has no finish_reason")
        if mode == "verdict":
            verdict, soft = (chat.choice and chat.text and read_verdict(chat.choice)) or (None, None)
            return ProxyAnswer(chat.text, verdict, None if verdict else Cause.UNPARSED, soft)
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise AttemptFailed(Cause.GARBAGE) from error
    verdict = parse_proxy_verdict(after_thought(chat.text, chat.truncated))
    return ProxyAnswer(chat.text, verdict, None if verdict else Cause.CUT_OFF if chat.truncated else Cause.UNPARSED)
