"""The number that the released comparison makes of a LaTeX text, where it makes one.

The released code hands the text to latex2sympy2 1.9.1, prints the unevaluated expression, and has Python evaluate what
is printed: functions, roots, units and letters are names there, and fail. So only numbers with + - * / ^ and \\frac
become a number, and this reader builds those as latex2sympy2 does: it ignores what follows some prefixes, 2^3^2 is
(2^3)^2, 1/2(3) is 1/(2 * 3), 2^-1 fails. What is printed decides, without the parentheses that sympy leaves out too:
-\\frac{1}{2 * 3} becomes "-1*1/2*3", -1.5. No other text is a number here.

Bounded in length and depth; nothing is evaluated before it is printed.
"""

from __future__ import annotations

import re
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.process.match.arithmetic import NoNumber, Number, value_of

MAX_CHARS = 400
MAX_DEPTH = 30
_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"|(?P<times>\\times(?![a-z])|\\cdot(?![a-z])|\*)|(?P<over>\\div(?![a-z])|/|:)"
    r"|(?P<frac>\\frac)|(?P<sqrt>\\sqrt(?![a-z]))|(?P<sign>[+-])|(?P<open>\\\{|[({\[])|(?P<close>\\\}|[)}\]])|(?P<power>\^)"
)
_IGNORED_REST = "_&."
"""A text may go on after a complete expression with one of these; what follows is not read."""
_PARTNER = {"(": ")", "{": "}", "[": "]", "\\{": "\\}"}
_STARTS = ("number", "open", "frac", "sqrt")


def released_value(text: str) -> Number:
    """Raises NoNumber, and UserError where sympy is not installed."""
    if len(text) > MAX_CHARS:
        raise NoNumber("too long")
    return value_of(str(_Reader(text).whole()))


class _Reader:
    """Recursive descent, a method for each rule of the grammar; sympy's unevaluated expressions come out."""

    def __init__(self, text: str) -> None:
        try:
            import sympy
        except ImportError:
            raise UserError(
                "--compat upstream needs sympy, which prints numbers as the released code reads them; install sympy",
                code="process.needs-sympy",
            ) from None
        self.sympy: Any = sympy
        self.tokens = _tokens(text)
        self.at = self.depth = 0

    @property
    def kind(self) -> str:
        return self.tokens[self.at][0]

    def take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1][1]

    def whole(self) -> Any:
        expression = self.sum()
        if self.kind == "other" and self.take() not in _IGNORED_REST:
            raise NoNumber("something else follows")
        return expression

    def sum(self) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NoNumber("too deep")
        left = self.term()
        while self.kind == "sign":
            minus, right = self.take() == "-", self.term()
            left = self._flat(self.sympy.Add, left, self._negative(right) if minus else right)
        self.depth -= 1
        return left

    def term(self) -> Any:
        left = self.signed()
        while self.kind in ("times", "over"):
            if self.kind == "times":
                self.take()
                left = self._flat(self.sympy.Mul, left, self.signed())
            else:
                self.take()
                left = self._quotient(left, self.signed())
        return left

    def signed(self) -> Any:
        minus = []
        while self.kind == "sign":
            minus.append(self.take() == "-")
        expression = self.product()
        for _ in range(sum(minus)):
            expression = self._negative(expression)
        return expression

    def product(self) -> Any:
        """Factors without a sign between them."""
        factors = [self.power()]
        while self.kind in _STARTS:
            factors.append(self.power())
        expression = factors.pop()
        while factors:
            expression = self._flat(self.sympy.Mul, factors.pop(), expression)
        return expression

    def power(self) -> Any:
        base = self.atom()
        while self.kind == "power":
            self.take()
            exponent = self._literal() if self.kind == "number" else self.group("{")
            base = self.sympy.Pow(base, exponent, evaluate=False)
        return base

    def atom(self) -> Any:
        if self.kind == "number":
            return self._literal()
        if self.kind == "frac":
            self.take()
            upper = self.group("{")
            return self._quotient(upper, self.group("{"))
        if self.kind == "sqrt":
            self.take()
            degree = self.group("[")
            if not degree.func.is_Number or not degree:
                raise NoNumber("no root")
            return self.sympy.Pow(self.group("{"), 1 / degree, evaluate=False)
        return self.group()

    def group(self, opening: str = "") -> Any:
        if self.kind != "open" or (opening and self.tokens[self.at][1] != opening):
            raise NoNumber("no number")
        bracket, expression = self.take(), self.sum()
        if self.kind != "close" or self.take() != _PARTNER[bracket]:
            raise NoNumber("no closing bracket")
        return expression

    def _literal(self) -> Any:
        return self.sympy.Rational(self.take().replace(",", ""))

    def _quotient(self, upper: Any, lower: Any) -> Any:
        return self.sympy.Mul(upper, self.sympy.Pow(lower, -1, evaluate=False), evaluate=False)

    def _negative(self, expression: Any) -> Any:
        return -expression if expression.func.is_Number else self._flat(self.sympy.Mul, -1, expression)

    def _flat(self, kind: Any, *sides: Any) -> Any:
        parts = [part for side in sides for part in (side.args if isinstance(side, kind) else [side])]
        return kind(*parts, evaluate=False)


_END = ("end", "")


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text) of every token up to one of the kind "other" or "end", the last."""
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            return [*tokens, ("other", text[position])]
        tokens.append((str(match.lastgroup), match[0]))
        position = match.end()
    return [*tokens, _END]
