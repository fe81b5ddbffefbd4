"""Text from users that ends up in scripts, logs and terminals must be one line, without control characters.

A newline in a name would add a line to a batch script, an escape sequence would control the terminal that shows it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from proxygrm.core.errors import UserError
from proxygrm.core.visible import DIRECTIONS, LINE_ENDS

_BAD = re.compile(f"[\x00-\x1f\x7f-\x9f{LINE_ENDS}{DIRECTIONS}]")
"""C0 and C1, the two line ends of Unicode, and marks that change the direction of writing: a person would then read
something else than the shell."""
_NAMES = {"\n": "a line break", "\r": "a carriage return", "\t": "a tab", "\0": "a NUL", "\x1b": "an escape"}


def control_character(text: str, allowed: str = "") -> str:
    """The first control character in words; "" where there is none."""
    for character in _BAD.findall(text):
        if character not in allowed:
            name = unicodedata.name(character, "a control character")
            return _NAMES.get(character) or f"U+{ord(character):04X} ({name})"
    return ""


def refuse_control(text: str, where: str, allowed: str = "") -> None:
    """Raise UserError that names `where` when the text has a control character in it."""
    if character := control_character(text, allowed):  # the text itself may be a secret
        raise UserError(
            f"{escaped(where)} contains {character}; it must be one plain line",
            code="option.control-character",
            where=where,
            character=character,
        )


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


def escaped(text: str) -> str:
    """The text with its control characters as escapes."""
    return _BAD.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
