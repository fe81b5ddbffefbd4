"""What lmms-eval and VLMEvalKit have in common on VL-RewardBench.

Both show a pair in one order, which the lengths of the two responses decide: if their sum is even, as released. Both
keep whether the judge was right (`score`, 1 or 0), found in its text by a pattern or by another model; neither keeps
the verdict itself.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import Any, NamedTuple

from proxygrm.evaluate.benchmarks import Facts
from proxygrm.evaluate.layouts.base import Reading, Row, Unusable
from proxygrm.evaluate.rows.answers import RIGHT, TIE, UNPARSED, WRONG, Judgement, texts_hash

_STATED = re.compile(r"\b(?:answer|response)\s*([12])\s+is\s+(?:\w+\s+){0,2}better", re.IGNORECASE)
VERDICT = "verdict"
"""A field of this suite's exports only: 1, 2, "tie" or null."""


class VlRow(NamedTuple):
    id: str
    better: int  # 0 or 1: which of the two released responses
    score: Any
    text: str  # of the judge
    responses: list[str] | None  # in the order of the release
    question: str = ""
    verdict: Any = None  # of an export of this suite
    exported: bool = False


def second_is_shown_first(responses: list[str]) -> bool:
    return sum(map(len, responses)) % 2 == 1


def better_of(ranking: Any) -> int:
    """0 or 1, from human_ranking: [0, 1] where the first response is the better one."""
    ranks = list_of(ranking)
    if ranks not in ([0, 1], [1, 0]):
        raise Unusable("human_ranking is neither [0, 1] nor [1, 0]")
    return ranks.index(0)


def list_of(value: Any) -> Any:
    """A list, or the list that a text is the Python form of; anything else as it is."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return value
    return value


def responses_of(value: Any) -> list[str]:
    responses = list_of(value)
    if not isinstance(responses, list) or len(responses) != 2 or not all(isinstance(r, str) for r in responses):
        raise Unusable("`response` is not a list of two texts")
    return responses


def stated_verdict(text: str) -> int:
    """The last "Answer N is better" of a text; 0 where there is none."""
    found = _STATED.findall(text.replace("*", ""))
    return int(found[-1]) if found else 0


def judgement_of(row: VlRow, number: int, file: int, seen: Counter[str]) -> Judgement:
    """seen: counts what the notes say."""
    if type(row.score) not in (int, float) or row.score not in (0, 1):
        raise Unusable("`score` is neither 0 nor 1")
    right = row.score == 1
    swapped = None
    if row.responses is not None:
        swapped = (row.better == 1) != second_is_shown_first(row.responses)
    label = 0 if swapped is None else 2 if swapped else 1
    verdict = 0 if label == 0 else label if right else 3 - label
    outcome = RIGHT if right else WRONG
    if row.exported:
        _check_verdict(row.verdict, right, label)
        outcome = TIE if row.verdict == "tie" else UNPARSED if row.verdict is None else outcome
    elif not re.search(r"[12]", row.text):
        outcome = UNPARSED
        seen["no verdict"] += 1
    elif not (stated := stated_verdict(row.text)):
        seen["not stated"] += 1
    elif verdict and stated != verdict:
        seen["other verdict"] += 1
    if outcome in (TIE, UNPARSED):
        verdict = 0
    texts = 0
    if row.responses is not None:
        texts = texts_hash(row.question, row.responses[row.better], row.responses[1 - row.better])
    return Judgement(
        number, file, (row.id, texts), Facts(row.id, "", "", row.id), row.id, "", swapped, 0, outcome, verdict, right
    )


def _check_verdict(verdict: Any, right: bool, label: int) -> None:
    """label: the position of the better response, 0 where it is not known."""
    clear = type(verdict) in (int, float) and verdict in (1, 2)
    if not clear and verdict is not None and verdict != "tie":
        raise Unusable(f"`{VERDICT}` is none of 1, 2, tie and null")
    if (right and not clear) or (clear and label and right != (verdict == label)):
        raise Unusable(f"`{VERDICT}` contradicts `score`")


def add_notes(reading: Reading, seen: Counter[str], chance: str) -> None:
    """chance: what upstream records where it finds no verdict."""
    if count := seen["no verdict"]:
        reading.notes.append(
            f"{count:,} texts have neither a 1 nor a 2 and count as unparsed; upstream records {chance} for them"
        )
    if count := seen["not stated"]:
        reading.notes.append(
            f'{count:,} texts lack "Answer N is better": their scores rest on another model\'s reading, or on {chance}'
        )
    if count := seen["other verdict"]:
        reading.notes.append(
            f"{count:,} texts end with a verdict that contradicts their score; the scores are counted, check the order"
        )
    if any(j.swapped is None for j in reading.judgements):
        reading.notes.append(
            "the file does not say which response was shown first, so position bias is unknown; with --pairs it is "
            "computed from the lengths of the responses, as upstream does"
        )


class Exported(NamedTuple):
    """One of this suite's judgement rows in the released form of its pair."""

    responses: list[str]
    ranking: list[int]
    score: float
    verdict: Any


def exported(row: Row) -> Exported:
    """The responses in the order by which upstream would show the pair as it was shown."""
    shown = [row["response_1"], row["response_2"]]
    responses = shown[::-1] if second_is_shown_first(shown) else shown
    better = shown[row["label"] - 1]
    ranking = [0, 1] if responses[0] == better else [1, 0]
    return Exported(responses, ranking, float(row["verdict"] == row["label"]), row["verdict"])


def in_upstreams_order(row: Row) -> bool:
    """Of a release whose better response is the first one, as in nearly all rows."""
    return (row["label"] == 2) == second_is_shown_first([row["response_1"], row["response_2"]])
