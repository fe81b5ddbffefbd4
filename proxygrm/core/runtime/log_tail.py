"""The end of a log, for error messages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_TAIL_BYTES = 1 << 18
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_WHO = re.compile(r"^(?:\(\w[^()]{0,60}\)\s*|\[rank\d+\]:\s*)+")
"""Of which process a line is: (EngineCore pid=7), (Worker_TP1 pid=8, ip=10.0.0.1), [rank0]:"""
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
"""What a process says because another one has died: it explains nothing where that one has spoken."""
_VALIDATION = re.compile(r"validation errors? for (\S+)")
_BARE = re.compile(r"[\w.]+")
_PLACE = re.compile(r'\s*File "(?:.*/)?([^"/]+)", line (\d+)')
_MORE_LINES = 4


def tail(path: Path, lines: int = 10) -> list[str]:
    """The last non-empty lines, without colours; none when there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in _ANSI.sub("", text).splitlines() if line.strip()][-lines:]


def last_words(path: Path, length: int = 300) -> str:
    """One line that says most about why it ended; see `telling_line`."""
    return telling_line(tail(path, 4000), length)


def telling_line(lines: Sequence[str], length: int = 300) -> str:
    """The last error that is not just the echo of another one, on one line; else the last line.

    A process whose child or peer died says so in an error of its own, after the cause; and an error may say what it is
    about on the lines that follow its name, as pydantic's do.
    """
    plain = [_bare(line) for whole in lines for line in whole.splitlines() if line.strip()]
    errors = [number for number, line in enumerate(plain) if _ERROR.match(line.strip())]
    causes = [number for number in errors if not _SECONDARY.search(_whole(plain, number))]
    found = (causes or errors or [len(plain) - 1])[-1]
    words = _whole(plain, found) if errors else plain[-1] if plain else ""
    return " ".join(words.split())[:length] or "nothing in the log"


def _bare(line: str) -> str:
    """Without the names of process, level, time and file that loggers put before each line."""
    return _LOGGED.sub("", _WHO.sub("", _ANSI.sub("", line)))


def _whole(lines: Sequence[str], number: int) -> str:
    """The error, with the lines that say what it is about where its own does not."""
    first = lines[number].strip()
    checked = _VALIDATION.search(first)
    if _BARE.fullmatch(first):
        return first + _where(lines[max(0, number - _MORE_LINES) : number])
    if not checked and not first.endswith(":"):
        return first
    more: list[str] = []
    for line in lines[number + 1 : number + 1 + _MORE_LINES]:
        if line.lstrip().startswith(("For further information", "Traceback ")) or _LEVEL.match(line):
            break
        more.append(line.partition(" [type=")[0].strip().removeprefix("Value error, "))
    return f"{checked[1]}: {' '.join(more)}" if checked and more else " ".join([first, *more])


def _where(before: Sequence[str]) -> str:
    """ " (FILE line N: CODE)" from the last lines of a traceback: an error without words is explained by its place."""
    for number in range(len(before) - 1, -1, -1):
        if place := _PLACE.match(before[number]):
            code = before[number + 1].strip() if number + 1 < len(before) else ""
            return f" ({place[1]} line {place[2]}{': ' * bool(code)}{code})"
    return ""
