"""The probabilities of the two verdicts, read from one token of a chat completion. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, inf, isnan
from typing import Any

from proxygrm.core.labels import Label
from proxygrm.serving.chat.answer import text_of

TOP_LOGPROBS = 20
"""Tokens whose probabilities are requested: the most that OpenAI's API allows, and vLLM's own limit."""
_ROUNDING = 1e-3


def read_verdict(choice: Mapping[str, Any]) -> tuple[Label, float] | None:
    """(verdict, probability of verdict 1 renormalised over the two) from a choice with `logprobs`.

    None when greedy decoding writes anything but the digit 1 or 2 here (white space around it allowed, as in a
    critique's verdict): then the proxy has no verdict to renormalise. Tokens that differ only in white space count
    together; one that is not among the most probable counts as 0. A tie goes to the digit that was written.

    Raises ValueError, TypeError, LookupError or ArithmeticError when there are no probabilities to be read: the server
    ignored a part of the request.
    """
    written = text_of(choice["message"]["content"]).strip()
    logprobs = _alternatives(choice)
    if len(logprobs) < 2:
        raise ValueError("there is no other token to compare with")
    if written not in ("1", "2"):
        return None
    one, two = (sum(exp(p) for token, p in logprobs.items() if token.strip() == digit) for digit in "12")
    if not one + two > 0:
        raise ValueError("the token that was written has no probability")
    greedy: Label = 1 if written == "1" else 2
    return (greedy if one == two else 1 if one > two else 2), one / (one + two)


def first_token_logprobs(choice: Mapping[str, Any] | None) -> dict[str, float] | None:
    """Token -> logarithm of its probability, of the first token and its alternatives; None where the service sent none
    that can be read."""
    try:
        return _alternatives(choice or {})
    except (ValueError, TypeError, LookupError):
        return None


def _alternatives(choice: Mapping[str, Any]) -> dict[str, float]:
    """Raises ValueError, TypeError or LookupError."""
    first = choice["logprobs"]["content"][0]
    logprobs: dict[str, float] = {}
    for entry in (*first["top_logprobs"], first):  # the token that was written is in both
        token, logprob = str(entry["token"]), float(entry["logprob"])
        if isnan(logprob) or logprob > _ROUNDING:
            raise ValueError(f"{logprob} is not the logarithm of a probability")
        logprobs[token] = max(logprob, logprobs.get(token, -inf))
    return logprobs
