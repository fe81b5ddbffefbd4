"""Numbers with + - * / and **, as Python evaluates them, but bounded and without `eval`."""

from __future__ import annotations

import ast

MAX_CHARS = 4000
MAX_POWER_BITS = 20_000
"""A larger power of integers is not evaluated: no float holds it (1,024 bits), so no answer is compared by it."""
Number = int | float


class NoNumber(ValueError):
    """The text is not such an expression, or has no finite real value within the bounds."""


def value_of(text: str) -> Number:
    """Raises NoNumber."""
    if len(text) > MAX_CHARS:
        raise NoNumber("too long")
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError, TypeError):
        raise NoNumber("not a number") from None


def _value(node: ast.expr) -> Number:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value  # type: ignore[return-value]  # of these two types
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd):
        return _value(node.operand)
    if not isinstance(node, ast.BinOp):
        raise NoNumber("a name")
    left, right = _value(node.left), _value(node.right)
    match node.op:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.Pow():
            return power(left, right)
    raise NoNumber("another operation")


def power(base: Number, exponent: Number) -> Number:
    """Raises NoNumber for a power that is too large or not real."""
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and abs(base) > 1 and int(base).bit_length() * exponent > MAX_POWER_BITS:
        raise NoNumber("too large")
    value = base**exponent
    if isinstance(value, complex):
        raise NoNumber("not real")
    return value  # type: ignore[no-any-return]  # int or float
