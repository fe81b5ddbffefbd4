"""A benchmark as released -> a pairs folder with every row of it: nothing is judged on a silently smaller set."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

from data_tools.ingest.image_paths import blank_image
from data_tools.ingest.part import Job, interpret, text_fault
from data_tools.ingest.raw_rows import read_span
from data_tools.ingest.run import ingest, ingest_job, refuse_missing
from data_tools.sources import load
from data_tools.sources.base import Excluded, RawPair, ScoredResponse, layouts
from proxygrm.core.errors import UserError
from proxygrm.core.files import lock
from proxygrm.core.files.whole_file import removed_if_empty
from proxygrm.evaluate.benchmarks import RELEASED, benchmark

MISSING = "missing_image"


def blank_name() -> str:
    """The file name of the image that stands in for a missing one."""
    return f"{hashlib.sha256(blank_image()).hexdigest()}.png"


def ingest_benchmark(
    name: str, data: Path, folder: Path, missing_images: str, images_root: Path | None = None
) -> dict[str, Any]:
    """Ingest into `folder`, once for all processes that want it at the same time; return the report. An invalid row is
    a UserError: every row of a benchmark counts."""
    out = folder.parent
    with removed_if_empty(out):
        out.mkdir(parents=True, exist_ok=True)
        busy = f"another process is ingesting into {folder}"
        with lock.held(out / ".ingest.lock", busy, wait_s=math.inf):
            max_bad = 1.0 if missing_images == "drop" else 0.0
            report = ingest(name, data, folder, images_root=images_root, missing_images=missing_images, max_bad=max_bad)
    if bad := {reason: count for reason, count in report["bad"].items() if reason != MISSING}:
        raise UserError(
            f"{sum(bad.values()):,} rows of {data} are bad ({', '.join(bad)}), listed in "
            f"{folder / 'ingest_dropped.jsonl'}; fix them, every row of a benchmark counts",
            code="data.bad-rows",
            path=data,
            bad=bad,
        )
    return report


def pairs_of_benchmark(name: str, data: Path, folder: Path, missing_images: str) -> Path:
    """The pairs folder of a benchmark: `data` itself where it is one, otherwise `folder`, into which it is ingested."""
    if (data / "pairs.parquet").is_file():
        return data
    ingest_benchmark(name, data, folder, missing_images)
    return folder


def check_benchmark(name: str, missing_images: str, path: Path) -> None:
    """UserError when this is not the benchmark: another one, rows that cannot be read, images that are not there.
    Nothing is written."""
    if (path / "pairs.parquet").is_file():
        _check_pairs(name, missing_images, path)
        return
    try:
        job = _check_rows(name, path, missing_images)
    except UserError as error:
        others = [bench for bench in RELEASED if bench.name != name and _is_of(bench.name, path)]
        if not others:
            raise
        raise UserError(
            f"{path} is {others[0].title}, not {benchmark(name).title}; give {load(name).expected}",
            code="bench.other-benchmark",
            bench=name,
            other=others[0].name,
        ) from error
    if missing_images == "refuse":
        refuse_missing(job, path)


def _check_rows(name: str, path: Path, missing_images: str, rows: int | None = None) -> Job:
    """UserError for the first row that is broken, of all or the first `rows`."""
    job = ingest_job(name, path, path / "not-written", missing_images="blank", limit=rows)
    source, files = job.source, job.files
    number = 0
    for file, number, raw in read_span(files, range(job.units), layouts(source), source.optional, source.expected):
        row = interpret(source, raw)
        fault = row if isinstance(row, Excluded) else text_fault((row.question, *_responses(row)))
        if fault and fault.bad and not (fault.reason == MISSING and missing_images != "refuse"):
            raise UserError(
                f"{files[file].name} row {number} is not of {benchmark(name).title}: {fault.reason}"
                f"{f', {fault.detail}' if fault.detail else ''}; give {source.expected}",
                code="bench.not-this-one",
                bench=name,
                file=files[file].name,
                row=number,
                reason=fault.reason,
            )
    if not number:
        raise _no_rows(name, path)
    return job


def _responses(row: RawPair | ScoredResponse) -> tuple[Any, ...]:
    return (row.chosen, row.rejected) if isinstance(row, RawPair) else (row.response,)


def _is_of(name: str, path: Path) -> bool:
    """Whether its first row reads as one of this benchmark."""
    try:
        _check_rows(name, path, "refuse", rows=1)
    except UserError:
        return False
    return True


def _no_rows(name: str, path: Path) -> UserError:
    return UserError(f"{path} has no rows; give {load(name).expected}", code="bench.no-rows", bench=name, path=path)


def _check_pairs(name: str, missing_images: str, folder: Path) -> None:
    from proxygrm.core.pairs import pairs_file

    bench = benchmark(name)
    with pairs_file(folder) as file:
        table = file.read(columns=["source", "images"])
    if not table.num_rows:
        raise _no_rows(name, folder)
    sources = sorted(set(table["source"].to_pylist()))
    if others := [source for source in sources if not bench.has_source(source)]:
        raise UserError(
            f"{folder} has pairs of {', '.join(others[:3])} instead of {bench.title}; make it with "
            f"`proxygrm data ingest {name} PATH --out DIR`",
            code="bench.not-this-one",
            bench=name,
            sources=others,
        )
    wanted = {image for images in table["images"].to_pylist() for image in images}
    stored = {file.name for file in (folder / "images").iterdir()} if (folder / "images").is_dir() else set[str]()
    if missing_images == "refuse" and (lost := sorted(wanted - stored)):
        raise UserError(
            f"{len(lost):,} of {len(wanted):,} images are missing in {folder / 'images'} (first: {lost[0]}); copy the "
            "whole folder, or make it again with `proxygrm data ingest`",
            code="image.missing",
            path=folder,
            count=len(lost),
        )
