"""A scalar reward model as a judge: its scores of both responses, from a file.

    {"id": "7", "score_1": 0.31, "score_2": 0.27}     of response_1 and response_2 of the pairs
    {"id": "7", "rewards": [0.31, 0.27]}              of the chosen and the rejected response, or the other way round
                                                      with "reverse": true (as in upstream's answer files)

One line per pair. `id` is the pair's own, or the release's; where that repeats, the lines are in the order of the
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
from proxygrm.core.files.json_lines import fault_of, numbered_lines, value_of
from proxygrm.core.ids import BadId, has_id, id_text
from proxygrm.evaluate.rows.answers import bare_id
from proxygrm.evaluate.rows.ordered_pair import AS_IS, SWAPPED, OrderedPair, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.rows.text import ids_text, reasons_text, rows_text
from proxygrm.evaluate.settings import AS_GIVEN

PairKey = tuple[str, int]
"""(id, copy): ids repeat in benchmarks."""
_LARGEST = 1e100
"""Of a score: sums of squares of such numbers are still finite."""


class ScalarJudge:
    """`pairs` are all that the file scores, in their order. UserError unless each has exactly one line."""

    def __init__(self, scores: Path, pairs: Sequence[EvalPair]) -> None:
        self.name = str(scores)
        self.made_by: Row = {"scores": hashlib.sha256(scores.read_bytes()).hexdigest()[:16]}
        self._scores = _match_scores(scores, pairs)

    def judge(self, requests: Sequence[OrderedPair], take: Callable[[Row], None], works: bool) -> None:
        for request in requests:
            score_1, score_2 = self._scores[_pair_key(request)]
            scores = [score_1, score_2] if request.order == AS_IS else [score_2, score_1]
            take({"key": request.key, "text": "", "tokens": 0, "truncated": False, "problem": None, "scores": scores})


def _pair_key(ordered: OrderedPair) -> PairKey:
    return ordered.pair.id, ordered.copy


def _match_scores(path: Path, pairs: Sequence[EvalPair]) -> dict[PairKey, tuple[float, float]]:
    """(id, copy) of a pair -> scores of its response_1 and response_2."""
    ordered_list = ordered_pairs(pairs, AS_GIVEN)
    by_id: dict[str, deque[OrderedPair]] = defaultdict(deque)
    for ordered in ordered_list:
        by_id[ordered.pair.id].append(ordered)
    scores: dict[PairKey, tuple[float, float]] = {}
    unmatched = []
    for number, row in read_scores(path):  # the pairs' own ids first, so that "x#2" is not taken for a second "x"
        if by_id.get(row["id"]):
            ordered = by_id[row["id"]].popleft()
            scores[_pair_key(ordered)] = _in_given_order(row, ordered.pair)
        else:
            unmatched.append((number, row))
    by_bare_id: dict[str, deque[OrderedPair]] = defaultdict(deque)
    for ordered in ordered_list:
        if _pair_key(ordered) not in scores:
            by_bare_id[bare_id(ordered.pair.id, ordered.pair.source)].append(ordered)
    extra = []
    for number, row in unmatched:
        if matches := by_bare_id.get(row["id"]):
            ordered = matches.popleft()
            scores[_pair_key(ordered)] = _in_given_order(row, ordered.pair)
        else:
            extra.append((number, row["id"]))
    if extra:
        rows = [number for number, _ in extra]
        raise UserError(
            f"{path}: no pair for {rows_text(rows)}, or it has a score already: "
            f"{ids_text([id_ for _, id_ in extra])}; are these scores of other pairs?",
            code="judge.scores-without-pair",
            path=path,
            rows=rows,
            ids=[id_ for _, id_ in extra],
        )
    if len(scores) < len(ordered_list):
        missing = [ordered.pair.id for ordered in ordered_list if _pair_key(ordered) not in scores]
        raise UserError(
            f"{path} has no scores for {len(missing):,} of {len(ordered_list):,} pairs: {ids_text(missing)}",
            code="judge.missing-scores",
            path=path,
            count=len(missing),
            total=len(ordered_list),
            ids=missing,
        )
    return scores


def _in_given_order(row: Row, pair: EvalPair) -> tuple[float, float]:
    if "score_1" in row:
        return row["score_1"], row["score_2"]
    first, second = row["rewards"]
    better, worse = (second, first) if row.get("reverse") else (first, second)
    return (better, worse) if pair.label == 1 else (worse, better)


def read_scores(path: Path, judged: bool = False) -> list[tuple[int, Row]]:
    """(line, row) of every line. UserError names all lines that are not scores.

    judged: the judgement rows of `eval run` for a scalar judge are accepted too; their scores are in `scores`.
    """
    rows, invalid = [], defaultdict[str, list[int]](list)
    for number, line in numbered_lines(path):
        try:
            row = value_of(line)
        except ValueError:
            invalid[fault_of(line)].append(number)
            continue
        if reason := _fault(row, judged):
            invalid[reason].append(number)
        rows.append((number, row))
    if invalid:
        raise UserError(
            f"{path}: {reasons_text(invalid)}; a line is {{id, score_1, score_2}} or "
            f"{{id, rewards: [chosen, rejected]}}{', or a judgement row of `eval run`' if judged else ''}",
            code="judge.bad-scores",
            path=path,
            reasons=dict(invalid),
        )
    if not rows:
        raise UserError(f"{path} has no scores; a line is {{id, score_1, score_2}}", code="judge.no-scores", path=path)
    return rows


def is_judged(row: Row) -> bool:
    """Whether it is a judgement row of `eval run`."""
    return "verdict" in row and "scores" in row


def _fault(row: Any, judged: bool) -> str:
    if not isinstance(row, dict):
        return "not a JSON object"
    if not has_id(row.get("id")):
        return "no id"
    try:
        row["id"] = id_text(row["id"])
    except BadId as error:
        return str(error)
    if judged and is_judged(row):
        if fault := _judged_fault(row):
            return fault
        scores = row["scores"]
    else:
        if "score_1" in row and "rewards" in row:
            return "both `score_1` and `rewards`"
        reverse = row.get("reverse")
        if reverse is not None and type(reverse) is not bool and reverse not in (0, 1):
            return "`reverse` is neither true nor false"
        scores = [row["score_1"], row.get("score_2")] if "score_1" in row else row.get("rewards")
    if not isinstance(scores, list) or len(scores) != 2:
        return "no pair of scores"
    if any(isinstance(score, bool) or not isinstance(score, int | float) for score in scores):
        return "scores that are not numbers"
    if any(abs(score) > _LARGEST and score not in (math.inf, -math.inf) for score in scores):
        return f"scores beyond {_LARGEST:g}"
    return "" if all(map(math.isfinite, scores)) else "NaN or an infinity"


def _judged_fault(row: Row) -> str:
    if row.get("order") not in (AS_IS, SWAPPED):
        return f"`order` is neither {AS_IS} nor {SWAPPED}"
    if row.get("label") not in (1, 2):
        return "`label` is neither 1 nor 2"
    if type(row.get("copy", 0)) is not int:
        return "`copy` is not a whole number"
    texts = [name for name in ("question", "response_1", "response_2") if not isinstance(row.get(name), str)]
    return f"no text in {', '.join(f'`{name}`' for name in texts)}" if texts else ""
