"""A judge's verdict on one step: 1 (correct), -1 (incorrect), or unreadable."""

from __future__ import annotations

import re
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.process.json_text import lenient_load, strip_code_fences

MAX_CHARS = 1000
"""A longer text is not a bare verdict, whatever it ends with."""
_MINUS = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-", "＋": "+", "１": "1"})
_BARE = re.compile(
    r"""[\s"'`*$({\[]*
        (?:(?:final\s+)?(?:verdict|judge?ment|score|label|answer|result|output)[\s"'`*]*(?:is\s|[:=])[\s"'`*$({\[]*)?
        (?P<sign>[-+]?)1(?:\.0*)?[\s"'`*$)}\].]*""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_MINUS_ONE = re.compile(r"(?<!\d)-1(?!\d)")
_ONE = re.compile(r"(?<!\d)1(?!\d)")
_INTEGER = re.compile(r"-?\d+")


def read_verdict(text: Any, as_upstream: bool = False) -> int | None:
    """1 or -1 where the text is that number and nothing else, None where it is not.

    Around the number there may be a code fence, quotes, brackets, and a word such as "Score:"; before it a line of
    thought that ends with </think>. A minus may be typographical. "Step 1 is wrong", "0.1", "2" and "correct" cannot be
    read. A number counts as its text; None, no answer, cannot be read.

    as_upstream: the released reading, which always gives 1 or -1: of those four 1, 1, 1 and -1. Raises BadRow for what
    it raises on (NaN, 1e400), and in both readings for a value that is not a text, a number or None.
    """
    if isinstance(text, bool) or not (text is None or isinstance(text, str | int | float)):
        raise BadRow("bad_verdict", f"a verdict is {type(text).__name__}, it must be the judge's text")
    try:
        text = "" if text is None else str(text)
        return _released(text) if as_upstream else _strict(text)
    except (ValueError, OverflowError):
        raise BadRow("bad_verdict", f"the verdict {text[:40]!r} is a number that cannot be read") from None


def _strict(text: str) -> int | None:
    text = strip_code_fences(text.rsplit("</think>", 1)[-1])
    if len(text) > MAX_CHARS:
        return None
    match = _BARE.fullmatch(text.translate(_MINUS))
    if not match:
        return None
    return -1 if match["sign"] == "-" else 1


def _released(text: str) -> int:
    """Raises ValueError and OverflowError where the released one does."""
    if not text.strip():
        return -1
    text = strip_code_fences(text)
    if text in ("1", "-1"):
        return int(text)
    try:
        value = lenient_load(text)
    except ValueError:
        value = None
    if isinstance(value, int | float) and int(value) in (1, -1):
        return int(value)
    if _MINUS_ONE.search(text):
        return -1
    if _ONE.search(text):
        return 1
    first = _INTEGER.search(text)
    return 1 if first and int(first[0]) >= 1 else -1
