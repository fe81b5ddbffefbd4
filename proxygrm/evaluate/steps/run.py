"""`eval run` on a step benchmark: a verdict on each step of each solution, resumed at the call.

OUT/raw/process_step.jsonl       the judge's answers as they arrive, and process_describe.jsonl the extractor's
OUT/raw/scalar_steps.jsonl       the scores of a scalar model, of each solution up to each step
OUT/answers.jsonl                {id, data_source, policy_model, label, pred, ...} per solution, for `eval score`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.critique.prompts.process import DESCRIBE, STEP
from proxygrm.evaluate.judges.base import Calls, Progress, text_hash
from proxygrm.evaluate.judges.scalar_checkpoint import ScalarCheckpointJudge
from proxygrm.evaluate.judging import collect_answers
from proxygrm.evaluate.process.answering import answer_all
from proxygrm.evaluate.process.score import soft_score
from proxygrm.evaluate.process.work import Work
from proxygrm.evaluate.rows.ordered_pair import AS_IS, OrderedPair
from proxygrm.evaluate.rows.pairs import EvalPair, check_images
from proxygrm.evaluate.rows.row_file import Row, write_rows
from proxygrm.evaluate.steps.answers import verdict_of
from proxygrm.evaluate.steps.figures import Verdict
from proxygrm.evaluate.steps.release import Labelled
from proxygrm.process.stages import ScoreSettings, why_unreadable, without_thought
from proxygrm.process.verdict import read_verdict

ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class StepRun:
    """extractor: describes each image for the judge first; None: the judge sees the image alone. threshold: verdicts
    come from soft scores, right above it; None: from the judge's text."""

    solutions: Sequence[Labelled]
    judge: Calls | ScalarCheckpointJudge
    extractor: Calls | None
    settings: ScoreSettings
    missing_images: str
    out: Path
    threshold: float | None = None


def judge_steps(run: StepRun, progress: Progress) -> dict[str, Any]:
    """Write OUT/answers.jsonl, and return the counts. UserError as of `answer_all` and `check_images`."""
    missing = check_images([solution.question.images for solution in run.solutions], run.missing_images)
    rows, causes = (
        _scored_by_prefix(run, progress) if isinstance(run.judge, ScalarCheckpointJudge) else _judged(run, progress)
    )
    write_rows(run.out / ANSWERS, rows)
    return {
        "judge": run.judge.name,
        "solutions": len(rows),
        "steps": sum(len(row["label"]) for row in rows),
        "unreadable": dict(causes.most_common()),
        "missing_images": missing,
        "threshold": run.threshold,
    }


def _judged(run: StepRun, progress: Progress) -> tuple[list[Row], Counter[str]]:
    assert not isinstance(run.judge, ScalarCheckpointJudge)
    models: dict[str, Calls] = {DESCRIBE: run.extractor} if run.extractor else {}
    models[STEP] = run.judge
    work = Work([solution.question for solution in run.solutions], run.settings, models.keys())
    answer_all(work, models, run.out / "raw", [int(solution.id) for solution in run.solutions], progress)
    rows, causes = [], Counter[str]()
    for solution in run.solutions:
        answers = [work.answers[call.key] for call in work.judging(solution.question, solution.question.solutions[0])]
        extra: Row = {}
        if run.threshold is None:
            verdicts: list[Verdict] = [read_verdict(without_thought(answer["text"])) for answer in answers]
        else:
            scores = [soft_score(answer) for answer in answers]
            verdicts, extra = [verdict_of(score, run.threshold) for score in scores], {"scores": scores}
        causes.update(
            why_unreadable(answer) if run.threshold is None or answer["problem"] else "no_probability"
            for answer, verdict in zip(answers, verdicts, strict=True)
            if verdict is None
        )
        rows.append(_row(solution, verdicts, extra))
    return rows, causes


@dataclass(frozen=True)
class _Prefixes(OrderedPair):
    """A solution up to each of its steps, as the responses that a scalar model scores together."""

    solution: Labelled | None = None

    @property
    def responses(self) -> tuple[str, ...]:  # type: ignore[override]
        steps = self.solution.steps if self.solution else ()
        return tuple(accumulate(steps, lambda before, step: f"{before}\n\n{step}"))

    @property
    def key(self) -> str:  # type: ignore[override]
        seen = self.solution.question.key if self.solution else ""
        return f"{seen}/{text_hash(chr(0).join(self.responses))}"


def _scored_by_prefix(run: StepRun, progress: Progress) -> tuple[list[Row], Counter[str]]:
    assert isinstance(run.judge, ScalarCheckpointJudge)
    if run.threshold is None:
        raise UserError(
            f"{run.judge.name} is a scalar model: a step is right when the solution up to it scores above --threshold",
            code="eval.needs-threshold",
        )
    requests = [
        _Prefixes(EvalPair(s.id, s.question.text, "", "", 1, s.question.images), AS_IS, solution=s)
        for s in run.solutions
    ]
    answers = collect_answers(run.judge, _distinct(requests), run.out / "raw" / "scalar_steps.jsonl", progress)
    rows, causes = [], Counter[str]()
    for request, solution in zip(requests, run.solutions, strict=True):
        answer = answers[request.key]
        scores = answer.get("scores") or [None] * len(solution.labels)
        causes["prompt_refused"] += len(scores) if answer["problem"] else 0
        rows.append(_row(solution, [verdict_of(score, run.threshold) for score in scores], {"scores": scores}))
    return rows, +causes


def _distinct(requests: Sequence[_Prefixes]) -> list[_Prefixes]:
    return list({request.key: request for request in requests}.values())


def _row(solution: Labelled, verdicts: Sequence[Verdict], extra: Row) -> Row:
    return {
        "id": solution.id,
        "data_source": solution.source,
        "policy_model": solution.policy,
        "label": list(solution.labels),
        "pred": list(verdicts),
        **extra,
    }
