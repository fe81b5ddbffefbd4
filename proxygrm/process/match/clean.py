"""An answer's text without its wrapping: the box, the phrase before it, LaTeX's spacing and styles."""

from __future__ import annotations

import re
from string import ascii_letters, digits

MAX_CHARS = 20_000
"""Of a longer text the end alone is read: the answer is there."""
_BOX = re.compile(r"\\f?boxed\s*\{")
_PHRASE = re.compile(
    r"(?:the\s+)?(?:final\s+|correct\s+|right\s+)?(?:answer(?:\s+choice|\s+option)?|option|choice)\s*(?:is|should\s+be|would\s+be|[:=])\s*:?",
    re.IGNORECASE,
)
_STYLES = r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mbox|rm|bf|displaystyle)(?![a-zA-Z])"
_STYLE = re.compile(rf"{_STYLES}\s*\{{([^{{}}]*)\}}|{_STYLES}")
_SPACING = re.compile(r"\\[,;:!> ]|~|\\q?quad(?![a-zA-Z])|\\(?:left|right)(?![a-zA-Z])")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,\\!|\\,)(?=\d{3}(?!\d))")
"""LaTeX's ways to set the comma of 1,000: 1{,}000, 1,\\!000 and 1\\,000."""
_DEGREE = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])|[º˚掳]")
_BEARING = re.compile(r"°\s*T(?![a-zA-Z])")
"""A true bearing, 118°T; in MathVerse the sign is a Chinese character, from a wrong encoding."""
_FRACTION = re.compile(r"\\[dt]frac(?![a-zA-Z])")
_SHORT_FRACTION = re.compile(r"\\frac\s*(\d)\s*(\d)")
_NAME_BEFORE_EQUALS = re.compile(r"(?:[^\d+*/^=<>-]|(?<=[A-Za-z_{∠])\d|(?<=\\angle )\d|(?<=∠ )\d)*=(?!=)")
_APPROXIMATELY = re.compile(r"\\approx(?![a-zA-Z])|≈")
_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "﹣": "-", "－": "-", "×": "\\times ", "·": "\\cdot ", "÷": "\\div ", "π": "\\pi ",
        "√": "\\sqrt ", "²": "^2", "³": "^3", "％": "%", "，": ",", "（": "(", "）": ")", "：": ":", "．": ".",
        "½": "\\frac{1}{2}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
        "∞": "\\infty ",
        **{chr(ord(each) + 0xFEE0): each for each in ascii_letters + digits},  # full width, as in Chinese texts
    }
)  # fmt: skip


def extracted(text: str) -> str:
    """The last complete \\boxed{...}, however deep its braces; else what follows the last "the answer is" on its line;
    else the text."""
    text = text[-MAX_CHARS:].strip()
    boxes = list(_BOX.finditer(text))
    if boxes and (inside := _to_partner(text, boxes[-1].end())) is not None:
        return inside.strip()
    phrases = list(_PHRASE.finditer(text))
    if phrases:
        after = text[phrases[-1].end() :].strip()
        if after:
            return after.split("\n", 1)[0].strip()
    return text


def _to_partner(text: str, start: int) -> str | None:
    depth = 1
    for index in range(start, len(text)):
        if text[index] == "{":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if not depth:
                return text[start:index]
    return None


def cleaned(text: str) -> str:
    """Without dollar signs, styles and spacing; one way to write degrees, minus, fractions and percent."""
    text = text.translate(_CHARACTERS).replace("\\$", "").replace("$", "").replace("\\%", "%").replace("**", "")
    text = _THOUSANDS.sub(",", text)
    text = _SPACING.sub(" ", _STYLE.sub(r" \1", _BEARING.sub("°", _DEGREE.sub("°", text))))
    text = _SHORT_FRACTION.sub(r"\\frac{\1}{\2}", _FRACTION.sub(r"\\frac", text))
    return " ".join(text.split()).rstrip(".。;,").strip()


def without_name(text: str) -> str:
    """ "Area of sector = 6" -> "6", "x = 2 + 4 = 6" -> "6": a name before the equals sign goes, with what is worked out
    behind it; the left side of an equation stays."""
    match = _NAME_BEFORE_EQUALS.match(text)
    rest = text.rsplit("=", 1)[1].strip() if match else ""
    return rest or text


def exact_and_rounded(text: str) -> list[str]:
    """ "sqrt(2) ≈ 1.41" -> both; the text alone where it has no such sign."""
    sides = _APPROXIMATELY.split(text)
    return [side.strip() for side in sides if side.strip()] or [text] if 2 <= len(sides) <= 3 else [text]


def plain(text: str) -> str:
    """For comparing words: no blanks, braces or capitals."""
    return re.sub(r"[\s{}]", "", text).casefold()
