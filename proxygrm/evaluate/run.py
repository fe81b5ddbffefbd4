"""`eval run`: one judge over the pairs of one benchmark, in shards, resumed at the row, merged when complete.

OUT/raw/answers-00001-of-00008.jsonl   a shard's raw answers (`shards`)
OUT/answers.jsonl                      one judgement row (`ordered_pair.judged_row`) per line, in the order of the pairs
OUT/critiques/answers-...                what a critic wrote about each response, in shards too
OUT/answers.partial.jsonl              the same for the requests that an endpoint has answered, while others have failed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.limits import check_sees
from proxygrm.critique.contract import Problem
from proxygrm.critique.contracts import PROXY_GRM, R1
from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.benchmarks import Facts, benchmark
from proxygrm.evaluate.judges.base import (
    CheckpointJudge,
    Judge,
    Progress,
    judgement_or_tie_prompt,
    judgement_prompt,
)
from proxygrm.evaluate.judges.critic import by_request, critic_judge, one_by_one
from proxygrm.evaluate.judges.endpoint import Endpoint, Unanswered
from proxygrm.evaluate.judges.pointwise import PointwiseJudge, one_response_prompt
from proxygrm.evaluate.judges.scalar import ScalarJudge
from proxygrm.evaluate.judges.scalar_checkpoint import ScalarCheckpointJudge
from proxygrm.evaluate.judges.select import judge_for
from proxygrm.evaluate.judging import Judging, no_progress, prepare
from proxygrm.evaluate.rows.answers import bare_id
from proxygrm.evaluate.rows.foreign import Origin, refuse_foreign
from proxygrm.evaluate.rows.ordered_pair import OrderedPair, judged_row
from proxygrm.evaluate.rows.pairs import EvalPair, load_pairs
from proxygrm.evaluate.rows.row_file import Row, write_rows
from proxygrm.evaluate.settings import POINTWISE, PROMPTS, R1_TIES, EvaluateSettings
from proxygrm.evaluate.shards import collect_shard, read_answers, refuse_missing
from proxygrm.serving.chat.answer import NO_TEXT

ANSWERS, PARTIAL_ANSWERS, CRITIQUES = "answers.jsonl", "answers.partial.jsonl", "critiques"
_ANSWER_FAULTS = (
    Problem.EMPTY, Problem.NO_ANSWER, Problem.UNCLOSED_ANSWER, Problem.BAD_ANSWER, Problem.REPEATED_TAG,
)  # fmt: skip
_JUDGEMENTS = {R1: judgement_prompt, R1_TIES: judgement_or_tie_prompt}
"""Contract -> the text of a request."""
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
    critic: Endpoint | Path | None = None
    """Writes about each response what a scalar checkpoint then reads with it (`judges.critic`)."""
    kind: str = ""
    """What the checkpoint is, one of `checkpoints.kinds.KINDS`; "": as it shows."""

    @property
    def scalar(self) -> bool:
        return isinstance(self.judge, Path) and self.judge.is_file()

    @property
    def raw(self) -> Path:
        """The folder of the raw answers."""
        return self.out / "raw"


@dataclass(frozen=True)
class PreparedRun:
    """A run with its inputs read and checked."""

    run: Run
    judging: Judging
    critic: Judge | None = None

    def shard(self, index: int, count: int) -> list[OrderedPair]:
        """The judgements of part `index` (from 0) of `count`: a range of pairs with all their orders and votes."""
        pairs = len(self.judging.pairs)
        return self.judging.requests_for(range(index * pairs // count, (index + 1) * pairs // count))


def prepare_run(run: Run, pairs: Sequence[EvalPair] = ()) -> PreparedRun:
    """Read and check everything a run depends on, before a model is loaded. UserError says what is wrong.

    pairs: those of `run.pairs`, where they have been read already.
    """
    pairs = pairs or load_pairs(run.pairs)
    bench = benchmark(run.bench)
    refuse_foreign(
        (
            Origin(row, pair.source, Facts(bare, "", "", bare))
            for row, pair in enumerate(pairs, 1)
            for bare in [bare_id(pair.id, pair.source)]
        ),
        bench,
    )
    images_required = bool(bench.revisions) and bench.images
    judge, critic = _judge(run, pairs), critic_judge(run.critic, run.settings) if run.critic else None
    if critic:
        judge.made_by |= {"critic": critic.made_by}
    judging = prepare(judge, pairs, run.settings.of_pairs, images_required=images_required, reads_images=not run.scalar)
    for one in (judge.critic if isinstance(judge, PointwiseJudge) else judge, critic):
        if isinstance(one, CheckpointJudge) and any(pair.images for pair in judging.pairs):
            check_sees(one.model)
    return PreparedRun(run, judging, critic)


def _judge(run: Run, pairs: Sequence[EvalPair]) -> Judge:
    if run.scalar and isinstance(run.judge, Path):
        return ScalarJudge(run.judge, pairs)
    settings = run.settings
    if settings.contract == PROXY_GRM:
        return judge_for(run.judge, settings, kind=run.kind)
    if settings.contract == POINTWISE:
        return PointwiseJudge(judge_for(run.judge, settings, one_response_prompt, run.kind), settings.votes)
    judge = judge_for(run.judge, settings, _JUDGEMENTS[settings.contract], run.kind)
    judge.made_by |= {"prompt": prompt_hash(PROMPTS[settings.contract])}
    return judge


def run_shard(prepared: PreparedRun, index: int, count: int, progress: Progress = no_progress) -> dict[str, Row]:
    """Judge part `index` (from 0) of `count`, and return its raw answers by key."""
    requests, judge = prepared.shard(index, count), prepared.judging.judge
    try:
        if prepared.critic and isinstance(judge, ScalarCheckpointJudge):
            folder = prepared.run.out / CRITIQUES
            critiques = collect_shard(prepared.critic, one_by_one(requests), folder, index, count, progress)
            judge.critiques = by_request(requests, critiques)
        return collect_shard(judge, requests, prepared.run.raw, index, count, progress)
    except Unanswered as error:
        raise Unanswered(f"{error}{_write_partial(prepared)}", **error.values) from error


def merged_rows(prepared: PreparedRun) -> tuple[list[Row], int]:
    """The judgement rows of all shards in the order of the pairs, and how many answers are `doubled`.

    doubled: answers that two shards gave to the same request (the run was split differently while it ran); the first
    one counts. UserError when judgements are missing.
    """
    judging = prepared.judging
    answers, counts = read_answers(judging.judge, prepared.run.raw)
    refuse_missing(judging.requests, answers, judging.pairs)
    rows = [_row(request, answers[request.key], prepared.run) for request in judging.requests]
    return rows, sum(counts[request.key] - 1 for request in judging.requests)


def merge_shards(prepared: PreparedRun) -> Row:
    """Write OUT/answers.jsonl and return the report of the run. UserError when judgements are missing."""
    run, judging = prepared.run, prepared.judging
    rows_out, doubled = merged_rows(prepared)
    write_rows(run.out / ANSWERS, rows_out)
    (run.out / PARTIAL_ANSWERS).unlink(missing_ok=True)
    unparsed = [row for row in rows_out if row["verdict"] is None]
    return {
        "bench": run.bench,
        "judge": judging.judge.name,
        "made_by": judging.judge.made_by,
        "pairs_from": str(run.pairs),
        "contract": run.settings.contract,
        "orders": judging.settings.orders,
        "votes": run.settings.votes,
        "pairs": len(judging.pairs),
        "without_images": judging.dropped,
        **expected_size(prepared),
        "judgements": len(rows_out),
        "doubled": doubled,
        "unparsed": len(unparsed),
        "why_unparsed": dict(Counter(map(_why_unparsed, unparsed)).most_common()),
        "ties": sum(row["verdict"] == "tie" for row in rows_out),
        "refused": sum(row["refused"] is not None for row in rows_out),
        "truncated": sum(row["truncated"] for row in rows_out),
        "blank_images": sum(row["image_missing"] for row in rows_out),
        "tokens": sum(row["tokens"] for row in rows_out),
    }


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


def _write_partial(prepared: PreparedRun) -> str:
    """Write the answers there are for `eval score --partial`, and return a hint: a request that always fails must not
    hold back the others."""
    answers, _ = read_answers(prepared.judging.judge, prepared.run.raw)
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
    row = judged_row(request, answer, contract=run.settings.contract)
    blank = row["image_missing"] or any(path.name == run.blank for path in request.pair.images)
    return row | {"image_missing": blank and not run.scalar}  # a scalar model saw the images when it scored


def _why_unparsed(row: Row) -> str:
    """Why a row has no verdict: it was cut off, or else the first fault of its answer."""
    if row["truncated"]:
        return "cut_off"
    return next((problem for problem in row["problems"] if problem in _NO_VERDICT), row["problems"][0])
