"""Policies' solutions in steps, judged by a process model as `proxygrm serve-reward` scores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from proxygrm.evaluate.judges.base import Calls, Progress
from proxygrm.evaluate.policy.figures import Judged
from proxygrm.evaluate.process.questions import Question, QuestionFile
from proxygrm.evaluate.process.score import Rules, Tally, score_questions, scored_row
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.process.aggregate import aggregate
from proxygrm.process.policy_json import steps_of
from proxygrm.process.stages import ScoreSettings
from proxygrm.rewards.answers import EMPTY, NO_STEPS

AGGREGATOR = "mean"
"""As of a served process model."""


def judge_solutions(
    questions: Sequence[Row],
    texts: Mapping[str, Sequence[str]],
    judge: Calls,
    helpers: Mapping[str, Calls],
    longest: int,
    folder: Path,
    progress: Progress,
) -> dict[str, list[Judged]]:
    """texts: of each policy, one for each question; the first policy is the one that wins are over. helpers:
    `extractor` and `auditor`, where the judge does not do this itself. longest: a description or an audit, in tokens.
    folder: of its raw answers, from which an interrupted run resumes.

    One answer that cannot be read leaves the solution without a score. Any other text loses to a solution.
    """
    solutions = [tuple(steps_of(own[at])[0] for own in texts.values()) for at in range(len(questions))]
    with_steps = [
        Question(row["question"], tuple(row["images"]), tuple(map(Path, row["images"])), steps)
        for row, steps in zip(questions, solutions, strict=True)
    ]
    default = ScoreSettings()
    settings = ScoreSettings(min(default.description_tokens, longest), min(default.audit_tokens, longest))
    file = QuestionFile(with_steps, list(range(1, len(with_steps) + 1)))
    extractor, auditor = (helpers.get(name, judge) for name in ("extractor", "auditor"))
    work = score_questions(file, settings, extractor, auditor, judge, folder, progress)

    def judged(row: Row, text: str) -> Judged:
        tally = Tally()
        solution = {"question": row["question"], "image": row["images"], "vlmresponse1": text}
        scores = scored_row(solution, Path(), work, Rules(), tally)["vlmresponse1"]["eval"]["final_step_scores"]
        if tally.without_steps:
            return Judged(cause=NO_STEPS if text.strip() else EMPTY)
        unreadable = tally.unreadable_descriptions + tally.unreadable_audits + tally.unreadable_verdicts
        return Judged(cause=next(iter(unreadable))) if unreadable else Judged(score=aggregate(AGGREGATOR, scores))

    judged_texts = {
        tag: [judged(row, text) for row, text in zip(questions, own, strict=True)] for tag, own in texts.items()
    }
    first, *others = judged_texts
    for tag in others:
        judged_texts[tag] = [
            replace(new, win=_win(old, new)) for old, new in zip(judged_texts[first], judged_texts[tag], strict=True)
        ]
    return judged_texts


def _win(old: Judged, new: Judged) -> float | None:
    was, now = (-1.0 if each.cause in (EMPTY, NO_STEPS) else each.score for each in (old, new))
    if was is None or now is None:
        return None
    return 0.5 if was == now else float(now > was)
