"""Which calls a score needs, and which of them are ready: the judge of a step waits for the image's description.

Answers are known by what was asked: the instruction and the images. So an interrupted run resumes at the call, equal
rows are asked about once, and a changed solution costs the calls of its changed steps.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from proxygrm.critique.prompts.process import AUDIT, DESCRIBE, STEP, describe_prompt
from proxygrm.evaluate.judges.base import text_hash
from proxygrm.evaluate.judges.engine import Request
from proxygrm.evaluate.process.questions import Question
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.process.checklist import checklist_of
from proxygrm.process.policy_json import Steps
from proxygrm.process.stages import Description, ScoreSettings, audit_text, step_texts


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

    def prompt(self, stage: str) -> str:
        """The instruction of a stage."""
        return stage

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
        request = self.describing(question) if DESCRIBE in self.stages else None
        if request is None or request.key in self.answers:
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
        description = self.description(question)
        text = audit_text(description.text, steps) if self.audits and description else None
        return self._request(AUDIT, text, question) if text else None

    def judging(self, question: Question, steps: Steps) -> list[Request]:
        """One call for each step."""
        description = self.description(question)
        texts = step_texts(question.text, description.text if description else "", steps, self.settings)
        return [self._request(STEP, text, question) for text in texts]

    def _request(self, stage: str, text: str, question: Question) -> Request:
        key = f"{stage}:{text_hash(text + chr(0) + question.seen)}"
        soft = self.settings.soft and stage == STEP
        return Request(key, text, question.images, self.settings.tokens(stage), logprobs=soft)


def stage_of(row: Mapping[str, str]) -> str:
    """Of an answer."""
    return row["key"].partition(":")[0]
