"""The critique contract: what a critique must look like, and what can be read from one that does not.

A critique is, from first to last character (white space between the parts aside):

    <rubric> items with weights <justify>...</justify> </rubric> <eval>...</eval> <answer>1|2</answer>

Tags are lower case and have no blanks or attributes. White space is what Unicode calls so; zero-width characters and
byte-order marks are text. The answer is the ASCII digit 1 or 2, white space around it allowed. A code fence is text
like any other: it makes a critique malformed, and the tags in it still count.

Nothing here guesses. "10" or "1/2" is no verdict, a text without tags has none, and a rubric that was never
closed is never shown to the proxy, because what follows it is the evaluation and the verdict.
Every function is linear in the length of the text, whatever the text is. Upstream's looser reading is `upstream.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from proxygrm.core.labels import Label
from proxygrm.critique.rubric import RubricItem, names_winner, read_items, total_weight

__all__ = [
    "REMARKS",
    "Critique",
    "Problem",
    "RubricItem",
    "names_winner",
    "parse",
    "parse_proxy_verdict",
    "rubric_for_proxy",
]


class Problem(Enum):
    """Why a critique is not to the contract; the values stand in files, so they do not change."""

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
    """What was read. `items` and the remarks are worked out when first asked for: rewards need few of them."""

    rubric: str | None  # text of the closed rubric before its <justify>; None when there is none to show
    justification: str | None
    evaluation: str | None
    verdict: Label | None
    faults: tuple[Problem, ...]  # departures from the contract, in the order of the enum

    @property
    def well_formed(self) -> bool:
        return not self.faults

    @property
    def reason(self) -> str | None:
        """Why the critique is unusable, one value of `Problem`; None when it is well formed."""
        return self.faults[0].value if self.faults else None

    @property
    def shown(self) -> str | None:
        """The closed rubric as the proxy sees it, and nothing else of the critique; None: nothing is sent."""
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
    """Read a critique. Never raises; whatever can be read strictly is, the rest is None with its problem named.

    The verdict needs exactly one `<answer>` and one `</answer>` with 1 or 2 between them, but no more: accuracy
    and format are separate rewards. For the rubric see `rubric_for_proxy`.
    """
    pieces = _TAG.split(text)  # text, tag, text, tag, ..., text
    texts, tags = pieces[::2], pieces[1::2]
    if tags == _CONTRACT:
        before, rubric, justification, after_why, gap, evaluation, gap_2, answer, after = texts
        outside = before + after_why + gap + gap_2 + after
        critique = Critique(_showable(rubric), _text(justification), _text(evaluation), _digit(answer), ())
        whole = critique.rubric and critique.justification and critique.evaluation and critique.verdict
        if whole and (not outside or outside.isspace()):
            return critique
    rubric_tags, rubric_texts = _part(texts, tags, "rubric")
    told = rubric_texts[1] if rubric_tags == _JUSTIFY else None
    verdict, evaluation_body = _digit(_body(pieces, tags, "answer")), _body(pieces, tags, "eval")
    faults = {*_faults(text, texts, tags, verdict)}
    return Critique(
        rubric=_rubric(texts, tags),
        justification=_text(told),
        evaluation=_text(evaluation_body),
        verdict=verdict,
        faults=tuple(sorted(faults, key=_RANK.__getitem__)),
    )


def rubric_for_proxy(text: str) -> str | None:
    """`<rubric>...</rubric>` without its justification, or None: then nothing goes to the proxy.

    What is shown ends at the first `<justify>`. None when the text's first tag is not `<rubric>`, when that rubric is
    not closed, is empty, has another part (or another rubric) inside, has a `</justify>` that closes nothing, or
    has anything before its justification that looks like a tag of a critique in other spelling (`<Answer >`).
    """
    return parse(text).shown


def parse_proxy_verdict(text: str) -> Label | None:
    """Verdict of the proxy: the body of the one and only `<answer>`, exactly 1 or 2; otherwise None."""
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return None
    start, end = text.index("<answer>") + len("<answer>"), text.index("</answer>")
    return _digit(text[start:end]) if start <= end else None


def proxy_well_formed(text: str) -> bool:
    """Whether the proxy wrote to its contract: `<think>...</think><answer>1|2</answer>`, reasons not empty, and nothing
    but white space around and between the two."""
    pieces = _PROXY_TAG.split(text)
    before, reasons, between, _, after = pieces[::2] if pieces[1::2] == _PROXY_CONTRACT else ("x", "", "", "", "")
    return not (before + between + after).strip() and bool(reasons.strip()) and parse_proxy_verdict(text) is not None


def _text(body: str | None) -> str | None:
    return (body.strip() or None) if body else None


def _digit(body: str | None) -> Label | None:
    stripped = body.strip() if body else None
    return 1 if stripped == "1" else 2 if stripped == "2" else None


def _rubric(texts: list[str], tags: list[str]) -> str | None:
    """See `rubric_for_proxy`. `texts[i]` stands before `tags[i]`."""
    if len(tags) < 2 or tags[0] != "<rubric>" or tags[1] not in ("</rubric>", "<justify>"):
        return None
    closing = next((tag for tag in tags[1:] if tag not in _JUSTIFY), None)
    return _showable(texts[1]) if closing == "</rubric>" else None


def _showable(body: str) -> str | None:
    """Unless empty or with what looks like a tag of a critique in other spelling."""
    shown = body.strip()
    return None if not shown or ("<" in shown and _ANY_TAG.search(shown)) else shown


def _only(tags: list[str], name: str) -> tuple[int, int] | None:
    """Where the only opening and the only closing tag of a part stand, if they do and in this order."""
    opening, closing = f"<{name}>", f"</{name}>"
    if tags.count(opening) != 1 or tags.count(closing) != 1:
        return None
    start, end = tags.index(opening), tags.index(closing)
    return (start, end) if start < end else None


def _part(texts: list[str], tags: list[str], name: str) -> tuple[list[str], list[str]]:
    """Tags and texts inside the only such part; no texts when there is none or several."""
    found = _only(tags, name)
    return (tags[found[0] + 1 : found[1]], texts[found[0] + 1 : found[1] + 1]) if found else ([], [])


def _body(pieces: list[str], tags: list[str], name: str) -> str | None:
    """What stands inside the only such part, as written."""
    found = _only(tags, name)
    return "".join(pieces[2 * found[0] + 2 : 2 * found[1] + 1]) if found else None


def _faults(text: str, texts: list[str], tags: list[str], verdict: Label | None) -> Iterator[Problem]:
    if not text.strip():
        yield Problem.EMPTY
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
    inside, bodies = _part(texts, tags, "rubric")
    if bodies:
        if not bodies[0].strip() and (not inside or inside[0] == "<justify>"):
            yield Problem.EMPTY_RUBRIC
        if "<" in bodies[0] and _ANY_TAG.search(bodies[0]):
            yield Problem.TAG_IN_RUBRIC
        if inside != _JUSTIFY or not bodies[1].strip():
            yield Problem.NO_JUSTIFY
        elif bodies[2].strip():
            yield Problem.TEXT_OUTSIDE
    _, evaluation = _part(texts, tags, "eval")
    if len(evaluation) == 1 and not evaluation[0].strip():
        yield Problem.EMPTY_EVAL
    if verdict is None and _only(tags, "answer"):
        yield Problem.BAD_ANSWER


def _layout_faults(texts: list[str], tags: list[str]) -> Iterator[Problem]:
    """Order of the parts, where <justify> stands, and that only white space stands between parts."""
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
