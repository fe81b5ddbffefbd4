"""Converts a pairs folder, or the generic preference JSONL, into a file for trainers, as a step in shards.

| to          | from                            | result                                                    |
|-------------|---------------------------------|-----------------------------------------------------------|
| verl        | pairs folder, preference JSONL  | parquet for RL of the reward model                        |
| swift-grm   | pairs folder + critiques        | ms-swift JSONL: pair -> the teacher's critique            |
| verl-r1     | pairs folder, preference JSONL  | the same with the instruction of R1-Reward's contract     |
| swift-proxy | pairs folder + critiques        | ms-swift JSONL: pair + rubric -> thought and verdict      |
| swift-r1    | pairs folder + critiques        | ms-swift JSONL: pair -> the teacher's R1-Reward judgement |
| swift-rm    | pairs folder                    | ms-swift JSONL: question -> better and worse response     |
| bench       | pairs folder                    | JSONL {id, prompt, chosen, rejected, image}               |

`OUT.report.json` has the counts, `OUT.dropped.jsonl` one line for each excluded row. Rows, their order and their index
do not depend on the number of shards. Images that consumers would read differently are settled into `OUT.images`; rows
with an image that is missing, broken or refused by processors are bad. Directly from JSONL, repeated ids stay as they
are; `proxygrm data ingest` makes them unique, and stores each image once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from data_tools.ingest.image_paths import OnMissing, check_on_missing, resolve_images_root
from data_tools.rows.preference import SCHEMA_VERSION, count_pairs
from data_tools.steps.account import Account
from data_tools.steps.concatenate import concatenate_files
from data_tools.steps.shards import Shard, Step, carry_out, stamp_of
from proxygrm.core.errors import UserError
from proxygrm.core.files.output_file import LOGS, REPORT, check_output
from proxygrm.core.files.whole_file import write_json
from proxygrm.critique.contracts import KINDS, PROXY_GRM, R1
from proxygrm.critique.prompts import prompt_hash

Target = Literal["verl", "verl-r1", "swift-grm", "swift-proxy", "swift-r1", "swift-rm", "bench"]
FOR_VERL = ("verl", "verl-r1")
TAUGHT = ("swift-grm", "swift-proxy", "swift-r1")
"""Written from the teacher's critiques."""
LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class Job:
    """What to convert; picklable, because shards run in separate processes."""

    to: Target
    source: Path
    out: Path
    critiques: tuple[Path, ...]
    images: Literal["bytes", "path"]
    split: str
    root: Path  # image paths of a JSONL are relative to it
    units: int  # rows of a pairs folder, bytes of a JSONL
    max_bad: float
    missing: OnMissing

    @property
    def contract(self) -> str:
        """Of the critiques and the instruction."""
        return R1 if self.to.endswith("-r1") else PROXY_GRM

    @property
    def for_verl(self) -> bool:
        return self.to in FOR_VERL

    @property
    def image_folder(self) -> Path:
        """Folder of the settled images."""
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
    images: Literal["bytes", "path"] = "bytes",
    split: str = "train",
    images_root: Path | None = None,
    missing_images: OnMissing = "drop",
    max_bad: float = 0.01,
) -> Step:
    """The step that converts `source` into the file `out`.

    critiques: the teacher's files, for ms-swift; pairs without a well-formed critique with the right verdict are
    dropped and counted. images: bytes or paths in verl's parquet. split: name in verl's `extra_info`. images_root:
    folder that image paths of a JSONL are relative to, by default that of the file. missing_images: "drop" counts a row
    with a missing image as bad, "refuse" fails the step, "blank" uses a grey image. Raises UserError for options that
    cannot be combined.
    """
    source, out = Path(source), Path(out)
    if to not in get_args(Target):
        raise UserError(
            f"cannot convert to {to!r}; the targets are: {', '.join(get_args(Target))}",
            code="option.bad-value", option="to", value=to, known=list(get_args(Target)),
        )  # fmt: skip
    check_on_missing(missing_images)
    suffix = ".parquet" if to in FOR_VERL else ".jsonl"
    if out.is_dir() or out.suffix != suffix:
        raise UserError(f"--out {out} must be a {suffix} file", code="option.bad-out", path=out, suffix=suffix)
    if to in TAUGHT and not critiques:
        raise UserError(
            f"{to} is written from the teacher's critiques; give them with --critiques",
            code="option.missing", option="--critiques", to=to,
        )  # fmt: skip
    if critiques and to not in TAUGHT:
        raise UserError(
            f"only {', '.join(TAUGHT)} use critiques, not {to}; leave --critiques out",
            code="option.no-effect", option="--critiques", to=to,
        )  # fmt: skip
    for file in critiques:
        if not file.is_file():
            raise UserError(
                f"{file} is not a file; give the teacher's critiques (JSONL)", code="file.not-a-file", path=file
            )
    if source.suffix.lower() in LINES:
        if to not in FOR_VERL:
            raise UserError(
                f"{to} needs a pairs folder; make one with `proxygrm data ingest preference-jsonl {source}`",
                code="data.not-a-pairs-folder", path=source, to=to,
            )  # fmt: skip
        if not source.is_file():
            raise UserError(
                f"{source} is not a file; give a JSONL file or a pairs folder", code="file.not-a-file", path=source
            )
        file, units = source, source.stat().st_size
    else:
        file = source if source.suffix == ".parquet" else source / "pairs.parquet"
        units = count_pairs(source)
    check_output(out, [file, *critiques], "--out", beside=(*LOGS, REPORT))
    root = resolve_images_root(images_root, source.parent)
    job = Job(to, source, out, tuple(sorted(critiques)), images, split, root, units, max_bad, missing_images)
    options = (
        to, out.name, images, split, str(job.root), prompt_hash(KINDS[job.contract].prompt), prompt_hash("proxy"),
        str(source.resolve()), missing_images, SCHEMA_VERSION,
    )  # fmt: skip
    return Step(
        f"convert {to}", out.parent, f"{out.name}{REPORT}", stamp_of(options, [file, *job.critiques]),
        run=partial(_run, job), done=partial(_done, job), merge=partial(_merge, job), result=out,
    )  # fmt: skip


def convert(to: Target, source: Path, out: Path, **options: Any) -> dict[str, Any]:
    """Run `convert_step` with these options in this process, and return the report."""
    return carry_out(convert_step(to, source, out, **options), 1, workers=1)


def _paths(job: Job, shard: Shard, parts: Path) -> dict[str, Path]:
    names = {"rows": job.out.name, "ids": "ids.npy", "log": "dropped.jsonl", "account": "account.json"}
    return {kind: shard.path(parts / name) for kind, name in names.items()}


def _done(job: Job, shard: Shard, parts: Path) -> bool:
    part = _paths(job, shard, parts)
    return part["account"].is_file() and part["rows"].is_file()  # a merge may have moved the rows already


def _run(job: Job, shard: Shard, parts: Path) -> None:
    from data_tools.export.convert_part import write_part

    part = _paths(job, shard, parts)
    with Account(part["log"], max_bad=1.0) as account:
        write_part(job, shard.span(job.units), part, account)
    write_json(part["account"], account.summary())


def _merge(job: Job, shards: list[Shard], parts: Path) -> dict[str, Any]:
    """Merge the parts into one file; nothing is written under a final name if too many rows are bad."""
    try:
        return _merged(job, [_paths(job, shard, parts) for shard in shards], parts)
    except UserError:
        if not job.out.exists():  # nothing refers to these images
            shutil.rmtree(job.image_folder, ignore_errors=True)
        raise


def _merged(job: Job, files: Sequence[dict[str, Path]], parts: Path) -> dict[str, Any]:
    from data_tools.export.convert_part import count_repeated, join_parquet

    with Account(job.out.with_name(f"{job.out.name}{LOGS[0]}"), job.max_bad) as account:
        for part in files:
            account.absorb(part["account"], part["log"])
        if (missing := account.bad["missing_image"]) and job.missing == "refuse":
            raise UserError(
                f"{job.source}: the images of {missing} rows are missing ({account.first_bad}); put them in place, "
                "drop those rows with --missing-images drop, or use a grey image with --missing-images blank",
                code="image.missing", path=job.source, count=missing, first=account.first_bad,
            )  # fmt: skip
        account.check()
        if not account.kept:
            raise account.nothing_kept(job.source)
        if job.from_lines:
            account.notes["repeated_id"] = count_repeated([part["ids"] for part in files])
        rows = [part["rows"] for part in files]
        joined = rows[0] if len(rows) == 1 else parts / f"joined{job.out.suffix}"
        if len(rows) > 1:
            if job.for_verl:
                join_parquet(rows, joined)
            else:
                concatenate_files(rows, joined)
        joined.replace(job.out)
    return {"to": job.to, "input": str(job.source), "images": job.images, **account.summary()}


def dropped_rows(report: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """(kind, reason, number of rows) of a report: what the command prints."""
    for kind in ("bad", "dropped", "notes"):
        for reason, count in report[kind].items():
            yield kind, reason, count
