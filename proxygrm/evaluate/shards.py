"""One judge's raw answers in shards: resumed at the row, complete when every request has an answer.

FOLDER/answers-00001-of-00008.jsonl   a shard's answers as they arrive; an answer in any of these files is not
                                      requested again, however the work was split before
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges.base import Judge, Progress
from proxygrm.evaluate.judging import collect_answers, no_progress
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.rows.row_file import Row, read_rows
from proxygrm.evaluate.rows.text import rows_text


def raw_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("answers-*-of-*.jsonl"))


def collect_shard(
    judge: Judge,
    requests: Sequence[OrderedPair],
    folder: Path,
    index: int,
    count: int,
    progress: Progress = no_progress,
) -> dict[str, Row]:
    """The raw answers, by key, to the `requests` of shard `index` (from 0) of `count`; see `collect_answers`."""
    if not requests:
        return {}
    file = folder / f"answers-{index + 1:05d}-of-{count:05d}.jsonl"
    known = [row for path in raw_files(folder) if path != file for row in read_rows(path, judge.made_by)]
    return collect_answers(judge, requests, file, progress, known)


def read_answers(judge: Judge, folder: Path) -> tuple[dict[str, Row], Counter[str]]:
    """The first answer to each request in all shards, by key, and the number of answers to each."""
    answers, counts = dict[str, Row](), Counter[str]()
    for path in raw_files(folder):
        for row in read_rows(path, judge.made_by):
            counts[row["key"]] += 1
            answers.setdefault(row["key"], row)
    return answers, counts


def refuse_missing(requests: Sequence[OrderedPair], answers: Mapping[str, Row], pairs: Sequence[EvalPair]) -> None:
    """UserError, with the numbers of their rows among `pairs`, when requests have no answer."""
    if missing := [request for request in requests if request.key not in answers]:
        incomplete = {id(request.pair) for request in missing}
        rows = [row for row, pair in enumerate(pairs, 1) if id(pair) in incomplete]
        raise UserError(
            f"{len(missing):,} of {len(requests):,} judgements are missing, those of {rows_text(rows)}; run the "
            "shards that are not done",
            code="eval.missing-judgements",
            count=len(missing),
            total=len(requests),
            rows=rows,
        )
