"""`process score`: describe the image, audit each solution's checklist, judge each step, gate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.critique.prompts.process import AUDIT, DESCRIBE, STEP
from proxygrm.evaluate.judges.base import Calls, Progress
from proxygrm.evaluate.process.answering import answer_all
from proxygrm.evaluate.process.questions import NO_RESPONSES, Question, QuestionFile, question_of, responses_of
from proxygrm.evaluate.process.work import Work
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.process.audit import audit_object, reliability_in
from proxygrm.process.checklist import checklist_of
from proxygrm.process.gate import gate
from proxygrm.process.policy_json import Steps, steps_of
from proxygrm.process.stages import Description, ScoreSettings, why_unreadable, without_thought
from proxygrm.process.verdict import read_verdict

DESCRIBED, DESCRIBED_RAW = "__golden_image_description__", "__golden_image_description_raw__"


@dataclass(frozen=True)
class Rules:
    """How answers are read and combined."""

    as_upstream: bool = False
    """As the released scorer: an unreadable verdict is -1, an unreadable audit 0.0."""
    unreadable_audit: str = "keep"
    """What becomes of visual steps then, one of `process.gate.UNREADABLE_AUDIT`."""


@dataclass
class Tally:
    """What was scored, and what could not be read, by cause."""

    rows: int = 0
    responses: int = 0
    steps: int = 0
    visual_steps: int = 0
    without_steps: Counter[str] = field(default_factory=Counter)
    """Responses, and rows that have none."""
    unreadable_descriptions: Counter[str] = field(default_factory=Counter)
    """Rows."""
    unreadable_audits: Counter[str] = field(default_factory=Counter)
    """Responses that have a checklist."""
    unreadable_verdicts: Counter[str] = field(default_factory=Counter)
    """Steps."""


def score_questions(
    file: QuestionFile,
    settings: ScoreSettings,
    extractor: Calls,
    auditor: Calls,
    judge: Calls,
    folder: Path,
    progress: Progress,
) -> Work:
    """Every question's description, audits and verdicts; `folder` holds the raw answers, see `answer_all`."""
    models = {DESCRIBE: extractor, AUDIT: auditor, STEP: judge}
    work = Work(file.questions, settings, models.keys())
    answer_all(work, models, folder, file.rows, progress)
    return work


def scored_row(row: Any, images_root: Path, work: Work, rules: Rules, tally: Tally) -> dict[str, Any]:
    """The row with the description, and in each response `eval` (the fields of the released scorer). Raises BadRow.

    A step that could not be read is null in both lists of scores, and `local_p_score` is null without a readable audit.
    A response without steps has empty lists.
    """
    question = question_of(row, images_root)
    description = work.description(question)
    if description is None:  # the file has changed since it was read
        raise BadRow("unknown_row", "this question was not there when the run started")
    counted = Tally(rows=1)
    if not description.text:
        counted.unreadable_descriptions[description.problem] += 1
    scored = dict(row)
    for name, response in responses_of(row).items():
        steps, cause = steps_of(response)
        fields = response if isinstance(response, Mapping) else {"rawoutput": response}
        counted.responses += 1
        if cause:
            counted.without_steps[cause] += 1
        scored[name] = dict(fields) | {"eval": _evaluation(question, steps, description, work, rules, counted)}
    if not counted.responses:
        counted.without_steps[NO_RESPONSES] += 1
    scored |= {DESCRIBED: description.text, DESCRIBED_RAW: description.raw}
    _add(tally, counted)
    return scored


def score_report(tally: Tally, file: QuestionFile, work: Work, missing_images: int) -> dict[str, Any]:
    """What was scored, and what could not be read by cause."""
    return vars(tally) | {
        "missing_images": missing_images,
        "lines_without_steps": file.without_steps,
        "repeated_ids": file.repeated_ids,
        "calls": len(work.answers),
    }


def _evaluation(
    question: Question, steps: Steps, description: Description, work: Work, rules: Rules, tally: Tally
) -> dict[str, Any]:
    checklist = checklist_of(steps)
    reliability, audit = _audit(question, steps, work, rules, tally)
    verdicts = [_verdict(work.answers[request.key], rules, tally) for request in work.judging(question, steps)]
    raw = [None if verdict is None else float(verdict) for verdict in verdicts]
    tally.steps += len(steps)
    tally.visual_steps += len(checklist.visual_indices)
    scores: dict[str, Any] = {
        "image_description": description.text,
        "visual_checklist": checklist.text,
        "visual_step_indices": list(checklist.visual_indices),
        "visual_checklist_evaluation": audit,
        "local_p_score": reliability,
        "raw_step_scores": raw,
        "final_step_scores": gate(raw, checklist.visual_indices, reliability, rules.unreadable_audit),
    }
    if work.settings.soft:
        scores["soft_step_scores"] = [soft_score(work.answers[r.key]) for r in work.judging(question, steps)]
    return scores


def _audit(
    question: Question, steps: Steps, work: Work, rules: Rules, tally: Tally
) -> tuple[float | None, dict[str, Any]]:
    """(reliability, what the auditor wrote); None and {} for a solution without a checklist, which needs none."""
    if not checklist_of(steps).items:
        return None, {}
    request = work.auditing(question, steps)
    answer = work.answers[request.key] if request else None
    text = without_thought(answer["text"]) if answer else ""
    if reliability_in(text) is None:
        tally.unreadable_audits[why_unreadable(answer) if answer else "no_description"] += 1
    reliability = reliability_in(text, rules.as_upstream)
    found = audit_object(text, rules.as_upstream)
    if reliability_in(text) is None or found is None:
        cause = why_unreadable(answer) if answer else "no_description"
        return reliability, (found or {}) | {"error": cause, "raw_output": text, "p_score": reliability}
    return reliability, found


def _verdict(answer: Row, rules: Rules, tally: Tally) -> int | None:
    verdict = read_verdict(without_thought(answer["text"]))
    if verdict is None:
        tally.unreadable_verdicts[why_unreadable(answer)] += 1
    return read_verdict(answer["text"], as_upstream=True) if rules.as_upstream else verdict


def soft_score(answer: Row) -> float | None:
    """The probability of 1 against -1 as the first token; None where neither is among the most probable ones."""
    logprobs = answer.get("logprobs") or {}
    right = sum(math.exp(p) for token, p in logprobs.items() if token.strip() == "1")
    wrong = sum(math.exp(p) for token, p in logprobs.items() if token.strip() in ("-", "-1", "−"))
    return right / (right + wrong) if right + wrong > 0 else None


def _add(total: Tally, part: Tally) -> None:
    for name, value in vars(part).items():
        if isinstance(value, Counter):
            getattr(total, name).update(value)
        else:
            setattr(total, name, getattr(total, name) + value)
