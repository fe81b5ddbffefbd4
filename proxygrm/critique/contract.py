"""The critique contract: the required form of a critique, and what can be read from a text that departs from it.

A critique is, from first to last character (white space between the parts aside):

    <rubric> items with weights <justify>...</justify> </rubric> <eval>...</eval> <answer>1|2</answer>

Tags are lower case, without blanks or attributes. White space is what Unicode calls white space; zero-width characters
and byte-order marks are text. The answer is the ASCII digit 1 or 2, white space around it allowed. A code fence is text
like any other: it makes a critique malformed, and the tags inside it still count.

Nothing here guesses. "10" or "1/2" is not a verdict, a text without tags has none, and a rubric that was never
closed is never shown to the proxy, because what follows it is the evaluation and the verdict.
Every function is linear in the length of the text, for any text. `rewards.upstream` has upstream's looser reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple

from proxygrm.core.labels import Label
from proxygrm.critique.rubric import RubricItem, names_winner, read_items, total_weight

__all__ = [
    "REMARKS",
    "Critique",
    "Problem",
    "ProxyAnswer",
    "RubricItem",
    "names_winner",
    "parse",
    "parse_proxy_answer",
    "parse_proxy_verdict",
    "rubric_for_proxy",
]


class Problem(Enum):
    """How a critique departs from the contract. The values are written to files, so they do not change."""

    EMPTY = "empty"
    TEXT_OUTSIDE = "text_outside_parts"
    WRONG_ORDER = "parts_in_wrong_order"
    REPEATED_TAG = "repeated_tag"
    NO_RUBRIC = "no_rubric"
    UNCLOSED_RUBRIC = "unclosed_rubric"
    EMPTY_RUBRIC = "empty_rubric"
    TAG_IN_RUBRIC = "tag_in_rubric"
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


_RANK = {problem: rank for rank, problem in enumerate(Problem)}
REMARKS = frozenset({Problem.NO_WEIGHTS, Problem.WEIGHTS_NOT_100, Problem.NAMES_WINNER})


@dataclass(frozen=True)
class Critique:
    """A parsed critique. `items` and the remarks are computed on first use: rewards need few of them."""

    rubric: str | None  # text of the closed rubric before its <justify>; None when there is nothing to show
    justification: str | None
    evaluation: str | None
    verdict: Label | None
    faults: tuple[Problem, ...]  # departures from the contract, in the order of the enum

    @property
    def well_formed(self) -> bool:
        return not self.faults

    @property
    def reason(self) -> str | None:
        """The first fault, as a value of `Problem`; None when the critique is well formed."""
        return self.faults[0].value if self.faults else None

    @property
    def shown(self) -> str | None:
        """The closed rubric as the proxy sees it, without the rest of the critique; None: nothing is sent."""
        return f"<rubric>\n{self.rubric}\n</rubric>" if self.rubric else None

    @cached_property
    def items(self) -> tuple[RubricItem, ...]:
        return read_items(self.rubric) if self.rubric else ()

    @cached_property
    def names_winner(self) -> bool:
        return self.rubric is not None and names_winner(self.rubric)

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """Faults and remarks, in the order of the enum."""
        return self.faults + tuple(self._remarks())

    def _remarks(self) -> Iterator[Problem]:
        if self.rubric is None:
            return
        if not self.items:
            yield Problem.NO_WEIGHTS
        elif abs(total_weight(self.items) - 100) > 0.5:
            yield Problem.WEIGHTS_NOT_100
        if self.names_winner:
            yield Problem.NAMES_WINNER


_TAG = re.compile(r"(</?(?:rubric|justify|eval|answer)>)")
_CONTRACT = ["<rubric>", "<justify>", "</justify>", "</rubric>", "<eval>", "</eval>", "<answer>", "</answer>"]
_PLACE = {tag: place for place, tag in enumerate(_CONTRACT)}
_JUSTIFY = _CONTRACT[1:3]
_PROXY_TAG = re.compile(r"(</?(?:think|answer)>)")
_PROXY_CONTRACT = ["<think>", "</think>", "<answer>", "</answer>"]
_ANY_TAG = re.compile(r"<\s{0,3}/?\s{0,3}(?:rubric|justify|eval|answer|think|summary)\b", re.IGNORECASE)


def parse(text: str) -> Critique:
    """Parse a critique. Never raises: what can be read strictly is read, the rest is None and its problem is named.

    The verdict needs exactly one `<answer>` and one `</answer>` with 1 or 2 between them, and nothing more: accuracy
    and format are separate rewards. For the rubric see `rubric_for_proxy`.
    """
    pieces = _TAG.split(text)  # text, tag, text, tag, ..., text
    texts, tags = pieces[::2], pieces[1::2]
    if tags == _CONTRACT:
        before, rubric, justification, after_justify, gap, evaluation, gap_2, answer, after = texts
        outside = before + after_justify + gap + gap_2 + after
        critique = Critique(_showable(rubric), _stripped(justification), _stripped(evaluation), _verdict(answer), ())
        complete = critique.rubric and critique.justification and critique.evaluation and critique.verdict
        if complete and (not outside or outside.isspace()):
            return critique
    parts = {name: _part(texts, tags, name) for name in ("rubric", "eval", "answer")}
    rubric_part = parts["rubric"]
    justified = rubric_part is not None and rubric_part.tags == _JUSTIFY
    verdict = _verdict(_body(parts["answer"]))
    faults = {*_faults(texts, tags, parts, verdict)}
    if not text.strip():
        faults.add(Problem.EMPTY)
    return Critique(
        rubric=_closed_rubric(texts, tags),
        justification=_stripped(rubric_part.texts[1]) if rubric_part and justified else None,
        evaluation=_stripped(_body(parts["eval"])),
        verdict=verdict,
        faults=tuple(sorted(faults, key=_RANK.__getitem__)),
    )


def rubric_for_proxy(text: str) -> str | None:
    """`<rubric>...</rubric>` without its justification, or None: then nothing goes to the proxy.

    What is shown ends at the first `<justify>`. None when the text's first tag is not `<rubric>`, when that rubric is
    not closed, is empty, has another part (or another rubric) inside, has a `</justify>` that closes nothing, or
    has anything before its justification that looks like a tag of a critique in another spelling (`<Answer >`).
    """
    return parse(text).shown


class ProxyAnswer(NamedTuple):
    """A parsed answer of the proxy."""

    verdict: Label | None
    well_formed: bool


def parse_proxy_answer(text: str) -> ProxyAnswer:
    """An answer of the proxy; well formed: `<think>...</think><answer>1|2</answer>`, the thought not empty, and nothing
    but white space around and between the two."""
    verdict = parse_proxy_verdict(text)
    pieces = _PROXY_TAG.split(text)
    if verdict is None or pieces[1::2] != _PROXY_CONTRACT:
        return ProxyAnswer(verdict, False)
    before, thought, between, _, after = pieces[::2]
    return ProxyAnswer(verdict, bool(thought.strip()) and not (before + between + after).strip())


def parse_proxy_verdict(text: str) -> Label | None:
    """Verdict of the proxy: the body of the one and only `<answer>`, exactly 1 or 2; otherwise None."""
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return None
    start, end = text.index("<answer>") + len("<answer>"), text.index("</answer>")
    return _verdict(text[start:end]) if start <= end else None


class _Part(NamedTuple):
    """The inside of a part that occurs once: texts[i] precedes tags[i]."""

    texts: list[str]
    tags: list[str]


_Parts = dict[str, _Part | None]


def _part(texts: list[str], tags: list[str], name: str) -> _Part | None:
    """The only part of this name, if it has one opening and one closing tag in this order."""
    opening, closing = f"<{name}>", f"</{name}>"
    if tags.count(opening) != 1 or tags.count(closing) != 1:
        return None
    start, end = tags.index(opening), tags.index(closing)
    return _Part(texts[start + 1 : end + 1], tags[start + 1 : end]) if start < end else None


def _body(part: _Part | None) -> str | None:
    """The part as written, tags inside it included."""
    if part is None:
        return None
    return "".join(text + tag for text, tag in zip(part.texts, [*part.tags, ""], strict=True))


def _stripped(body: str | None) -> str | None:
    return (body.strip() or None) if body else None


def _verdict(body: str | None) -> Label | None:
    digit = body.strip() if body else None
    return 1 if digit == "1" else 2 if digit == "2" else None


def _closed_rubric(texts: list[str], tags: list[str]) -> str | None:
    """See `rubric_for_proxy`. `texts[i]` precedes `tags[i]`."""
    if len(tags) < 2 or tags[0] != "<rubric>" or tags[1] not in ("</rubric>", "<justify>"):
        return None
    closing = next((tag for tag in tags[1:] if tag not in _JUSTIFY), None)
    return _showable(texts[1]) if closing == "</rubric>" else None


def _showable(body: str) -> str | None:
    """The stripped body; None if it is empty or has something that looks like a tag in another spelling."""
    stripped = body.strip()
    return None if not stripped or ("<" in stripped and _ANY_TAG.search(stripped)) else stripped


def _faults(texts: list[str], tags: list[str], parts: _Parts, verdict: Label | None) -> Iterator[Problem]:
    yield from _layout_faults(texts, tags)
    for name, missing, unclosed in (
        ("rubric", Problem.NO_RUBRIC, Problem.UNCLOSED_RUBRIC),
        ("eval", Problem.NO_EVAL, Problem.UNCLOSED_EVAL),
        ("answer", Problem.NO_ANSWER, Problem.UNCLOSED_ANSWER),
    ):
        opened, closed = tags.count(f"<{name}>"), tags.count(f"</{name}>")
        if not opened:
            yield missing
        elif not closed:
            yield unclosed
        if opened > 1 or closed > 1:
            yield Problem.REPEATED_TAG
    if rubric := parts["rubric"]:
        if not rubric.texts[0].strip() and (not rubric.tags or rubric.tags[0] == "<justify>"):
            yield Problem.EMPTY_RUBRIC
        if "<" in rubric.texts[0] and _ANY_TAG.search(rubric.texts[0]):
            yield Problem.TAG_IN_RUBRIC
        if rubric.tags != _JUSTIFY or not rubric.texts[1].strip():
            yield Problem.NO_JUSTIFY
        elif rubric.texts[2].strip():
            yield Problem.TEXT_OUTSIDE
    evaluation = parts["eval"]
    if evaluation and not evaluation.tags and not evaluation.texts[0].strip():
        yield Problem.EMPTY_EVAL
    if verdict is None and parts["answer"]:
        yield Problem.BAD_ANSWER


def _layout_faults(texts: list[str], tags: list[str]) -> Iterator[Problem]:
    """Order of the parts, the place of <justify>, and text other than white space between the parts."""
    place, inside, in_rubric = 0, False, False
    for text, tag in zip(texts, tags, strict=False):
        if not inside and text.strip():
            yield Problem.TEXT_OUTSIDE
        if tag in _JUSTIFY:
            if not in_rubric:
                yield Problem.WRONG_ORDER
            continue
        if _PLACE[tag] < place:
            yield Problem.WRONG_ORDER
        place, inside = _PLACE[tag], not tag.startswith("</")
        in_rubric = tag == "<rubric>" or (in_rubric and tag != "</rubric>")
    if not inside and texts[-1].strip():
        yield Problem.TEXT_OUTSIDE
