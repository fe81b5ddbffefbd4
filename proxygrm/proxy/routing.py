"""Which replica gets a request, and what follows a failure. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

CLIENT_FAULTS = frozenset({400, 413, 422})
"""Statuses that another replica would repeat: the request itself cannot be served."""
MAX_BACK_OFF_S = 5.0
FIRST_BACK_OFF_S = 0.2
MAX_ANSWERED_ATTEMPTS = 4
"""Failures a replica *answered* with (or sat out); refused connections are retried until the deadline, because
a replica that is being started again refuses for a while."""


class Cause(StrEnum):
    """Why there is no verdict. The values stand in metrics and files, so they do not change."""

    TIMEOUT = "timeout"
    HTTP_ERROR = "http_error"
    CONNECTION = "connection"
    UNPARSED = "unparsed"
    """The proxy answered, but not to the contract: an answer, not a failure of transport."""
    MISSING_FIELD = "missing_field"
    """The pair has no question, response or readable picture, or a replica's JSON has no answer in it."""
    NO_RUBRIC = "no_rubric"


def prompt_key(question: str, response_1: str, response_2: str, pictures: Sequence[bytes]) -> bytes:
    """What the rollouts of one prompt share, and with it their KV prefix: everything but the rubric."""
    digest = hashlib.sha256()
    for part in (question.encode(), response_1.encode(), response_2.encode(), *pictures):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()


def preference(key: bytes, replicas: Sequence[str]) -> list[str]:
    """Replicas by rendezvous hash, the preferred first; a replica that goes or comes moves only its own keys."""
    return sorted(replicas, key=lambda url: hashlib.sha256(key + url.encode()).digest(), reverse=True)


def choose(order: Sequence[str], in_flight: Mapping[str, int], limit: int, avoid: Collection[str] = ()) -> str | None:
    """The preferred replica while it has room, else the least loaded one that has; None: wait for room.

    `avoid` holds replicas this call has failed on or that failed lately: they come last, not never, because with
    one replica the only other choice is to give up.
    """
    for candidates in ([r for r in order if r not in avoid], [r for r in order if r in avoid]):
        if not candidates:
            continue
        if in_flight.get(candidates[0], 0) < limit:
            return candidates[0]
        least = min(candidates, key=lambda replica: in_flight.get(replica, 0))
        return least if in_flight.get(least, 0) < limit else None
    return None


def back_off_s(failures: int) -> float:
    """Pause before the attempt that follows the n-th failure of a call (n from 1)."""
    return min(MAX_BACK_OFF_S, FIRST_BACK_OFF_S * 2 ** (failures - 1))


def gives_up(cause: Cause, status: int | None, answered_attempts: int) -> bool:
    """Is another attempt pointless, whatever time is left?"""
    if cause is Cause.HTTP_ERROR and status in CLIENT_FAULTS:
        return True
    return cause is not Cause.CONNECTION and answered_attempts >= MAX_ANSWERED_ATTEMPTS
