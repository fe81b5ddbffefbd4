"""`eval run`: one judge over the pairs of one benchmark, in shards, resumed at the row, merged when complete.

OUT/raw/answers-00001-of-00008.jsonl   a shard's answers as they arrive; an answer in any of these files is not
                                       requested again, however the run was split before
OUT/answers.jsonl                      one judgement row (`ordered_pair.judged_row`) per line, in the order of the pairs
OUT/answers.partial.jsonl              the same for the requests that an endpoint has answered, while others have failed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.critique.contract import Problem
from proxygrm.evaluate.benchmarks import Facts, benchmark
from proxygrm.evaluate.judges.base import Judge, Progress
from proxygrm.evaluate.judges.endpoint import Endpoint, Unanswered
from proxygrm.evaluate.judges.scalar import ScalarJudge
from proxygrm.evaluate.judges.select import judge_for
from proxygrm.evaluate.judging import Judging, collect_answers, no_progress, prepare
from proxygrm.evaluate.rows.answers import bare_id
from proxygrm.evaluate.rows.foreign import Origin, refuse_foreign
from proxygrm.evaluate.rows.ordered_pair import OrderedPair, judged_row
from proxygrm.evaluate.rows.pairs import EvalPair, load_pairs
from proxygrm.evaluate.rows.row_file import Row, read_rows, write_rows
from proxygrm.evaluate.rows.text import rows_text
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.serving.chat.answer import NO_TEXT

ANSWERS, PARTIAL_ANSWERS = "answers.jsonl", "answers.partial.jsonl"
_ANSWER_FAULTS = (
    Problem.EMPTY, Problem.NO_ANSWER, Problem.UNCLOSED_ANSWER, Problem.BAD_ANSWER, Problem.REPEATED_TAG,
)  # fmt: skip
_NO_VERDICT = {problem.value for problem in _ANSWER_FAULTS} | NO_TEXT


@dataclass(frozen=True)
class Run:
    """`judge` is an endpoint, the folder of a checkpoint, or a file of scores; `blank` is the file name of the image
    that ingestion puts in place of a missing one."""

    judge: Endpoint | Path
    pairs: Path
    bench: str
    out: Path
    settings: EvaluateSettings
    blank: str = ""

    @property
    def scalar(self) -> bool:
        return isinstance(self.judge, Path) and self.judge.is_file()


@dataclass(frozen=True)
class PreparedRun:
    """A run with its inputs read and checked."""

    run: Run
    judging: Judging


def prepare_run(run: Run) -> PreparedRun:
    """Read and check everything a run depends on, before a model is loaded. UserError says what is wrong."""
    pairs = load_pairs(run.pairs)
    bench = benchmark(run.bench)
    refuse_foreign(
        (
            Origin(row, pair.source, Facts(bare, "", "", bare))
            for row, pair in enumerate(pairs, 1)
            for bare in [bare_id(pair.id, pair.source)]
        ),
        bench,
    )
    images_required = bool(bench.revisions)  # every row of a released benchmark has an image or a video
    judging = prepare(
        _judge(run, pairs), pairs, run.settings, images_required=images_required, reads_images=not run.scalar
    )
    return PreparedRun(run, judging)


def _judge(run: Run, pairs: Sequence[EvalPair]) -> Judge:
    if run.scalar and isinstance(run.judge, Path):
        return ScalarJudge(run.judge, pairs)
    return judge_for(run.judge, run.settings)


def run_shard(prepared: PreparedRun, index: int, count: int, progress: Progress = no_progress) -> None:
    """Judge part `index` (from 0) of `count`: a range of pairs with all their orders and votes."""
    run, judging = prepared.run, prepared.judging
    span = range(index * len(judging.pairs) // count, (index + 1) * len(judging.pairs) // count)
    file = run.out / "raw" / f"answers-{index + 1:05d}-of-{count:05d}.jsonl"
    known = [row for path in raw_files(run.out) if path != file for row in read_rows(path, judging.judge.made_by)]
    if requests := judging.requests_for(span):
        try:
            collect_answers(judging.judge, requests, file, progress, known)
        except Unanswered as error:
            raise Unanswered(f"{error}{_write_partial(prepared)}", **error.values) from error


def merge_shards(prepared: PreparedRun) -> Row:
    """Write OUT/answers.jsonl and return the report of the run. UserError when judgements are missing.

    doubled: answers that two shards gave to the same request (the run was split differently while it ran); the first
    one counts.
    """
    run, judging = prepared.run, prepared.judging
    answers, counts = _read_answers(prepared)
    if missing := [request for request in judging.requests if request.key not in answers]:
        incomplete = {id(request.pair) for request in missing}
        rows = [row for row, pair in enumerate(judging.pairs, 1) if id(pair) in incomplete]
        raise UserError(
            f"{len(missing):,} of {len(judging.requests):,} judgements are missing, those of {rows_text(rows)}; run "
            "the shards that are not done",
            code="eval.missing-judgements",
            count=len(missing),
            total=len(judging.requests),
            rows=rows,
        )
    rows_out = [_row(request, answers[request.key], run) for request in judging.requests]
    write_rows(run.out / ANSWERS, rows_out)
    (run.out / PARTIAL_ANSWERS).unlink(missing_ok=True)
    unparsed = [row for row in rows_out if row["verdict"] is None]
    return {
        "bench": run.bench,
        "judge": judging.judge.name,
        "made_by": judging.judge.made_by,
        "pairs_from": str(run.pairs),
        "orders": run.settings.orders,
        "votes": run.settings.votes,
        "pairs": len(judging.pairs),
        "without_images": judging.dropped,
        **expected_size(prepared),
        "judgements": len(rows_out),
        "doubled": sum(counts[request.key] - 1 for request in judging.requests),
        "unparsed": len(unparsed),
        "why_unparsed": dict(Counter(map(_why_unparsed, unparsed)).most_common()),
        "ties": sum(row["verdict"] == "tie" for row in rows_out),
        "refused": sum(row["refused"] is not None for row in rows_out),
        "truncated": sum(row["truncated"] for row in rows_out),
        "blank_images": sum(row["image_missing"] for row in rows_out),
        "tokens": sum(row["tokens"] for row in rows_out),
    }


def raw_files(out: Path) -> list[Path]:
    return sorted((out / "raw").glob("answers-*-of-*.jsonl"))


def expected_size(prepared: PreparedRun) -> dict[str, Any]:
    """expected: pairs of the benchmark's revision (None: unknown); revision: its name, None when no size matches."""
    bench = benchmark(prepared.run.bench)
    revision = bench.revision(len(prepared.judging.pairs))
    largest = max((r.rows for r in bench.revisions), default=prepared.judging.available)
    return {"expected": revision.rows if revision else largest, "revision": revision.name if revision else None}


def size_line(prepared: PreparedRun) -> str:
    """The number of pairs against the expected number, in words."""
    judging, bench = prepared.judging, benchmark(prepared.run.bench)
    pairs, dropped = len(judging.pairs), judging.dropped
    without_images = f"; {dropped:,} without their images are left out" if dropped else ""
    if not bench.revisions:
        return f"N = {pairs:,} of {judging.available:,} pairs{without_images}"
    beyond_limit = judging.available - pairs - dropped
    left_out = (f"; --limit leaves out {beyond_limit:,}" if beyond_limit else "") + without_images
    if revision := expected_size(prepared)["revision"]:
        return f"N = {pairs:,} pairs, all of {bench.title} ({revision}){left_out}"
    return f"N = {pairs:,} pairs, but {bench.title} has {bench.sizes}: PARTIAL{left_out}"


def _read_answers(prepared: PreparedRun) -> tuple[dict[str, Row], Counter[str]]:
    """The first answer to each request, and the number of answers to each."""
    answers, counts = dict[str, Row](), Counter[str]()
    for path in raw_files(prepared.run.out):
        for row in read_rows(path, prepared.judging.judge.made_by):
            counts[row["key"]] += 1
            answers.setdefault(row["key"], row)
    return answers, counts


def _write_partial(prepared: PreparedRun) -> str:
    """Write the answers there are for `eval score --partial`, and return a hint: a request that always fails must not
    hold back the others."""
    answers, _ = _read_answers(prepared)
    rows = [
        _row(request, answers[request.key], prepared.run)
        for request in prepared.judging.requests
        if request.key in answers
    ]
    if not rows:
        return ""
    file = prepared.run.out / PARTIAL_ANSWERS
    write_rows(file, rows)
    return f"; until then score the {len(rows):,} in {file} with `proxygrm eval score --partial`"


def _row(request: OrderedPair, answer: Row, run: Run) -> Row:
    row = judged_row(request, answer)
    blank = row["image_missing"] or any(path.name == run.blank for path in request.pair.images)
    return row | {"image_missing": blank and not run.scalar}  # a scalar model saw the images when it scored


def _why_unparsed(row: Row) -> str:
    """Why a row has no verdict: it was cut off, or else the first fault of its answer."""
    if row["truncated"]:
        return "cut_off"
    return next((problem for problem in row["problems"] if problem in _NO_VERDICT), row["problems"][0])
