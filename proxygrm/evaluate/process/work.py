"""Which calls a score needs, and which of them are ready: the judge of a step waits for the image's description.

Answers are known by what was asked: the instruction and the images. So an interrupted run goes on at the call, equal
rows are asked about once, and a changed solution costs the calls of its changed steps.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from proxygrm.core.bounds import check_bounds
from proxygrm.critique.prompts.process import AUDIT, DESCRIBE, STEP, audit_prompt, describe_prompt, step_prompt
from proxygrm.evaluate.judges.base import text_hash
from proxygrm.evaluate.judges.engine import Request
from proxygrm.evaluate.process.questions import Question, Steps
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.process.checklist import checklist_of
from proxygrm.process.json_text import objects_in, strip_code_fences

DESCRIPTION = "image_description"


@dataclass(frozen=True)
class ScoreSettings:
    """How the stages are asked."""

    description_tokens: int = 2048
    """Longest description, in tokens."""
    audit_tokens: int = 2048
    """Longest audit, in tokens."""
    verdict_tokens: int = 16
    """Longest verdict, in tokens."""
    history: int = 32
    """The judge sees at least so many earlier steps, and fewer than twice as many; 0: all. The first one shown moves in
    strides of so many, since the steps in between share their prefix."""
    soft: bool = False
    """Also ask how probable the two verdicts are."""

    def __post_init__(self) -> None:
        lengths = ("description_tokens", "audit_tokens", "verdict_tokens")
        check_bounds("process score", self, from_one=lengths, from_zero=("history",))

    def first_shown(self, step: int) -> int:
        """The first step that the judge of step `step` sees, both from 0."""
        return 0 if not self.history else max(0, step // self.history - 1) * self.history

    def tokens(self, stage: str) -> int:
        return {DESCRIBE: self.description_tokens, AUDIT: self.audit_tokens, STEP: self.verdict_tokens}[stage]


@dataclass(frozen=True)
class Description:
    raw: str
    """The extractor's text."""
    text: str
    """What it says of the image; "" where it cannot be read."""
    problem: str = ""
    """Why it cannot be read."""

    @classmethod
    def of(cls, answer: Row) -> Description:
        """A text that is not the start of the JSON is taken as it is: it describes the image all the same."""
        raw = str(answer["text"])
        said = without_thought(raw)
        texts = [value.get(DESCRIPTION) for value in objects_in(said)]
        found = [text.strip() for text in texts if isinstance(text, str) and text.strip()]
        if found:
            return cls(raw, found[-1])
        plain = strip_code_fences(said)
        if plain and not plain.startswith("{") and DESCRIPTION not in plain:
            return cls(raw, plain)
        return cls(raw, "", why_unreadable(answer))


def without_thought(text: str) -> str:
    """What follows the `<think>` of a model that thinks first."""
    return text.rpartition("</think>")[2] if text.lstrip().startswith("<think>") else text


def why_unreadable(answer: Row) -> str:
    """A word for an answer that is not what was asked for."""
    if answer.get("cause"):
        return str(answer["cause"])
    if answer["problem"]:
        return "prompt_refused"
    return "cut_off" if answer["truncated"] else "empty" if not answer["text"].strip() else "unreadable"


class Work:
    """The calls of all questions. stages: those that are asked; without DESCRIBE the judge sees no description, and
    there is nothing to audit against."""

    def __init__(self, questions: Sequence[Question], settings: ScoreSettings, stages: Collection[str]) -> None:
        self.questions, self.settings, self.stages = questions, settings, stages
        self.answers: dict[str, Row] = {}
        self._queue = deque[Request]()
        self._waiting = defaultdict[str, list[Question]](list)
        """Key of a description that was asked for -> the questions whose other calls need it."""
        self._asking: Collection[str] = ()

    @cached_property
    def total(self) -> int:
        """About how many calls there are: equal ones are counted each time."""
        steps = sum(len(steps) for question in self.questions for steps in question.solutions)
        audits = sum(bool(checklist_of(s).items) for q in self.questions for s in q.solutions) if self.audits else 0
        return steps + audits + (len(self.questions) if DESCRIBE in self.stages else 0)

    @property
    def audits(self) -> bool:
        return {DESCRIBE, AUDIT} <= {*self.stages}

    def requests(self, stages: Collection[str]) -> Iterator[Request | None]:
        """The calls of these stages that have no answer; None while the next ones wait for a description. What has
        become ready comes first, so that the calls of one question stay together."""
        asked, remaining = set[str](), iter(self.questions)
        self._queue.clear()
        self._waiting.clear()
        self._asking = stages
        while True:
            if self._queue:
                request = self._queue.popleft()
                if request.key not in asked and request.key not in self.answers:
                    asked.add(request.key)
                    yield request
            elif question := next(remaining, None):
                self._begin(question)
            elif self._waiting:
                yield None
            else:
                return

    def take(self, row: Row) -> None:
        """An answer has arrived."""
        self.answers[row["key"]] = row
        for question in self._waiting.pop(row["key"], ()):
            self._follow(question)

    def unfinished(self, stages: Collection[str]) -> list[int]:
        """The positions of the questions that lack answers of these stages."""
        return [at for at, question in enumerate(self.questions) if not self._answered(question, stages)]

    def _answered(self, question: Question, stages: Collection[str]) -> bool:
        if DESCRIBE in self.stages and self.description(question) is None:
            return False
        for steps in question.solutions:
            audit = self.auditing(question, steps) if AUDIT in stages else None
            calls = [*([audit] if audit else []), *(self.judging(question, steps) if STEP in stages else [])]
            if any(call.key not in self.answers for call in calls):
                return False
        return True

    def _begin(self, question: Question) -> None:
        request = self.describing(question)
        if DESCRIBE not in self.stages or request.key in self.answers:
            self._follow(question)
        elif DESCRIBE in self._asking:
            self._waiting[request.key].append(question)
            self._queue.append(request)

    def _follow(self, question: Question) -> None:
        for steps in question.solutions:
            if AUDIT in self._asking and (audit := self.auditing(question, steps)):
                self._queue.append(audit)
            if STEP in self._asking:
                self._queue += self.judging(question, steps)

    def description(self, question: Question) -> Description | None:
        """None before it has been asked for."""
        answer = self.answers.get(self.describing(question).key)
        return Description.of(answer) if answer else None

    def describing(self, question: Question) -> Request:
        return self._request(DESCRIBE, describe_prompt(question.text), question)

    def auditing(self, question: Question, steps: Steps) -> Request | None:
        """None where there is nothing to compare: no claim, or no readable description."""
        description, checklist = self.description(question), checklist_of(steps)
        if not self.audits or not checklist.items or description is None or not description.text:
            return None
        return self._request(AUDIT, audit_prompt(description.text, checklist.text), question)

    def judging(self, question: Question, steps: Steps) -> list[Request]:
        """One call for each step."""
        description = self.description(question)
        text, settings = description.text if description else "", self.settings
        requests = []
        for step in range(len(steps)):
            first = settings.first_shown(step)
            shown = [shown.text for shown in steps[first : step + 1]]
            requests.append(self._request(STEP, step_prompt(question.text, text, shown, first + 1), question))
        return requests

    def _request(self, stage: str, text: str, question: Question) -> Request:
        key = f"{stage}:{text_hash(text + chr(0) + question.seen)}"
        soft = self.settings.soft and stage == STEP
        return Request(key, text, question.images, self.settings.tokens(stage), logprobs=soft)


def stage_of(row: Mapping[str, str]) -> str:
    """Of an answer."""
    return row["key"].partition(":")[0]
