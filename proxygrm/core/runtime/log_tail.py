"""The end of a log, and the line in it that says most. All readers of logs go through this file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

TAIL_BYTES = 1 << 18
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_WHO = re.compile(r"^(?:\(\w[^()]{0,60}\)\s*|\[rank\d+\]:\s*)+")
"""Which process a line comes from: (EngineCore pid=7), (Worker_TP1 pid=8, ip=10.0.0.1), [rank0]:"""
_LOGGED = re.compile(r"^(?:ERROR|CRITICAL|FATAL)\s+[\d-]+ [\d:.,]+ \[[^\]]{1,80}\]\s*")
_ERROR = re.compile(
    r"(?:[A-Za-z_][\w.]*)?(?:Error|Exception|Interrupt|Expired)\b|(?:[\w./-]+: )*(?:fatal )?error:|FATAL|Fatal |Killed",
)
_LEVEL = re.compile(r"^(?:[A-Z]{4,8}|[IWEF]\d{4}) ?[\d-]*\s")
_SECONDARY = re.compile(
    r"see (?:the )?(?:root cause|stack trace|error|logs?\b)|initialization failed|background process|"
    r"failed core proc|engine ?dead|engine ?core encountered|closed by peer|"
    r"^(?:[\w.]*\.)?(?:BrokenPipe|ConnectionReset|EOF|Cancelled|ChildFailed|CalledProcess|DistNetwork)Error\b|"
    r"^(?:[\w.]*\.)?KeyboardInterrupt\b",
    re.IGNORECASE,
)
"""Errors of a process whose peer has died: they explain nothing where the peer logged an error itself."""
_VALIDATION = re.compile(r"validation errors? for (\S+)")
_BARE = re.compile(r"[\w.]+")
_PLACE = re.compile(r'\s*File "(?:.*/)?([^"/]+)", line (\d+)')
_MORE_LINES = 4


def tail(path: Path, lines: int = 10, *, since: int = 0) -> list[str]:
    """The last non-empty lines, without colours; [] when there is no such file. since: bytes to leave out at its
    start, such as what earlier attempts wrote."""
    try:
        end = read_end(path, start=since)[1]
    except FileNotFoundError:
        return []
    return [line for line in _ANSI.sub("", "\n".join(end)).splitlines() if line.strip()][-lines:]


def read_end(path: Path, max_bytes: int = TAIL_BYTES, start: int = 0) -> tuple[int, list[str]]:
    """(number of the first line, lines) of the end of a file of any size; nothing from before byte `start`, unless the
    file has become shorter (rewritten). Raises FileNotFoundError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        own = start if start <= size else 0
        start = max(own, size - max_bytes)
        file.seek(0)
        before = sum(block.count(b"\n") for block in _blocks(file, start))
        file.seek(start)
        lines = file.read(max_bytes).decode(errors="replace").splitlines()
    # A cut in the middle of a line drops the rest of that line; the start of an attempt is not such a cut.
    return (before + 2, lines[1:]) if start > own else (before + 1, lines)


def _blocks(file: IO[bytes], end: int) -> Iterable[bytes]:
    remaining = end
    while remaining > 0 and (block := file.read(min(remaining, 1 << 20))):
        remaining -= len(block)
        yield block


def shows_error(line: str) -> bool:
    """Whether a log line names an error, without its meaning (`jobs.engine.watch.known_failures` has that)."""
    return bool(_ERROR.search(line))


def last_words(path: Path, length: int = 300, *, since: int = 0) -> str:
    """The one line that says most about why the process ended; see `telling_line`. since: as in `tail`."""
    return telling_line(tail(path, 4000, since=since), length)


def telling_line(lines: Sequence[str], length: int = 300) -> str:
    """The last error that does not merely follow from another one, on one line; else the last line.

    A process whose child or peer died logs an error of its own, after the cause; and the explanation of an error may be
    on the lines after its name, as pydantic's is.
    """
    plain = [_bare(line) for whole in lines for line in whole.splitlines() if line.strip()]
    errors = [number for number, line in enumerate(plain) if _ERROR.match(line.strip())]
    causes = [number for number in errors if not _SECONDARY.search(_whole(plain, number))]
    best = (causes or errors or [len(plain) - 1])[-1]
    text = _whole(plain, best) if errors else plain[-1] if plain else ""
    return " ".join(text.split())[:length] or "nothing in the log"


def _bare(line: str) -> str:
    """Without the process, level, time and file that loggers put before each line."""
    return _LOGGED.sub("", _WHO.sub("", _ANSI.sub("", line)))


def _whole(lines: Sequence[str], number: int) -> str:
    """The error, with the following lines where its own does not explain it."""
    first = lines[number].strip()
    validation = _VALIDATION.search(first)
    if _BARE.fullmatch(first):
        return first + _where(lines[max(0, number - _MORE_LINES) : number])
    if not validation and not first.endswith(":"):
        return first
    more: list[str] = []
    for line in lines[number + 1 : number + 1 + _MORE_LINES]:
        if line.lstrip().startswith(("For further information", "Traceback ")) or _LEVEL.match(line):
            break
        more.append(line.partition(" [type=")[0].strip().removeprefix("Value error, "))
    return f"{validation[1]}: {' '.join(more)}" if validation and more else " ".join([first, *more])


def _where(before: Sequence[str]) -> str:
    """ " (FILE line N: CODE)" from the last lines of a traceback: what an error without a message has."""
    for number in range(len(before) - 1, -1, -1):
        if place := _PLACE.match(before[number]):
            code = before[number + 1].strip() if number + 1 < len(before) else ""
            return f" ({place[1]} line {place[2]}{': ' * bool(code)}{code})"
    return ""
