"""Distillation: a teacher writes a critique for every pair of one shard. A rerun resumes at the first missing row.

With several tries a pair is asked again until the teacher is right, each time with the responses in the other order and
another seed. Every try is a row, so the tries until right are those of a pair's rows.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json
from proxygrm.core.pairs import PreferencePair, read_pairs
from proxygrm.core.runtime.together import run_together
from proxygrm.critique.contracts import KINDS, PROXY_GRM
from proxygrm.critique.prompts import prompt_hash
from proxygrm.serving.chat.answer import REFUSED_BY_SERVICE
from proxygrm.serving.chat.client import ChatClient
from proxygrm.serving.chat.failures import ChatFailed
from proxygrm.teacher.critiques import CritiqueRow, append, resume
from proxygrm.teacher.tries import Try, by_pair, is_finished, seed_of, tries_until_right

_MIN_FAILURES = 5
"""A share of a handful of rows means nothing."""
CritiquesFn = Callable[[PreferencePair], AsyncIterator[tuple[CritiqueRow, bool]]]
"""A pair's rows, each with whether it is the pair's last one."""


@dataclass(frozen=True)
class DistillReport:
    pairs: int
    """Of the shard."""
    finished_before: int
    written: int
    failed: dict[str, int]
    """Reason -> pairs without a critique; a rerun asks for them again."""
    failed_ids: list[str]
    """The first 50."""
    right: int
    """Well-formed critiques whose verdict is the label, of all in the file."""
    wrong: int
    tries: dict[str, int]
    """How many tries it took until one was right -> pairs; `never`: none was, and no try is left."""
    unusable: dict[str, int]
    """Reason -> critiques that are not well-formed."""
    model: str
    prompt: str
    """Hash of the instruction."""
    seconds: float


def shard_of(pairs: list[PreferencePair], shard: int, shards: int) -> list[PreferencePair]:
    """Every `shards`-th pair, in file order: the work of one array element."""
    if not 0 <= shard < shards:
        raise UserError(
            f"shard {shard} of {shards} does not exist; shards are numbered 0 to {shards - 1}",
            code="teacher.no-such-shard",
            shard=shard,
            shards=shards,
        )
    return pairs[shard::shards]


async def distill(
    pairs_dir: Path,
    out_file: Path,
    endpoint: str,
    model: str,
    shard: int = 0,
    shards: int = 1,
    temperature: float = 0.0,
    max_tokens: int = 4096,
    concurrency: int = 64,
    timeout_s: float = 600.0,
    api_key_file: str | Path | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
    attempts: int = 6,
    max_failed_share: float = 0.02,
    contract: str = PROXY_GRM,
    tries: int = 1,
    seed: int = 0,
) -> DistillReport:
    """Append the missing critiques of a shard to `out_file`, and write `<out_file>.report.json`.

    contract: what the teacher is asked for. tries: at a pair, until one is right; seed: theirs are drawn from it.
    Pairs that got no answer after `attempts` attempts are counted and not written, so a rerun asks for them again. An
    answer without text (cut off while it thought, declined) is written, unusable, with its cause. UserError when more
    than `max_failed_share` of the shard (and more than a handful) failed; it stops as soon as that is certain, and
    writes the report anyway.
    """
    started = time.monotonic()
    out_file.parent.mkdir(parents=True, exist_ok=True)
    pairs = shard_of(read_pairs(pairs_dir), shard, shards)
    before = resume(out_file, {pair.id for pair in pairs}, model, contract)
    rows_of = by_pair(before)
    todo = [pair for pair in pairs if not is_finished(pair, rows_of.get(pair.id, ()), tries)]
    done = len(pairs) - len(todo)
    work = _Work(out_file, len(pairs), done, max(_MIN_FAILURES, max_failed_share * len(pairs)), on_progress)
    work.report_progress()
    if todo:
        async with ChatClient(endpoint, concurrency, timeout_s, api_key_file) as client:
            await client.check_model(model)

            async def critiques(pair: PreferencePair) -> AsyncIterator[tuple[CritiqueRow, bool]]:
                first = max((row.attempt for row in rows_of.get(pair.id, ())), default=0) + 1
                for attempt in range(first, tries + 1):
                    asked = Try(contract, attempt, seed_of(seed, pair.id, attempt) if tries > 1 else None)
                    body = await asyncio.to_thread(asked.body, pair, pairs_dir, model, temperature, max_tokens)
                    answer = await client.complete(body, attempts)
                    row = asked.row(pair.id, answer, model)
                    right = row.right(pair.label)
                    yield row, right or attempt == tries
                    if right:
                        break

            await work.run(todo, critiques, concurrency)
    rows = [*before, *work.written]
    report = _report(pairs, rows, len(before), work, model, contract, tries, time.monotonic() - started)
    write_json(out_file.with_name(out_file.name + ".report.json"), asdict(report))
    if work.too_many:
        raise UserError(
            f"{out_file}: the teacher failed on {work.failures} of {len(pairs)} pairs ({dict(work.failed)}), more than "
            "allowed; finished rows are kept. Fix the teacher and run again",
            code="teacher.too-many-failures",
            path=out_file,
            failed=dict(work.failed),
            pairs=len(pairs),
        )
    return report


class _Work:
    """Concurrent requests over one iterator, and one writer that syncs complete lines."""

    def __init__(
        self,
        out_file: Path,
        total: int,
        done: int,
        allowed: float,
        on_progress: Callable[[int, int, str], None] | None,
    ) -> None:
        self.out_file, self.total, self.done, self.allowed = out_file, total, done, allowed
        self.on_progress = on_progress
        self.written: list[CritiqueRow] = []
        self.failed: Counter[str] = Counter()
        self.failed_ids: list[str] = []

    @property
    def failures(self) -> int:
        return sum(self.failed.values())

    @property
    def too_many(self) -> bool:
        return self.hopeless or (self.failures > 0 and self.failures == self.total)

    @property
    def hopeless(self) -> bool:
        """More failed than are allowed. Pairs that the teacher refuses (too long, say) do not count, as long as it
        answers more than it refuses."""
        refused = self.failed[REFUSED_BY_SERVICE]
        return self.failures - (refused if refused < self.done else 0) > self.allowed

    def report_progress(self) -> None:
        if self.on_progress:
            self.on_progress(self.done, self.total, f"{self.failures} failed" if self.failures else "")

    async def run(self, todo: list[PreferencePair], critiques: CritiquesFn, concurrency: int) -> None:
        queue: asyncio.Queue[tuple[CritiqueRow, bool] | None] = asyncio.Queue()
        writer = asyncio.create_task(self._write(queue))
        remaining = iter(todo)
        try:
            workers = min(concurrency, len(todo))
            await run_together(self._work(remaining, critiques, queue, writer) for _ in range(workers))
        finally:
            queue.put_nowait(None)
            await writer

    async def _work(
        self,
        remaining: Iterator[PreferencePair],
        critiques: CritiquesFn,
        queue: asyncio.Queue[tuple[CritiqueRow, bool] | None],
        writer: asyncio.Task[None],
    ) -> None:
        for pair in remaining:
            if self.hopeless or writer.done():  # a writer that is done has failed, with a full disk say
                return
            try:
                async for row in critiques(pair):
                    queue.put_nowait(row)
            except (ChatFailed, OSError) as failure:  # OSError: of an image
                self.failed[failure.reason if isinstance(failure, ChatFailed) else "image_unreadable"] += 1
                self.failed_ids.append(pair.id)
                self.report_progress()

    async def _write(self, queue: asyncio.Queue[tuple[CritiqueRow, bool] | None]) -> None:
        """All waiting rows are written with one write and one sync."""
        finished = False
        while not finished:
            rows = [await queue.get()]
            while not queue.empty():
                rows.append(queue.get_nowait())
            finished = None in rows
            batch = [row for row in rows if row is not None]
            if batch:
                written = [row for row, _ in batch]
                await asyncio.to_thread(append, self.out_file, written)
                self.written += written
                self.done += sum(last for _, last in batch)
                self.report_progress()


def _report(
    pairs: list[PreferencePair],
    rows: list[CritiqueRow],
    before: int,
    work: _Work,
    model: str,
    contract: str,
    tries: int,
    seconds: float,
) -> DistillReport:
    labels = {pair.id: pair.label for pair in pairs}
    usable = [row for row in rows if row.reason is None]
    right = sum(row.right(labels[row.id]) for row in usable)
    rows_of = by_pair(rows)
    return DistillReport(
        pairs=len(pairs),
        finished_before=before,
        written=len(work.written),
        failed=dict(sorted(work.failed.items())),
        failed_ids=work.failed_ids[:50],
        right=right,
        wrong=len(usable) - right,
        tries=tries_until_right([(pair, rows_of.get(pair.id, ())) for pair in pairs], tries),
        unusable=dict(sorted(Counter(row.reason for row in rows if row.reason).items())),
        model=model,
        prompt=prompt_hash(KINDS[contract].prompt),
        seconds=round(seconds, 3),
    )
