"""Judge pairs, resumable at the row: the one driver of `eval run`, the chain's evaluation, best-of-N and transfer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges.base import Judge, Progress
from proxygrm.evaluate.rows.ordered_pair import OrderedPair, judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair, check_pairs, with_images
from proxygrm.evaluate.rows.row_file import Row, RowFile
from proxygrm.evaluate.settings import EvaluateSettings


def no_progress(done: int, total: int, note: str) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class Judging:
    """A judge and the pairs it is to judge, checked by `prepare`.

    available: pairs in the input; pairs: those to judge; missing_images: image files that do not exist; dropped: pairs
    left out because their images do not exist.
    """

    judge: Judge
    settings: EvaluateSettings
    pairs: list[EvalPair]
    available: int
    missing_images: int = 0
    dropped: int = 0

    @cached_property
    def requests(self) -> list[OrderedPair]:
        """The judgements to make, in the order of the pairs. Their keys are computed once, so an image that disappears
        during a run does not change them."""
        return ordered_pairs(self.pairs, self.settings.orders, self.settings.votes, self.settings.seed)

    def requests_for(self, span: range) -> list[OrderedPair]:
        """The judgements of the pairs at these positions."""
        per_pair = len(self.requests) // len(self.pairs)
        return self.requests[span.start * per_pair : span.stop * per_pair]

    def rows(self, file: Path, progress: Progress = no_progress) -> list[Row]:
        """One judgement row per request; `file` holds the raw answers, see `collect_answers`."""
        answers = collect_answers(self.judge, self.requests, file, progress)
        return [judged_row(request, answers[request.key]) for request in self.requests]


def prepare(
    judge: Judge,
    pairs: Sequence[EvalPair],
    settings: EvaluateSettings,
    *,
    images_required: bool = False,
    reads_images: bool = True,
) -> Judging:
    """Select the pairs and check their images, before a model is loaded. UserError says what is wrong.

    images_required: a pair that names no image lacks one. reads_images: False for a judge whose scores exist already.
    """
    selected = list(pairs[: settings.max_pairs] if settings.max_pairs else pairs)
    if not reads_images:
        return Judging(judge, settings, selected, len(pairs))
    complete = with_images(selected, settings.missing_images, images_required)
    if selected and not complete:
        raise UserError(
            f"none of the {len(selected):,} pairs has its images; put the files in place",
            code="image.all-missing",
            count=len(selected),
        )
    missing = check_pairs(complete, settings.missing_images)
    return Judging(judge, settings, complete, len(pairs), missing, len(selected) - len(complete))


def collect_answers(
    judge: Judge,
    requests: Sequence[OrderedPair],
    file: Path,
    progress: Progress = no_progress,
    known: Iterable[Row] = (),
) -> dict[str, Row]:
    """The raw answer to each request, by key. Those in `file` or `known` are not requested again; new ones are appended
    to `file` as they arrive.

    UserError when `file` comes from another judge, prompt or setting, and what `Judge.judge` raises.
    """
    with RowFile(file, judge.made_by) as row_file:
        answers = {row["key"]: row for row in [*known, *row_file.rows]}
        missing = [request for request in requests if request.key not in answers]
        done = len(requests) - len(missing)

        def take(row: Row) -> None:
            nonlocal done
            row_file.append(row)
            answers[row["key"]] = row
            done += 1
            progress(done, len(requests), f"judging with {file.name.split('.')[0]}")

        if missing:
            progress(done, len(requests), f"loading {judge.name}")
            judge.judge(missing, take, works=any(row["problem"] is None for row in answers.values()))
    return {request.key: answers[request.key] for request in requests}
