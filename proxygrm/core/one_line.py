"""Text that people give and that ends up in scripts, logs and terminals: it is one line, without control characters.

A newline in a name would begin a further line of a batch script, an escape would speak to the terminal that shows it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from proxygrm.core.errors import UserError
from proxygrm.core.visible import DIRECTIONS, LINE_ENDS

_BAD = re.compile(f"[\x00-\x1f\x7f-\x9f{LINE_ENDS}{DIRECTIONS}]")
"""C0 and C1, the two line ends of Unicode, and what turns the direction of writing, so that one reads other words than
the shell."""
_NAMES = {"\n": "a line break", "\r": "a carriage return", "\t": "a tab", "\0": "a NUL", "\x1b": "an escape"}


def control_character(text: str, allowed: str = "") -> str:
    """The first control character in words; "" where there is none."""
    for found in _BAD.findall(text):
        if found not in allowed:
            return _NAMES.get(found) or f"U+{ord(found):04X} ({unicodedata.name(found, 'a control character')})"
    return ""


def refuse_control(text: str, where: str, allowed: str = "") -> None:
    """Raise UserError that names `where` when the text has a control character in it."""
    if found := control_character(text, allowed):
        raise UserError(f"{shown(where)} has {found} in it; it has to be one plain line")  # the text may be a secret


def refuse_arguments(arguments: Iterable[str]) -> None:
    """Raise UserError that names the option or argument of a command line with a control character in it."""
    option = ""
    for text in arguments:
        name, sign, value = text.partition("=")
        if text.startswith("-"):
            option, name, value = (name if sign else text), value.partition("=")[0], value
        where = f"--set {name}" if option == "--set" else option
        refuse_control(text, where if where and where != text else f"{text!r}")
        option = option if text.startswith("-") and not sign else ""


def shown(text: str) -> str:
    """The text with its control characters written out."""
    return _BAD.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
