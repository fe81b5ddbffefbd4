"""A pairs folder -> a smaller one, and an account of every row that left.

`OUT` is a complete pairs folder: `pairs.parquet` and `images/`, hard links to the kept pictures (copies where the
file system has none). `filter.json` counts, `filter_dropped.jsonl` has one line a row that left: {file, row, id,
reason, bad, detail}; where a row collides with another, the detail ends in the id of that one.

Shards judge rows one by one (quality, decontamination) and compute signatures. The merge does what needs all rows
(difficulty needs all critiques, similarity all signatures) and writes the result. Row groups pass one at a time, so
memory is that of similarity: about 0.75 kB a row that is left, 0.5 of it a file mapped into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from data_tools.filters.difficulty import critique_files
from data_tools.filters.job import Job, where
from data_tools.filters.settings import FilterSettings
from data_tools.rows.preference import PreferencePair, count_pairs, iter_pairs
from data_tools.steps.account import Account
from data_tools.steps.shards import Shard, Step, carry_out, stamp_of
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_file, write_json, writing

if TYPE_CHECKING:
    from data_tools.filters.decontamination import Hit
    from data_tools.filters.quality import Fault


def filter_step(
    pairs: Path,
    out: Path,
    settings: FilterSettings | None = None,
    *,
    critiques: Sequence[Path] = (),
    against: Sequence[Path] = (),
    max_bad: float = 0.01,
) -> Step:
    """The step that writes the rows of `pairs` that pass into the pairs folder `out`.

    critiques: files or folders of critiques, for the difficulty. against: pairs folders of benchmarks. Bad rows are
    those with a picture that is missing or broken. Raises UserError when a folder is none.
    """
    pairs, out, settings = Path(pairs), Path(out), settings or FilterSettings()
    if out.exists() and (not out.is_dir() or out.resolve() == pairs.resolve()):
        raise UserError(f"--out {out} must be a folder other than the one that is filtered")
    if settings.quality is None and settings.similarity is None and not critiques and not against:
        raise UserError("every filter is off; leave one on, or give --critiques or --against")
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
    """The same in this process alone, for small data; options are those of `filter_step`. Returns the report."""
    return carry_out(filter_step(pairs, out, settings, **options), 1, workers=1)


def _paths(shard: Shard, parts: Path) -> dict[str, Path]:
    """The files of a shard's part; `account` is written last."""
    names = {"rows": "rows.i64", "signs": "signatures.u32", "log": "dropped.jsonl", "account": "account.json"}
    return {kind: shard.path(parts / name) for kind, name in names.items()}


def _done(shard: Shard, parts: Path) -> bool:
    return all(path.is_file() for path in _paths(shard, parts).values())


def _run(job: Job, shard: Shard, parts: Path) -> None:
    """Judge the shard's rows by themselves; positions and signatures of those that stay."""
    import numpy as np

    from data_tools.filters.batches import in_batches, texts_of
    from data_tools.filters.minhash import signatures
    from data_tools.filters.quality import BAD

    part = _paths(shard, parts)
    span = shard.span(count_pairs(job.pairs))
    benchmarks = _benchmarks(job) if job.against else None
    at = span.start
    with (
        whole_file(part["rows"]) as rows_scratch,
        whole_file(part["signs"]) as signs_scratch,
        Account(part["log"], max_bad=1.0) as account,
        rows_scratch.open("wb") as rows_file,
        signs_scratch.open("wb") as signs_file,
    ):
        for batch in in_batches(iter_pairs(job.pairs, span)):
            faults = [_quality_fault(job, pair) for pair in batch]
            passed = [row for row, fault in enumerate(faults) if fault is None]
            signs = signatures([texts_of(batch[row]) for row in passed]) if job.needs_signatures else None
            if benchmarks is not None:
                hits = benchmarks.hits([batch[row] for row in passed], signs, job.pairs / "images")
                for row, hit in zip(passed, hits, strict=True):
                    faults[row] = hit
            for row, fault in enumerate(faults):  # in the order of the rows, however they are cut in batches
                if fault:
                    bad = fault.reason in BAD
                    account.leave(where(at + row), batch[row].id, fault.reason, bad=bad, detail=fault.detail)
            stay: Any = np.array([faults[row] is None for row in passed], dtype=bool)
            rows: Any = np.array(passed, dtype=np.int64)[stay] + at
            account.read, account.kept, at = account.read + len(batch), account.kept + len(rows), at + len(batch)
            _put(rows_file, rows, part["rows"])
            if signs is not None and job.settings.similarity is not None:
                _put(signs_file, signs[stay], part["signs"])
    write_json(part["account"], account.summary())


def _put(file: BinaryIO, values: Any, path: Path) -> None:
    """Several files are written side by side: an error must name the right one."""
    with writing(path):
        file.write(values.tobytes())
        file.flush()


def _quality_fault(job: Job, pair: PreferencePair) -> Fault | Hit | None:
    from data_tools.filters.quality import picture_fault, text_fault

    settings = job.settings.quality
    if settings is None:
        return None
    fault = text_fault(pair, settings)
    for name in pair.images:
        fault = fault or picture_fault(job.pairs / "images" / name, settings)
    return fault


@lru_cache(maxsize=1)
def _benchmarks(job: Job) -> Any:
    """Read once a process, however many shards it runs."""
    from data_tools.filters.decontamination import Benchmarks

    return Benchmarks(job.against, job.settings.decontamination)


def _merge(job: Job, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    from data_tools.filters.merge import merge  # pyarrow and numpy wait until here

    return merge(job, max_bad, [_paths(shard, parts) for shard in shards], parts)
