"""The label of a pair: which of the two responses shown is better, 1 or 2. Published files write it in several ways.

| written                    | by                                                     |
|----------------------------|--------------------------------------------------------|
| 1, "1", 1.0, "1.0"         | this suite, tables that went through pandas            |
| "<answer>1</answer>"       | upstream                                               |
| ["<answer>1</answer>"]     | R1-Reward, and columns of texts in a parquet file      |

Nothing else is a label: 0 and 1 would be ambiguous, and a list of two is not an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Label = Literal[1, 2]

_WORDS: dict[str, Label] = {"1": 1, "1.0": 1, "2": 2, "2.0": 2}
_DIGITS: dict[int, Label] = {1: 1, 2: 2}
FIELDS = ("ground_truth", "label", "gts")
"""Fields with the label of a row, besides reward_model.ground_truth and extra_info.label (verl's rows). gts: verl's
dumps of rollouts."""
_LAST_FIELD = "answer"
"""R1-Reward's field; elsewhere it has many meanings, so it counts only where there is no other."""
_NESTED = (("reward_model", "ground_truth"), ("extra_info", "label"))


class BadLabel(ValueError):
    """A value that is not a label. cause: a word to count it by: bad_label, no_label or labels_differ."""

    def __init__(self, message: str, cause: str = "bad_label") -> None:
        super().__init__(message)
        self.cause = cause


class NoLabel(BadLabel):
    """A row without a field for the label."""


def as_label(value: object) -> Label:
    """1 or 2 from a value of a file, see above. Raises BadLabel: a wrong label must not become a reward."""
    if type(value) is int and value in _DIGITS:
        return _DIGITS[value]
    item = value
    if type(item).__name__ == "ndarray":
        item = item.tolist()  # type: ignore[attr-defined]
    if isinstance(item, list | tuple):
        item = item[0] if len(item) == 1 and isinstance(item[0], str) else None
    text = str(item).strip()
    if text.startswith("<answer>") and text.endswith("</answer>"):
        text = text[len("<answer>") : -len("</answer>")].strip()
    if isinstance(item, bool) or text not in _WORDS:
        message = f"ground truth is {repr(value)[:120]}, it must be 1 or 2"
        raise BadLabel(message, "no_label" if value is None else "bad_label")
    return _WORDS[text]


def label_in(row: Mapping[str, Any]) -> Label:
    """The label of a row, from whichever known field it has. Raises BadLabel, also when two fields disagree (accuracy
    would use one, the proxy's agreement the other), and NoLabel."""
    values = {name: row[name] for name in FIELDS if name in row}
    for outer, inner in _NESTED:
        holder = row.get(outer)
        if isinstance(holder, Mapping) and inner in holder:
            values[f"{outer}.{inner}"] = holder[inner]
    if all(value is None for value in values.values()) and _LAST_FIELD in row:
        values[_LAST_FIELD] = row[_LAST_FIELD]
    if not values:
        raise NoLabel(
            f"ground_truth is missing (it may also be called {', '.join((*FIELDS[1:], _LAST_FIELD))})", "no_label"
        )
    # Nulls are ignored: tables with rows of several kinds have them in the fields of the other kinds.
    (name, value), *others = [item for item in values.items() if item[1] is not None] or values.items()
    label = as_label(value)
    for other_name, other_value in others:
        if _is_other_label(other_value, label):
            raise BadLabel(f"{name} is {value!r}, but {other_name} is {other_value!r}"[:200], "labels_differ")
    return label


def labels_in(row: Mapping[str, Any]) -> frozenset[Label]:
    """The labels of a row, of which any will do: as `label_in`, or those of a list with several. Raises as it does."""
    for name in (*FIELDS, _LAST_FIELD):
        if isinstance(value := row.get(name), list | tuple) and value:
            return frozenset(as_label(item) for item in value)
        if value is not None:
            break
    return frozenset({label_in(row)})


def same_label(first: object, second: object) -> bool:
    """Whether both are labels, and the same one."""
    try:
        return as_label(first) == as_label(second)
    except BadLabel:
        return False


def _is_other_label(value: object, label: Label) -> bool:
    try:
        return as_label(value) != label
    except BadLabel:
        return False  # a field of the same name with another meaning
