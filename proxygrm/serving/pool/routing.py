"""Which replica gets a request, and what follows a failure. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

CLIENT_FAULTS = frozenset({400, 401, 403, 404, 413, 422})
"""Statuses that another replica would repeat: the request itself cannot be served."""
MAX_BACK_OFF_S = 5.0
FIRST_BACK_OFF_S = 0.2
MAX_ANSWERED_ATTEMPTS = 4
"""Failures a replica *answered* with (or sat out); refused connections are retried until the deadline, because
a replica that is being started again refuses for a while."""


class Cause(StrEnum):
    """Why there is no verdict. The values stand in metrics and files, so they do not change."""

    TIMEOUT = "timeout"
    """No answer in time, from a replica that had the request."""
    HTTP_ERROR = "http_error"
    """A status that says the replica is in trouble (5xx, 429)."""
    REFUSED = "refused"
    """A status that says the request is wrong: too long for the model, a wrong key, an unreadable picture."""
    CONNECTION = "connection"
    BREAKER_OPEN = "breaker_open"
    """Never sent: every replica had failed lately, and none came back before the deadline."""
    NO_ROOM = "no_room"
    """Never sent: the replicas were busy with other calls until the deadline."""
    UNPROVEN = "unproven"
    """Something answers at the replica's address that does not hold the key; it was sent nothing."""
    GARBAGE = "garbage"
    """A replica answered 200 with something that is no chat completion."""
    UNPARSED = "unparsed"
    """The proxy answered, but not to the contract: an answer, not a failure of transport."""
    CUT_OFF = "cut_off"
    """Unparsed, because the answer reached max_tokens."""
    PICTURE_MISSING = "picture_missing"
    MISSING_FIELD = "missing_field"
    """The pair has no question or response."""
    NO_RUBRIC = "no_rubric"


@dataclass
class Route:
    """What routing knows of a call. order: replicas by preference, home first. avoid: those it has failed on."""

    key: bytes
    order: Sequence[str]
    avoid: set[str] = field(default_factory=set)


def prompt_key(question: str, response_1: str, response_2: str, pictures: Sequence[bytes]) -> bytes:
    """What the rollouts of one prompt share, and with it their KV prefix: everything but the rubric.

    pictures: their bytes, or digests of them.
    """
    digest = hashlib.sha256()
    texts = (text.encode(errors="surrogatepass") for text in (question, response_1, response_2))
    for part in (*texts, *pictures):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()


def preference(key: bytes, replicas: Sequence[str]) -> list[str]:
    """Replicas by rendezvous hash, the preferred first; a replica that goes or comes moves only its own keys.

    Every process of a job computes the same order, so they agree on a prompt's home without talking.
    """
    return sorted(replicas, key=lambda url: hashlib.sha256(key + url.encode()).digest(), reverse=True)


def usable(route: Route, limits: Mapping[str, int]) -> Sequence[str]:
    """Replicas the call may go to, by preference: neither closed to all (limit 0) nor failed on; when there is no
    other, also those it has failed on, because the only other choice is to give up."""
    if not route.avoid and all(limits.values()):
        return route.order
    open_ = [replica for replica in route.order if limits[replica]]
    return [replica for replica in open_ if replica not in route.avoid] or open_


def choose(
    route: Route, load: Mapping[str, int], limits: Mapping[str, int], warm: Collection[str] = (), spill: bool = True
) -> str | None:
    """A replica with room for a call; None: let it wait.

    First one that has had the prompt (`warm`), then the prompt's home, then, if it may `spill`, the least loaded.
    """
    able = usable(route, limits)
    roomy = [replica for replica in able if load[replica] < limits[replica]]
    if not roomy:
        return None
    had_it = [replica for replica in roomy if replica in warm]
    if not had_it and roomy[0] == able[0]:
        return roomy[0]
    if not had_it and not spill:
        return None
    return min(had_it or roomy, key=lambda replica: load[replica])


def pick(
    waiting: Iterable[tuple[int, Route, Collection[str]]],
    replica: str,
    limits: Mapping[str, int],
    spill: bool = True,
) -> int | None:
    """Which waiting call gets the room that has come up on `replica`; None when none may go there.

    waiting: (number, route, replicas that have had its prompt), the oldest first. The oldest whose prompt belongs
    here wins. Only when there is none is a prompt taken from another replica: one that nobody has begun, else the one
    with the most calls waiting, because they will follow. Not at all without `spill`.
    """
    strangers: dict[tuple[int, bytes], list[int]] = {}
    for number, route, warm in waiting:
        able = usable(route, limits)
        if replica not in able:
            continue
        if replica in warm or (not warm and able[0] == replica):
            return number
        strangers.setdefault((1 if warm else 0, route.key), []).append(number)
    if not (strangers and spill):
        return None
    return strangers[min(strangers, key=lambda found: (found[0], -len(strangers[found])))][0]


def back_off_s(failures: int) -> float:
    """Pause before the attempt that follows the n-th failure of a call (n from 1)."""
    return min(MAX_BACK_OFF_S, FIRST_BACK_OFF_S * 2 ** (failures - 1))


def gives_up(cause: Cause, answered_attempts: int) -> bool:
    """Is another attempt pointless, whatever time is left?"""
    if cause in (Cause.REFUSED, Cause.PICTURE_MISSING):
        return True
    return cause is not Cause.CONNECTION and answered_attempts >= MAX_ANSWERED_ATTEMPTS


def cause_of(status: int) -> Cause:
    """Of an HTTP status other than 200."""
    return Cause.REFUSED if status in CLIENT_FAULTS else Cause.HTTP_ERROR
