"""The end of a log, for error messages."""

from __future__ import annotations

import re
from pathlib import Path

_TAIL_BYTES = 1 << 16
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"^(?:\(.{1,60}?\)\s*)?(?:[A-Za-z_][\w.]*(?:Error|Exception)\b|error:|FATAL|Killed)")


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
    """The last line that looks like an error, else the last line: one line that says most about why it ended."""
    lines = tail(path, 200)
    line = next((line for line in reversed(lines) if _ERROR.match(line.strip())), lines[-1] if lines else "")
    return " ".join(line.split())[:length] or "nothing in the log"
