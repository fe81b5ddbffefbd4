"""Conversion of one file as a step in shards: a pairs folder, or the generic preference JSONL, -> what trainers read.

| to          | from                            | result                                                    |
|-------------|---------------------------------|-----------------------------------------------------------|
| verl        | pairs folder, preference JSONL  | parquet for RL of the reward model                        |
| swift-grm   | pairs folder + critiques        | ms-swift JSONL: pair -> the teacher's critique            |
| swift-proxy | pairs folder + critiques        | ms-swift JSONL: pair + rubric -> thought and verdict      |
| bench       | pairs folder                    | JSONL {id, prompt, chosen, rejected, image}               |

`OUT.report.json` has the counts, `OUT.dropped.jsonl` one line for each row that left. Rows, their order and their
index do not depend on the number of shards. Images that consumers would read differently are settled into `OUT.images`;
rows with an image that is missing, broken or refused by processors are bad. Straight from JSONL, repeated ids stay as
they are: `proxygrm data ingest` gives them names of their own, and stores each image once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from data_tools.ingest.picture_paths import MISSING, Missing
from data_tools.rows.preference import SCHEMA_VERSION, count_pairs
from data_tools.steps.account import Account
from data_tools.steps.shards import Shard, Step, carry_out, stamp_of
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json, writing
from proxygrm.critique.prompts import prompt_hash

Target = Literal["verl", "swift-grm", "swift-proxy", "bench"]
LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Job:
    """What to convert; pickles, so that a shard can run in a process of its own."""

    to: Target
    source: Path
    out: Path
    critiques: tuple[Path, ...]
    pictures: Literal["bytes", "path"]
    split: str
    root: Path  # where picture paths of a JSONL begin
    units: int  # rows of a pairs folder, bytes of a JSONL
    max_bad: float
    missing: Missing

    @property
    def images(self) -> Path:
        """Where settled images go."""
        return self.out.with_name(f"{self.out.name}.images")

    @property
    def from_lines(self) -> bool:
        return self.source.suffix.lower() in LINES


def convert_step(
    to: Target,
    source: Path,
    out: Path,
    *,
    critiques: Sequence[Path] = (),
    pictures: Literal["bytes", "path"] = "bytes",
    split: str = "train",
    images_root: Path | None = None,
    missing_images: Missing = "drop",
    max_bad: float = 0.01,
) -> Step:
    """The step that converts `source` into the file `out`.

    critiques: files of the teacher, for ms-swift; pairs that it did not judge right to the contract are dropped and
    counted. pictures: in verl's parquet, the bytes or the path. split: goes into verl's `extra_info`. images_root:
    where picture paths of a JSONL begin, by default its folder. missing_images: "drop" counts a row without its image
    as bad, "refuse" ends the step, "blank" shows a grey image instead. Raises UserError for what does not fit together.
    """
    source, out = Path(source), Path(out)
    if to not in get_args(Target):
        raise UserError(f"cannot convert to {to!r}; it is one of: {', '.join(get_args(Target))}")
    if missing_images not in MISSING:
        raise UserError(f"missing_images is {missing_images!r}; it is one of: {', '.join(MISSING)}")
    wanted = ".parquet" if to == "verl" else ".jsonl"
    if out.is_dir() or out.suffix != wanted:
        raise UserError(f"--out {out} must be a file that ends in {wanted}")
    if to.startswith("swift") and not critiques:
        raise UserError(f"{to} is written from the teacher's critiques; give them with --critiques")
    if critiques and not to.startswith("swift"):
        raise UserError(f"critiques go with swift-grm and swift-proxy only, not with {to}; leave --critiques out")
    for file in critiques:
        if not file.is_file():
            raise UserError(f"{file} is no file; give the teacher's critiques (JSONL)")
    if source.suffix.lower() in LINES:
        if to != "verl":
            raise UserError(
                f"{to} needs a pairs folder; make one with `proxygrm data ingest preference-jsonl {source}`"
            )
        if not source.is_file():
            raise UserError(f"{source} is no file; give a JSONL file or a pairs folder")
        file, units = source, source.stat().st_size
    else:
        file = source if source.suffix == ".parquet" else source / "pairs.parquet"
        units = count_pairs(source)
    if out.resolve() == file.resolve():
        raise UserError(f"--out {out} is the input itself")
    root = Path(images_root) if images_root else source.parent
    if not root.is_dir():
        raise UserError(f"--images-root {root} is no folder")
    job = Job(
        to, source, out, tuple(sorted(critiques)), pictures, split, root.resolve(), units, max_bad, missing_images
    )
    options = (
        to, out.name, pictures, split, str(job.root), prompt_hash("grm"), prompt_hash("proxy"),
        str(source.resolve()), missing_images, SCHEMA_VERSION,
    )  # fmt: skip
    return Step(
        f"convert {to}", out.parent, f"{out.name}.report.json", stamp_of(options, [file, *job.critiques]),
        run=partial(_run, job), done=partial(_done, job), merge=partial(_merge, job), result=out,
    )  # fmt: skip


def convert(to: Target, source: Path, out: Path, **options: Any) -> dict[str, Any]:
    """The same in this process alone; options are those of `convert_step`. Returns the report."""
    return carry_out(convert_step(to, source, out, **options), 1, workers=1)


def _paths(job: Job, shard: Shard, parts: Path) -> dict[str, Path]:
    names = {"rows": job.out.name, "ids": "ids.npy", "log": "dropped.jsonl", "account": "account.json"}
    return {kind: shard.path(parts / name) for kind, name in names.items()}


def _done(job: Job, shard: Shard, parts: Path) -> bool:
    part = _paths(job, shard, parts)
    return part["account"].is_file() and part["rows"].is_file()  # a merge may have taken the rows already


def _run(job: Job, shard: Shard, parts: Path) -> None:
    from data_tools.export.convert_part import write_part

    part = _paths(job, shard, parts)
    with Account(part["log"], max_bad=1.0) as account:
        write_part(job, shard.span(job.units), part, account)
    write_json(part["account"], account.summary())


def _merge(job: Job, shards: list[Shard], parts: Path) -> dict[str, Any]:
    """One file of the parts; nothing is written under a final name when too many rows are bad."""
    try:
        return _merged(job, [_paths(job, shard, parts) for shard in shards], parts)
    except UserError:
        if not job.out.exists():  # nothing names them
            shutil.rmtree(job.images, ignore_errors=True)
        raise


def _merged(job: Job, files: Sequence[dict[str, Path]], parts: Path) -> dict[str, Any]:
    from data_tools.export.convert_part import count_repeated, join_parquet

    with Account(job.out.with_name(f"{job.out.name}.dropped.jsonl"), job.max_bad) as account:
        for part in files:
            account.absorb(part["account"], part["log"])
        if (missing := account.bad["missing_picture"]) and job.missing == "refuse":
            raise UserError(
                f"{job.source}: the images of {missing} rows are missing ({account.first_bad}); put them there, or "
                "leave those rows out with --missing-images drop, or show a grey image with --missing-images blank"
            )
        account.check()
        if not account.kept:
            left = account.summary()
            raise UserError(
                f"none of {account.read} rows of {job.source} could be used ({left['bad'] | left['dropped']})"
            )
        if job.from_lines:
            account.notes["repeated_id"] = count_repeated([part["ids"] for part in files])
        rows = [part["rows"] for part in files]
        joined = rows[0] if len(rows) == 1 else parts / f"joined{job.out.suffix}"
        if len(rows) > 1:
            if job.to == "verl":
                join_parquet(rows, joined)
            else:
                _join_lines(rows, joined)
        joined.replace(job.out)
    return {"to": job.to, "input": str(job.source), "pictures": job.pictures, **account.summary()}


def _join_lines(parts: Sequence[Path], out: Path) -> None:
    with writing(out), out.open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined, 1 << 20)


def dropped_rows(report: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(kind, reason, rows) of a report, for people."""
    for kind in ("bad", "dropped", "notes"):
        for reason, count in report[kind].items():
            yield kind, reason, count
