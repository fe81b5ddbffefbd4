"""One step over many rows, in shards: on all cores of this machine, or as the elements of a SLURM job array.

A shard takes a contiguous part of the input, so the shards' outputs, put together in order, are the same rows in
the same order whatever their number. Parts wait in `OUT/.parts-STAMP`, where the stamp covers the options and the
input: a part that is there is whole and of this very step, so an interrupted step resumes at the first part that is
not. The merge checks that every part is there, writes the result under its final name, and removes the parts. They are
also removed where the merge refuses what the rows are. Those of a failed run with other options are removed by the next
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

from data_tools.steps.stale_parts import keep, one_run
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import sync_tree
from proxygrm.core.files.whole_file import removed_if_empty, write_json


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 0) of `count`. People write it from 1: "3/8"."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "i/n" with 1 <= i <= n. Raises UserError."""
        first, slash, second = text.partition("/")
        if not (slash and first.isascii() and first.isdigit() and second.isascii() and second.isdigit()):
            raise UserError(f"shard {text!r} is not i/n; write 1/8 for the first of eight")
        index, count = int(first), int(second)
        if not 1 <= index <= count <= 99_999:
            raise UserError(f"shard {text!r}: i must be from 1 to n, and n at most 99999")
        return cls(index - 1, count)

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def span(self, total: int) -> range:
        """The positions of `total` things that belong to this shard; all shards together cover each once."""
        return range(self.index * total // self.count, (self.index + 1) * total // self.count)

    def path(self, target: Path) -> Path:
        """Where this shard's part of `target` goes: `pairs.parquet` -> `pairs-00003-of-00008.parquet`."""
        return target.with_name(f"{target.stem}-{self.index + 1:05d}-of-{self.count:05d}{target.suffix}")


WHOLE = Shard(0, 1)


def all_shards(count: int) -> list[Shard]:
    return [Shard(index, count) for index in range(count)]


@dataclass(frozen=True)
class Step:
    """What can be done in shards. All functions must pickle: top-level ones, or `functools.partial` of them."""

    name: str
    out: Path  # folder of the result
    report: str  # file name in `out`: JSON with "stamp"; written last, by the merge
    stamp: str
    run: Callable[[Shard, Path], None]  # (shard, parts folder): writes its part beside and renames it
    done: Callable[[Shard, Path], bool]  # is this shard's part there?
    merge: Callable[[list[Shard], Path], dict[str, Any]]  # all parts -> the result; returns the report
    result: Path  # what the merge makes: a report without it says nothing

    @property
    def parts(self) -> Path:
        return self.out / f".parts-{self.stamp}"

    def finished(self) -> dict[str, Any] | None:
        """The report, when this very step has been carried out already, and its result is still there."""
        if not self.result.is_file():
            return None
        try:
            found = json.loads((self.out / self.report).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("stamp") == self.stamp else None

    def run_one(self, shard: Shard) -> None:
        """By hand, or as an element of a job array: the parts wait for others."""
        keep(self.parts)
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
                f"{self.name}: {len(missing)} of {count} shards are not done (first: {missing[0]}); run them"
            )
        report = {"stamp": self.stamp, **self.merge(shards, self.parts)}
        images = (self.out / "images", self.result.with_name(f"{self.result.name}.images"))
        sync_tree([self.result, *images])  # on the disk before a report says so
        write_json(self.out / self.report, report)
        shutil.rmtree(self.parts, ignore_errors=True)
        return report


def carry_out(
    step: Step,
    count: int,
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda finished, total: None,
) -> dict[str, Any]:
    """Run every shard that is missing, merge, and return the report; at once when it was all done before."""
    report = step.finished()
    if report is None:
        with removed_if_empty(step.out), one_run(step.parts, step.report):
            run_shards(step.make_part, lambda shard: step.done(shard, step.parts), all_shards(count), workers, progress)
            try:
                report = step.finish(count)
            except UserError:  # about the rows: nothing to resume
                shutil.rmtree(step.parts, ignore_errors=True)
                raise
    return report


def stamp_of(options: Any, inputs: Sequence[Path]) -> str:
    """Twelve hex digits over options (anything with a stable repr) and the inputs' names, sizes and times."""
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in inputs]
    return hashlib.sha256(repr((options, files)).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def run_shards(
    step: Callable[[Shard], None],
    done: Callable[[Shard], bool],
    shards: Sequence[Shard],
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda finished, total: None,
) -> list[Shard]:
    """Run `step` for every shard that is not `done`, and return those that were run.

    `step` must be importable (a top-level function or a `functools.partial` of one): with more than one worker it
    runs in processes started afresh, because arrow's threads do not survive a fork. workers: processes at once,
    by default the cores this process may use. The first error stops the rest and is raised; finished shards stay.
    """
    todo = [shard for shard in shards if not done(shard)]
    finished = len(shards) - len(todo)
    progress(finished, len(shards))
    workers = min(workers or len(os.sched_getaffinity(0)), len(todo))
    if workers <= 1:
        for shard in todo:
            step(shard)
            finished += 1
            progress(finished, len(shards))
        return todo
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(step, shard) for shard in todo]):
                future.result()
                finished += 1
                progress(finished, len(shards))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return todo
