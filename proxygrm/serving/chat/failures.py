"""Why a chat request brought no answer: one classification for the teacher, the judges and the proxy's pool."""

from __future__ import annotations

from enum import StrEnum

from proxygrm.serving.chat.answer import REFUSED_BY_SERVICE

_PROMPT_STATUSES = frozenset({400, 413, 414, 422, 431, 451})
_ACCESS_STATUSES = frozenset({401, 402, 403, 404})
_BUSY_STATUSES = frozenset({408, 409, 425, 429})


class FailureKind(StrEnum):
    """Each is met with another reaction, so a status belongs to one of them only."""

    TIMEOUT = "timeout"
    """No complete answer in time, from a server that had the request."""
    CONNECTION = "connection"
    """Nothing listens there, or the connection was cut."""
    UNPROVEN = "unproven"
    """Something answers at the server's address that does not hold the key; it was sent nothing."""
    MALFORMED = "malformed_answer"
    """Not HTTP, not a chat completion, or larger than any answer can be."""
    PROMPT = "refused_by_service"
    """This prompt cannot be served: too long, an image that the service does not take. Another attempt is pointless."""
    ACCESS = "access"
    """No prompt will be served: the key, the account, the address or the model's name is wrong."""
    SERVER = "server"
    """The server is busy or in trouble (429, 5xx and the like): another attempt may succeed."""
    METHOD = "method"
    """Any other 4xx: the server does not take such requests."""


class ChatFailed(Exception):
    """No answer. status: of HTTP, 0 where none came. detail: the message of the service or the system, on one line."""

    def __init__(self, kind: FailureKind, detail: str = "", status: int = 0) -> None:
        super().__init__(kind, detail, status)
        self.kind, self.detail, self.status = kind, detail, status

    @property
    def reason(self) -> str:
        """Short and countable; it is written to reports, so the values do not change."""
        if self.kind is FailureKind.PROMPT:
            return REFUSED_BY_SERVICE
        if self.kind in (FailureKind.ACCESS, FailureKind.SERVER, FailureKind.METHOD):
            return f"http_{self.status}"
        return self.kind.value

    def __str__(self) -> str:
        prefix = f"HTTP {self.status}: " if self.kind is FailureKind.PROMPT else ""
        return f"{self.reason}: {prefix}{self.detail}"


def kind_of_status(status: int) -> FailureKind:
    """Of an HTTP status other than 200."""
    if status in _PROMPT_STATUSES:
        return FailureKind.PROMPT
    if status in _ACCESS_STATUSES:
        return FailureKind.ACCESS
    if 400 <= status < 500 and status not in _BUSY_STATUSES:
        return FailureKind.METHOD
    return FailureKind.SERVER
