"""The answers of a perception intervention: written row by row, and how many are right under each condition.

TARGET.calls/process_describe.jsonl, process_contradict.jsonl, process_solve.jsonl   the raw answers as they arrive
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from proxygrm.core.bad_row import BadRow
from proxygrm.core.files.json_lines import json_rows
from proxygrm.core.files.output_file import check_output
from proxygrm.critique.prompts.process import CONTRADICT, DESCRIBE, SOLVE
from proxygrm.evaluate.judges.base import Calls, Progress
from proxygrm.evaluate.process.answering import answer_all
from proxygrm.evaluate.process.intervene import CONDITIONS, IMAGE, Intervention, InterventionWork, missing_by_cause
from proxygrm.evaluate.process.questions import Question, question_of, read_questions
from proxygrm.evaluate.rows.row_file import Row, write_rows
from proxygrm.evaluate.scores.metrics import Figures, clustered_interval
from proxygrm.process.match.answers import answers_equal, is_answer
from proxygrm.process.match.choices import choices_of
from proxygrm.process.policy_json import FINAL, read_policy
from proxygrm.process.stages import without_thought

ANSWERS, SHOWN = "interventions", "intervention"
Right = dict[str, bool]
"""Condition -> whether the answer is right; a missing condition is not there."""


def intervene_file(
    source: Path,
    target: Path,
    images_root: Path,
    intervention: Intervention,
    extractor: Calls,
    policy: Calls,
    missing_images: str,
    progress: Progress,
) -> Figures:
    """Write `target`, and return the figures. UserError for bad rows and missing images, and when calls get no answer
    (the others are kept in TARGET.calls, and the next run asks for the rest)."""
    check_output(target, [source])
    file = read_questions(source, images_root, solvable)
    file.check(source)
    blank = file.check_images(missing_images)
    work = InterventionWork(file.questions, intervention)
    models = {ask: policy if ask == SOLVE else extractor for ask in (DESCRIBE, CONTRADICT, SOLVE) if ask in work.stages}
    answer_all(work, models, target.with_name(f"{target.name}.calls"), file.rows, progress)
    unreadable: dict[str, Counter[str]] = {condition: Counter() for condition in intervention.conditions}
    answered = [
        intervened_row(row, question, work, unreadable)
        for (_, row), question in zip(json_rows(source), file.questions, strict=True)
    ]
    write_rows(target, answered)
    rights = [{name: one["right"] for name, one in row[ANSWERS].items() if one} for row in answered]
    figures = figures_of(rights, [question.key for question in file.questions])
    return figures | {
        "answered_by": policy.name,
        "described_by": extractor.name,
        "missing": missing_by_cause(work),
        "unreadable": {name: counts for name, counts in unreadable.items() if counts},
        "missing_images": blank,
    }


def solvable(row: Any, images_root: Path) -> Question:
    """A question with an image and its answer. Raises BadRow."""
    question = question_of(row, images_root)
    if not question.images:
        raise BadRow("no_image", "without an image there is nothing to intervene in")
    if not is_answer(row.get("answer")):
        raise BadRow("no_answer", "without its answer nobody knows what is right")
    return question


def intervened_row(
    row: Mapping[str, Any], question: Question, work: InterventionWork, unreadable: Mapping[str, Counter[str]]
) -> Row:
    """The row with `interventions`, condition -> {reasoningprocess, finalanswer, right}, null where it is missing; and
    with `intervention`: the description, what became of it, and the cause of each missing condition.

    An answer without a final one is wrong, and counted in `unreadable`.
    """
    choices = choices_of(row)
    answers: dict[str, Any] = {}
    causes: dict[str, str] = {}
    for condition in work.intervention.conditions:
        if cause := work.missing(question, condition):
            answers[condition], causes[condition] = None, cause
            continue
        request = work.solving(question, condition)
        assert request
        read = read_policy(without_thought(work.answers[request.key]["text"]))
        final = read.row.get(FINAL)
        if final is None:
            unreadable[condition][read.problem or "no_final_answer"] += 1
        answers[condition] = read.row | {"right": final is not None and answers_equal(final, row["answer"], choices)}
    shown = {name: found.text for name in CONDITIONS if (found := work.shown(question, name)) and found.text}
    return dict(row) | {ANSWERS: answers, SHOWN: shown | {"missing": causes}}


def figures_of(rights: Sequence[Right], clusters: Sequence[Hashable]) -> Figures:
    """Of each condition accuracy_C and n_C, over the questions that have it; and of each other than the image
    change_C, the accuracy minus that with the image, over the questions that have both. With KEY_low and KEY_high, 95 %
    bootstrap over questions, of which equal ones are drawn together. A figure without questions is not there."""
    figures: dict[str, Any] = {"questions": len(rights)}

    def add(name: str, values: Mapping[int, float]) -> None:
        if values:
            low, high = clustered_interval(list(values.values()), [clusters[at] for at in values])
            figures.update({name: sum(values.values()) / len(values), f"{name}_low": low, f"{name}_high": high})

    for condition in CONDITIONS:
        there = {at: float(right[condition]) for at, right in enumerate(rights) if condition in right}
        figures[f"n_{condition}"] = len(there)
        add(f"accuracy_{condition}", there)
        if condition != IMAGE:
            both = {at: value - rights[at][IMAGE] for at, value in there.items() if IMAGE in rights[at]}
            add(f"change_{condition}", both)
    return figures
