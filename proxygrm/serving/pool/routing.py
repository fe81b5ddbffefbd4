"""Which replica gets a request, and what follows a failure. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from proxygrm.serving.chat.failures import FailureKind

MAX_BACK_OFF_S = 5.0
FIRST_BACK_OFF_S = 0.2
MAX_ANSWERED_ATTEMPTS = 4
"""Failures after which a call gives up. Refused connections do not count and are retried until the deadline, because
a replica that is being restarted refuses them for a while."""


class Cause(StrEnum):
    """Why there is no verdict. The values are written to metrics and files, so they do not change."""

    TIMEOUT = "timeout"
    """No answer in time, from a replica that had the request."""
    HTTP_ERROR = "http_error"
    """A status that means that the replica is in trouble (5xx, 429)."""
    REFUSED = "refused"
    """A status that means that the request is wrong: too long for the model, a wrong key, an unreadable image."""
    CONNECTION = "connection"
    BREAKER_OPEN = "breaker_open"
    """Never sent: every replica had failed recently, and none recovered before the deadline."""
    NO_ROOM = "no_room"
    """Never sent: the replicas were busy with other calls until the deadline."""
    UNPROVEN = "unproven"
    """Something answers at the replica's address that does not hold the key; it was sent nothing."""
    GARBAGE = "garbage"
    """A replica answered 200 with something that is not a chat completion."""
    UNPARSED = "unparsed"
    """The proxy answered, but its answer is not well-formed: an answer, not a failure of transport."""
    CUT_OFF = "cut_off"
    """Unparsed, because the answer reached max_tokens."""
    IMAGE_MISSING = "image_missing"
    MISSING_FIELD = "missing_field"
    """The pair has no question or response."""
    NO_RUBRIC = "no_rubric"


@dataclass
class Route:
    """What routing knows about a call. order: replicas by preference, home first. avoid: those it has failed on."""

    key: bytes
    order: Sequence[str]
    avoid: set[str] = field(default_factory=set)


def prompt_key(question: str, response_1: str, response_2: str, images: Sequence[bytes]) -> bytes:
    """A hash of what the rollouts of one prompt share, and with it their KV prefix: everything but the rubric.

    images: their bytes, or digests of them.
    """
    digest = hashlib.sha256()
    texts = (text.encode(errors="surrogatepass") for text in (question, response_1, response_2))
    for part in (*texts, *images):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()


def preference(key: bytes, replicas: Sequence[str]) -> list[str]:
    """Replicas by rendezvous hash, the preferred first; a replica that is added or removed moves only its own keys.

    Every process of a job computes the same order, so they agree on a prompt's home without communication.
    """
    return sorted(replicas, key=lambda url: hashlib.sha256(key + url.encode()).digest(), reverse=True)


def usable(route: Route, limits: Mapping[str, int]) -> Sequence[str]:
    """Replicas that the call may use, by preference: neither closed to all (limit 0) nor failed on. When there is no
    such replica, also those it has failed on, because the only other choice is to give up."""
    if not route.avoid and all(limits.values()):
        return route.order
    available = [replica for replica in route.order if limits[replica]]
    return [replica for replica in available if replica not in route.avoid] or available


def choose(
    route: Route, load: Mapping[str, int], limits: Mapping[str, int], warm: Collection[str] = (), spill: bool = True
) -> str | None:
    """A replica with room for a call; None: the call has to wait.

    First one that has had the prompt (`warm`), then the prompt's home, then, if it may `spill`, the least loaded.
    """
    replicas = usable(route, limits)
    with_room = [replica for replica in replicas if load[replica] < limits[replica]]
    if not with_room:
        return None
    warm_with_room = [replica for replica in with_room if replica in warm]
    if not warm_with_room and with_room[0] == replicas[0]:
        return with_room[0]
    if not warm_with_room and not spill:
        return None
    return min(warm_with_room or with_room, key=lambda replica: load[replica])


def pick(
    waiting: Iterable[tuple[int, Route, Collection[str]]],
    replica: str,
    limits: Mapping[str, int],
    spill: bool = True,
) -> int | None:
    """Which waiting call gets the place that has become free on `replica`; None when none may go there.

    waiting: (number, route, replicas that have had its prompt), the oldest first. The oldest call whose prompt belongs
    here wins. Only when there is none is a prompt taken from another replica: one of which no call has been sent yet,
    else the one with the most calls waiting, because they will follow. Not at all without `spill`.
    """
    foreign: dict[tuple[bool, bytes], list[int]] = {}
    for number, route, warm in waiting:
        replicas = usable(route, limits)
        if replica not in replicas:
            continue
        if replica in warm or (not warm and replicas[0] == replica):
            return number
        foreign.setdefault((bool(warm), route.key), []).append(number)
    if not (foreign and spill):
        return None
    return foreign[min(foreign, key=lambda prompt: (prompt[0], -len(foreign[prompt])))][0]


def back_off_s(failures: int) -> float:
    """Pause before the attempt that follows the n-th failure of a call (n from 1)."""
    return min(MAX_BACK_OFF_S, FIRST_BACK_OFF_S * 2 ** (failures - 1))


def gives_up(cause: Cause, answered_attempts: int) -> bool:
    """Is another attempt pointless, however much time is left?"""
    if cause in (Cause.REFUSED, Cause.IMAGE_MISSING):
        return True
    return cause is not Cause.CONNECTION and answered_attempts >= MAX_ANSWERED_ATTEMPTS


_CAUSES = {
    FailureKind.TIMEOUT: Cause.TIMEOUT,
    FailureKind.CONNECTION: Cause.CONNECTION,
    FailureKind.UNPROVEN: Cause.UNPROVEN,
    FailureKind.MALFORMED: Cause.GARBAGE,
    FailureKind.PROMPT: Cause.REFUSED,
    FailureKind.ACCESS: Cause.REFUSED,
    FailureKind.SERVER: Cause.HTTP_ERROR,
    FailureKind.METHOD: Cause.HTTP_ERROR,
}


def cause_of(kind: FailureKind) -> Cause:
    return _CAUSES[kind]
