"""Score files of scalar judges, row by row: score files as `judges.scalar` reads them, and answers.jsonl of `eval run`.

A row has its two scores in one of two orders: of the pair's response 1 and 2, or of the better and the worse one. A
judgement row knows both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges.scalar import is_judged, read_scores
from proxygrm.evaluate.rows.ordered_pair import AS_IS, verdict_of
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.rows.text import ids_text

PairKey = tuple[str, int]
"""(id, copy): ids repeat in benchmarks."""


@dataclass(frozen=True)
class Scores:
    """The scores of one judge, and their rows in the order of the file."""

    path: Path
    rows: Sequence[tuple[PairKey, Row]]
    of: Mapping[PairKey, Row]
    """The first row of each pair: the others are the same pair in another order."""

    @classmethod
    def read(cls, path: Path) -> Scores:
        """Raises UserError: judge.bad-scores, judge.no-scores, file.missing."""
        if not path.is_file():
            raise UserError(f"{path} is not a file; pass a JSONL of scores", code="file.missing", path=path)
        copies: Counter[str] = Counter()
        rows: list[tuple[PairKey, Row]] = []
        for _, row in read_scores(path, judged=True):
            if is_judged(row):
                key = (row["id"], row.get("copy", 0))
            else:
                key = (row["id"], copies[row["id"]])
                copies[row["id"]] += 1
            rows.append((key, row))
        of: dict[PairKey, Row] = {}
        for key, row in rows:
            of.setdefault(key, row)
        return cls(path, rows, of)

    @property
    def in_given_order(self) -> bool:
        """Whether every row says which score is of the pair's response 1."""
        return all("rewards" not in row or is_judged(row) for row in self.of.values())

    @property
    def labelled(self) -> bool:
        """Whether every row says which response is the better one."""
        return all(_is_labelled(row) for row in self.of.values())

    def in_order(self, better_first: bool) -> dict[PairKey, tuple[float, float]]:
        """By pair, the scores of the better and the worse response, or of the pair's response 1 and 2."""
        return {key: _in_order(row, better_first) for key, row in self.of.items()}


def refuse_other_pairs(first: Scores, other: Scores, leave_out: Collection[PairKey] = ()) -> None:
    for one, two in ((first, other), (other, first)):
        if missing := [key for key in one.of if key not in two.of and key not in leave_out]:
            what = f"{two.path} has no scores for {len(missing):,} of {len(one.of):,} pairs of {one.path}"
            raise other_pairs(what, two.path, missing)
    shared = [key for key in first.of if key in other.of]
    if differing := [key for key in shared if _differ(_texts(first.of[key]), _texts(other.of[key]))]:
        what = f"{first.path} and {other.path} have other texts under the same ids, {len(differing):,} times"
        raise other_pairs(what, other.path, differing)


def _differ(one: tuple[str, ...], two: tuple[str, ...]) -> bool:
    return bool(one and two) and one != two


def other_pairs(what: str, path: Path, keys: Sequence[PairKey]) -> UserError:
    ids = [id_ for id_, _ in keys]
    return UserError(
        f"{what}: {ids_text(ids)}; score the same pairs with each judge",
        code="ensemble.other-pairs",
        path=path,
        ids=ids,
    )


def _is_labelled(row: Row) -> bool:
    return row.get("label") in (1, 2) if is_judged(row) else "score_1" not in row


def scores_of(row: Row) -> tuple[float, float]:
    """As the row has them."""
    if is_judged(row):
        one, two = row["scores"]
    elif "score_1" in row:
        one, two = row["score_1"], row["score_2"]
    else:
        one, two = row["rewards"]
    return one, two


def _is_reversed(row: Row, better_first: bool) -> bool:
    """Whether the row has its two scores the other way round."""
    if not is_judged(row):
        return bool(row.get("reverse"))
    return bool(row["label"] == 2 if better_first else row["order"] != AS_IS)


def _in_order(row: Row, better_first: bool) -> tuple[float, float]:
    one, two = scores_of(row)
    return (two, one) if _is_reversed(row, better_first) else (one, two)


def with_scores(row: Row, scores: tuple[float, float], better_first: bool) -> Row:
    one, two = scores[::-1] if _is_reversed(row, better_first) else scores
    if not is_judged(row):
        return row | ({"score_1": one, "score_2": two} if "score_1" in row else {"rewards": [one, two]})
    verdict = verdict_of(one, two)
    correct = None if verdict == "tie" else verdict == row["label"]
    return row | {"scores": [one, two], "verdict": verdict, "correct": correct}


def _texts(row: Row) -> tuple[str, ...]:
    """Of a judgement row: question, response 1 and response 2 of the pair; of others nothing."""
    if not is_judged(row):
        return ()
    responses = (row["response_1"], row["response_2"])
    return row["question"], *(responses if row["order"] == AS_IS else responses[::-1])
