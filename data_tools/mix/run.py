"""Mixes the pairs folders of a spec into one, with an account of what each source gave and lost.

`OUT` is a complete pairs folder. `mix.json` has the counts of each source by reason, `mix_dropped.jsonl` one line per
row that is left out: {file (the source), row, id, reason, bad, detail}.

| reason              | a row is left out because                                                         |
|---------------------|------------------------------------------------------------------------------------|
| benchmark_...       | it is in a benchmark (`data_tools.filters.decontamination`)                        |
| quality reasons     | of `data filter`, where the spec has a table [quality]                             |
| category            | its source leaves out its category (`without`)                                    |
| near_duplicate      | it is near an earlier row of its source                                            |
| in_another_source   | it is near a row of a source that the spec names before its own                    |
| over_question       | its source has `per_question` other pairs about the same question and images       |
| over_cap            | its source has `cap` other rows                                                    |
| over_weight         | its source would have more than its weight's share of the mixture                  |

Which rows a cap takes is decided by a hash of their ids and the seed, so the result depends neither on the number of
shards nor on the order of the rows. Rows keep their ids, labels and order, source after source: trainers shuffle.
Memory as of `data filter`: about 0.75 kB per row, 0.5 of it in a memory-mapped file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any

from data_tools.filters.run import write_array
from data_tools.mix.job import Job, paths
from data_tools.mix.spec import MixSpec
from data_tools.rows.preference import SCHEMA_VERSION, count_pairs, iter_pairs
from data_tools.steps.account import Account, RowLocation
from data_tools.steps.shards import Shard, Step, carry_out, stamp_of
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_file, write_json


def mix_step(spec: MixSpec, out: Path, max_bad: float = 0.01) -> Step:
    """The step that writes the mixture into the pairs folder `out`.

    Raises UserError for a folder that is not one of pairs, for one given twice, and if `out` is one of them.
    """
    folders = [folder.resolve() for folder in (*spec.folders, *spec.against)]
    if len(set(folders)) < len(folders):
        twice = next(folder for folder, count in Counter(folders).items() if count > 1)
        raise UserError(f"{twice} is in the mixture twice; name it once", code="mix.repeated-folder", path=twice)
    if out.resolve() in folders or (out.exists() and not out.is_dir()):
        raise UserError(
            f"--out {out} must be a folder, and none of those that are mixed", code="option.bad-out", path=out
        )
    sizes = [count_pairs(folder) for folder in (*spec.folders, *spec.against)]  # raises UserError
    inputs = [folder / "pairs.parquet" for folder in folders]
    job = Job(spec, out, tuple(sizes[: len(spec.sources)]))
    amounts = [(name, source.weight, source.cap, source.per_question, source.without) for name, source in spec.sources]
    options = (amounts, spec.weighted, spec.size, spec.short, spec.seed, spec.filters, SCHEMA_VERSION)
    return Step(
        "mix", out, "mix.json", stamp_of(options, inputs),
        run=partial(_run, job), done=_done, merge=partial(_merge, job, max_bad),
        result=out / "pairs.parquet",
    )  # fmt: skip


def mix(spec: MixSpec, out: Path, **options: Any) -> dict[str, Any]:
    """Run `mix_step` with these options in this process (for small data), and return the report."""
    return carry_out(mix_step(spec, out, **options), 1, workers=1)


def _done(shard: Shard, parts: Path) -> bool:
    return all(path.is_file() for path in paths(shard, parts).values())


def _run(job: Job, shard: Shard, parts: Path) -> None:
    """Examine the rows of the shard one by one; write the numbers and signatures of those that pass.

    Numbers: the position among the rows of all sources, the place in the order of the seed, a hash of the question.
    """
    import numpy as np

    from data_tools.filters.batches import in_batches
    from data_tools.filters.examine import examine, is_bad
    from data_tools.ingest.part import key_of

    part, spec = paths(shard, parts), job.spec
    lost: dict[str, Counter[str]] = {name: Counter() for name, _ in spec.sources}
    with (
        whole_file(part["numbers"]) as numbers_scratch,
        whole_file(part["signatures"]) as signatures_scratch,
        Account(part["log"], max_bad=1.0) as account,
        numbers_scratch.open("wb") as numbers_file,
        signatures_scratch.open("wb") as signatures_file,
    ):
        for (name, source), first, span in _spans(job, shard):
            folder, at = Path(source.pairs), span.start
            for batch in in_batches(iter_pairs(folder, span)):
                examined = examine(batch, folder, spec.filters, spec.against)
                for row, (pair, fault) in enumerate(zip(batch, examined.faults, strict=True)):
                    unwanted = pair.category in source.without
                    if unwanted or fault:
                        where, reason = RowLocation(name, at + row + 1), fault.reason if fault else "category"
                        bad, detail = (is_bad(fault), fault.detail) if fault else (False, pair.category)
                        account.exclude(where, pair.id, reason, bad=bad, detail=detail)
                        lost[name][reason] += 1
                wanted = [batch[row].category not in source.without for row in examined.passed]
                numbers = [
                    (first + at + row, key_of(str(spec.seed), batch[row].id),
                     key_of(batch[row].question, *batch[row].images))
                    for row in compress(examined.passed, wanted)
                ]  # fmt: skip
                account.read, account.kept = account.read + len(batch), account.kept + len(numbers)
                at += len(batch)
                write_array(numbers_file, np.array(numbers, dtype=np.uint64).reshape(-1, 3), part["numbers"])
                if spec.filters.similarity is not None:
                    write_array(signatures_file, examined.signatures[wanted], part["signatures"])
    write_json(part["lost"], {name: dict(sorted(counts.items())) for name, counts in lost.items()})
    write_json(part["account"], account.summary())


def _spans(job: Job, shard: Shard) -> Iterator[tuple[Any, int, range]]:
    """(source, position of its first row among all, its rows that are in the shard)."""
    span, first = shard.span(sum(job.sizes)), 0
    for source, size in zip(job.spec.sources, job.sizes, strict=True):
        rows = range(max(span.start - first, 0), min(span.stop - first, size))
        if rows:
            yield source, first, rows
        first += size


def _merge(job: Job, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    from data_tools.mix.merge import merge  # deferred: imports pyarrow and numpy

    return merge(job, max_bad, [paths(shard, parts) for shard in shards], parts)
