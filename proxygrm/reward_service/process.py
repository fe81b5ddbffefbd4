"""A process reward model: each step of a solution, gated by how reliably the image was read; from replicas of vLLM.

The model is asked as by `proxygrm process score` (`process.stages`). Where that leaves a null, there is no answer here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from proxygrm.critique.prompts.process import AUDIT, DESCRIBE, STEP, describe_prompt
from proxygrm.critique.thought import after_thought
from proxygrm.process.aggregate import aggregate
from proxygrm.process.audit import reliability_in
from proxygrm.process.checklist import Step, checklist_of
from proxygrm.process.gate import gate
from proxygrm.process.policy_json import MAX_STEPS, steps_of
from proxygrm.process.stages import Description, ScoreSettings, audit_text, step_texts, why_unreadable
from proxygrm.process.verdict import read_verdict
from proxygrm.reward_service.judges import (
    TIE,
    Asked,
    Comparison,
    CountedPool,
    Orders,
    Refused,
    RewardModel,
    Scores,
    StepScores,
    all_of,
    key_of,
    read_written,
)
from proxygrm.serving.chat.request import ChatRequest
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.image import ImageRef
from proxygrm.serving.pool.request import PoolRequest
from proxygrm.serving.pool.routing import Cause

AGGREGATOR = "mean"
HOW = f"process-{AGGREGATOR}"
HELPERS = {DESCRIBE: "extractor", AUDIT: "auditor"}
"""Who does a stage, where it is not the judge of the steps."""
Value = TypeVar("Value")


@dataclass(frozen=True)
class _Said(Generic[Value]):
    """An answer in one of the stages."""

    stage: str
    value: Value | None
    """None: it cannot be read, for the `problem`."""
    problem: str
    truncated: bool


class ProcessModel(RewardModel):
    """The image is described once for a request; the audits and the steps of all its solutions follow together."""

    kind, fewest, most = "process", 1, 16

    def __init__(
        self,
        endpoints: Endpoints,
        timeout_s: float | None = None,
        settings: ScoreSettings | None = None,
        helpers: Mapping[str, CountedPool] | None = None,
    ) -> None:
        """helpers: those of HELPERS that are other models; the model itself does what is left."""
        super().__init__(endpoints, timeout_s)
        self._settings, self._helpers = settings or ScoreSettings(), dict(helpers or {})

    @property
    def helpers(self) -> Mapping[str, CountedPool]:
        return self._helpers

    async def score(self, asked: Asked, responses: Sequence[str]) -> Scores:
        solutions = [_solution(number, response) for number, response in enumerate(responses, 1)]
        description = await self._description(asked)
        scored = await all_of(self._steps(asked, description, steps) for steps in solutions)
        return Scores([_aggregate(steps.final) for steps in scored], HOW)

    async def compare(self, asked: Asked, response_1: str, response_2: str, orders: Orders) -> Comparison:
        """A solution's steps are judged without the other solution, so there is no order."""
        one, two = (await self.score(asked, (response_1, response_2))).scores
        if one == two:
            return Comparison(None, TIE, scores=(one, two))
        return Comparison(1 if one > two else 2, scores=(one, two))

    async def steps(self, asked: Asked, steps: Sequence[Step]) -> StepScores:
        return await self._steps(asked, await self._description(asked), steps)

    async def _description(self, asked: Asked) -> str:
        return await self._ask(asked, DESCRIBE, describe_prompt(asked.question), _read_description)

    async def _steps(self, asked: Asked, description: str, steps: Sequence[Step]) -> StepScores:
        audit = audit_text(description, steps)
        calls = [self._ask(asked, AUDIT, audit, _read_reliability)] if audit else []
        calls += [
            self._ask(asked, STEP, text, _read_verdict)
            for text in step_texts(asked.question, description, steps, self._settings)
        ]
        numbers = await all_of(calls)
        reliability, raw = (numbers[0], numbers[1:]) if audit else (None, numbers)
        return StepScores(raw, gate(raw, checklist_of(steps).visual_indices, reliability), reliability)

    async def _ask(
        self, asked: Asked, stage: str, text: str, read: Callable[[Mapping[str, Any]], Value | None]
    ) -> Value:
        """Raises NotJudged, also for what `read` cannot read."""
        pool = self._helpers.get(HELPERS.get(stage, ""), self)
        tokens = min(self._settings.tokens(stage), pool.endpoints.max_tokens)

        def build(images: Sequence[ImageRef]) -> PoolRequest[_Said[Value]]:
            chat = ChatRequest.build(pool.endpoints.model, text, max_tokens=tokens)
            return PoolRequest(chat, tuple(images), partial(_said, stage, read))

        said = await pool.answer(asked.images, partial(key_of, asked), build, _failure)
        assert said.value is not None  # else it is a failure
        return said.value


def _solution(number: int, response: str) -> Sequence[Step]:
    steps, cause = steps_of(response)
    if not steps or len(steps) > MAX_STEPS:
        reason = f"{len(steps)} steps" if steps else f"no steps ({cause})"
        raise Refused(
            422,
            "no_steps",
            f"response {number} has {reason}; a process model scores solutions of 1 to {MAX_STEPS} steps, as "
            '{"reasoningprocess": [{"steptext", "visualdependency"}], "finalanswer"}',
        )
    return steps


def _aggregate(final: Sequence[float | None]) -> float:
    score = aggregate(AGGREGATOR, final)
    assert score is not None  # no step is unknown
    return score


def _said(stage: str, read: Callable[[Mapping[str, Any]], Value | None], body: bytes) -> _Said[Value]:
    chat = read_written(body)
    answer = {
        "text": after_thought(chat.text, chat.truncated),
        "truncated": chat.truncated,
        "problem": None,
        "cause": chat.cause,
    }
    return _Said(stage, read(answer), why_unreadable(answer), chat.truncated)


def _failure(said: _Said[Any]) -> tuple[Cause, str] | None:
    if said.value is not None:
        return None
    return Cause.CUT_OFF if said.truncated else Cause.UNPARSED, f"{said.stage}: {said.problem}"


def _read_description(answer: Mapping[str, Any]) -> str | None:
    return Description.of(answer).text or None


def _read_reliability(answer: Mapping[str, Any]) -> float | None:
    return reliability_in(answer["text"])


def _read_verdict(answer: Mapping[str, Any]) -> float | None:
    verdict = read_verdict(answer["text"])
    return None if verdict is None else float(verdict)
