"""A number with its unit, read from a cleaned answer: LaTeX arithmetic, roots, pi, mixed numbers. Bounded."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from proxygrm.process.match.arithmetic import NoNumber

MAX_CHARS = 400
MAX_DEPTH = 30
_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)"
    r"|(?P<times>\\times(?![a-zA-Z])|\\cdot(?![a-zA-Z])|\*)|(?P<over>\\div(?![a-zA-Z])|/)"
    r"|(?P<frac>\\frac)|(?P<sqrt>\\?sqrt(?![a-zA-Z]))|(?P<pi>\\pi(?![a-zA-Z])|pi(?![a-zA-Z]))"
    r"|(?P<sign>[+-])|(?P<open>[({\[])|(?P<close>[)}\]])|(?P<power>\^)"
)
_PARTNER = {"(": ")", "{": "}", "[": "]"}
_DECIMAL = re.compile(r"[+-]?\s*(?P<whole>[0-9,]*)\.(?P<part>[0-9]+)")
_INTEGER = re.compile(r"([+-]?)\s*([0-9][0-9,]*)")
_ALIASES = {
    "°": "degree degrees deg",
    "%": "percent percents pct",
    "cm": "centimeter centimeters centimetre centimetres",
    "mm": "millimeter millimeters millimetre millimetres",
    "m": "meter meters metre metres",
    "km": "kilometer kilometers kilometre kilometres",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard yards",
    "mi": "mile miles",
    "g": "gram grams",
    "kg": "kilogram kilograms",
    "l": "liter liters litre litres",
    "ml": "milliliter milliliters millilitre millilitres",
    "s": "second seconds sec secs",
    "min": "minute minutes mins",
    "h": "hour hours hr hrs",
    "mph": "",
    "n": "newton newtons",
    "j": "joule joules",
    "w": "watt watts",
    "v": "volt volts",
    "k": "kelvin",
    "unit": "units",
    "dollar": "dollars usd",
}
_UNITS = {word: unit for unit, words in _ALIASES.items() for word in (unit, *words.split())}
_UNIT_WORD = re.compile(r"°[CF]?|%|[A-Za-z]+")
_POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cubed": "^3"}


@dataclass(frozen=True, slots=True)
class Quantity:
    value: float
    unit: str
    """Normalised; "" for a bare number."""
    decimals: int
    """Digits after the point of a number that is written as a decimal; 0 for integers, fractions and expressions."""
    significant: int
    """Digits of such a decimal without leading zeros."""
    integer: str
    """The digits of a plain integer, else ""."""

    @property
    def may_be_rounded(self) -> bool:
        return self.decimals >= 2 and self.significant >= 2


def quantity(text: str) -> Quantity:
    """Raises NoNumber for a text that is not one finite real number with, perhaps, a unit behind it."""
    if not text or len(text) > MAX_CHARS:
        raise NoNumber("no number")
    reader = _Reader(text)
    try:
        value = float(reader.sum())
    except (ArithmeticError, ValueError):
        raise NoNumber("no number") from None
    if not math.isfinite(value):
        raise NoNumber("not finite")
    written, unit = text[: reader.position].strip(), _unit(text[reader.position :].strip())
    decimal, integer = _DECIMAL.fullmatch(written), _INTEGER.fullmatch(written)
    part = decimal["part"] if decimal else ""
    digits = (decimal["whole"].replace(",", "") + part).lstrip("0") if decimal else ""
    whole = integer[1].replace("+", "") + integer[2].replace(",", "").lstrip("0") if integer else ""
    return Quantity(value, unit, len(part), len(digits), whole)


def _unit(text: str) -> str:
    """Raises NoNumber for what is not a unit: a variable, another expression, more than three words."""
    text = text.replace("{", "").replace("}", "").replace("\\cdot", " ")
    sides = []
    for side in re.split(r"/|\bper\b", text):
        words = side.replace("^ ", "^").split()
        if len(words) > 3 or (not words and len(text) > 0):
            raise NoNumber("no unit")
        power = "".join(_POWERS[word.lower()] for word in words if word.lower() in _POWERS)
        sides.append(" ".join(_unit_word(word) for word in words if word.lower() not in _POWERS) + power)
    return "/".join(sides)


def _unit_word(word: str) -> str:
    name, _, power = word.partition("^")
    if not _UNIT_WORD.fullmatch(name) or (power and power not in ("2", "3")):
        raise NoNumber("no unit")
    known = _UNITS.get(name.lower())
    if known is None and len(name) < 2:
        raise NoNumber("a variable")
    return (known or name.lower()) + (f"^{power}" if power else "")


class _Reader:
    """Recursive descent over the longest expression at the start of a text; `position` is its end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = self.depth = 0
        self._look()

    def _look(self) -> None:
        """The next token: its kind, its text, and whether a blank stands before it."""
        start = self.position
        while start < len(self.text) and self.text[start] == " ":
            start += 1
        match = _TOKEN.match(self.text, start)
        self.kind = str(match.lastgroup) if match else ""
        self.word = match[0] if match else ""
        self.spaced = start > self.position
        self._after = match.end() if match else self.position

    def take(self) -> str:
        word = self.word
        self.position = self._after
        self._look()
        return word

    def sum(self) -> float:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NoNumber("too deep")
        value = self.term()
        while self.kind == "sign":
            value = value + self.term() if self.take() == "+" else value - self.term()
        self.depth -= 1
        return value

    def term(self) -> float:
        value = self.signed()
        while self.kind == "times" or (self.kind == "over" and self._number_follows()):
            value = value * self.signed() if self._taken_kind() == "times" else value / self.signed()
        return value

    def _taken_kind(self) -> str:
        kind = self.kind
        self.take()
        return kind

    def _number_follows(self) -> bool:
        """5/2 is a quotient, 5/s or 5 / person the beginning of a unit."""
        rest = self.text[self._after :].lstrip()
        return not rest[:1].isalpha()

    def signed(self) -> float:
        sign = 1
        while self.kind == "sign":
            sign = -sign if self.take() == "-" else sign
        return sign * self.product()

    def product(self) -> float:
        whole = self.kind == "number" and self.word.isdigit()
        value = self.power()
        if whole and (self.kind == "frac" or (self.kind == "number" and self.spaced)):
            return value + self._proper_fraction()
        while self.kind in ("open", "frac", "sqrt", "pi"):
            value *= self.power()
        return value

    def _proper_fraction(self) -> float:
        """The second part of a mixed number, 2 1/2."""
        if self.kind == "frac":
            fraction = self.power()
        else:
            upper = self.power()
            if self.kind != "over":
                raise NoNumber("two numbers")
            self.take()
            fraction = upper / self.power()
        if not 0 < fraction < 1:
            raise NoNumber("two numbers")
        return fraction

    def power(self) -> float:
        base = self.atom()
        if self.kind != "power":
            return base
        self.take()
        value = base ** (self.signed() if self.kind in ("sign", "number") else self.atom())
        if isinstance(value, complex):
            raise NoNumber("not real")
        return float(value)

    def atom(self) -> float:
        if self.kind == "number":
            return float(self.take().replace(",", ""))
        if self.kind == "pi":
            self.take()
            return math.pi
        if self.kind == "frac":
            self.take()
            upper = self.group("{")
            return upper / self.group("{")
        if self.kind == "sqrt":
            self.take()
            degree = self.group("[") if self.kind == "open" and self.word == "[" else 2.0
            base = self.group() if self.kind == "open" else self.atom()
            if base < 0 or degree <= 0:
                raise NoNumber("not real")
            return float(base ** (1 / degree))
        return self.group()

    def group(self, opening: str = "") -> float:
        if self.kind != "open" or (opening and self.word != opening):
            raise NoNumber("no number")
        bracket, value = self.take(), self.sum()
        if self.kind != "close" or self.word != _PARTNER[bracket]:
            raise NoNumber("no closing bracket")
        self.take()
        return value
