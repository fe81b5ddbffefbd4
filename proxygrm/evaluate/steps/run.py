"""`eval run` on a step benchmark: a verdict on each step of each solution, resumed at the call.

OUT/raw/process_step.jsonl       the judge's answers as they arrive, and process_describe.jsonl the extractor's
OUT/raw/scalar_steps.jsonl       the scores of a scalar model, of each solution up to each step
OUT/answers.jsonl                {id, data_source, policy_model, label, pred, ...} per solution, for `eval score`
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from proxygrm.evaluate.steps.asking import AskedWork, Asking, seen_by_all
from proxygrm.evaluate.steps.figures import Verdict
from proxygrm.evaluate.steps.release import Labelled
from proxygrm.process.stages import ScoreSettings, why_unreadable, without_thought
from proxygrm.process.verdict import read_verdict

ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class StepRun:
    """extractor: describes each image for the judge first; None: the judge sees the image alone. threshold: verdicts
    come from soft scores, right above it; None: from the judge's text. asking: of a study, in which the judge describes
    the image where there is no extractor; None: as `process score` asks, whose window of earlier steps moves in
    strides."""

    solutions: Sequence[Labelled]
    judge: Calls | ScalarCheckpointJudge
    extractor: Calls | None
    settings: ScoreSettings
    missing_images: str
    out: Path
    threshold: float | None = None
    asking: Asking | None = None


def judge_steps(run: StepRun, progress: Progress) -> dict[str, Any]:
    """Write OUT/answers.jsonl, and return the counts. UserError as of `answer_all` and `check_images`."""
    if run.asking:
        run = replace(run, solutions=[_seen(solution, run.asking) for solution in run.solutions])
    images = [solution.question.images for solution in run.solutions]
    missing = check_images(images, run.missing_images, [int(solution.id) for solution in run.solutions])
    work: Work | None = None
    if isinstance(run.judge, ScalarCheckpointJudge):
        rows, causes = _scored_by_prefix(run, progress)
    else:
        work = _asked(run, progress)
        rows, causes = _judged(run, work)
    write_rows(run.out / ANSWERS, rows)
    return _descriptions(run, work) | {
        "judge": run.judge.name,
        "solutions": len(rows),
        "steps": sum(len(row["label"]) for row in rows),
        "unreadable": dict(causes.most_common()),
        "missing_images": missing,
        "threshold": run.threshold,
    }


def _seen(solution: Labelled, asking: Asking) -> Labelled:
    return replace(solution, question=seen_by_all(solution.question, asking.images))


def _asked(run: StepRun, progress: Progress) -> Work:
    """Every call answered."""
    assert not isinstance(run.judge, ScalarCheckpointJudge)
    extractor = run.extractor
    if run.asking:
        extractor = (run.extractor or run.judge) if run.asking.describes else None
    models: dict[str, Calls] = {DESCRIBE: extractor} if extractor else {}
    models[STEP] = run.judge
    questions = [solution.question for solution in run.solutions]
    if run.asking:
        work: Work = AskedWork(questions, run.settings, models.keys(), run.asking)
    else:
        work = Work(questions, run.settings, models.keys())
    answer_all(work, models, run.out / "raw", [int(solution.id) for solution in run.solutions], progress)
    return work


def _judged(run: StepRun, work: Work) -> tuple[list[Row], Counter[str]]:
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
        if run.asking:
            verdicts = [
                run.asking.verdict(f"{solution.id} {at} {answer['key']}") if verdict is None else verdict
                for at, (answer, verdict) in enumerate(zip(answers, verdicts, strict=True))
            ]
        rows.append(_row(solution, verdicts, extra))
    return rows, causes


def _descriptions(run: StepRun, work: Work | None) -> dict[str, Any]:
    """How many descriptions there are, by cause how many cannot be read, and how many a corruption left as they are."""
    if work is None or DESCRIBE not in work.stages:
        return {}
    questions = [q for q in work.questions if not isinstance(work, AskedWork) or work.describes(q)]
    distinct = {work.describing(question).key: work.description(question) for question in questions}
    descriptions = [description for description in distinct.values() if description]
    counts: dict[str, Any] = {
        "descriptions": len(descriptions),
        "unreadable_descriptions": dict(
            Counter(each.problem for each in descriptions if not each.text and each.problem)
        ),
    }
    return counts | ({"unchanged_descriptions": work.unchanged} if isinstance(work, AskedWork) else {})


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
