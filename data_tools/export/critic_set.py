"""LLaVA-Critic as released -> the training set of a critic, as a step in shards.

OUT/train.jsonl       rows for ms-swift (`critic_rows`): {id, kind, messages, images}
OUT/validation.jsonl  the same of images that are not in train.jsonl
OUT/images/           their images, as ingestion stores them
OUT/critic.json       the counts, `critic_dropped.jsonl` one line for each row of the release that is left out

Which images are for validation depends on a hash of their names, so rows and files do not depend on the number of
shards. Rows about an image of a benchmark (the same bytes) are left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import orjson

from data_tools.export.critic_rows import PROMPTS, CriticOptions, CriticRow, critic_rows
from data_tools.ingest import part as ingest_part
from data_tools.ingest.image_paths import ImageReader, OnMissing
from data_tools.ingest.linked_images import LinkedImages
from data_tools.ingest.part import key_of, text_fault
from data_tools.ingest.raw_rows import read_span
from data_tools.ingest.run import ingest_job
from data_tools.rows.preference import SCHEMA_VERSION, ImageStore, iter_pairs
from data_tools.sources.base import Excluded, layouts
from data_tools.sources.llava_critic import Compared, Task, task_of
from data_tools.steps.account import Account, RowLocation
from data_tools.steps.concatenate import concatenate_files
from data_tools.steps.shards import Shard, Step, carry_out, stamp_of
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import sync_tree
from proxygrm.core.files.whole_file import whole_file, write_json, writing
from proxygrm.core.images.fields import NoImage, NotGiven
from proxygrm.critique.prompts import prompt_hash

SOURCE = "llava-critic"
TRAIN, VALIDATION = SETS = ("train", "validation")


@dataclass(frozen=True)
class Job:
    """What to write; picklable, because shards run in separate processes."""

    ingest: ingest_part.Job
    options: CriticOptions
    validation: float
    against: tuple[Path, ...]

    @property
    def sets(self) -> tuple[str, ...]:
        return SETS if self.validation else SETS[:1]


def critic_step(
    path: Path,
    out: Path,
    options: CriticOptions,
    *,
    validation: float = 0.01,
    against: Sequence[Path] = (),
    missing_images: OnMissing = "drop",
    max_bad: float = 0.01,
) -> Step:
    """The step that writes the training set of `path`, LLaVA-Critic's files, into the folder `out`.

    validation: share of the images whose rows are set aside. against: pairs folders of benchmarks. Raises UserError for
    files of another layout, and for options out of bounds.
    """
    if not 0 <= validation < 1:
        raise UserError(
            f"validation is {validation}; it is the share of the images that are not trained on, from 0 to below 1",
            code="settings.out-of-range", name="validation", value=validation,
        )  # fmt: skip
    ingest = ingest_job(SOURCE, path, out, missing_images=missing_images)
    benchmarks = tuple(folder.resolve() / "pairs.parquet" for folder in against)
    if absent := [file for file in benchmarks if not file.is_file()]:
        raise UserError(f"{absent[0]} does not exist; give pairs folders", code="file.missing", path=absent[0])
    job = Job(ingest, options, validation, tuple(file.parent for file in benchmarks))
    prompts = tuple(map(prompt_hash, PROMPTS))
    made_from = (options, validation, missing_images, str(out.resolve()), SCHEMA_VERSION, prompts)
    return Step(
        "critic", out, "critic.json", stamp_of(made_from, [*(file.path for file in ingest.files), *benchmarks]),
        run=partial(_run, job), done=partial(_done, job), merge=partial(_merge, job, max_bad),
        result=out / f"{TRAIN}.jsonl",
    )  # fmt: skip


def write_critic_set(path: Path, out: Path, options: CriticOptions, **more: Any) -> dict[str, Any]:
    """Run `critic_step` with these options in this process (for small data), and return the report."""
    return carry_out(critic_step(path, out, options, **more), 1, workers=1)


def _paths(job: Job, shard: Shard, parts: Path) -> dict[str, Path]:
    names = {"log": "dropped.jsonl", "counts": "counts.json", "account": "account.json"}
    names |= {each: f"{each}.jsonl" for each in job.sets}
    return {kind: shard.path(parts / name) for kind, name in names.items()}


def _done(job: Job, shard: Shard, parts: Path) -> bool:
    return all(path.is_file() for path in _paths(job, shard, parts).values())


def _run(job: Job, shard: Shard, parts: Path) -> None:
    part, of = _paths(job, shard, parts), job.ingest
    images = ImageReader(ImageStore(parts), of.root, of.missing)  # the merge links those of the kept rows
    benchmark = {name for folder in job.against for pair in iter_pairs(folder) for name in pair.images}
    counts: dict[str, Counter[str]] = {each: Counter() for each in job.sets}
    with Account(part["log"], max_bad=1.0) as account, ExitStack() as stack:
        files = {each: stack.enter_context(stack.enter_context(whole_file(part[each])).open("wb")) for each in job.sets}
        rows = read_span(of.files, shard.span(of.units), layouts(of.source), of.source.optional, of.source.expected)
        for file, number, raw in rows:
            account.read += 1
            row_id = of.row_name(file, number)
            found = raw if isinstance(raw, Excluded) else _rows_of(raw, row_id, job, images, benchmark, account)
            if isinstance(found, Excluded):
                where, named = RowLocation(of.files[file].name, number), "" if found.id is None else str(found.id)
                account.exclude(where, named[:300], found.reason, bad=found.bad, detail=found.detail[:300])
                continue
            names, made = found
            account.kept += 1
            chosen = VALIDATION if key_of(*names) % 10_000 < 10_000 * job.validation else TRAIN
            for row in made:
                counts[chosen][f"{row.kind} {row.decision}" if row.kind == "pairwise" else row.kind] += 1
                with writing(part[chosen]):
                    files[chosen].write(_line(row, row_id, [str(of.out.resolve() / "images" / name) for name in names]))
    sync_tree([parts / "images"])  # on disk before the account says so
    write_json(part["counts"], counts)
    write_json(part["account"], account.summary())


def _rows_of(
    raw: dict[str, Any], row_id: str, job: Job, images: ImageReader, benchmark: set[str], account: Account
) -> tuple[list[str], list[CriticRow]] | Excluded:
    """(names of the stored images, training rows) of a row of the release, or why there is none."""
    try:
        task = task_of(raw)
    except NoImage as error:
        return Excluded("bad_image", str(error), id=raw.get("id"))
    if isinstance(task, Excluded):
        return task
    fault = _fault(task)
    # Before the images are stored, so that a row that is not wanted leaves none.
    made = fault or critic_rows(task.task, row_id, len(task.images) or 1, job.options)
    if isinstance(made, Excluded):
        return made._replace(id=task.row_id)
    stored = images.store_all(task.images or (NotGiven("the row has no image"),))
    if isinstance(stored, Excluded):
        return stored._replace(id=task.row_id)
    names, notes = stored
    if not benchmark.isdisjoint(names):
        return Excluded("benchmark_image", names[0], bad=False, id=task.row_id)
    account.notes.update(notes)
    if task.note:
        account.notes[task.note] += 1
    return names, made


def _fault(task: Task) -> Excluded | None:
    compared = isinstance(task.task, Compared)
    responses = task.task.responses if isinstance(task.task, Compared) else (task.task.response,)
    if fault := text_fault((task.task.question, *responses)):
        return fault
    if compared and responses[0].strip() == responses[-1].strip():
        return Excluded("same_responses", bad=False)
    return None


def _line(row: CriticRow, row_id: str, images: list[str]) -> bytes:
    messages = [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": row.answer}]
    line = {"id": row_id, "kind": row.kind, "messages": messages, "images": images}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _merge(job: Job, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    """Nothing is written under a final name if too many rows are bad, or a set would be empty."""
    files, out = [_paths(job, shard, parts) for shard in shards], job.ingest.out
    counts: dict[str, Counter[str]] = {each: Counter() for each in job.sets}
    with Account(out / "critic_dropped.jsonl", max_bad) as account:
        for part in files:
            account.absorb(part["account"], part["log"])
            for each, found in json.loads(part["counts"].read_text(encoding="utf-8")).items():
                counts[each].update(found)
        account.check()
        if not account.kept:
            raise account.nothing_kept(out)
        if empty := [each for each in job.sets if not counts[each]]:
            raise UserError(
                f"no row is left for {empty[0]}: of {account.kept:,} usable rows the share {job.validation:g} of the "
                "images is for validation; change that share, 0 sets none aside",
                code="data.empty-set", name=empty[0], kept=account.kept,
            )  # fmt: skip
        with LinkedImages(out) as linked:
            for part, each in product(files, job.sets):
                linked.link(parts / "images", _images_in(part[each]))
            for each in reversed(job.sets):  # train.jsonl, the result, comes last
                with whole_file(out / f"{each}.jsonl") as scratch:
                    concatenate_files([part[each] for part in files], scratch)
        if not job.validation:  # of an earlier run
            (out / f"{VALIDATION}.jsonl").unlink(missing_ok=True)
    return {
        "files": [file.name for file in job.ingest.files], **asdict(job.options), "validation": job.validation,
        "against": [str(folder) for folder in job.against], **account.summary(),
        "rows": {each: dict(sorted(counts[each].items())) for each in job.sets}, "images": len(linked),
    }  # fmt: skip


def _images_in(file: Path) -> Iterator[str]:
    with file.open("rb") as lines:
        for line in lines:
            yield from (Path(image).name for image in orjson.loads(line)["images"])
