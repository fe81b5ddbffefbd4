"""The released comparison of answers, `--compat upstream`: texts made alike, else numbers rounded to two decimals."""

from __future__ import annotations

import re
from typing import Any

from proxygrm.process.match.arithmetic import NoNumber
from proxygrm.process.match.latex_number import released_value

MAX_CHARS = 20_000
"""Longer texts are equal only as they are."""
_PHRASES = ("the final answer is", "the answer is", "the correct answer is", "the answer should be")
_DELETED = (
    "\\,", "\\text", "\\mbox", "\\left", "\\right", "^{\\circ}", "^\\circ", "{m}^3", "m^3", "{units}", "units", "{km}",
    "km",
)  # fmt: skip
_A_OVER_B = re.compile(r"(-?\d+)/(-?\d+)")


def released_equal(pred: Any, answer: Any, choices: Any = None) -> bool:
    """Whether the released code takes `pred` for `answer`, or for the option that a one-letter answer names."""
    if pred is None or answer is None:
        return False
    accepted = [str(answer)]
    letter = accepted[0].strip().upper()
    if isinstance(choices, list) and len(letter) == 1 and "A" <= letter <= "Z" and ord(letter) - 65 < len(choices):
        accepted.append(str(choices[ord(letter) - 65]))
    return any(_equal(str(pred), text) for text in accepted)


def _equal(pred: str, answer: str) -> bool:
    if max(len(pred), len(answer)) > MAX_CHARS:
        return pred == answer
    ours, gold = released_form(pred), released_form(answer)
    if not ours or not gold:
        return False
    if ours == gold:
        return True
    if len(gold) == 1 and gold.isalpha():
        return False
    try:
        return abs(round(released_value(ours), 2) - round(released_value(gold), 2)) < 1e-5
    except (NoNumber, ArithmeticError):
        return False


def released_form(text: str) -> str:
    """The answer in a text, in the form in which the released code compares it."""
    text = text.lower().replace("{}", "")
    start = text.rfind("\\boxed{")
    if start >= 0:
        text = text[start + len("\\boxed{") :].split("}", 1)[0]
    else:
        phrase = next((phrase for phrase in _PHRASES if phrase in text), None)
        if phrase is not None:
            text = text.rsplit(phrase, 1)[1].strip().split("\n", 1)[0]
    closing, opening = text.find("}"), text.find("{")
    if closing >= 0 and (opening < 0 or closing < opening):
        text = text[:closing]
    text = text.rsplit("=", 1)[-1].rsplit("\\approx", 1)[-1]
    text = text.replace(" ", "").replace("∞", "\\infty").replace("+\\infty", "\\infty")
    text = text.replace("\\\\", "\\").replace("\n", "").replace("bmatrix", "pmatrix")
    for part in _DELETED:
        text = text.replace(part, "")
    return _stripped(text).rstrip(".")


def _stripped(text: str) -> str:
    for part, new in (
        ("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac"), ("\\left", ""), ("\\right", ""),
        ("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""), ("$", ""),
    ):  # fmt: skip
        text = text.replace(part, new)
    text = text.split("\\text{ ")[0].replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if text.startswith("."):
        text = "0" + text
    if text.count("=") == 1:
        text = text.split("=")[1]
    if "sqrt" in text:
        text = _braced(_braced(text.replace(" ", ""), "\\sqrt", 1), "\\frac", 2)
    text = text.replace(" ", "")
    if text == "0.5":
        return "\\frac{1}{2}"
    if match := _A_OVER_B.fullmatch(text):
        upper, lower = match.groups()
        if text.isascii() and len(text) < 1000 and f"{int(upper)}/{int(lower)}" == text:
            return f"\\frac{{{upper}}}{{{lower}}}"
    return text


def _braced(text: str, command: str, count: int) -> str:
    """Braces around the first `count` single characters that follow the command; a brace that is there stays."""
    first, *rest = text.split(command)
    parts = [first]
    for part in rest:
        if part and part[0] != "{":
            if len(part) < count:
                return text
            tail = part[count:]
            if count == 2 and part[1] == "{":
                part = f"{{{part[0]}}}{{{tail}"
            else:
                part = "".join(f"{{{character}}}" for character in part[:count]) + tail
        parts.append(part)
    return command.join(parts)
