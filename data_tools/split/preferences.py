"""Pairs -> rows to train scalar reward models on, and pairs held off from them.

OUT/train.jsonl       rows of ms-swift (`to_swift.preference_lines`)
OUT/validation.jsonl  those of the pairs held off, for the evaluation loss
OUT/validation/       the same as a pairs folder: what models judge to get their weight in an ensemble
OUT/report.json       counts; rows left out by reason

No image, and no question of pairs without one, is on both sides. Which pairs are held off depends on the seed and their
ids only; sources are as frequent among them as chance has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from data_tools.export.convert import convert_step
from data_tools.filters.merge import positions_in, tables
from data_tools.ingest.linked_images import LinkedImages
from data_tools.ingest.part import key_of
from data_tools.rows.pair_tables import image_names
from data_tools.rows.preference import PairsWriter
from data_tools.split.allocate import Candidate, group_by_image
from data_tools.steps.shards import carry_out
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import whole_files, write_json

TRAIN, VALIDATION_ROWS, VALIDATION, REPORT = "train.jsonl", "validation.jsonl", "validation", "report.json"
ALL_ROWS = "rows.jsonl"
"""Of both sides; of no use once the others are written."""


@dataclass(frozen=True)
class Sides:
    """What `write_preferences` wrote."""

    train: int
    validation: int


def write_preferences(
    pairs: Path,
    out: Path,
    held_off: int,
    seed: int = 0,
    shards: int = 1,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sides:
    """held_off: pairs at the most; an image with several pairs is on one side with all of them. shards: parts of the
    work; the result does not depend on them. Memory: about 0.5 kB per pair.

    Raises UserError: data.too-few-pairs when no pair is left to train on, and those of `convert_step`.
    """
    rows = out / ALL_ROWS
    converted = carry_out(convert_step("swift-rm", pairs, rows), shards, workers, on_progress)
    dropped = _dropped(rows)
    candidates = [one for one in _candidates(pairs) if one.row not in dropped]
    chosen = _chosen(candidates, held_off, seed)
    trained = len(candidates) - len(chosen)
    if not trained or (held_off and not chosen):
        raise UserError(
            f"{pairs} has {len(candidates):,} usable pairs, of which {held_off:,} are to be held off (pairs about one "
            f"image together): {trained:,} are left to train on, {len(chosen):,} held off; change the number",
            code="data.too-few-pairs", path=pairs, pairs=len(candidates), held_off=held_off,
        )  # fmt: skip
    ids = {one.id for one in chosen}
    with whole_files(out) as scratch:
        _divide(rows, ids, scratch)
    if chosen:
        _write_pairs(pairs, out / VALIDATION, np.array(sorted(one.row for one in chosen), dtype=np.int64))
    write_json(out / REPORT, {
        "pairs": converted["read"], "dropped": converted["bad"] | converted["dropped"],
        "sets": {"train": trained, "validation": len(chosen)},
        "train": _sources(one for one in candidates if one.id not in ids), "validation": _sources(chosen), "seed": seed,
    })  # fmt: skip
    return Sides(trained, len(chosen))


def _dropped(rows: Path) -> set[int]:
    """Positions in the pairs file."""
    with rows.with_name(f"{rows.name}.dropped.jsonl").open("rb") as file:
        return {orjson.loads(line)["row"] - 1 for line in file}


def _candidates(pairs: Path) -> list[Candidate]:
    """All pairs, in their order; of what a split knows only what groups them."""
    found = []
    for start, table in tables(pairs, ["id", "source", "question", "label", "images"]):
        for row, pair in enumerate(table.to_pylist(), start):
            images = tuple(pair["images"])
            question = 0 if images else key_of(pair["question"])
            found.append(Candidate(pair["id"], pair["source"], pair["label"], images, "right", row, question))
    return found


def _chosen(candidates: list[Candidate], most: int, seed: int) -> list[Candidate]:
    """Whole groups, in the order of the seed, as long as they fit."""
    chosen: list[Candidate] = []
    for group in group_by_image(candidates, seed):
        if len(chosen) + len(group) <= most:
            chosen += group
        if len(chosen) == most:
            break
    return chosen


def _divide(rows: Path, held_off: Collection[str], out: Path) -> None:
    with ExitStack() as stack:
        file, train = stack.enter_context(rows.open("rb")), stack.enter_context((out / TRAIN).open("wb"))
        validation = stack.enter_context((out / VALIDATION_ROWS).open("wb")) if held_off else train
        for line in file:
            (validation if orjson.loads(line)["id"] in held_off else train).write(line)


def _write_pairs(pairs: Path, out: Path, rows: Any) -> None:
    with LinkedImages(out) as linked, PairsWriter(out) as writer:
        for start, table in tables(pairs, None):
            inside = positions_in(table, start, rows)
            if len(inside):
                table = table.take(pa.array(inside))
                linked.link(pairs / "images", image_names(table))
                writer.add_table(table)


def _sources(candidates: Iterable[Candidate]) -> dict[str, int]:
    return dict(sorted(Counter(one.source for one in candidates).items()))
