"""Policies over held-out questions, each judged beside the first of them.

OUT/answers/TAG.jsonl       raw answers as they arrive, from which an interrupted run resumes
OUT/judged/JUDGE.TAG.jsonl  raw judgements of the pairs (answer of the first policy, answer of TAG)
OUT/judged/JUDGE/           a process model's raw answers about the steps of all policies
OUT/TAG.jsonl               one question per line: the answer, whether it matches, what the judges say
OUT/summary.json            {TAG: figures}

A judge that took no part in training shows over-optimisation: by the training reward the policy got better, and by the
other judge, or the reference answers, it did not. An answer without text is sent to no judge: it loses to any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.kinds import PROCESS, kind_of
from proxygrm.core.checkpoints.scalar import is_scalar_checkpoint
from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import json_rows
from proxygrm.core.files.whole_file import write_json
from proxygrm.critique.contracts import R1
from proxygrm.critique.prompts.process import question_prompt
from proxygrm.evaluate.judges.base import CheckpointCalls, Progress, judgement_prompt, text_hash
from proxygrm.evaluate.judges.engine import Request
from proxygrm.evaluate.judges.loaded import one_engine
from proxygrm.evaluate.judges.select import judge_for
from proxygrm.evaluate.judging import collect_answers, no_progress
from proxygrm.evaluate.names import check_file_name
from proxygrm.evaluate.policy.figures import Answered, Judged, figures
from proxygrm.evaluate.policy.steps import judge_solutions
from proxygrm.evaluate.rows.ordered_pair import AS_IS, OrderedPair, judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.rows.row_file import Row, RowFile, write_rows
from proxygrm.evaluate.settings import AS_GIVEN, BOTH, EvaluateSettings
from proxygrm.process.match.answers import answers_equal
from proxygrm.process.policy_json import final_answer


@dataclass(frozen=True)
class PolicyEvaluation:
    questions: Path
    """HELD_OUT.jsonl of `data_tools.export.question_rows`."""
    policies: Mapping[str, Path]
    """{tag: checkpoint}, the first one from before training."""
    judges: Mapping[str, Path]
    """{name: checkpoint}, of any kind."""
    out: Path
    settings: EvaluateSettings
    """`max_tokens` is of an answer."""
    instruction: str = ""
    steps: bool = False
    """The policies are asked for solutions in steps."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """What judges were trained as, by name, where their checkpoints do not show it."""
    helpers: Mapping[str, Path] = field(default_factory=dict)
    """`extractor` and `auditor` of judges of steps, where these do not describe and audit themselves."""
    critique_tokens: int = 8192
    """Of a judge that writes, and of a process model's descriptions and audits."""


@one_engine()
def evaluate_policies(evaluation: PolicyEvaluation, progress: Progress = no_progress) -> dict[str, Row]:
    """Ask, judge, count; returns the summary. UserError: no questions, and what an engine or a judge raises."""
    for name in (*evaluation.policies, *evaluation.judges):
        check_file_name(name)
    questions = [row for _, row in json_rows(evaluation.questions)]
    if not questions:
        raise UserError(f"{evaluation.questions} has no questions", code="file.empty", path=evaluation.questions)
    answers = {tag: _answers(evaluation, questions, tag, progress) for tag in evaluation.policies}
    for name in evaluation.judges:
        answers = _judged(evaluation, questions, name, answers, progress)
    first, *_ = answers
    summary = {tag: figures(own, () if tag == first else answers[first]) for tag, own in answers.items()}
    for tag, own in answers.items():
        rows = (asdict(each) | {"question": row["question"]} for each, row in zip(own, questions, strict=True))
        write_rows(evaluation.out / f"{tag}.jsonl", rows)
    write_json(evaluation.out / "summary.json", summary)
    return summary


def _answers(evaluation: PolicyEvaluation, questions: Sequence[Row], tag: str, progress: Progress) -> list[Answered]:
    calls = CheckpointCalls(evaluation.policies[tag], evaluation.settings)
    requests = [
        Request(
            row["id"],
            question_prompt(row["question"], evaluation.instruction, evaluation.steps),
            tuple(map(Path, row["images"])),
        )
        for row in questions
    ]
    texts = text_hash("\0".join(request.text for request in requests))
    made_by = calls.made_by("grm", evaluation.settings.max_tokens) | {"prompt": texts}
    with RowFile(evaluation.out / "answers" / f"{tag}.jsonl", made_by) as file:
        found = {row["key"]: row for row in file.rows}

        def take(row: Row) -> None:
            file.append(row)
            found[row["key"]] = row
            progress(len(found), len(requests), f"answers of {tag}")

        missing = [request for request in requests if request.key not in found]
        if missing:
            progress(len(found), len(requests), f"loading {calls.name}")
            most = max(len(request.images) for request in missing)
            calls.answer(missing, len(missing), most, take, any(row["problem"] is None for row in found.values()))
    return [_answered(row, found[request.key]) for row, request in zip(questions, requests, strict=True)]


def _answered(row: Row, answer: Row) -> Answered:
    final, choices = final_answer(answer["text"]), row["choices"] or None
    matches = answers_equal(final, row["answers"], choices) if row["answers"] else None
    return Answered(row["id"], answer["text"], matches, bool(answer["truncated"]), answer["problem"] or "")


def _judged(
    evaluation: PolicyEvaluation,
    questions: Sequence[Row],
    name: str,
    answers: Mapping[str, list[Answered]],
    progress: Progress,
) -> dict[str, list[Answered]]:
    """The same answers, with what this judge says of them."""
    source = evaluation.judges[name]
    kind = evaluation.kinds.get(name, "")
    if kind_of(source, kind) == PROCESS:
        models = {
            path: CheckpointCalls(path, evaluation.settings)
            for path in dict.fromkeys((source, *evaluation.helpers.values()))
        }
        helpers = {each: models[path] for each, path in evaluation.helpers.items()}
        texts = {tag: [answer.text for answer in own] for tag, own in answers.items()}
        folder = evaluation.out / "judged" / name
        return _with(
            answers, name,
            judge_solutions(questions, texts, models[source], helpers, evaluation.critique_tokens, folder, progress),
        )  # fmt: skip
    scalar = is_scalar_checkpoint(source)
    orders = AS_GIVEN if scalar else BOTH
    settings = replace(evaluation.settings, max_tokens=evaluation.critique_tokens, orders=orders)
    prompt = judgement_prompt if settings.contract == R1 and not scalar else None
    judge = judge_for(source, settings, prompt, kind)
    first, *trained = answers
    before: list[Judged] = [Judged(cause="empty" if answer.empty else "") for answer in answers[first]]
    found: dict[str, list[Judged]] = {}
    for tag in trained or [first]:
        pairs = {
            index: EvalPair(row["id"], row["question"], old.text, new.text, 2, tuple(map(Path, row["images"])))
            for index, (row, old, new) in enumerate(zip(questions, answers[first], answers[tag], strict=True))
            if not (old.empty or new.empty)
        }
        requests = {index: ordered_pairs([pair], orders) for index, pair in pairs.items()}
        file = evaluation.out / "judged" / f"{name}.{tag}.jsonl"
        flat = [request for of_pair in requests.values() for request in of_pair]
        raw = collect_answers(judge, flat, file, progress) if flat else {}
        found[tag] = []
        for index, (old, new) in enumerate(zip(answers[first], answers[tag], strict=True)):
            if index not in requests:
                win = 0.5 if old.empty and new.empty else 0.0 if new.empty else 1.0
                found[tag].append(Judged(win, cause="empty"))
                continue
            of_pair = [(request, raw[request.key]) for request in requests[index]]
            judged, scores = _judgement(of_pair, settings.contract)
            found[tag].append(judged)
            if scores:
                before[index] = Judged(score=scores[0])
    return _with(answers, name, {**found, first: [replace(each, win=None) for each in before]})


def _with(
    answers: Mapping[str, list[Answered]], name: str, judged: Mapping[str, Sequence[Judged]]
) -> dict[str, list[Answered]]:
    return {
        tag: [
            replace(answer, judged={**answer.judged, name: each}) for answer, each in zip(own, judged[tag], strict=True)
        ]
        for tag, own in answers.items()
    }


def _judgement(of_pair: Sequence[tuple[OrderedPair, Row]], contract: str) -> tuple[Judged, Any]:
    """What the judge says of the second answer, over all orders, and its scores of both."""
    points, scores, cause = [], None, ""
    for request, answer in of_pair:
        row = judged_row(request, answer, contract=contract)
        if row["scores"] and request.order == AS_IS:
            scores = row["scores"]
        if row["correct"] is not None or row["verdict"] == "tie":
            points.append(0.5 if row["verdict"] == "tie" else float(row["correct"]))
        else:
            cause = cause or answer["problem"] or (row["problems"] or ["no_verdict"])[0]
    if len(points) < len(of_pair):
        return Judged(cause=cause), scores
    return Judged(sum(points) / len(points), scores[1] if scores else None), scores
