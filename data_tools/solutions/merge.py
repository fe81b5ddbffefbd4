"""The parts of all shards -> a solutions folder: duplicates left out, solutions paired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson

from data_tools.ingest.linked_images import LinkedImages
from data_tools.ingest.merge import first_of
from data_tools.solutions import part as solutions_part
from data_tools.solutions.pairing import drawn, pair_up
from data_tools.solutions.part import Job
from data_tools.solutions.settings import APART
from data_tools.steps.account import Account, RowLocation
from data_tools.steps.shards import Shard
from proxygrm.core.files.whole_file import whole_file, writing
from proxygrm.process.solutions import IMAGES, PAIRS, REPORT, SOLUTIONS, SolutionPair

OUTCOMES_FILE = "outcomes.jsonl"
DROPPED = "dropped.jsonl"
_KEPT, _OUTCOME, *_LEFT_OUT = range(5)
_DUPLICATE, _UNPAIRED, _NOT_DRAWN = _LEFT_OUT
_REASONS = {_OUTCOME: "outcome", _DUPLICATE: "duplicate", _UNPAIRED: "unpaired", _NOT_DRAWN: "not_drawn"}
VERDICTS_SHOWN = 20
"""Different texts of gpt, other than + and -, that the report counts one by one."""


def merge(job: Job, max_bad: float, shards: list[Shard], parts: Path) -> dict[str, Any]:
    """Raises UserError, and writes nothing under a final name, if too many rows are bad or none is usable."""
    files = [solutions_part.paths(shard, parts) for shard in shards]
    with Account(job.out / DROPPED, max_bad) as account:
        for each in files:
            account.absorb(each["account"], each["log"])
        account.check()
        index = np.concatenate([np.load(each["index"]) for each in files])
        fate, pairs = _decide(job, index)
        account.kept = int((fate == _KEPT).sum())
        if not account.kept:
            account.dropped.update(_REASONS[int(code)] for code in fate)
            first = job.files[0].path
            raise account.nothing_kept(first if len(job.files) == 1 else first.parent)
        counts, images = _write(job, files, index, fate, pairs, parts / IMAGES, account)
    return _report(job, files, index, fate, account, counts) | {"images": images, "pairs": len(pairs)}


def _decide(job: Job, index: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """What becomes of each row, and the pairs of those that are kept."""
    options = job.options
    fate: np.ndarray = np.full(len(index), _KEPT, "i1")
    fate[~first_of(index["row_key"])] = _DUPLICATE
    if options.outcomes == APART:
        fate[(fate == _KEPT) & index["outcome"]] = _OUTCOME
    else:  # a release may have both forms of a response; the one with labelled steps stays
        texts = index["question"] ^ index["steps"]
        fate[index["outcome"] & np.isin(texts, texts[~index["outcome"]])] = _DUPLICATE
    usable = np.flatnonzero(fate == _KEPT)
    of = index[usable]
    pairs = [
        (int(usable[better]), int(usable[worse])) for better, worse in pair_up(of["question"], of["right"], of["steps"])
    ]
    if options.paired_only:
        in_pair: np.ndarray = np.zeros(len(index), bool)
        in_pair[[position for pair in pairs for position in pair]] = True
        fate[(fate == _KEPT) & ~in_pair] = _UNPAIRED
    if options.questions:
        kept = fate == _KEPT
        fate[kept & ~drawn(index["question"], kept, options.questions, options.seed)] = _NOT_DRAWN
        pairs = [pair for pair in pairs if fate[pair[0]] == _KEPT]
    return fate, pairs


def _write(
    job: Job,
    files: list[dict[str, Path]],
    index: np.ndarray,
    fate: np.ndarray,
    pairs: list[tuple[int, int]],
    images: Path,
    account: Account,
) -> tuple[dict[str, Counter[str]], int]:
    """Write the files, solutions.jsonl last; returns counts of the kept rows, and the number of images."""
    wanted = {position for pair in pairs for position in pair}
    seen: dict[int, dict[str, Any]] = {}
    counts: dict[str, Counter[str]] = {"labels": Counter(), "right": Counter(), "kept": Counter()}
    for name in (REPORT, OUTCOMES_FILE):  # of an earlier run
        (job.out / name).unlink(missing_ok=True)
    with LinkedImages(job.out) as linked, ExitStack() as stack:
        solutions, paired = (_file(job.out / name, stack) for name in (SOLUTIONS, PAIRS))
        apart = _file(job.out / OUTCOMES_FILE, stack) if (fate == _OUTCOME).any() else None
        for position, line in enumerate(_lines(files)):
            code, row = int(fate[position]), orjson.loads(line)
            if code != _KEPT:
                place = index[position]
                where = RowLocation(job.annotations[place["file"]].name, int(place["row"]))
                account.exclude(where, row["id"], _REASONS[code], bad=False)
            if code in (_KEPT, _OUTCOME):
                linked.link(images, (Path(image).name for image in row["image"]))
                target = solutions if code == _KEPT else apart
                assert target is not None
                with writing(job.out):
                    target.write(line)
            if code == _KEPT:
                counts["labels"].update(map(_word, row["labels"]))
                counts["right"][_word(row["right"])] += 1
                counts["kept"][row["subset"]] += 1
            if position in wanted:
                seen[position] = {name: row[name] for name in ("id", "question", "image")}
        for better, worse in pairs:
            row = seen[better]
            pair = SolutionPair(row["question"], tuple(row["image"]), row["id"], seen[worse]["id"])
            paired.write(orjson.dumps(pair.row(), option=orjson.OPT_APPEND_NEWLINE))
    return counts, len(linked)


def _file(path: Path, stack: ExitStack) -> BinaryIO:
    """A file that appears under its name when the stack ends; the one that is opened first appears last."""
    scratch = stack.enter_context(whole_file(path))
    return stack.enter_context(scratch.open("wb"))


def _lines(files: list[dict[str, Path]]) -> Iterator[bytes]:
    for each in files:
        with each["rows"].open("rb") as rows:
            yield from rows


def _word(value: int | bool | None) -> str:
    return "unknown" if value is None else "right" if value == 1 else "wrong"


def _report(
    job: Job,
    files: list[dict[str, Path]],
    index: np.ndarray,
    fate: np.ndarray,
    account: Account,
    counts: dict[str, Counter[str]],
) -> dict[str, Any]:
    read, verdicts = Counter[str](), Counter[str]()
    for file in files:
        counted = orjson.loads(file["counts"].read_bytes())
        read.update(counted["read"])
        verdicts.update(counted["verdicts"])
    names = np.unique(np.concatenate([np.load(each["names"]) for each in files]))
    lengths = {each.subset: 0 for each in job.annotations if each.length is not None}
    for each in job.annotations:
        if each.subset in lengths:
            lengths[each.subset] += each.length or 0
    return {
        "files": [each.name for each in job.annotations],
        "options": asdict(job.options),
        **account.summary(),
        "solutions": dict(sorted(counts["right"].items())),
        "steps": dict(sorted(counts["labels"].items())),
        "outcomes": int((fate == _OUTCOME).sum()),
        "questions": len(np.unique(index["question"][fate == _KEPT])),
        "other_verdicts": dict(verdicts.most_common(VERDICTS_SHOWN)),
        "names_in_several_subsets": int((np.unique(names["name"], return_counts=True)[1] > 1).sum()),
        "subsets": {name: {"read": read[name], "kept": counts["kept"][name]} for name in sorted(read)},
        "other_lengths": {name: length for name, length in sorted(lengths.items()) if length != read[name]},
    }
