"""Untrusted text made safe to print: control characters and marks that change the direction of writing as escapes.

Logs, error bodies of services, and names of files and jobs are other people's text. Escape sequences in it may fill the
clipboard, clear the screen, or overwrite a line.
"""

from __future__ import annotations

import re
import unicodedata

DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
LINE_ENDS = "\u2028\u2029"
"""Marks that change the direction of writing, and Unicode's own line ends."""
_KEPT = "\n\t"
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def _escape(code: int) -> str:
    r"""From 0x7f on as \uXXXX, so that a line of JSON keeps its meaning. (JSON has no raw ones below.)"""
    return f"\\x{code:02x}" if code < 0x7F else f"\\u{code:04x}"


_ESCAPES = {
    code: _escape(code)
    for code in (*range(0xA0), *map(ord, DIRECTIONS + LINE_ENDS), *range(0xD800, 0xE000))
    if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp") and chr(code) not in _KEPT
}
_ANY = re.compile(f"[{re.escape(''.join(map(chr, _ESCAPES)))}]")


def visible(text: str) -> str:
    r"""ESC as \x1b, a right-to-left override as \u202e, and so on; line ends and tabs are kept."""
    return text.translate(_ESCAPES) if _ANY.search(text) else text


def uncoloured(text: str) -> str:
    """The text without colour codes; all else is kept."""
    return _COLOUR.sub("", text)
