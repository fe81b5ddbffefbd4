"""Rows of one prompt with several rated responses, as pairs.

| option `pairs` | the pairs of a prompt                                                          |
|----------------|--------------------------------------------------------------------------------|
| all            | every two responses with different ratings; equal ones are ties and dropped     |
| gap            | the best and the worst only: the pair with the largest gap (of equals the first) |

Ratings are numbers or texts. A text that is not a number ("N/A") is not a rating: `all` drops the pairs of that
response (`no_rating`), `gap` chooses among the others.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from data_tools.sources.base import Excluded

PAIRS = ("all", "gap")
_DECIMAL = re.compile(r"\s*[+-]?(?:[0-9]{1,300}(?:\.[0-9]{0,300})?|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,3})?\s*")
_LARGEST = sys.float_info.max  # NaN is not within it
_PAIR, _SCORES, _RESPONSES = "_pair", "_scores", "_responses"


def objects(value: Any) -> list[Any]:
    """The items of a list of objects, which `datasets` gives as one object of lists; [] for anything else, and for
    lists of different lengths."""
    if isinstance(value, Mapping):
        columns = {name: column for name, column in value.items() if isinstance(column, list)}
        lengths = {len(column) for column in columns.values()}
        if len(lengths) != 1:
            return []
        return [{name: column[i] for name, column in columns.items()} for i in range(lengths.pop())]
    return value if isinstance(value, list) else []


def rating(value: Any) -> float | None:
    """A rating as a number; None if it is not one. Of a text, only decimal numbers are: "1_0" and "nan" are not."""
    if isinstance(value, str):
        value = float(value) if _DECIMAL.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= _LARGEST else None


def mean(ratings: Sequence[float | None]) -> float | None:
    """The mean; None if a rating is missing, or there is none."""
    numbers = [number for number in ratings if number is not None]
    return sum(numbers) / len(numbers) if numbers and len(numbers) == len(ratings) else None


def expanded(row: dict[str, Any], score: Callable[[Any], float | None], pairs: str) -> Sequence[dict[str, Any]]:
    """The row once for each pair of its `completions`; unchanged, for `pair_of` to refuse, if it has none."""
    responses = objects(row.get("completions"))
    scores = [score(response) if isinstance(response, Mapping) else None for response in responses]
    if pairs == "all":
        chosen = list(combinations(range(len(responses)), 2))
    else:
        rated = {place: number for place, number in enumerate(scores) if number is not None}
        chosen = [(max(rated, key=rated.__getitem__), min(rated, key=rated.__getitem__))] if len(rated) > 1 else []
    added = {_SCORES: scores, _RESPONSES: [_response(response) for response in responses]}
    return [row | added | {_PAIR: pair} for pair in chosen] or [row | added]


def pair_of(row: Mapping[str, Any]) -> tuple[Any, Any, str] | Excluded:
    """(better response, worse response, name of the pair) of an expanded row, or why it expresses no preference."""
    scores, pair = row[_SCORES], row.get(_PAIR)
    if pair is None:
        if len(scores) < 2:
            return Excluded("too_few_responses", f"{len(scores)} responses to compare")
        return Excluded("no_rating", "fewer than two responses have a rating", bad=False)
    first, second = (scores[place] for place in pair)
    if first is None or second is None:
        return Excluded("no_rating", f"of response {pair[0 if first is None else 1] + 1}", bad=False)
    if first == second:
        return Excluded("tie", f"both are rated {first:g}", bad=False)
    better, worse = pair if first > second else reversed(pair)
    return row[_RESPONSES][better], row[_RESPONSES][worse], f"{better + 1}-{worse + 1}"


def _response(completion: Any) -> Any:
    return completion.get("response") if isinstance(completion, Mapping) else None
