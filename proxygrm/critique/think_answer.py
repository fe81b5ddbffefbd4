"""R1-Reward's contract: reasoning, then the number of the better response, and nothing else.

    <think> reasoning </think><answer>1|2</answer>

A critic's two contracts have the same shape: with ties allowed the answer may be `tie` (`parse` with `ties`), and a
critic that sees one response answers with its score from 0 to 100 (`parse_score`).

The format is checked as the released code does: white space around the text aside, it starts with `<think>`, ends with
`</answer>`, has `</think><answer>` without a character between, and each opening tag once. Closing tags may repeat. The
verdict is stricter than the released code's, which grades by a general maths matcher ("1 or 2" counts for 2): there is
one only if the text has exactly one `<answer>` block, and its body is the digit, white space aside.

What a consistency judge sees are the `excerpt`, the end of the reasoning, and the `answer_phrase`; never the label.
Every function is linear in the length of the text, for any text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxygrm.core.labels import Label

__all__ = ["Judgement", "Scored", "parse", "parse_score"]

THINK, END_THINK, ANSWER, END_ANSWER = "<think>", "</think>", "<answer>", "</answer>"
SEAM = END_THINK + ANSWER
HEADER = "<|im_start|>assistant\n"
END_TOKENS = ("<|im_end|>", "<｜end▁of▁sentence｜>", "<|endoftext|>")
EXCERPT_LINES = 3
_DIGITS: dict[str, Label] = {"1": 1, "2": 2}
_PHRASES = {1: "response 1 is better", 2: "response 2 is better"}
_NEITHER = "two response are the same"
"""The released code's words for any other number."""
TIE = "tie"
HIGHEST_SCORE = 100
_SCORE = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A text in this format, parsed."""

    text: str
    """Without a chat header, end tokens and white space around it."""
    well_formed: bool
    """The format holds, whatever the answer."""
    problem: str
    """A word for the first thing that is wrong with it; "" for nothing."""

    @property
    def reasoning(self) -> str | None:
        """What is between the tags of reasoning; None without them."""
        _, opened, rest = self.text.partition(THINK)
        body, closed, _ = rest.partition(END_THINK)
        return body.strip() if opened and closed else None


@dataclass(frozen=True, kw_only=True)
class Scored(Answered):
    """What a critic says of one response."""

    score: float | None
    """From 0 to 100; None where it gives no such number."""


@dataclass(frozen=True, kw_only=True)
class Judgement(Answered):
    """What a judge says of two responses."""

    verdict: Label | None
    """Which response is better; None where it does not say so exactly."""
    tie: bool = False
    """It calls them equal, and may."""

    @property
    def excerpt(self) -> str:
        """The last three lines before the answer, joined by semicolons. A blank line is a line."""
        return ";".join(self.text.partition(ANSWER)[0].strip().split("\n")[-EXCERPT_LINES:])

    @property
    def answer_phrase(self) -> str:
        """The answer in words; its text where it is not a number, and the whole response where it has none."""
        body = _first_answer(self.text)
        if body is None:
            return self.text
        try:
            return _PHRASES.get(int(body), _NEITHER)
        except ValueError:
            return body


def parse(response: str, ties: bool = False) -> Judgement:
    """Any text can be parsed. ties: the answer may be `tie`."""
    text, body = _taken_apart(response)
    verdict = None if body is None else _DIGITS.get(body)
    tie = ties and body is not None and body.lower() == TIE
    well_formed = _in_format(text)
    problem = _problem(text, "" if verdict or tie else "answer_not_1_or_2", well_formed)
    return Judgement(text=text, verdict=verdict, tie=tie, well_formed=well_formed, problem=problem)


def parse_score(response: str) -> Scored:
    """Any text can be parsed. A score is a decimal number from 0 to 100, and the whole answer."""
    text, body = _taken_apart(response)
    number = float(body) if body is not None and _SCORE.fullmatch(body) else None
    score = number if number is not None and number <= HIGHEST_SCORE else None
    well_formed = _in_format(text)
    problem = _problem(text, "answer_not_a_score" if score is None else "", well_formed)
    return Scored(text=text, score=score, well_formed=well_formed, problem=problem)


def _taken_apart(response: str) -> tuple[str, str | None]:
    """(the text, the body of its only answer or None)."""
    text = response.partition(HEADER)[2] if HEADER in response else response
    for token in END_TOKENS:
        text = text.replace(token, "")
    text = text.strip()
    return text, _first_answer(text) if text.count(ANSWER) == 1 else None


def _first_answer(text: str) -> str | None:
    """Body of the first answer, stripped; None where there is none, or it is never closed."""
    _, opened, rest = text.partition(ANSWER)
    body, closed, _ = rest.partition(END_ANSWER)
    return body.strip() if opened and closed else None


def _in_format(text: str) -> bool:
    if text.count(THINK) != 1 or text.count(ANSWER) != 1:
        return False
    seam = text.find(SEAM)
    body = seam + len(SEAM)
    return (
        text.startswith(THINK)
        and seam >= len(THINK)
        and text.endswith(END_ANSWER)
        and len(text) - body >= len(END_ANSWER)
    )


def _problem(text: str, answer_fault: str, well_formed: bool) -> str:
    """answer_fault: what is wrong with the answer if there is exactly one."""
    answers = text.count(ANSWER)
    if not text:
        return "empty"
    if answers == 0:
        return "no_answer"
    if answers > 1:
        return "repeated_answer"
    if _first_answer(text) is None:
        return "unclosed_answer"
    if answer_fault:
        return answer_fault
    if well_formed:
        return ""
    if THINK not in text or END_THINK not in text:
        return "no_reasoning"
    return "repeated_tag" if text.count(THINK) > 1 else "not_in_format"
