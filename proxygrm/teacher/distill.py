"""Distillation: a teacher writes a critique for every pair of one shard. Resumes at the row."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json
from proxygrm.core.pairs import PreferencePair, read_pairs
from proxygrm.core.runtime.together import run_together
from proxygrm.critique.prompts import grm_prompt, prompt_hash
from proxygrm.serving.chat_answer import REFUSED_BY_SERVICE
from proxygrm.serving.chat_client import RowFailed, chat_body, check_model, complete, open_client
from proxygrm.teacher.critiques import CritiqueRow, answered_row, append, resume

_MIN_FAILURES = 5  # a share of a handful of rows says nothing


@dataclass(frozen=True)
class DistillReport:
    pairs: int  # of the shard
    finished_before: int
    written: int
    failed: dict[str, int]  # reason -> pairs without a critique; a re-run asks for them again
    failed_ids: list[str]  # the first 50
    right: int  # critiques to the contract whose verdict is the label, of all in the file
    wrong: int
    unusable: dict[str, int]  # reason -> critiques not to the contract
    model: str
    prompt: str  # hash of the instruction
    seconds: float


def shard_of(pairs: list[PreferencePair], shard: int, shards: int) -> list[PreferencePair]:
    """Every `shards`-th pair, in file order: the work of one array element."""
    if not 0 <= shard < shards:
        raise UserError(f"shard {shard} of {shards} does not exist; shards are numbered 0 to {shards - 1}")
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
    progress: Callable[[int, int, str], None] | None = None,
    attempts: int = 6,
    max_failed_share: float = 0.02,
) -> DistillReport:
    """Append the missing critiques of a shard to `out_file`, and write `<out_file>.report.json`.

    Pairs that got no answer after `attempts` tries are not written, so running again asks for them again; they are
    counted. An answer without text (cut off while it thought, declined) is written, unusable, with its cause. Raises
    UserError when more than `max_failed_share` of the shard (and more than a handful) failed, and
    stops asking as soon as that is certain; the report is written all the same.
    """
    started = time.monotonic()
    out_file.parent.mkdir(parents=True, exist_ok=True)
    pairs = shard_of(read_pairs(pairs_dir), shard, shards)
    before = resume(out_file, {pair.id for pair in pairs}, model)
    finished = {row.id for row in before}
    todo = [pair for pair in pairs if pair.id not in finished]
    work = _Work(out_file, len(pairs), len(finished), max(_MIN_FAILURES, max_failed_share * len(pairs)), progress)
    work.tell()
    if todo:
        async with open_client(endpoint, concurrency, timeout_s, api_key_file) as client:
            await check_model(client, model)

            async def critique(pair: PreferencePair) -> CritiqueRow:
                try:
                    body = await asyncio.to_thread(_body, pair, pairs_dir, model, temperature, max_tokens)
                except OSError as error:
                    raise RowFailed("image_unreadable", str(error)) from error
                return answered_row(pair.id, await complete(client, body, attempts), model)

            await work.run(todo, critique, concurrency)
    report = _report(pairs, [*before, *work.written], len(before), work, model, time.monotonic() - started)
    write_json(out_file.with_name(out_file.name + ".report.json"), asdict(report))
    if work.too_many:
        raise UserError(
            f"{out_file}: the teacher failed on {work.failures} of {len(pairs)} pairs ({dict(work.failed)}), more than "
            "allowed; finished rows are kept. Mend the teacher and run again"
        )
    return report


class _Work:
    """A pool of askers over one iterator, and one writer that syncs whole lines."""

    def __init__(
        self,
        out_file: Path,
        total: int,
        done: int,
        allowed: float,
        progress: Callable[[int, int, str], None] | None,
    ) -> None:
        self.out_file, self.total, self.done, self.allowed, self.progress = out_file, total, done, allowed, progress
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
        """More failed than is allowed. Pairs that the teacher refuses (too long, say) are lost alone, as long as it
        answers more than it refuses."""
        refused = self.failed[REFUSED_BY_SERVICE]
        return self.failures - (refused if refused < self.done else 0) > self.allowed

    def tell(self) -> None:
        if self.progress:
            self.progress(self.done, self.total, f"{self.failures} failed" if self.failures else "")

    async def run(self, todo: list[PreferencePair], critique, concurrency: int) -> None:
        queue: asyncio.Queue[CritiqueRow | None] = asyncio.Queue()
        writer = asyncio.create_task(self._write(queue))
        remaining = iter(todo)
        try:
            askers = min(concurrency, len(todo))
            await run_together(self._ask(remaining, critique, queue, writer) for _ in range(askers))
        finally:
            queue.put_nowait(None)
            await writer

    async def _ask(
        self, remaining: Iterator[PreferencePair], critique, queue: asyncio.Queue, writer: asyncio.Task
    ) -> None:
        for pair in remaining:
            if self.hopeless or writer.done():  # a writer that is done has failed, a full disk say
                return
            try:
                queue.put_nowait(await critique(pair))
            except RowFailed as failure:
                self.failed[failure.reason] += 1
                self.failed_ids.append(pair.id)
                self.tell()

    async def _write(self, queue: asyncio.Queue[CritiqueRow | None]) -> None:
        """Everything that waits goes out in one write and one sync."""
        ended = False
        while not ended:
            rows = [await queue.get()]
            while not queue.empty():
                rows.append(queue.get_nowait())
            ended = None in rows
            batch = [row for row in rows if row is not None]
            if batch:
                await asyncio.to_thread(append, self.out_file, batch)
                self.written += batch
                self.done += len(batch)
                self.tell()


def _body(pair: PreferencePair, pairs_dir: Path, model: str, temperature: float, max_tokens: int) -> dict:
    prompt = grm_prompt(pair.question, pair.response_1, pair.response_2, images=0)
    return chat_body(model, prompt, pair.image_paths(pairs_dir), temperature, max_tokens)


def _report(
    pairs: list[PreferencePair], rows: list[CritiqueRow], before: int, work: _Work, model: str, seconds: float
) -> DistillReport:
    labels = {pair.id: pair.label for pair in pairs}
    usable = [row for row in rows if row.reason is None]
    right = sum(row.verdict == labels[row.id] for row in usable)
    return DistillReport(
        pairs=len(pairs),
        finished_before=before,
        written=len(work.written),
        failed=dict(sorted(work.failed.items())),
        failed_ids=work.failed_ids[:50],
        right=right,
        wrong=len(usable) - right,
        unusable=dict(sorted(Counter(row.reason for row in rows if row.reason).items())),
        model=model,
        prompt=prompt_hash("grm"),
        seconds=round(seconds, 3),
    )
