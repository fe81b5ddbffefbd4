"""Filters a pairs folder into a smaller one, with an account of every excluded row.

`OUT` is a complete pairs folder: `pairs.parquet` and `images/`, hard links to the kept images (copies where the file
system has no links). `filter.json` has the counts, `filter_dropped.jsonl` one line per excluded row: {file, row, id,
reason, bad, detail}; if a row collides with another, the detail ends with the id of that one.

Shards examine rows one by one (quality, decontamination) and compute signatures. The merge runs the filters that need
all rows (difficulty needs all critiques, similarity all signatures) and writes the result. Row groups are read one at a
time, so the memory is that of similarity: about 0.75 kB per remaining row, 0.5 of it in a memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from data_tools.filters.difficulty import critique_files
from data_tools.filters.job import Job, row_location
from data_tools.filters.settings import FilterSettings
from data_tools.rows.preference import count_pairs, iter_pairs
from data_tools.steps.account import Account
from data_tools.steps.shards import Shard, Step, carry_out, stamp_of
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_file, write_json, writing


def filter_step(
    pairs: Path,
    out: Path,
    settings: FilterSettings | None = None,
    *,
    critiques: Sequence[Path] = (),
    against: Sequence[Path] = (),
    max_bad: float = 0.01,
) -> Step:
    """The step that writes the rows of `pairs` that pass all filters into the pairs folder `out`.

    critiques: files or folders of critiques, for the difficulty. against: pairs folders of benchmarks. Bad rows are
    those with a missing or broken image. Raises UserError for an input that is not a pairs folder.
    """
    pairs, out, settings = Path(pairs), Path(out), settings or FilterSettings()
    if out.exists() and (not out.is_dir() or out.resolve() == pairs.resolve()):
        raise UserError(
            f"--out {out} must be a folder, and not the one that is filtered", code="option.bad-out", path=out
        )
    if settings.quality is None and settings.similarity is None and not critiques and not against:
        raise UserError(
            "every filter is off; leave one on, or give --critiques or --against", code="settings.nothing-to-do"
        )
    job = Job(pairs, out, settings, tuple(critique_files(critiques)), tuple(map(Path, against)))
    for folder in (pairs, *job.against):
        count_pairs(folder)  # raises UserError
    inputs = [*(folder / "pairs.parquet" for folder in (pairs, *job.against)), *job.critiques]
    return Step(
        "filter", out, "filter.json", stamp_of(settings, inputs),
        run=partial(_run, job), done=_done, merge=partial(_merge, job, max_bad),
        result=out / "pairs.parquet",
    )  # fmt: skip


def filter_pairs(pairs: Path, out: Path, settings: FilterSettings | None = None, **options: Any) -> dict[str, Any]:
    """Run `filter_step` with these options in this process (for small data), and return the report."""
    return carry_out(filter_step(pairs, out, settings, **options), 1, workers=1)


def _paths(shard: Shard, parts: Path) -> dict[str, Path]:
    """The files of a shard's part; `account` is written last."""
    names = {"rows": "rows.i64", "signatures": "signatures.u32", "log": "dropped.jsonl", "account": "account.json"}
    return {kind: shard.path(parts / name) for kind, name in names.items()}


def _done(shard: Shard, parts: Path) -> bool:
    return all(path.is_file() for path in _paths(shard, parts).values())


def _run(job: Job, shard: Shard, parts: Path) -> None:
    """Examine the rows of the shard one by one; write positions and signatures of those that pass."""
    import numpy as np

    from data_tools.filters.batches import in_batches
    from data_tools.filters.examine import examine, is_bad

    part = _paths(shard, parts)
    span = shard.span(count_pairs(job.pairs))
    at = span.start
    with (
        whole_file(part["rows"]) as rows_scratch,
        whole_file(part["signatures"]) as signatures_scratch,
        Account(part["log"], max_bad=1.0) as account,
        rows_scratch.open("wb") as rows_file,
        signatures_scratch.open("wb") as signatures_file,
    ):
        for batch in in_batches(iter_pairs(job.pairs, span)):
            examined = examine(batch, job.pairs, job.settings, job.against)
            for row, fault in enumerate(examined.faults):  # in the order of the rows, independent of the batches
                if fault:
                    account.exclude(
                        row_location(at + row), batch[row].id, fault.reason, bad=is_bad(fault), detail=fault.detail
                    )
            rows: Any = np.array(examined.passed, dtype=np.int64) + at
            account.read, account.kept, at = account.read + len(batch), account.kept + len(rows), at + len(batch)
            write_array(rows_file, rows, part["rows"])
            if job.settings.similarity is not None:
                write_array(signatures_file, examined.signatures, part["signatures"])
    write_json(part["account"], account.summary())


def write_array(file: BinaryIO, values: Any, path: Path) -> None:
    """Flush at once: several files are written in parallel, and an error must name the right one."""
    with writing(path):
        file.write(values.tobytes())
        file.flush()


def _merge(job: Job, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    from data_tools.filters.merge import merge  # deferred: imports pyarrow and numpy

    return merge(job, max_bad, [_paths(shard, parts) for shard in shards], parts)
