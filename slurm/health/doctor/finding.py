"""One line of `proxygrm doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """check: what was looked at. said: what was found. remedy: what to do; empty when all is well."""

    check: str
    level: Level
    said: str
    remedy: str = ""


def ok(check: str, said: str) -> Finding:
    return Finding(check, "ok", said)


def warn(check: str, said: str, remedy: str) -> Finding:
    return Finding(check, "warn", said, remedy)


def fail(check: str, said: str, remedy: str) -> Finding:
    return Finding(check, "fail", said, remedy)
