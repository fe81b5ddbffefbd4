"""The merge of a mixture: what needs all rows (near-duplicates, caps, weights), and the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_tools.filters.merge import positions_in, tables
from data_tools.filters.minhash import NUM_HASHES
from data_tools.filters.similarity import NearDuplicates, near_duplicates
from data_tools.ingest.join import check_ids
from data_tools.ingest.linked_images import LinkedImages
from data_tools.mix.amounts import amounts, beyond, beyond_of_each
from data_tools.mix.job import Job, lost_of
from data_tools.mix.spec import FILTERS, MixSource
from data_tools.rows.pair_tables import add_counts, image_names
from data_tools.rows.preference import PairsWriter
from data_tools.steps.account import Account, RowLocation
from data_tools.steps.concatenate import concatenate_files
from proxygrm.core.errors import UserError

_KEPT, _NEAR, _ELSEWHERE, _QUESTION, _CAP, _WEIGHT = range(6)
_REASONS = {_NEAR: "near_duplicate", _ELSEWHERE: "in_another_source", _QUESTION: "over_question", _CAP: "over_cap",
            _WEIGHT: "over_weight"}  # fmt: skip


def merge(job: Job, max_bad: float, files: list[dict[str, Path]], parts: Path) -> dict[str, Any]:
    """Raises UserError, and writes nothing under a final name, if too many rows are bad or none is left."""
    check_ids(job.spec.folders)
    with Account(job.out / "mix_dropped.jsonl", max_bad) as account:
        for part in files:
            account.absorb(part["account"], part["log"])
        account.check()
        numbers = np.concatenate([np.fromfile(part["numbers"], dtype=np.uint64).reshape(-1, 3) for part in files])
        rows, order, questions = numbers[:, 0].astype(np.int64), numbers[:, 1], numbers[:, 2]
        source_of: Any = np.searchsorted(np.cumsum(job.sizes), rows, side="right").astype(np.int64)
        why: np.ndarray = np.zeros(len(rows), dtype=np.int8)
        near = _drop_near(job, files, parts, rows, source_of, why)
        available = _choose(job, source_of, order, questions, why)
        lost = lost_of(files)
        for number, (name, _) in enumerate(job.spec.sources):
            counts = np.bincount(why[source_of == number], minlength=len(_REASONS) + 1).tolist()
            lost[name].update({reason: counts[code] for code, reason in _REASONS.items() if counts[code]})
        if not (why == _KEPT).any():
            raise _empty(job, lost, available)
        _log(job, rows, source_of, why, near, account)
        account.kept = int((why == _KEPT).sum())
        labels, images = _write(job, rows[why == _KEPT])
    settings = {name: value for name, value in asdict(job.spec.filters).items() if name in FILTERS}
    return {
        "about": job.spec.about, "sources": _sources(job, lost), "against": [str(path) for path in job.spec.against],
        "size": job.spec.size, "seed": job.spec.seed, "weighted": job.spec.weighted,
        "settings": settings, **account.summary(), "labels": labels, "images": images,
    }  # fmt: skip


def _drop_near(
    job: Job, files: list[dict[str, Path]], parts: Path, rows: np.ndarray, source_of: np.ndarray, why: np.ndarray
) -> NearDuplicates | None:
    """Of near rows the first is kept. Equal names in two folders are the same image, so each is read from the first."""
    if job.spec.filters.similarity is None or not len(rows):
        return None
    places: dict[str, str] = {}
    images = []
    for folder, start, table in _tables(job, ["images"]):
        for names in table["images"].take(pa.array(positions_in(table, start, rows))).to_pylist():
            images.append(tuple(places.setdefault(name, str(folder / "images" / name)) for name in names))
    signatures = parts / "signatures.u32"
    concatenate_files([part["signatures"] for part in files], signatures)
    mapped: Any = np.memmap(signatures, dtype=np.uint32, mode="r", shape=(len(rows), NUM_HASHES))
    near = near_duplicates(mapped, images, Path("/"), job.spec.filters.similarity)
    signatures.unlink()
    elsewhere = source_of[near.rows] != source_of[near.keepers]
    why[near.rows] = np.where(elsewhere, _ELSEWHERE, _NEAR)
    return near


def _choose(
    job: Job, source_of: np.ndarray, order: np.ndarray, questions: np.ndarray, why: np.ndarray
) -> dict[str, int]:
    """Leave out what is over the caps, and then over the weights. Returns the rows of each source before these."""
    available = {}
    for number, (name, source) in enumerate(job.spec.sources):
        kept = np.flatnonzero((source_of == number) & (why == _KEPT))
        if source.per_question:
            over = beyond_of_each(questions[kept], order[kept], source.per_question)
            why[kept[over]] = _QUESTION
            kept = kept[~over]
        if source.cap:
            over = beyond(order[kept], source.cap)
            why[kept[over]] = _CAP
            kept = kept[~over]
        available[name] = len(kept)
    wanted = amounts(job.spec, available)
    for number, (name, _) in enumerate(job.spec.sources):
        kept = np.flatnonzero((source_of == number) & (why == _KEPT))
        why[kept[beyond(order[kept], wanted[name])]] = _WEIGHT
    return available


def _empty(job: Job, lost: dict[str, Counter[str]], available: dict[str, int]) -> UserError:
    losses = {name: dict(sorted(counts.items())) for name, counts in lost.items()}
    without = [name for name, source in job.spec.sources if job.spec.weighted and source.weight and not available[name]]
    hint = f"; {without[0]} has a weight and no rows left: give it the weight 0, or leave it out" if without else ""
    return UserError(
        f"nothing is left of the mixture: of {sum(job.sizes):,} rows, {losses}{hint}",
        code="mix.empty", read=sum(job.sizes), lost=losses, without_rows=without,
    )  # fmt: skip


def _log(
    job: Job, rows: np.ndarray, source_of: np.ndarray, why: np.ndarray, near: NearDuplicates | None, account: Account
) -> None:
    """A line for each row that was left out here, with what a near-duplicate is near to."""
    keeper_of, similarity_of, ids = dict[int, int](), dict[int, float](), dict[int, str]()
    if near is not None:
        keepers = rows[near.keepers].tolist()
        keeper_of = dict(zip(rows[near.rows].tolist(), keepers, strict=True))
        similarity_of = dict(zip(rows[near.rows].tolist(), near.similarity.tolist(), strict=True))
        ids = dict(_ids(job, np.unique(rows[near.keepers])))
    out = np.flatnonzero(why != _KEPT)
    names = [name for name, _ in job.spec.sources]
    firsts = [0, *np.cumsum(job.sizes).tolist()]
    for position, (row, pair_id) in zip(out.tolist(), _ids(job, rows[out]), strict=True):
        source = int(source_of[position])
        detail = f"similarity {similarity_of[row]:.2f} to {ids[keeper_of[row]]}" if row in keeper_of else ""
        where = RowLocation(names[source], row - firsts[source] + 1)
        account.exclude(where, pair_id, _REASONS[int(why[position])], bad=False, detail=detail)


def _ids(job: Job, rows: np.ndarray) -> Iterator[tuple[int, str]]:
    """(row, id) of these sorted rows."""
    for _, start, table in _tables(job, ["id"]):
        inside = positions_in(table, start, rows)
        yield from zip((inside + start).tolist(), table["id"].take(pa.array(inside)).to_pylist(), strict=True)


def _write(job: Job, rows: np.ndarray) -> tuple[dict[str, int], int]:
    """Write the rows at these positions and their images; returns the rows by label, and the number of images."""
    labels = Counter[int]()
    with LinkedImages(job.out) as linked, PairsWriter(job.out) as writer:
        for folder, start, table in _tables(job, None):
            inside = positions_in(table, start, rows)
            if len(inside):
                table = table.take(pa.array(inside))
                linked.link(folder / "images", image_names(table))
                add_counts(table["label"], labels)
                writer.add_table(table)
    return {"1": labels[1], "2": labels[2]}, len(linked)


def _tables(job: Job, columns: list[str] | None) -> Iterator[tuple[Path, int, Any]]:
    """(folder, position of the first row among those of all sources, row group) in order."""
    first = 0
    for folder, size in zip(job.spec.folders, job.sizes, strict=True):
        for start, table in tables(folder, columns):
            yield folder, first + start, table
        first += size


def _not_there(source: MixSource) -> list[str]:
    """Those categories to leave out that no row of the source has: a misspelt one leaves nothing out."""
    if not source.without:
        return []
    columns = (table["category"] for _, table in tables(Path(source.pairs), ["category"]))
    there = {each for column in columns for each in column.unique().to_pylist()}
    return sorted(set(source.without) - there)


def _sources(job: Job, lost: dict[str, Counter[str]]) -> dict[str, Any]:
    """What each source gave, and what it lost and why."""
    return {
        name: {
            "pairs": source.pairs, "weight": source.weight if job.spec.weighted else None, "cap": source.cap,
            "per_question": source.per_question,
            "without": source.without, "not_there": _not_there(source), "read": size, "kept": size - lost[name].total(),
            "lost": dict(sorted(lost[name].items())),
        }
        for (name, source), size in zip(job.spec.sources, job.sizes, strict=True)
    }  # fmt: skip
