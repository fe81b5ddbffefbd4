"""The critique contract: what a critique must look like, and what can be read from one that does not.

A critique is, from first to last character (white space aside):

    <rubric> items with weights <justify>...</justify> </rubric> <eval>...</eval> <answer>1|2</answer>

Nothing here guesses. "10" or "1/2" is no verdict, a text without tags has none, and a rubric that was never
closed is never shown to the proxy, because what follows it is the evaluation and the verdict.
Every function is linear in the length of the text, whatever the text is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal, cast

from proxygrm.rubric import RubricItem, names_winner, read_items

__all__ = [
    "REMARKS",
    "Critique",
    "Label",
    "Problem",
    "RubricItem",
    "names_winner",
    "parse",
    "parse_proxy_verdict",
    "rubric_for_proxy",
]

Label = Literal[1, 2]


class Problem(Enum):
    """Why a critique is not to the contract; the values stand in files, so they do not change."""

    EMPTY = "empty"
    TEXT_OUTSIDE = "text_outside_parts"
    WRONG_ORDER = "parts_in_wrong_order"
    REPEATED_TAG = "repeated_tag"
    NO_RUBRIC = "no_rubric"
    UNCLOSED_RUBRIC = "unclosed_rubric"
    EMPTY_RUBRIC = "empty_rubric"
    NO_JUSTIFY = "no_justification"
    NO_EVAL = "no_evaluation"
    UNCLOSED_EVAL = "unclosed_evaluation"
    EMPTY_EVAL = "empty_evaluation"
    NO_ANSWER = "no_answer"
    UNCLOSED_ANSWER = "unclosed_answer"
    BAD_ANSWER = "answer_not_1_or_2"
    # Remarks on what the rubric says; the critique may still be well formed.
    NO_WEIGHTS = "no_weights"
    WEIGHTS_NOT_100 = "weights_not_100"
    NAMES_WINNER = "rubric_names_winner"


REMARKS = frozenset({Problem.NO_WEIGHTS, Problem.WEIGHTS_NOT_100, Problem.NAMES_WINNER})


@dataclass(frozen=True)
class Critique:
    rubric: str | None  # inner text of the closed rubric without <justify>; None when there is none to show
    items: tuple[RubricItem, ...]
    justification: str | None
    evaluation: str | None
    verdict: Label | None
    well_formed: bool
    problems: tuple[Problem, ...]  # in the order of the enum; remarks included

    @property
    def reason(self) -> str | None:
        """Why the critique is unusable, one value of `Problem`; None when it is well formed."""
        return next((p.value for p in self.problems if p not in REMARKS), None)


@dataclass(frozen=True)
class _Tag:
    name: str
    closes: bool
    start: int
    end: int


_TAG = re.compile(r"<(/?)(rubric|justify|eval|answer)>")
_ORDER = ("rubric", "/rubric", "eval", "/eval", "answer", "/answer")


def parse(text: str) -> Critique:
    """Read a critique. Never raises; whatever can be read strictly is, the rest is None with its problem named.

    The verdict needs exactly one `<answer>` and one `</answer>` with 1 or 2 between them, but no more: accuracy
    and format are separate rewards.
    """
    tags = [_Tag(m[2], bool(m[1]), m.start(), m.end()) for m in _TAG.finditer(text)]
    problems: set[Problem] = set()
    if not text.strip():
        problems.add(Problem.EMPTY)
    if any(_count(tags, name) > 1 or _count(tags, name, True) > 1 for name in ("rubric", "eval", "answer")):
        problems.add(Problem.REPEATED_TAG)

    inner = _only_body(text, tags, "rubric", Problem.NO_RUBRIC, Problem.UNCLOSED_RUBRIC, problems)
    evaluation = _only_body(text, tags, "eval", Problem.NO_EVAL, Problem.UNCLOSED_EVAL, problems)
    answer = _only_body(text, tags, "answer", Problem.NO_ANSWER, Problem.UNCLOSED_ANSWER, problems)

    verdict = _digit(answer)
    if answer is not None and verdict is None:
        problems.add(Problem.BAD_ANSWER)
    if evaluation is not None and not evaluation.strip():
        problems.add(Problem.EMPTY_EVAL)
    _check_layout(text, tags, problems)

    shown = _closed_rubric(text)
    justification = None
    if inner is not None:
        justification = _justification(inner)
        if justification is None:
            problems.add(Problem.NO_JUSTIFY)
        if not _without_justify(inner).strip():
            problems.add(Problem.EMPTY_RUBRIC)
    items = read_items(shown) if shown else ()
    if shown:
        problems |= _remarks(shown, items)
    return Critique(
        rubric=shown,
        items=items,
        justification=justification,
        evaluation=evaluation.strip() if evaluation and evaluation.strip() else None,
        verdict=verdict,
        well_formed=not (problems - REMARKS),
        problems=tuple(p for p in Problem if p in problems),
    )


def rubric_for_proxy(text: str) -> str | None:
    """`<rubric>...</rubric>` without its justification, or None: then nothing goes to the proxy.

    None when the first rubric is not closed, is empty, or has another part (or another rubric) inside.
    A justification that is not closed is cut to the end of the rubric.
    """
    inner = _closed_rubric(text)
    return f"<rubric>\n{inner}\n</rubric>" if inner else None


def parse_proxy_verdict(text: str) -> Label | None:
    """Verdict of the proxy: the body of the one and only `<answer>`, exactly 1 or 2; otherwise None."""
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return None
    start, end = text.index("<answer>") + len("<answer>"), text.index("</answer>")
    return _digit(text[start:end]) if start <= end else None


def _count(tags: list[_Tag], name: str, closes: bool = False) -> int:
    return sum(1 for tag in tags if tag.name == name and tag.closes == closes)


def _only_body(
    text: str, tags: list[_Tag], name: str, missing: Problem, unclosed: Problem, problems: set[Problem]
) -> str | None:
    """What stands between the only opening and the only closing tag of a part, as written."""
    opens = [t for t in tags if t.name == name and not t.closes]
    closes = [t for t in tags if t.name == name and t.closes]
    if not opens:
        problems.add(missing)
    elif not closes:
        problems.add(unclosed)
    if len(opens) != 1 or len(closes) != 1 or closes[0].start < opens[0].end:
        return None
    return text[opens[0].end : closes[0].start]


def _check_layout(text: str, tags: list[_Tag], problems: set[Problem]) -> None:
    """Order of the six part tags, where <justify> stands, and that only white space stands between parts."""
    parts = [t for t in tags if t.name != "justify"]
    present = [("/" if t.closes else "") + t.name for t in parts]
    if present != sorted(present, key=_ORDER.index):
        problems.add(Problem.WRONG_ORDER)
    at, inside = 0, False
    for tag in parts:
        if not inside and text[at : tag.start].strip():
            problems.add(Problem.TEXT_OUTSIDE)
        at, inside = tag.end, not tag.closes
    if not inside and text[at:].strip():
        problems.add(Problem.TEXT_OUTSIDE)
    in_rubric = False
    for tag in tags:
        if tag.name == "rubric":
            in_rubric = not tag.closes
        elif tag.name == "justify" and not in_rubric:
            problems.add(Problem.WRONG_ORDER)


def _closed_rubric(text: str) -> str | None:
    start = text.find("<rubric>")
    end = text.find("</rubric>", start)
    if start < 0 or end < 0:
        return None
    inner = text[start + len("<rubric>") : end]
    if any(m[2] != "justify" for m in _TAG.finditer(inner)):
        return None
    return _without_justify(inner).strip() or None


def _without_justify(inner: str) -> str:
    """The rubric without any <justify>...</justify>; one that is not closed runs to the end."""
    kept, at = [], 0
    while (start := inner.find("<justify>", at)) >= 0:
        kept.append(inner[at:start])
        end = inner.find("</justify>", start)
        if end < 0:
            at = len(inner)
            break
        at = end + len("</justify>")
    kept.append(inner[at:])
    return "".join(kept).replace("</justify>", "")


def _justification(inner: str) -> str | None:
    if inner.count("<justify>") != 1 or inner.count("</justify>") != 1:
        return None
    _, _, rest = inner.partition("<justify>")
    body, closed, _ = rest.partition("</justify>")
    return body.strip() or None if closed else None


def _digit(body: str | None) -> Label | None:
    stripped = body.strip() if body is not None else None
    return cast(Label, int(stripped)) if stripped in ("1", "2") else None


def _remarks(rubric: str, items: tuple[RubricItem, ...]) -> set[Problem]:
    remarks = {Problem.NAMES_WINNER} if names_winner(rubric) else set()
    if not items:
        remarks.add(Problem.NO_WEIGHTS)
    elif abs(sum(item.weight for item in items) - 100) > 0.5:
        remarks.add(Problem.WEIGHTS_NOT_100)
    return remarks
