"""Answer the calls of a score, stage by stage or at once, resumed at the call.

FOLDER/process_describe.jsonl, process_audit.jsonl, process_step.jsonl   the answers of each stage as they arrive; a
stage may be asked again by another model (delete its file), and the others stay
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges.base import Calls, Progress
from proxygrm.evaluate.judges.endpoint import Unanswered
from proxygrm.evaluate.process.work import Work, stage_of
from proxygrm.evaluate.rows.row_file import Row, RowFile
from proxygrm.evaluate.rows.text import rows_text


def answer_all(work: Work, models: Mapping[str, Calls], folder: Path, rows: list[int], progress: Progress) -> None:
    """models: of each stage of `work`. The stages of one model are answered together: a call starts as soon as what it
    depends on is there. rows: the line of each question, for messages.

    UserError when calls get no answer (the others are kept, and the next run asks for the rest), and when a file of
    answers comes from another model, instruction or setting.
    """
    with ExitStack() as stack:
        files = {
            stage: stack.enter_context(RowFile(folder / f"{stage}.jsonl", _made_by(work, stage, model)))
            for stage, model in models.items()
        }
        for file in files.values():
            work.answers |= {row["key"]: row for row in file.rows}
        for model in dict.fromkeys(models.values()):
            stages = [stage for stage, other in models.items() if other is model]
            try:
                _answer(work, model, {stage: files[stage] for stage in stages}, progress)
            except Unanswered as error:
                missing = [rows[at] for at in work.unfinished(stages)]
                raise Unanswered(f"{error} ({rows_text(missing)})", **error.values | {"rows": missing}) from error
    if missing := [rows[at] for at in work.unfinished(work.stages)]:
        raise UserError(
            f"{rows_text(missing)} have calls without an answer; run the same command again",
            code="process.unanswered",
            rows=missing,
        )


def _answer(work: Work, model: Calls, files: Mapping[str, RowFile], progress: Progress) -> None:
    pending = work.requests(files.keys())
    first = next(pending, None)
    if first is None:
        return

    def take(row: Row) -> None:
        files[stage_of(row)].append(row)
        work.take(row)
        progress(len(work.answers), work.total, f"judging with {model.name}")

    progress(len(work.answers), work.total, f"loading {model.name}")
    most = max(len(question.images) for question in work.questions)
    works = any(_accepted(file.rows) for file in files.values())
    model.answer(chain([first], pending), work.total, most, take, works)


def _accepted(rows: Iterable[Row]) -> bool:
    return any(row["problem"] is None for row in rows)


def _made_by(work: Work, stage: str, model: Calls) -> Row:
    """What is kept of an answer depends on this, besides what was asked."""
    soft = {"soft": True} if work.settings.soft else {}
    return model.made_by(work.prompt(stage), work.settings.tokens(stage)) | soft
