"""The label of a pair, as the files of the field write it: which of the two responses shown is better, 1 or 2.

| written                    | by                                                     |
|----------------------------|--------------------------------------------------------|
| 1, "1", 1.0, "1.0"         | this suite, tables that went through pandas            |
| "<answer>1</answer>"       | upstream                                               |
| ["<answer>1</answer>"]     | R1-Reward, and columns of texts in a parquet file      |

Nothing else is a label: 0 and 1 could mean two things, and a list of two is no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Label = Literal[1, 2]

_WORDS: dict[str, Label] = {"1": 1, "1.0": 1, "2": 2, "2.0": 2}
_DIGITS: dict[int, Label] = {1: 1, 2: 2}
FIELDS = ("ground_truth", "label", "gts")
"""Where a row has its label, beside reward_model.ground_truth and extra_info.label (verl's rows). gts: verl's dumps of
rollouts."""
_LAST_FIELD = "answer"
"""R1-Reward's; in other files a word for many things, so it counts only where there is no other."""
_NESTED = (("reward_model", "ground_truth"), ("extra_info", "label"))


class BadLabel(ValueError):
    """What stands there is no label. cause: a word to count it by: bad_label, no_label or labels_differ."""

    def __init__(self, message: str, cause: str = "bad_label") -> None:
        super().__init__(message)
        self.cause = cause


class NoLabel(BadLabel):
    """There is no field for it."""


def as_label(value: object) -> Label:
    """1 or 2 from what a file says, see above. Raises BadLabel: a wrong label must not become a reward."""
    if type(value) is int and value in _DIGITS:
        return _DIGITS[value]
    given = value
    if type(given).__name__ == "ndarray":
        given = given.tolist()  # type: ignore[attr-defined]
    if isinstance(given, list | tuple):
        given = given[0] if len(given) == 1 and isinstance(given[0], str) else None
    text = str(given).strip()
    if text.startswith("<answer>") and text.endswith("</answer>"):
        text = text[len("<answer>") : -len("</answer>")].strip()
    if isinstance(given, bool) or text not in _WORDS:
        said = f"ground truth is {repr(value)[:120]}, it must be 1 or 2"
        raise BadLabel(said, "no_label" if value is None else "bad_label")
    return _WORDS[text]


def label_in(row: Mapping[str, Any]) -> Label:
    """The label of a row, whichever of the known fields it stands in. Raises BadLabel, also when two fields
    disagree (accuracy would be of one, the proxy's agreement of the other), and NoLabel."""
    found = {name: row[name] for name in FIELDS if name in row}
    for outer, inner in _NESTED:
        holder = row.get(outer)
        if isinstance(holder, Mapping) and inner in holder:
            found[f"{outer}.{inner}"] = holder[inner]
    if all(value is None for value in found.values()) and _LAST_FIELD in row:
        found[_LAST_FIELD] = row[_LAST_FIELD]
    if not found:
        raise NoLabel(
            f"ground_truth is missing (it may also be called {', '.join((*FIELDS[1:], _LAST_FIELD))})", "no_label"
        )
    # a null says nothing: tables that hold rows of several kinds fill the fields of the others with it
    (name, value), *others = [item for item in found.items() if item[1] is not None] or found.items()
    label = as_label(value)
    for other, said in others:
        if _is_other(said, label):
            raise BadLabel(f"{name} is {value!r}, but {other} is {said!r}"[:200], "labels_differ")
    return label


def same_label(one: object, other: object) -> bool:
    """Whether both are labels, and say the same."""
    try:
        return as_label(one) == as_label(other)
    except BadLabel:
        return False


def _is_other(value: object, label: Label) -> bool:
    try:
        return as_label(value) != label
    except BadLabel:
        return False  # a field of the same name that is about something else
