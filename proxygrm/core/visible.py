"""Text of others as text: what a terminal would obey, or what would show it in another order, stands there in letters.

Logs, error bodies of services, names of files and jobs are other people's text. In it a terminal may be told to fill
the clipboard, to clear the screen, to go back and write over a line.
"""

from __future__ import annotations

import re
import unicodedata

DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
LINE_ENDS = "\u2028\u2029"
"""What turns the direction of writing, and Unicode's own line ends."""
_KEPT = "\n\t"
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def _letters(code: int) -> str:
    """From 0x7f on as JSON writes it: a line of JSON that holds one says the same afterwards. (It holds none below.)"""
    return f"\\x{code:02x}" if code < 0x7F else f"\\u{code:04x}"


_SHOWN = {
    code: _letters(code)
    for code in (*range(0xA0), *map(ord, DIRECTIONS + LINE_ENDS), *range(0xD800, 0xE000))
    if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp") and chr(code) not in _KEPT
}
_ANY = re.compile(f"[{re.escape(''.join(map(chr, _SHOWN)))}]")


def visible(text: str) -> str:
    r"""ESC as \x1b, a right-to-left override as \u202e, and so on; line ends and tabs stay."""
    return text.translate(_SHOWN) if _ANY.search(text) else text


def uncoloured(text: str) -> str:
    """Without colours, which logs are full of and which say nothing; whatever else is in it stays."""
    return _COLOUR.sub("", text)
