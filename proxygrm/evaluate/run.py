"""One judge over the pairs of one benchmark: cut in shards, resumed at the row, merged whole.

OUT/raw/answers-00001-of-00008.jsonl   a shard's answers as they come; what stands in any of them is not asked again,
                                       however the run was cut before
OUT/answers.jsonl                      one row a judgement (`shown.judged_row`), in the order of the pairs
OUT/answers.partial.jsonl              the same of the judgements that an endpoint gave, as long as it refuses others
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.critique.contract import Problem
from proxygrm.evaluate.benchmarks import BENCHMARKS, Facts, benchmark
from proxygrm.evaluate.judges.base import CheckpointJudge, Judge, Progress, answered
from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointJudge, Unanswered
from proxygrm.evaluate.judges.scalar import ScalarJudge
from proxygrm.evaluate.rows.answers import bare_id, rows_text
from proxygrm.evaluate.rows.pairs import EvalPair, check_pairs, load_pairs, with_images
from proxygrm.evaluate.rows.row_file import Row, read_rows, write_rows
from proxygrm.evaluate.rows.shown import Shown, judged_row, shown_in_orders
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.serving.chat_answer import NO_TEXT

ANSWERS, SOME_ANSWERS = "answers.jsonl", "answers.partial.jsonl"
_ANSWER_FAULTS = (
    Problem.EMPTY, Problem.NO_ANSWER, Problem.UNCLOSED_ANSWER, Problem.BAD_ANSWER, Problem.REPEATED_TAG,
)  # fmt: skip
_NO_VERDICT = {problem.value for problem in _ANSWER_FAULTS} | NO_TEXT


@dataclass(frozen=True)
class Run:
    """`judge` is an endpoint, the folder of a checkpoint, or a file of scores; `blank` is the name of the picture that
    stands where ingestion found none."""

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
class Work:
    """A run with its inputs read and found fit. `available` are the pairs there are, `pairs` those to judge, `missing`
    the pictures that are not there, `dropped` the pairs left out because theirs are not."""

    run: Run
    judge: Judge
    available: int
    pairs: list[EvalPair]
    missing: int
    dropped: int = 0

    def shown(self, span: range | None = None) -> list[Shown]:
        """The judgements of some pairs (all by default), as many and in the order of `shown_in_orders`."""
        settings = self.run.settings
        shown = shown_in_orders(self.pairs, settings.orders, settings.votes, settings.seed)
        if span is None:
            return shown
        each = len(shown) // len(self.pairs)
        return shown[span.start * each : span.stop * each]


def open_run(run: Run) -> Work:
    """Read and check everything a run stands on, before anything expensive starts. UserError says what is wrong."""
    pairs = load_pairs(run.pairs)
    _refuse_foreign(pairs, run.bench)
    judge = _judge(run, pairs)
    chosen = pairs[: run.settings.max_pairs] if run.settings.max_pairs else pairs
    if run.scalar:  # it has seen its pictures already
        return Work(run, judge, len(pairs), chosen, 0)
    needed = bool(benchmark(run.bench).revisions)  # every row of a released benchmark has an image or a video
    fit = with_images(chosen, run.settings.missing_images, needed)
    if not fit:
        raise UserError(f"none of the {len(chosen):,} pairs has its images; put them there")
    return Work(run, judge, len(pairs), fit, check_pairs(fit, run.settings.missing_images), len(chosen) - len(fit))


def _judge(run: Run, pairs: Sequence[EvalPair]) -> Judge:
    if isinstance(run.judge, Endpoint):
        return EndpointJudge(run.judge, run.settings)
    if run.scalar:
        return ScalarJudge(run.judge, pairs)
    return CheckpointJudge(run.judge, run.settings)


def run_shard(work: Work, index: int, count: int, progress: Progress = lambda done, total, note: None) -> None:
    """Judge part `index` (from 0) of `count`: a stretch of pairs with all their orders and votes."""
    span = range(index * len(work.pairs) // count, (index + 1) * len(work.pairs) // count)
    folder = work.run.out / "raw"
    file = folder / f"answers-{index + 1:05d}-of-{count:05d}.jsonl"
    others = [row for path in raw_files(work.run.out) if path != file for row in read_rows(path, work.judge.made_by)]
    if shown := work.shown(span):
        try:
            answered(work.judge, shown, file, progress, others)
        except Unanswered as error:
            raise Unanswered(f"{error}{_write_some(work)}") from error


def merge(work: Work) -> Row:
    """Write OUT/answers.jsonl and return the account of the run. UserError when a judgement is not there.

    doubled: answers that two shards gave to the same question (a run that was cut anew while it ran); the first counts.
    """
    run, shown = work.run, work.shown()
    answers, found = _answers(work)
    if missing := [s for s in shown if s.key not in answers]:
        without = {id(s.pair) for s in missing}
        numbers = [number for number, pair in enumerate(work.pairs, 1) if id(pair) in without]
        raise UserError(
            f"{len(missing):,} of {len(shown):,} judgements are missing, those of {rows_text(numbers)}; run the shards "
            "that are not done"
        )
    rows = [_row(s, answers[s.key], run) for s in shown]
    write_rows(run.out / ANSWERS, rows)
    (run.out / SOME_ANSWERS).unlink(missing_ok=True)
    unparsed = [row for row in rows if row["verdict"] is None]
    return {
        "bench": run.bench,
        "judge": work.judge.name,
        "made_by": work.judge.made_by,
        "pairs_from": str(run.pairs),
        "orders": run.settings.orders,
        "votes": run.settings.votes,
        "pairs": len(work.pairs),
        "without_images": work.dropped,
        **expectation(work),
        "judgements": len(rows),
        "doubled": sum(found[s.key] - 1 for s in shown),
        "unparsed": len(unparsed),
        "why_unparsed": dict(Counter(map(_why_unparsed, unparsed)).most_common()),
        "ties": sum(row["verdict"] == "tie" for row in rows),
        "refused": sum(row["refused"] is not None for row in rows),
        "truncated": sum(row["truncated"] for row in rows),
        "blank_pictures": sum(row["image_missing"] for row in rows),
        "tokens": sum(row["tokens"] for row in rows),
    }


def _answers(work: Work) -> tuple[dict[str, Row], Counter[str]]:
    """The first answer to each question, and how many each has got."""
    answers, found = dict[str, Row](), Counter[str]()
    for path in raw_files(work.run.out):
        for row in read_rows(path, work.judge.made_by):
            found[row["key"]] += 1
            answers.setdefault(row["key"], row)
    return answers, found


def _write_some(work: Work) -> str:
    """Put what came where `eval score --partial` takes it, and say so: a row that never gets an answer must not hold
    back the others."""
    answers, _ = _answers(work)
    rows = [_row(s, answers[s.key], work.run) for s in work.shown() if s.key in answers]
    if not rows:
        return ""
    file = work.run.out / SOME_ANSWERS
    write_rows(file, rows)
    return f"; until then score the {len(rows):,} in {file} with `proxygrm eval score --partial`"


def raw_files(out: Path) -> list[Path]:
    return sorted((out / "raw").glob("answers-*-of-*.jsonl"))


def expectation(work: Work) -> dict[str, Any]:
    """expected: pairs of the benchmark's revision (None: not known); revision: its name, None when no size fits."""
    bench = benchmark(work.run.bench)
    revision = bench.revision(len(work.pairs))
    largest = max((r.rows for r in bench.revisions), default=None)
    if largest is None:
        largest = work.available
    return {"expected": revision.rows if revision else largest, "revision": revision.name if revision else None}


def size_line(work: Work) -> str:
    """N against what it should be, in words."""
    bench, told = benchmark(work.run.bench), expectation(work)
    limit = f"; --limit leaves out {left:,}" if (left := work.available - len(work.pairs) - work.dropped) else ""
    limit += f"; {work.dropped:,} without their images are left out" if work.dropped else ""
    if not bench.revisions:
        lost = f"; {work.dropped:,} without their images are left out" if work.dropped else ""
        return f"N = {len(work.pairs):,} of {work.available:,} pairs{lost}"
    if told["revision"]:
        return f"N = {len(work.pairs):,} pairs, all of {bench.title} ({told['revision']}){limit}"
    return f"N = {len(work.pairs):,} pairs, but {bench.title} has {bench.sizes}: PARTIAL{limit}"


def _row(shown: Shown, answer: Row, run: Run) -> Row:
    row = judged_row(shown, answer)
    blind = row["image_missing"] or any(path.name == run.blank for path in shown.pair.images)
    return row | {"image_missing": blind and not run.scalar}  # which has seen its pictures


def _why_unparsed(row: Row) -> str:
    """What kept a row from having a verdict: that it was cut off before what came of it, then faults of its answer."""
    if row["truncated"]:
        return "cut_off"
    return next((problem for problem in row["problems"] if problem in _NO_VERDICT), row["problems"][0])


def _refuse_foreign(pairs: Sequence[EvalPair], bench_name: str) -> None:
    """UserError when rows can only belong to another benchmark."""
    bench = benchmark(bench_name)
    if not bench.revisions:
        return
    for other in BENCHMARKS.values():
        if other.name == bench.name or not other.revisions:
            continue
        foreign = [n for n, pair in enumerate(pairs, 1) if _belongs(pair, other) and not _belongs(pair, bench)]
        if foreign:
            raise UserError(
                f"{rows_text(foreign)} of {len(pairs):,} belong to {other.title}, not to {bench.title}; judge them "
                f"with --bench {other.name}"
            )


def _belongs(pair: EvalPair, bench: Any) -> bool:
    bare = bare_id(pair.id, pair.source)
    plain = bench.name.replace("-", "_")
    return pair.source.startswith(plain) or bench.evidence(Facts(bare, "", "", bare))
