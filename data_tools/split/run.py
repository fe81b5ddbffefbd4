"""Critiques -> training sets, by the teacher's verdicts: a set takes pairs that it judged right, wrong, or not at once.

No image, and no question of pairs without one, is in two sets; both labels are equally frequent in each, sources are as
frequent as in the pool, and every pair in no set is counted. Texts are never all in memory: a pair takes about 0.5 kB,
whatever its length.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_tools.export.settled_images import SettledImages
from data_tools.export.to_swift import LINES, rubrics_of, write_jsonl
from data_tools.export.to_verl import VerlWriter
from data_tools.ingest.part import key_of
from data_tools.rows.arrays import from_numpy
from data_tools.rows.critique_index import CritiqueIndex, CritiqueReader, index_critiques
from data_tools.rows.pair_tables import Spill, pair_tables
from data_tools.rows.shown_order import in_shown_order
from data_tools.split.allocate import UNJUDGED, Candidate, allocate, allocate_scaled, group_by_image
from data_tools.split.training_set import Short, TrainingSet
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import beside, whole_files, write_json
from proxygrm.teacher.tries import NEVER

REPORT = "report.json"


@dataclass(frozen=True)
class SplitReport:
    pairs: int
    critiques: int
    teachers: list[str]
    right: int
    wrong: int
    dropped: dict[str, int]  # reason -> pairs that are in neither pool
    remarks: dict[str, int]  # remarks on usable critiques, whose pairs are kept
    sets: dict[str, dict[str, int]]  # set -> rows, label_1, label_2, images
    left_over: dict[str, int] = field(default_factory=dict)  # pool -> usable pairs in no set
    seed: int = 0
    sizes: dict[str, int] = field(default_factory=dict)  # as requested
    sources: dict[str, dict[str, int]] = field(default_factory=dict)  # pool or set -> source -> rows
    shared_image: dict[str, int] = field(default_factory=dict)  # of left_over: pairs with an image in a set
    shared_question: dict[str, int] = field(default_factory=dict)  # of left_over without images: the question in a set
    tries: dict[str, int] = field(default_factory=dict)  # until the teacher was right -> pairs; never


def split(
    pairs_dir: Path,
    critique_files: Sequence[Path],
    out_dir: Path,
    sets: Mapping[str, TrainingSet],
    seed: int = 0,
    short: Short = "refuse",
    stage: str = "",
) -> SplitReport:
    """Write each set as `NAME.jsonl` or `NAME.parquet`, and `report.json`, into `out_dir`.

    critique_files: none where all sets take all pairs. stage: of a chain, for messages that say how to change a set; ""
    for `data split`.

    A set without rows is not written. If there are too few usable critiques, `short="refuse"` raises UserError with the
    missing numbers, and "take" makes the sets as large as possible in these proportions. The same pairs, critiques and
    seed give the same rows in the same order, whatever the order of the input rows and files.
    """
    wanted = _validated(sets)
    index = _critiques_for(wanted, critique_files)
    files = SettledImages(out_dir / "settled_images")
    whatever = any(each.pool == "all" for each in wanted.values())
    candidates, dropped, remarks, count = sort_by_teacher(pairs_dir, index, files, whatever)
    groups = group_by_image(candidates, seed)
    members_of = (allocate if short == "refuse" else allocate_scaled)(groups, wanted, seed)
    _check_sizes(members_of, wanted, candidates, short, stage)
    earlier = _written_before(out_dir)
    with whole_files(out_dir) as scratch, files:
        _write(members_of, wanted, pairs_dir, index, files, scratch)
        (out_dir / REPORT).unlink(missing_ok=True)  # of an earlier split: no longer true
    for name in {*earlier, *sets} - set(wanted):  # may share images with the new sets
        for suffix in (".jsonl", ".parquet"):
            (out_dir / f"{name}{suffix}").unlink(missing_ok=True)
    pool_sizes = Counter(c.judged for c in candidates)
    used = {c.id for members in members_of.values() for c in members}
    used_images = {image for members in members_of.values() for c in members for image in c.images}
    used_questions = {c.question for members in members_of.values() for c in members if c.question}
    unused = [c for c in candidates if c.id not in used]
    judged = ("right", "wrong", *((UNJUDGED,) if whatever else ()))
    report = SplitReport(
        pairs=count,
        critiques=index.rows,
        teachers=sorted(index.teachers),
        right=pool_sizes["right"],
        wrong=pool_sizes["wrong"],
        dropped=dict(sorted(dropped.items())),
        remarks=dict(sorted(remarks.items())),
        sets={name: _describe(members, wanted[name]) for name, members in members_of.items()},
        left_over={pool: sum(c.judged == pool for c in unused) for pool in judged},
        seed=seed,
        sizes={name: each.rows for name, each in wanted.items()},
        sources={
            **{pool: _sources([c for c in candidates if c.judged == pool]) for pool in judged},
            **{name: _sources(members) for name, members in members_of.items()},
        },
        shared_image={
            pool: sum(c.judged == pool and not used_images.isdisjoint(c.images) for c in unused) for pool in judged
        },
        shared_question={
            pool: sum(c.judged == pool and c.question in used_questions for c in unused) for pool in judged
        },
        tries=_tries(candidates),
    )
    write_json(out_dir / REPORT, asdict(report))
    return report


def _validated(sets: Mapping[str, TrainingSet]) -> dict[str, TrainingSet]:
    """The sets that have rows. Raises UserError."""
    sizes = {name: each.rows for name, each in sets.items()}
    if any(size < 0 for size in sizes.values()) or not any(sizes.values()):
        raise UserError(
            f"split sizes {sizes} must be 0 or more, and at least one above 0", code="data.bad-sizes", sizes=sizes
        )
    return {name: each for name, each in sets.items() if each.rows}


def _critiques_for(wanted: Mapping[str, TrainingSet], files: Sequence[Path]) -> CritiqueIndex:
    """An empty index where no set asks what a teacher said. Raises UserError."""
    judged = {name: each for name, each in wanted.items() if each.pool != "all"}
    if not judged:
        return CritiqueIndex([])
    contracts = {each.contract for each in judged.values()}
    if len(contracts) > 1:
        raise UserError(
            f"the sets {', '.join(judged)} need critiques by different contracts ({', '.join(sorted(contracts))}); "
            "split them one contract at a time",
            code="data.mixed-contracts", contracts=sorted(contracts),
        )  # fmt: skip
    return index_critiques(files, contract=contracts.pop())


def _written_before(out_dir: Path) -> list[str]:
    """Names of the sets of an earlier split into this folder."""
    try:
        return list(json.loads((out_dir / REPORT).read_text(encoding="utf-8"))["sets"])
    except (OSError, ValueError, KeyError, TypeError):
        return []


def sort_by_teacher(
    pairs_dir: Path, index: CritiqueIndex, files: SettledImages, whatever: bool = False
) -> tuple[list[Candidate], Counter[str], Counter[str], int]:
    """(candidates, dropped pairs by reason, remarks on kept pairs, number of pairs).

    A critique of an unknown pair is a remark: a filter may have dropped the pair after the critique was written.
    whatever: pairs without a usable critique are candidates, too.
    Raises UserError if all critiques are of unknown pairs.
    """
    dropped, remarks, candidates = Counter[str](), Counter[str](), []
    row, used_critiques = 0, 0
    for table in pair_tables(pairs_dir, columns=("id", "source", "question", "label", "images")):
        for pair in table.to_pylist():
            critique = index.critiques.get(pair["id"])
            used_critiques += critique is not None
            fault = critique.fault(pair["label"]) if critique else "no_critique"
            pool = critique.pool(pair["label"]) if critique else None
            image_faults = filter(None, map(files.fault, pair["images"]))
            if pool is None and not whatever:
                dropped[str(fault)] += 1
            elif image_fault := next(image_faults, None):
                dropped[image_fault.reason] += 1
            else:
                remarks.update(critique.remarks if critique else ())
                images = tuple(pair["images"])
                question = 0 if images else key_of(pair["question"])
                tried = (critique.attempt, critique.swapped) if critique else ()
                what = (pair["id"], pair["source"], pair["label"], images, pool, row, question)
                candidates.append(Candidate(*what, *tried))
            row += 1
    if index.critiques and not used_critiques:
        first = next(iter(index.critiques))
        raise UserError(
            f"none of the critiques is of a pair in {pairs_dir} (the first is of {first!r}); give the critiques of "
            "these pairs",
            code="critique.other-pairs", path=pairs_dir, first=first,
        )  # fmt: skip
    if used_critiques < len(index.critiques):
        remarks["critique_of_no_pair"] = len(index.critiques) - used_critiques
    if index.repeated:
        remarks["repeated_critique"] = index.repeated
    return candidates, dropped, remarks, row


def _write(
    sets: Mapping[str, list[Candidate]],
    wanted: Mapping[str, TrainingSet],
    pairs_dir: Path,
    index: CritiqueIndex,
    files: SettledImages,
    out_dir: Path,
) -> None:
    """Write all sets. The pairs file is read once; the selected rows are spilled to disk and read back set by set."""
    selected = np.array(sorted({c.row for members in sets.values() for c in members}))
    with Spill(beside(out_dir / "rows")) as spill, index.reader() as critiques:
        at = 0
        for table in pair_tables(pairs_dir):
            first, last = (int(np.searchsorted(selected, edge)) for edge in (at, at + table.num_rows))
            if first < last:
                rows = table.take(from_numpy(selected[first:last] - at))
                spill.add(files.settled(rows, lambda row, excluded: None, Counter()))  # all are usable
            at += table.num_rows
        for name, members in sets.items():
            order = [int(np.searchsorted(selected, c.row)) for c in members]
            swapped = {c.id for c in members if c.shown_swapped(wanted[name].pool)}
            tables = (_as_shown(table, swapped) for table in spill.in_order(order))
            _write_set(out_dir, name, wanted[name], tables, critiques)


def _as_shown(table: pa.Table, swapped: Collection[str]) -> pa.Table:
    return in_shown_order(table, [pair_id in swapped for pair_id in table["id"].to_pylist()])


def _write_set(
    out_dir: Path, name: str, kind: TrainingSet, tables: Iterable[pa.Table], critiques: CritiqueReader
) -> None:
    def texts(table: pa.Table) -> list[str]:
        return [critiques.text(pair_id) for pair_id in table["id"].to_pylist()] if kind.taught else []

    file = out_dir / f"{name}{kind.suffix}"
    if lines := LINES.get(kind.format):
        write_jsonl(file, (line for table in tables for line in lines(table, texts(table))))
        return
    with VerlWriter(file, name, rubrics=kind.rubrics, contract=kind.contract) as writer:
        for table in tables:
            writer.write(table, rubrics_of(table, texts(table)) if kind.rubrics else None)


def _check_sizes(
    sets: Mapping[str, list[Candidate]],
    wanted: Mapping[str, TrainingSet],
    candidates: Sequence[Candidate],
    short: str,
    stage: str,
) -> None:
    missing = {name: each.rows - len(sets[name]) for name, each in wanted.items() if len(sets[name]) < each.rows}
    if missing and short == "refuse":
        available = Counter(candidate.pool for candidate in candidates)
        sets_short = ", ".join(f"{name} lacks {count} of {wanted[name].rows} rows" for name, count in missing.items())
        sizes, take = (
            (f"--set {stage}.NAME=ROWS", f"--set {stage}.short=take") if stage else ("--sizes", "--short take")
        )
        raise UserError(
            f"too few usable critiques: {sets_short} (the teacher judged {available['right']} pairs right and "
            f"{available['wrong']} wrong; each set has equally many rows of both labels, and no image is in two sets). "
            f"Distil more pairs, make the sets smaller with {sizes}, or let all sets shrink in proportion with {take}",
            code="data.too-few-pairs", missing=missing, right=available["right"], wrong=available["wrong"],
        )  # fmt: skip
    empty = [name for name in missing if not sets[name]]
    if empty:
        option = f"--set {stage}.{empty[0]}=0" if stage else f"--sizes {empty[0]}=0"
        raise UserError(
            f"{empty[0]} would be empty: there are no usable critiques of both labels for it; distil more pairs, or "
            f"leave the set out with {option}",
            code="data.empty-set", name=empty[0],
        )  # fmt: skip


def _tries(candidates: Sequence[Candidate]) -> dict[str, int]:
    counts = Counter(str(c.tries) if c.pool == "right" else NEVER for c in candidates if c.pool)
    return dict(sorted(counts.items()))


def _describe(members: Sequence[Candidate], kind: TrainingSet) -> dict[str, int]:
    labels = Counter(candidate.label_in(kind.pool) for candidate in members)
    images = {image for candidate in members for image in candidate.images}
    return {"rows": len(members), "label_1": labels[1], "label_2": labels[2], "images": len(images)}


def _sources(members: Sequence[Candidate]) -> dict[str, int]:
    return dict(sorted(Counter(c.source for c in members).items()))
