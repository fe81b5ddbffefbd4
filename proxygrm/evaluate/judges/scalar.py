"""A scalar reward model as a judge: its scores of both responses, from a file.

    {"id": "7", "score_1": 0.31, "score_2": 0.27}     of response_1 and response_2 of the pairs
    {"id": "7", "rewards": [0.31, 0.27]}              of the chosen and the rejected one, or the other way round with
                                                      "reverse": true (as upstream's answer files have them)

One line a pair. `id` is the pair's own, or the release's; where that repeats, the lines stand in the order of the
pairs. Equal scores are a tie.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import numbered_lines, value_of
from proxygrm.core.ids import BadId, given, id_text
from proxygrm.evaluate.rows.answers import bare_id, named, rows_text
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.rows.shown import AS_IS, Shown, shown_in_orders


class ScalarJudge:
    """`pairs` are all that the file scores, in their order. UserError unless each has exactly one line."""

    def __init__(self, scores: Path, pairs: Sequence[EvalPair]) -> None:
        self.name = str(scores)
        self.made_by: Row = {"scores": hashlib.sha256(scores.read_bytes()).hexdigest()[:16]}
        self._scores = _matched(scores, pairs)

    def judge(self, shown: Sequence[Shown], take: Callable[[Row], None], works: bool) -> None:
        for s in shown:
            first, second = self._scores[_place(s)]
            scores = [first, second] if s.order == AS_IS else [second, first]
            take({"key": s.key, "text": "", "tokens": 0, "truncated": False, "problem": None, "scores": scores})


def _place(shown: Shown) -> tuple[str, int]:
    return shown.pair.id, shown.copy


def _matched(path: Path, pairs: Sequence[EvalPair]) -> dict[tuple[str, int], tuple[float, float]]:
    """(id, copy) of a pair -> scores of its response_1 and response_2."""
    shown = shown_in_orders(pairs, "as-given")
    waiting: dict[str, deque[Shown]] = defaultdict(deque)
    for s in shown:
        waiting[s.pair.id].append(s)
    rows = _read(path)
    found: dict[tuple[str, int], tuple[float, float]] = {}
    rest = []
    for number, row in rows:  # the pairs' own ids first, so that "x#2" is not taken for a second "x"
        if waiting.get(row["id"]):
            s = waiting[row["id"]].popleft()
            found[_place(s)] = _as_given(row, s.pair)
        else:
            rest.append((number, row))
    bare: dict[str, deque[Shown]] = defaultdict(deque)
    for s in shown:
        if _place(s) not in found:
            bare[bare_id(s.pair.id, s.pair.source)].append(s)
    extra = []
    for number, row in rest:
        if same := bare.get(row["id"]):
            s = same.popleft()
            found[_place(s)] = _as_given(row, s.pair)
        else:
            extra.append((number, row["id"]))
    if extra:
        raise UserError(
            f"{path}: {rows_text([number for number, _ in extra])} score no pair, or one that is scored already: "
            f"{named([name for _, name in extra])}; are these scores of other pairs?"
        )
    if len(found) < len(shown):
        missing = [s.pair.id for s in shown if _place(s) not in found]
        raise UserError(f"{path} has no scores for {len(missing):,} of {len(shown):,} pairs: {named(missing)}")
    return found


def _as_given(row: Row, pair: EvalPair) -> tuple[float, float]:
    if "score_1" in row:
        return row["score_1"], row["score_2"]
    first, second = row["rewards"]
    better, worse = (second, first) if row.get("reverse") else (first, second)
    return (better, worse) if pair.label == 1 else (worse, better)


def _read(path: Path) -> list[tuple[int, Row]]:
    """(line, row) of every line. UserError names all lines that are no scores."""
    rows, broken = [], defaultdict[str, list[int]](list)
    for number, line in numbered_lines(path):
        try:
            row = value_of(line)
        except ValueError:
            broken["not JSON" if line.endswith(b"\n") else "cut off"].append(number)
            continue
        if why := _fault(row):
            broken[why].append(number)
        rows.append((number, row))
    if broken:
        reasons = "; ".join(f"{why} in {rows_text(numbers)}" for why, numbers in broken.items())
        raise UserError(f"{path}: {reasons}; a line is {{id, score_1, score_2}} or {{id, rewards: [chosen, rejected]}}")
    if not rows:
        raise UserError(f"{path} holds no scores; a line is {{id, score_1, score_2}}")
    return rows


def _fault(row: Any) -> str:
    if not isinstance(row, dict):
        return "no JSON object"
    if not given(row.get("id")):
        return "no id"
    try:
        row["id"] = id_text(row["id"])
    except BadId as error:
        return str(error)
    scores = [row["score_1"], row.get("score_2")] if "score_1" in row else row.get("rewards")
    if not isinstance(scores, list) or len(scores) != 2:
        return "no pair of scores"
    if any(isinstance(s, bool) or not isinstance(s, int | float) for s in scores):
        return "scores that are not numbers"
    return "" if all(math.isfinite(s) for s in scores) else "NaN or an infinity"
