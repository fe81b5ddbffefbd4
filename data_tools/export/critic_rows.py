"""A critic's task (LLaVA-Critic) -> training rows: the instruction that judging uses later, and the answer in its form.

| task | instruction | answer |
|---|---|---|
| compares two responses | `r1`, or with ties `r1_ties` | `<think>reasons</think><answer>1, 2 or tie</answer>` |
| scores one response | `pointwise` | `<think>reasons</think><answer>0 to 100</answer>` |

Positions: a comparison is written in both orders of its responses, so each answer is as frequent in one position as in
the other, or in one order that a hash draws. In the other order the reasons name the responses the other way round; a
comparison whose reasons may mean a response without naming it ("the second is wrong") is left out.

Scores: each source has a scale of its own, which its instruction states; it is mapped to 0 to 100.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from data_tools.sources.base import Excluded
from data_tools.sources.llava_critic import Compared, Rated
from proxygrm.core.bounds import check_bounds
from proxygrm.critique.prompts import inert, pointwise_prompt, r1_prompt

POINTWISE, PAIRWISE, BOTH = KINDS = ("pointwise", "pairwise", "both")
DROP, KEEP = TIES = ("drop", "keep")
BOTH_ORDERS, DRAWN = POSITIONS = ("both", "drawn")
PROMPTS = ("r1", "r1_ties", "pointwise")
"""The instructions of the rows."""

_NAMED = re.compile(
    r"\b(?:(?i:the)[ \t]{1,4})?(?:"
    r"((?i:first|second))[ \t]{1,4}(?i:response|answer|one|reply|caption|description|assistant|model|output)\b"
    r"|(?i:response|assistant)[ \t]{1,4}([12AB])(?![A-Za-z0-9]))"
)
_UNNAMED = re.compile(
    r"\bthe[ \t]{1,4}(?:first|second)(?:'s)?(?:[,.;:)]|[ \t]{1,4}(?:is|was|has|does|gives|provides|offers|contains|"
    r"lacks|misses|mentions|describes|includes|adds|fails|claims|states|says|also|only|correctly|incorrectly|accurately|"
    r"wrongly)\b)",
    re.I,
)
_NUMBERS = {"first": 1, "1": 1, "a": 1, "second": 2, "2": 2, "b": 2}
_NUMBER = r"([0-9]{1,3})(?![0-9])"
_MEANING = r"(?:[ \t]{0,2}\([^()\n]{1,40}\))?[ \t]{0,2}"
_SCALES = (
    re.compile(
        r"\b(?:scale|range|ranging|scores?|scored|rating|rate|points?|between|from)\b[^.\n]{0,60}?(?<![0-9.])"
        rf"{_NUMBER}{_MEANING}(?:to|and|-|\u2013|\u2014)[ \t]{{0,2}}{_NUMBER}",
        re.I,
    ),
    re.compile(rf"\bout[ \t]{{1,4}}of()[ \t]{{1,4}}{_NUMBER}", re.I),
)
"""From 1 (poor) to 10, 0-100; out of 100 begins at 0."""


@dataclass(frozen=True)
class CriticOptions:
    """What a critic is taught."""

    kinds: str = BOTH
    """`pointwise`: to score one response; `pairwise`: to compare two; `both`."""
    ties: str = DROP
    """Comparisons that find both equally good: `drop`, or `keep`; then every comparison may be answered by a tie."""
    positions: str = BOTH_ORDERS
    """Comparisons in `both` orders of the responses, or in one order that is `drawn`."""

    def __post_init__(self) -> None:
        check_bounds("critic", self, choices={"kinds": KINDS, "ties": TIES, "positions": POSITIONS})


class CriticRow(NamedTuple):
    kind: str  # pointwise or pairwise
    prompt: str
    answer: str  # complete, with the reasons
    decision: str  # its score or verdict alone


def critic_rows(task: Compared | Rated, row_id: str, images: int, options: CriticOptions) -> list[CriticRow] | Excluded:
    """The training rows of a task, one or two; or why there is none."""
    kind = POINTWISE if isinstance(task, Rated) else PAIRWISE
    if options.kinds not in (kind, BOTH):
        return Excluded("other_kind", kind, bad=False)
    if not re.search(r"\w", task.reasons):
        return Excluded("no_reasons", bad=False)
    return _scored(task, images) if isinstance(task, Rated) else _compared(task, row_id, images, options)


def _scored(task: Rated, images: int) -> list[CriticRow] | Excluded:
    scale = scale_of(task.instruction)
    if scale is None:
        return Excluded("unknown_scale", " ".join(task.instruction.split())[-120:], bad=False)
    lowest, highest = scale
    if not lowest <= task.score <= highest:
        return Excluded("score_off_scale", f"{task.score:g} is not from {lowest} to {highest}")
    score = f"{round(100 * (task.score - lowest) / (highest - lowest), 1):g}"
    prompt = pointwise_prompt(task.question, task.response, images)
    return [CriticRow(POINTWISE, prompt, _answer(task.reasons, score), score)]


def _compared(task: Compared, row_id: str, images: int, options: CriticOptions) -> list[CriticRow] | Excluded:
    ties = options.ties == KEEP
    if not task.verdict and not ties:
        return Excluded("tie", bad=False)
    if _UNNAMED.search(_NAMED.sub("", task.reasons)):
        return Excluded("unnamed_response", bad=False)
    drawn = bool(hashlib.blake2b(row_id.encode("utf-8", "surrogatepass")).digest()[0] % 2)
    rows = []
    for swapped in (False, True) if options.positions == BOTH_ORDERS else (drawn,):
        responses = task.responses[::-1] if swapped else task.responses
        verdict = 3 - task.verdict if swapped and task.verdict else task.verdict
        decision = str(verdict) if verdict else "tie"
        prompt = r1_prompt(task.question, *responses, images=images, ties=ties)
        rows.append(CriticRow(PAIRWISE, prompt, _answer(renamed(task.reasons, swapped), decision), decision))
    return rows


def renamed(reasons: str, swapped: bool) -> str:
    """The reasons with the responses named as in the instruction; swapped: after the responses changed places."""

    def name(match: re.Match[str]) -> str:
        number = _NUMBERS[(match[1] or match[2]).lower()]
        return f"Response {3 - number if swapped else number}"

    return _NAMED.sub(name, reasons)


def scale_of(instruction: str) -> tuple[int, int] | None:
    """(lowest, highest) score that an instruction allows; None unless it names exactly one scale."""
    found = set(_scales_in(instruction))
    return found.pop() if len(found) == 1 else None


def _scales_in(instruction: str) -> Iterator[tuple[int, int]]:
    for pattern in _SCALES:
        for match in pattern.finditer(instruction):
            lowest, highest = int(match[1] or 0), int(match[2])
            if lowest < highest:
                yield lowest, highest


def _answer(reasons: str, decision: str) -> str:
    return f"<think>{inert(reasons).strip()}</think><answer>{decision}</answer>"
