"""Released preference data -> a pairs folder: `OUT/pairs.parquet`, `OUT/images/`, and an account of every row.

`OUT/ingest.json` has the counts, `OUT/ingest_dropped.jsonl` one line for each row that left: {file, row, id, reason,
bad, detail}. The rows, their order and their ids do not depend on the number of shards.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from data_tools.ingest import part as ingest_part
from data_tools.ingest.part import Job, understand
from data_tools.ingest.picture_paths import MISSING, Missing, missing_in
from data_tools.ingest.raw_rows import list_files, read_span, survey
from data_tools.rows.preference import SCHEMA_VERSION
from data_tools.sources import load
from data_tools.sources.base import Left, Source, layouts, slug
from data_tools.steps.shards import Shard, Step, carry_out, stamp_of
from proxygrm.core.errors import UserError


def ingest_step(
    source: Source | str,
    path: Path,
    out: Path,
    *,
    images_root: Path | None = None,
    missing_images: Missing | None = None,
    limit: int | None = None,
    max_bad: float = 0.01,
    license: str = "",
) -> Step:
    """The step that reads the file or folder `path` into the pairs folder `out`.

    images_root: where picture paths begin; by default the folder of the file (or `path`, when it is one).
    missing_images: what a row without its image means. "refuse": nothing is ingested, and the error says how many
    there are (the default of benchmarks); "drop": a bad row (the default elsewhere); "blank": a grey picture stands
    in, and is counted. limit: only the first rows. license: a tag for all pairs, instead of the source's.
    Raises UserError when there is no such file, or it is not in the source's layout.
    """
    source = load(source) if isinstance(source, str) else source
    path, out = Path(path), Path(out)
    missing = missing_images or ("refuse" if source.benchmark else "drop")
    if missing not in MISSING:
        raise UserError(f"missing_images is {missing!r}; it is one of: {', '.join(MISSING)}")
    root = Path(images_root) if images_root else path if path.is_dir() else path.parent
    if images_root and not root.is_dir():
        raise UserError(f"--images-root {root} is no folder")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out is the folder to write")
    if (path / "pairs.parquet").is_file():
        raise UserError(f"{path} is a pairs folder already; use it as it is, or `proxygrm data join` it with others")
    inputs = [file for file, _ in list_files(path, source.give, out)]
    name = source.slug if source.name != "preference-jsonl" else slug(path.stem) or "preference"
    options = (source.name, name, SCHEMA_VERSION, str(root.resolve()), missing, limit, license)
    files = tuple(survey(path, source.give, layouts(source), limit, out))
    job = Job(source, name, files, out, root.resolve(), missing, license)
    step = Step(
        f"ingest {source.name}", out, "ingest.json", stamp_of(options, inputs),
        run=partial(ingest_part.run, job), done=ingest_part.done, merge=partial(_merge, job, max_bad),
        result=out / "pairs.parquet",
    )  # fmt: skip
    if missing == "refuse" and step.finished() is None:
        _refuse_missing(job, path)
    return step


def ingest(source: Source | str, path: Path, out: Path, **options: Any) -> dict[str, Any]:
    """The same in this process alone, for small data; options are those of `ingest_step`. Returns the report."""
    return carry_out(ingest_step(source, path, out, **options), 1, workers=1)


def _merge(job: Job, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    from data_tools.ingest.merge import merge  # pyarrow and numpy wait until here

    return merge(job, max_bad, shards, parts)


def _refuse_missing(job: Job, path: Path) -> None:
    """Look for every picture before anything is written."""
    count, first = 0, ""
    source = job.source
    for _, _, raw in read_span(job.files, range(job.units), layouts(source), source.optional, source.give):
        found = understand(source, raw)
        if isinstance(found, Left):
            lost = found.detail if found.reason == "missing_picture" else None
        else:
            lost = missing_in(found.pictures, job.root)
        if lost is not None:
            count, first = count + 1, first or lost
    if count:
        raise UserError(
            f"{path}: the pictures of {count} rows are missing under {job.root} (first: {first}); put them there, or "
            "judge without seeing them with --missing-images blank, or leave those rows out with --missing-images "
            "drop (in `data ingest` with a higher --max-bad)"
        )
