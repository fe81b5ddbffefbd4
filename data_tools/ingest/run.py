"""Released preference data -> a pairs folder: `OUT/pairs.parquet`, `OUT/images/`, and an account of every row.

`OUT/ingest.json` has the counts, `OUT/ingest_dropped.jsonl` one line for each excluded row: {file, row, id, reason,
bad, detail}. The rows, their order and their ids do not depend on the number of shards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data_tools.ingest import part as ingest_part
from data_tools.ingest.image_paths import OnMissing, check_on_missing, missing_in, resolve_images_root
from data_tools.ingest.part import Job, expanded, interpret
from data_tools.ingest.raw_rows import read_span, scan_files
from data_tools.rows.preference import SCHEMA_VERSION
from data_tools.sources import load
from data_tools.sources.base import Excluded, Source, layouts, slug
from data_tools.steps.shards import Shard, Step, carry_out, stamp_of
from proxygrm.core.errors import UserError


def ingest_step(
    source: Source | str,
    path: Path,
    out: Path,
    *,
    images_root: Path | None = None,
    missing_images: OnMissing | None = None,
    limit: int | None = None,
    max_bad: float = 0.01,
    license: str = "",
    source_options: Mapping[str, str] | None = None,
) -> Step:
    """The step that reads the file or folder `path` into the pairs folder `out`.

    images_root: folder that image paths are relative to; by default `path`, or the folder of the file.
    missing_images: how to treat a row with a missing image. "refuse": ingest nothing, and report their number (the
    default for benchmarks); "drop": a bad row (the default otherwise); "blank": use a grey image, and count it.
    limit: ingest only the first rows. license: a tag for all pairs, instead of the source's.
    source_options: options of the source, by name. Raises UserError if the file does not exist or does not have the
    layout of the source.
    """
    job = ingest_job(source, path, out, images_root=images_root, missing_images=missing_images, limit=limit,
                     license=license, source_options=source_options)  # fmt: skip
    options: tuple[Any, ...] = (job.source.name, job.name, SCHEMA_VERSION, str(job.root), job.missing, limit, license)
    options += (*job.source.options, *(file.more for file in job.files if file.more))
    out, inputs = job.out, [file.path for file in job.files]
    step = Step(
        f"ingest {job.source.name}", out, "ingest.json", stamp_of(options, inputs),
        run=partial(ingest_part.run, job), done=ingest_part.done, merge=partial(_merge, job, max_bad),
        result=out / "pairs.parquet",
    )  # fmt: skip
    if job.missing == "refuse" and step.finished() is None:
        refuse_missing(job, Path(path))
    return step


def ingest_job(
    source: Source | str,
    path: Path,
    out: Path,
    *,
    images_root: Path | None = None,
    missing_images: OnMissing | None = None,
    limit: int | None = None,
    license: str = "",
    source_options: Mapping[str, str] | None = None,
) -> Job:
    """What `ingest_step` would do with these options; nothing is written. UserError as there."""
    source = load(source, source_options) if isinstance(source, str) else source
    path, out = Path(path), Path(out)
    on_missing = missing_images or ("refuse" if source.benchmark else "drop")
    check_on_missing(on_missing)
    if out.exists() and not out.is_dir():
        raise UserError(
            f"{out} is a file; --out is the folder to write", code="file.not-a-folder", path=out, option="--out"
        )
    if (path / "pairs.parquet").is_file():
        raise UserError(
            f"{path} is a pairs folder already; use it directly, or join it with others (`proxygrm data join`)",
            code="data.is-a-pairs-folder", path=path,
        )  # fmt: skip
    path = _only_file(source, path)
    name = source.slug if source.name != "preference-jsonl" else slug(path.stem) or "preference"
    pattern = source.files if source.several else ""
    files = tuple(scan_files(path, source.expected, layouts(source), limit, out, pattern))
    root = resolve_images_root(images_root, path if path.is_dir() else path.parent)
    if source.of_file is not None:
        fields = source.of_file(path, root, [file.name for file in files])
        files = tuple(replace(file, more=tuple(more.items())) for file, more in zip(files, fields, strict=True))
    return Job(source, name, files, out, root, on_missing, license)


def _only_file(source: Source, path: Path) -> Path:
    """The one file of a folder that the source reads; `path` itself where it reads all of them."""
    if not source.files or source.several or not path.is_dir():
        return path
    found = sorted(file for file in path.rglob(source.files) if file.is_file())
    if len(found) != 1:
        raise UserError(
            f"{path} has {len(found)} files named {source.files} instead of one; give {source.expected}",
            code="data.not-one-file", path=path, pattern=source.files, count=len(found),
        )  # fmt: skip
    return found[0]


def ingest(source: Source | str, path: Path, out: Path, **options: Any) -> dict[str, Any]:
    """Run `ingest_step` with these options in this process (for small data), and return the report."""
    return carry_out(ingest_step(source, path, out, **options), 1, workers=1)


def _merge(job: Job, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    from data_tools.ingest.merge import merge  # deferred: imports pyarrow and numpy

    return merge(job, max_bad, shards, parts)


def refuse_missing(job: Job, path: Path) -> None:
    """UserError when an image does not exist, before anything is written."""
    count, first = 0, ""
    source = job.source
    rows = read_span(job.files, range(job.units), layouts(source), source.optional, source.expected)
    for _, _, raw in expanded(source, rows):
        row = interpret(source, raw)
        if isinstance(row, Excluded):
            missing = row.detail if row.reason == "missing_image" else None
        else:
            missing = missing_in(row.images, job.root)
        if missing is not None:
            count, first = count + 1, first or missing
    if count:
        raise UserError(
            f"{path}: the images of {count} rows are missing under {job.root} (first: {first}); put them in place, use "
            "a grey image with --missing-images blank, or drop those rows with --missing-images drop (in `data ingest` "
            "with a higher --max-bad)",
            code="image.missing", path=path, count=count, root=job.root, first=first,
        )  # fmt: skip
