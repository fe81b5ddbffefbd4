"""LLaVA-Critic-113k as released (lmms-lab/llava-critic-113k, parquet; pairwise 40,154 rows, pointwise 72,782).

Columns: id, source, conversations [{from, value}], image {bytes, path}. A row is one task for a critic, and the
preference is only in its text:

* pairwise: the human turn holds "Question: [...]" and two responses, each after "Response 1:", "Response A:" or
  "The first response:"; the gpt turn has "The better response: [first|second|1|2|A|B]", or that they are equally
  good. Ties are dropped.
* two scores: "[Question]", "[Assistant 1] ... [End of Assistant 1]", "[Assistant 2] ..."; the first line of the gpt
  turn is "s1 s2". The higher score is better, equal scores are ties.
* one score: one response and "Final Score: n". Of all responses that were scored for one image and question under the
  same instruction, the best and the worst make a pair (the first of each, in file order); the others are excluded as
  `between`, and those without a better or worse one as `unpaired` or `tie`.

`task_of` gives the same rows as tasks for a critic, which are trained on as they are (`data_tools.export.critic_rows`).

Nothing is guessed: two different verdicts, or a turn that can be split in more than one way, are bad rows; a turn with
another wording is excluded as `unknown_wording`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from data_tools.sources.base import Excluded, ImageRef, RawPair, ScoredResponse, Source, without_image_tags
from proxygrm.core.images.fields import images_in, marked

_EDGE = r"(?:^|\n)[ \t#*]*"
_QUESTION = re.compile(_EDGE + r"(?:the[ \t]+)?question[*]*[ \t]*:[ \t*]*", re.I)
_TWO = re.compile(
    _EDGE + r"(?:(?:the[ \t]+)?(first|second)[ \t]+response|response[ \t]+([12ab]))[*]*[ \t]*:[ \t*]*", re.I
)
_ONE = re.compile(
    _EDGE + r"(?:the[ \t]+)?(?:lmm(?:'s)?[ \t]+|model(?:'s)?[ \t]+)?(?:response|answer)[ \t*]*:[ \t*]*", re.I
)
# The verdict in brackets, or in words after "is" or a colon. A bare digit or capital must be the whole statement:
# "the better response is a matter of taste" and "is 2 lines longer" are not verdicts.
_BETTER = r"(?i:the[ \t]{1,4}better[ \t]{1,4}response)[ \t*]{0,4}"
_IN_BRACKETS = re.compile(
    _BETTER + r"(?i:(?:is)?[ \t*]{0,4}:?[ \t*]{0,4}\[[ \t*]{0,4}(?:the[ \t]{1,4})?(?:response[ \t]{1,4})?"
    r"(first|second|[12ab])(?:[ \t]{1,4}response)?[ \t*]{0,4}\])"
)
_IN_WORDS = re.compile(
    _BETTER + r"(?:(?i:is)(?![A-Za-z])[ \t*]{0,4}:?|:)[ \t*]{0,4}(?:(?i:the[ \t]{1,4})?((?i:first|second))(?![A-Za-z])|"
    r"(?i:response[ \t]{1,4})?([12AB])(?![A-Za-z0-9])"
    r"(?=[ \t*]{0,4}(?:[^A-Za-z0-9 \t*]|\Z|(?i:as|because|due|for|since)(?![A-Za-z]))))"
)
_IN_THE_END = re.compile(
    r"(?:the[ \t]{1,4}(first|second)[ \t]{1,4}response|response[ \t]{1,4}([12ab]))[ \t]{1,4}is[ \t]{1,4}better"
    r"(?:[ \t]{1,4}overall)?[.!*\]\s]{0,8}\Z",
    re.I,
)
_TIE = re.compile(r"equally[ \t]+good", re.I)
_SCORES = re.compile(r"\s*(-?[0-9]{1,4}(?:\.[0-9]{1,6})?)[ \t,]+(-?[0-9]{1,4}(?:\.[0-9]{1,6})?)[ \t.]*(?:\n|$)")
_FINAL = re.compile(r"final[ \t]+score[ \t*]*:[ \t*]*\[?(-?[0-9]{1,4}(?:\.[0-9]{1,6})?)(?![0-9])", re.I)
_FINAL_STATEMENT = re.compile(
    rf"{_FINAL.pattern}(?:[ \t]{{0,4}}/[ \t]{{0,4}}[0-9]{{1,4}})?[ \t]{{0,4}}\]?[*.]{{0,4}}", re.I
)
_BRACKET_STATEMENT = re.compile(rf"{_IN_BRACKETS.pattern}[*.]{{0,4}}")
_EDGES = " \t\r\n*#-,"
_VERDICTS = {"first": 1, "1": 1, "a": 1, "second": 2, "2": 2, "b": 2}


class Compared(NamedTuple):
    """A row that compares two responses."""

    question: str
    responses: tuple[str, str]
    verdict: int  # 1, 2, or 0 for a tie
    reasons: str


class Rated(NamedTuple):
    """A row that scores one response."""

    question: str
    response: str
    score: float
    instruction: str  # the text before the question, which says how to score
    reasons: str


class Task(NamedTuple):
    row_id: Any
    task: Compared | Rated
    images: tuple[ImageRef, ...]
    note: str


def task_of(row: dict[str, Any]) -> Task | Excluded:
    """What a critic was asked about, and what it answered; or why the row cannot be read."""
    id_ = row.get("id")
    human, gpt = _turn(row, "human"), _turn(row, "gpt")
    if human is None or gpt is None:
        return Excluded("no_turns", "conversations need a human and a gpt turn", id=id_)
    images = marked(human, images_in(row.get("image")))
    human, note = without_image_tags(human, len(images))
    task = _by_assistants(human, gpt) or _pairwise(human, gpt) or _single(human, gpt)
    if task is None:
        return Excluded("unknown_wording", human[:80], bad=False, id=id_)
    return task._replace(id=id_) if isinstance(task, Excluded) else Task(id_, task, tuple(images), note)


def read(row: dict[str, Any]) -> RawPair | ScoredResponse | Excluded:
    read_task = task_of(row)
    if isinstance(read_task, Excluded):
        return read_task
    id_, task, images, note = read_task
    if isinstance(task, Rated):
        # Scores are comparable only under the same instruction.
        text = task.instruction.encode("utf-8", "surrogatepass")
        scale = f"{row.get('source')} {hashlib.blake2b(text, digest_size=8).hexdigest()}"
        return ScoredResponse(id_, task.question, task.response, task.score, scale, images, note)
    if not task.verdict:
        return Excluded("tie", bad=False, id=id_)
    chosen, rejected = task.responses if task.verdict == 1 else task.responses[::-1]
    return RawPair(id_, task.question, chosen, rejected, images, note=note)


def verdict_of(gpt: str) -> int | Excluded:
    """1 or 2, as stated in the turn, or 0 for a tie; `Excluded` for no verdict, and for two different ones."""
    gpt = gpt.rstrip()
    verdicts = {_verdict(match) for mark in (_IN_BRACKETS, _IN_WORDS) for match in mark.finditer(gpt)}
    if not verdicts and _TIE.search(gpt):
        return 0
    if not verdicts:
        verdicts = {_verdict(match) for match in _IN_THE_END.finditer(gpt, max(len(gpt) - 100, 0))}
    if len(verdicts) == 1:
        return verdicts.pop()
    return Excluded("two_verdicts" if verdicts else "no_verdict", gpt[-80:])


def _verdict(match: re.Match[str]) -> int:
    return _VERDICTS[next(word for word in match.groups() if word).lower()]


def _turn(row: dict[str, Any], role: str) -> str | None:
    turns = row.get("conversations")
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("from") == role and isinstance(turn.get("value"), str):
            return turn["value"]
    return None


def _by_assistants(human: str, gpt: str) -> Compared | Excluded | None:
    if "[End of Assistant 2]" not in human:
        return None
    marks = ("[Question]", "[Assistant 1]", "[End of Assistant 1]", "[Assistant 2]", "[End of Assistant 2]")
    places = [human.find(mark) for mark in marks]
    if min(places) < 0 or places != sorted(places) or any(human.count(mark) > 1 for mark in marks):
        return Excluded("unclear_turn", "the marks of question and assistants are missing, repeated or out of order")
    question, first_response, _, second_response = (
        human[start + len(mark) : end].strip() for mark, start, end in zip(marks, places, places[1:], strict=False)
    )
    scores = _SCORES.match(gpt)
    if scores is None:
        return Excluded("no_scores", gpt[:80])
    first, second = float(scores.group(1)), float(scores.group(2))
    verdict = 0 if first == second else 1 if first > second else 2
    return Compared(question, (first_response, second_response), verdict, gpt[scores.end() :].strip())


def _pairwise(human: str, gpt: str) -> Compared | Excluded | None:
    marks = [(match, _verdict(match)) for match in _TWO.finditer(human)]
    if not any(number == 2 for _, number in marks):
        return None
    verdict = verdict_of(gpt)
    if isinstance(verdict, Excluded):
        return verdict
    cuts: list[tuple[str, str, str]] = []
    first = next((mark for mark, number in marks if number == 1), None)
    question = None if first is None else _question(human, first.start())
    if first is not None and question is not None:
        style = first.group(1) is None
        for second, number in marks:
            if number == 2 and second.start() > first.end() and (second.group(1) is None) == style:
                text = _unwrap(human[question.end() : first.start()])
                response_1 = _unwrap(human[first.end() : second.start()])
                response_2 = _unwrap(human[second.end() :], last=True)
                if text is not None and response_1 is not None and response_2 is not None:
                    cuts.append((text, response_1, response_2))
    if len(cuts) != 1:
        if not verdict:
            return Excluded("tie", bad=False)
        return Excluded("unclear_turn", f"question and responses can be split in {len(cuts)} ways")
    text, *responses = cuts[0]
    return Compared(text, (responses[0], responses[1]), verdict, _reasons_for(gpt))


def _reasons_for(gpt: str) -> str:
    """The turn without the verdict in brackets; one in words names the response as the others do."""
    text = _BRACKET_STATEMENT.sub("", gpt)
    return _IN_WORDS.sub(lambda match: f"The better response is Response {_verdict(match)}", text).strip(_EDGES)


def _single(human: str, gpt: str) -> Rated | None:
    scores = {float(match) for match in _FINAL.findall(gpt)}
    marks = list(_ONE.finditer(human))
    if len(scores) != 1 or not marks:
        return None
    question = _question(human, marks[0].start())
    if question is None:
        return None
    text, response = _unwrap(human[question.end() : marks[0].start()]), _unwrap(human[marks[0].end() :], last=True)
    if text is None or response is None:
        return None
    reasons = _FINAL_STATEMENT.sub("", gpt).strip(_EDGES)
    return Rated(text, response, scores.pop(), human[: question.start()], reasons)


def _question(human: str, before: int) -> re.Match[str] | None:
    """The mark of the question: the first one followed by a bracket, otherwise the first one."""
    marks = list(_QUESTION.finditer(human, 0, before))
    return next((mark for mark in marks if human.startswith("[", mark.end())), marks[0] if marks else None)


def _unwrap(text: str, last: bool = False) -> str | None:
    """The text inside its brackets; text without brackets unchanged; None if they are opened and not closed.

    last: after the bracket of the last response, further words of the instruction may follow.
    """
    text = text.strip()
    if last:
        text = text.removesuffix("ASSISTANT:").rstrip()
    if not text.startswith("["):
        return text
    if text.endswith("]"):
        return text[1:-1].strip()
    end = text.rfind("]\n") if last else -1
    return text[1:end].strip() if end > 0 else None


SOURCE = Source(
    "llava-critic",
    columns=("id", "source", "conversations", "image"),
    read=read,
    expected="the folder of LLaVA-Critic-113k's parquet files (pairwise, pointwise or both)",
    license="apache-2.0",
    needs_image=True,
)
