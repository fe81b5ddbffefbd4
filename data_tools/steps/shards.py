"""One step over many rows, in shards: on all cores of this machine, or as the elements of a SLURM job array.

A shard takes a contiguous part of the input, so the outputs of the shards, concatenated in order, are the same rows in
the same order for any number of shards. Parts are kept in `OUT/.parts-STAMP`, where the stamp covers the options and
the input: a part that exists is complete and belongs to this step, so an interrupted step resumes at the first missing
part. The merge checks that every part exists, writes the result under its final name, and removes the parts. They are
also removed when the merge fails because of the rows. Those of a failed run with other options are removed by the next
run (`stale_parts`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from data_tools.steps.stale_parts import hold_parts, keep_parts
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import sync_tree
from proxygrm.core.files.whole_file import removed_if_empty, write_json


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 0) of `count`. On the command line it counts from 1: "3/8"."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "i/n" with 1 <= i <= n. Raises UserError."""
        first, slash, second = text.partition("/")
        if not (slash and first.isascii() and first.isdigit() and second.isascii() and second.isdigit()):
            raise UserError(
                f"shard {text!r} is not I/N; write 1/8 for the first of eight", code="option.bad-shard", text=text
            )
        index, count = int(first), int(second)
        if not 1 <= index <= count <= 99_999:
            raise UserError(
                f"shard {text!r}: I must be from 1 to N, and N at most 99999", code="option.bad-shard", text=text
            )
        return cls(index - 1, count)

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def span(self, total: int) -> range:
        """The positions (of `total`) that belong to this shard; the shards together cover each position once."""
        return range(self.index * total // self.count, (self.index + 1) * total // self.count)

    def path(self, target: Path) -> Path:
        """Path of this shard's part of `target`: `pairs.parquet` -> `pairs-00003-of-00008.parquet`."""
        return target.with_name(f"{target.stem}-{self.index + 1:05d}-of-{self.count:05d}{target.suffix}")


def all_shards(count: int) -> list[Shard]:
    return [Shard(index, count) for index in range(count)]


@dataclass(frozen=True)
class Step:
    """Work that can be done in shards. All functions must pickle: top-level ones, or `functools.partial` of them."""

    name: str
    out: Path  # folder of the result
    report: str  # file name in `out`: JSON with "stamp"; written last, by the merge
    stamp: str
    run: Callable[[Shard, Path], None]  # (shard, parts folder): writes its part under a temporary name and renames it
    done: Callable[[Shard, Path], bool]  # does this shard's part exist?
    merge: Callable[[list[Shard], Path], dict[str, Any]]  # all parts -> the result; returns the report
    result: Path  # what the merge writes: a report without it does not count

    @property
    def parts(self) -> Path:
        return self.out / f".parts-{self.stamp}"

    def finished(self) -> dict[str, Any] | None:
        """The report, if this step (by its stamp) is complete and its result still exists."""
        if not self.result.is_file():
            return None
        try:
            report = json.loads((self.out / self.report).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return report if isinstance(report, dict) and report.get("stamp") == self.stamp else None

    def run_one(self, shard: Shard) -> None:
        """Run one shard, by hand or as an element of a job array; the parts are kept for the merge."""
        keep_parts(self.parts)
        self.make_part(shard)

    def make_part(self, shard: Shard) -> None:
        if not self.done(shard, self.parts):
            self.parts.mkdir(parents=True, exist_ok=True)
            self.run(shard, self.parts)

    def finish(self, count: int) -> dict[str, Any]:
        """Merge `count` parts. Raises UserError when one is missing."""
        shards = all_shards(count)
        missing = [shard for shard in shards if not self.done(shard, self.parts)]
        if missing:
            raise UserError(
                f"{self.name}: {len(missing)} of {count} shards are not done (first: {missing[0]}); run them first",
                code="data.shards-missing", missing=len(missing), count=count, first=str(missing[0]),
            )  # fmt: skip
        report = {"stamp": self.stamp, **self.merge(shards, self.parts)}
        images = (self.out / "images", self.result.with_name(f"{self.result.name}.images"))
        sync_tree([self.result, *images])  # on disk before the report says so
        write_json(self.out / self.report, report)
        shutil.rmtree(self.parts, ignore_errors=True)
        return report


def carry_out(
    step: Step,
    count: int,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] = lambda finished, total: None,
) -> dict[str, Any]:
    """Run every missing shard, merge, and return the report; return it at once if the step is already complete."""
    report = step.finished()
    if report is None:
        with removed_if_empty(step.out), hold_parts(step.parts, step.report):
            shards = all_shards(count)
            run_shards(step.make_part, lambda shard: step.done(shard, step.parts), shards, workers, on_progress)
            try:
                report = step.finish(count)
            except UserError:  # caused by the rows: nothing to resume
                shutil.rmtree(step.parts, ignore_errors=True)
                raise
    return report


def stamp_of(options: Any, inputs: Sequence[Path]) -> str:
    """Hash (12 hex digits) of the options (anything with a stable repr) and the inputs' names, sizes and times."""
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in inputs]
    return hashlib.sha256(repr((options, files)).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def run_shards(
    step: Callable[[Shard], None],
    done: Callable[[Shard], bool],
    shards: Sequence[Shard],
    workers: int | None = None,
    on_progress: Callable[[int, int], None] = lambda finished, total: None,
) -> list[Shard]:
    """Run `step` for every shard that is not `done`, and return the shards that were run.

    `step` must be importable (a top-level function or a `functools.partial` of one): with more than one worker it
    runs in spawned processes, because arrow's threads do not survive a fork. workers: number of processes, by default
    the cores available to this process. The first error stops the rest and is raised; finished shards are kept.
    """
    todo = [shard for shard in shards if not done(shard)]
    finished = len(shards) - len(todo)
    on_progress(finished, len(shards))
    workers = min(workers or len(os.sched_getaffinity(0)), len(todo))
    if workers <= 1:
        for shard in todo:
            step(shard)
            finished += 1
            on_progress(finished, len(shards))
        return todo
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(step, shard) for shard in todo]):
                future.result()
                finished += 1
                on_progress(finished, len(shards))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return todo
