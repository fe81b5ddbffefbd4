"""Whether an answer is right: our comparison, one rule for all benchmarks.

Numbers: both are read as a number and, perhaps, a unit. A unit on one side alone is left out; two units must be the
same (nothing is converted). 50% is 50 and 0.5. **Tolerance**: a decimal with at least two digits after the point and
two significant ones is taken as rounded: 0.33 is 1/3 and 0.3333, but 0.001 is not 0.004, 3.1 is not pi, and a shorter
decimal than the gold one is wrong. All other numbers must agree to 1e-12 of their size, integers in every digit.
"""

from __future__ import annotations

import ast
import json
from typing import Any

from proxygrm.core.images.fields import is_gap
from proxygrm.process.match.arithmetic import NoNumber
from proxygrm.process.match.choices import letter_in, letters_in, option, without_label
from proxygrm.process.match.clean import cleaned, exact_and_rounded, extracted, plain, without_name
from proxygrm.process.match.quantity import Quantity, quantity
from proxygrm.process.match.released import released_equal

RELATIVE = 1e-12
MAX_PARTS = 50
_BRACKETS = {"(": ")", "[": "]", "{": "}"}


def answers_equal(pred: Any, answer: Any, choices: Any = None, as_upstream: bool = False) -> bool:
    """Whether `pred` is the answer `answer`; choices: the options, for a letter on either side.

    Any JSON value: null is equal to nothing, NaN neither, numbers count as they are written, of a list as `answer` any
    item will do.
    """
    try:
        if as_upstream:
            return released_equal(pred, answer, choices)
        text = _text(pred)
        options = [cleaned(without_label(_text(item))) for item in choices] if isinstance(choices, list) else []
        return any(_equal(text, gold, options) for gold in _accepted(answer)) and not is_gap(pred)
    except RecursionError:  # of a value nested hundreds deep
        return False


def is_answer(answer: Any) -> bool:
    """Whether anything is equal to it: not to null, blanks, or a list of these."""
    try:
        return any(cleaned(extracted(gold)) for gold in _accepted(answer))
    except RecursionError:
        return False


def _accepted(answer: Any) -> list[str]:
    golds = answer if isinstance(answer, list) else _printed_list(answer)
    return [_text(gold) for gold in golds if not is_gap(gold)]


def answer_class(answer: Any, choices: Any = None) -> str:
    """The same text for answers that vote together: a letter is its option, a number its value to six digits, without
    its unit. "": no answer."""
    if is_gap(answer):
        return ""
    try:
        text = cleaned(extracted(_text(answer)))
    except RecursionError:
        return ""
    letter, _ = letter_in(text)
    if letter:
        named = option(choices, letter) if isinstance(choices, list) else None
        text = cleaned(without_label(_text(named))) if named is not None else letter
        text = text or letter
    text = without_name(text)
    try:
        return f"{quantity(text).value:.6g}"
    except NoNumber:
        return plain(text)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return ", ".join(map(_text, value)) if isinstance(value, list) else json.dumps(value, ensure_ascii=False)


def _printed_list(answer: Any) -> list[Any]:
    """MMMU stores some lists of accepted answers as Python prints them."""
    if isinstance(answer, str) and answer.startswith("['") and answer.endswith("']") and len(answer) < 1000:
        try:
            items = ast.literal_eval(answer)
        except (ValueError, SyntaxError, MemoryError):
            return [answer]
        return list(items) if isinstance(items, list) else [answer]
    return [answer]


def _equal(pred: str, gold: str, options: list[str]) -> bool:
    pred, gold = cleaned(extracted(pred)), cleaned(extracted(gold))
    if not pred or not gold:
        return False
    if same_value(pred, gold):
        return True
    if gold_letters := letters_in(gold):
        return letters_in(pred) == gold_letters or plain(pred) == "".join(sorted(gold_letters)).casefold()
    (gold_letter, gold_text), (pred_letter, pred_text) = letter_in(gold), letter_in(pred)
    if gold_letter:
        if pred_letter and (not options or option(options, pred_letter) is not None):
            return pred_letter == gold_letter
        gold_option = option(options, gold_letter) or gold_text
        return bool(gold_option) and same_value(pred, gold_option)
    if pred_letter and options:
        pred_option = option(options, pred_letter)
        return pred_option is not None and same_value(pred_option, gold)
    return bool(pred_letter and pred_text) and same_value(pred_text, gold)


def same_value(pred: str, gold: str) -> bool:
    """Of two cleaned texts: the same words, number with unit, or sequence of these."""
    if plain(pred) == plain(gold):
        return True
    sides, gold_sides = exact_and_rounded(pred), exact_and_rounded(gold)
    if sides != [pred] or gold_sides != [gold]:
        return any(same_value(side, gold_side) for side in sides for gold_side in gold_sides)
    pred, gold = without_name(pred), without_name(gold)
    try:
        return _same_quantity(quantity(pred), quantity(gold))
    except NoNumber:
        pass
    ours, theirs = _parts(pred), _parts(gold)
    if ours and theirs and len(ours) == len(theirs):
        return all(same_value(a, b) for a, b in zip(ours, theirs, strict=True))
    return plain(pred) == plain(gold) != ""


def _same_quantity(pred: Quantity, gold: Quantity) -> bool:
    if pred.unit and gold.unit and pred.unit != gold.unit:
        return False
    if pred.integer and gold.integer and pred.unit == gold.unit:
        return pred.integer == gold.integer
    if _close(pred, gold, 1):
        return True
    if (pred.unit == "%") != (gold.unit == "%"):
        return _close(pred, gold, 0.01 if pred.unit == "%" else 100)
    return False


def _close(pred: Quantity, gold: Quantity, factor: float) -> bool:
    value, other = pred.value * factor, gold.value
    difference = abs(value - other)
    if difference <= RELATIVE * max(abs(value), abs(other)):
        return True
    if gold.may_be_rounded:
        finer = pred.decimals > gold.decimals or (not pred.decimals and not pred.integer)
        return finer and difference <= 0.5 * 10.0**-gold.decimals * (1 + RELATIVE)
    exact = not gold.decimals and not gold.integer
    return exact and pred.may_be_rounded and difference <= 0.5 * 10.0**-pred.decimals * factor * (1 + RELATIVE)


def _parts(text: str) -> list[str]:
    """The items of "(1, 2)" or "1, 2", the bracket first so that (1, 2) is not [1, 2]; [] where it is one item."""
    bracket = text[0] if text[:1] in _BRACKETS and text.endswith(_BRACKETS[text[0]]) else ""
    inside = text[1:-1] if bracket else text
    depth, start, parts = 0, 0, []
    for index, character in enumerate(inside):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(inside[start:index].strip())
            start = index + 1
    parts.append(inside[start:].strip())
    return [bracket, *parts] if 2 <= len(parts) <= MAX_PARTS and all(parts) else []
