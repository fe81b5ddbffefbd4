"""Critiques -> training sets. Pairs that the teacher judged right feed SFT, those it got wrong feed RL.

| set        | from  | file               | row                                                         |
|------------|-------|--------------------|-------------------------------------------------------------|
| proxy_sft  | right | proxy_sft.jsonl    | pair + the teacher's rubric -> thought, verdict             |
| proxy_rl   | right | proxy_rl.parquet   | pair + the teacher's rubric, with its label                 |
| grm_sft    | right | grm_sft.jsonl      | pair -> the teacher's critique                              |
| grm_rl     | wrong | grm_rl.parquet     | pair with its label; the critique is not used               |

proxy_rl_val and grm_rl_val are small sets like those of their names, for validation.

No picture stands in two sets, both labels are equally frequent in each, sources are as frequent as in the pool, and
everything left out is counted. Texts are never all in memory: about 0.5 kB a pair is, whatever its length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from data_tools.export.settled_files import SettledFiles
from data_tools.export.to_swift import grm_lines, proxy_lines, rubrics_of, write_jsonl
from data_tools.export.to_verl import VerlWriter
from data_tools.rows.arrays import from_numpy
from data_tools.rows.critique_index import CritiqueIndex, CritiqueReader, index_critiques
from data_tools.rows.pair_tables import Spill, pair_tables
from data_tools.split.allocate import POOLS, Candidate, allocate, by_picture, fit
from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import beside, whole_files, write_json

SIZES = {
    "proxy_sft": 5_000, "proxy_rl": 10_000, "proxy_rl_val": 256, "grm_sft": 10_000, "grm_rl": 35_000, "grm_rl_val": 256,
}  # fmt: skip
"""The paper's (which validates on the benchmarks; a few pairs are kept back here)."""
PROXY_RL = ("proxy_rl", "proxy_rl_val")


@dataclass(frozen=True)
class SplitReport:
    pairs: int
    critiques: int
    teachers: list[str]
    right: int
    wrong: int
    dropped: dict[str, int]  # reason -> pairs that are in neither pool
    remarks: dict[str, int]  # what is odd about usable critiques, which are kept
    sets: dict[str, dict[str, int]]  # set -> rows, label_1, label_2, pictures
    left_over: dict[str, int] = field(default_factory=dict)  # pool -> usable pairs in no set
    seed: int = 0
    sizes: dict[str, int] = field(default_factory=dict)  # as asked for
    sources: dict[str, dict[str, int]] = field(default_factory=dict)  # pool or set -> source -> rows
    shared_picture: dict[str, int] = field(default_factory=dict)  # of left_over: a picture is in another pool's set


def split(
    pairs_dir: Path,
    critique_files: Sequence[Path],
    out_dir: Path,
    sizes: Mapping[str, int],
    seed: int = 0,
    short: Literal["refuse", "take"] = "refuse",
) -> SplitReport:
    """Write the sets and `report.json` into `out_dir`.

    `sizes`: rows of each set; 0, or a name that is left out, leaves the set out. When the critiques do not give
    that many, `short="refuse"` raises UserError with the missing numbers, and "take" makes the sets as large as they
    can be in the proportions asked for. The same pairs, critiques and seed give the same rows in the same order,
    whatever the order of the rows or of the files.
    """
    sizes = _checked(sizes)
    index = index_critiques(critique_files)
    files = SettledFiles(out_dir / "settled_images")
    candidates, dropped, remarks, count = sort_by_teacher(pairs_dir, index, files)
    groups = by_picture(candidates, seed)
    sets = allocate(groups, sizes, seed) if short == "refuse" else fit(groups, sizes, seed)
    _check_sizes(sets, sizes, candidates, short)
    with whole_files(out_dir) as scratch, files:
        _write(sets, pairs_dir, index, files, scratch)
        (out_dir / "report.json").unlink(missing_ok=True)  # of an earlier split: not true of a mixture with these
    for name in set(POOLS) - set(sets):  # of an earlier split into this folder: it may share pictures with these
        (out_dir / _file(name)).unlink(missing_ok=True)
    pool_sizes = Counter(c.pool for c in candidates)
    used = {c.id for members in sets.values() for c in members}
    own = {image for members in sets.values() for c in members for image in c.images}
    left = [c for c in candidates if c.id not in used]
    report = SplitReport(
        pairs=count,
        critiques=index.rows,
        teachers=sorted(index.teachers),
        right=pool_sizes["right"],
        wrong=pool_sizes["wrong"],
        dropped=dict(sorted(dropped.items())),
        remarks=dict(sorted(remarks.items())),
        sets={name: _describe(members) for name, members in sets.items()},
        left_over={pool: sum(c.pool == pool for c in left) for pool in ("right", "wrong")},
        seed=seed,
        sizes=dict(sizes),
        sources={
            **{pool: _sources([c for c in candidates if c.pool == pool]) for pool in ("right", "wrong")},
            **{name: _sources(members) for name, members in sets.items()},
        },
        shared_picture={
            pool: sum(c.pool == pool and not own.isdisjoint(c.images) for c in left) for pool in ("right", "wrong")
        },
    )
    write_json(out_dir / "report.json", asdict(report))
    return report


def _checked(sizes: Mapping[str, int]) -> dict[str, int]:
    """In the order of POOLS, without the sets that are left out. Raises UserError."""
    unknown = sorted(set(sizes) - set(POOLS))
    if unknown:
        raise UserError(f"no set is called {', '.join(unknown)}; there are: {', '.join(POOLS)}")
    if any(size < 0 for size in sizes.values()) or not any(sizes.values()):
        raise UserError(f"split sizes {dict(sizes)} must be 0 or more, and at least one row to some set")
    return {name: sizes[name] for name in POOLS if sizes.get(name)}


def sort_by_teacher(
    pairs_dir: Path, index: CritiqueIndex, files: SettledFiles
) -> tuple[list[Candidate], Counter[str], Counter[str], int]:
    """(candidates, dropped pairs by reason, remarks on kept ones, number of pairs).

    A critique of a pair that is not there is a remark: a filter may have taken the pair out since it was written.
    Raises UserError when all critiques are such.
    """
    dropped, remarks, candidates = Counter[str](), Counter[str](), []
    row, critiques_met = 0, 0
    for table in pair_tables(pairs_dir, columns=("id", "source", "label", "images")):
        for pair in table.to_pylist():
            found = index.found.get(pair["id"])
            critiques_met += found is not None
            fault = found.fault(pair["label"]) if found else "no_critique"
            pool = found.pool(pair["label"]) if found else None
            lefts = (left for left in map(files.fault, pair["images"]) if left)
            if found is None or pool is None:
                dropped[str(fault)] += 1
            elif left := next(lefts, None):
                dropped[left.reason] += 1
            else:
                remarks.update(found.remarks)
                images = tuple(pair["images"])
                candidates.append(Candidate(pair["id"], pair["source"], pair["label"], images, pool, row))
            row += 1
    if not critiques_met:
        raise UserError(
            f"none of the critiques is of a pair in {pairs_dir} (the first is of {next(iter(index.found))!r}); they "
            "are of other pairs"
        )
    if critiques_met < len(index.found):
        remarks["critique_of_no_pair"] = len(index.found) - critiques_met
    if index.repeated:
        remarks["repeated_critique"] = index.repeated
    return candidates, dropped, remarks, row


def _write(
    sets: Mapping[str, list[Candidate]], pairs_dir: Path, index: CritiqueIndex, files: SettledFiles, out_dir: Path
) -> None:
    """All sets; the pairs file is read once, and the rows that are wanted wait on disk for their turn."""
    wanted = np.array(sorted(c.row for members in sets.values() for c in members))
    with Spill(beside(out_dir / "rows")) as spill, index.reader() as critiques:
        at = 0
        for table in pair_tables(pairs_dir):
            first, last = (int(np.searchsorted(wanted, edge)) for edge in (at, at + table.num_rows))
            if first < last:
                rows = table.take(from_numpy(wanted[first:last] - at))
                spill.add(files.settled(rows, lambda row, left: None, Counter()))  # all are good: see sort_by_teacher
            at += table.num_rows
        for name, members in sets.items():
            order = [int(np.searchsorted(wanted, c.row)) for c in members]
            _write_set(out_dir, name, spill, order, critiques)


def _write_set(out_dir: Path, name: str, spill: Spill, order: list[int], critiques: CritiqueReader) -> None:
    def texts(table: pa.Table) -> list[str]:
        return [critiques.text(pair_id) for pair_id in table["id"].to_pylist()]

    if name in ("proxy_sft", "grm_sft"):
        lines = proxy_lines if name == "proxy_sft" else grm_lines
        tables = spill.in_order(order)
        write_jsonl(out_dir / _file(name), (line for table in tables for line in lines(table, texts(table))))
        return
    with VerlWriter(out_dir / _file(name), name, rubrics=name in PROXY_RL) as writer:
        for table in spill.in_order(order):
            writer.write(table, rubrics_of(table, texts(table)) if name in PROXY_RL else None)


def _file(name: str) -> str:
    return f"{name}.jsonl" if name in ("proxy_sft", "grm_sft") else f"{name}.parquet"


def _check_sizes(
    sets: Mapping[str, list[Candidate]], sizes: Mapping[str, int], candidates: Sequence[Candidate], short: str
) -> None:
    lacking = {name: size - len(sets[name]) for name, size in sizes.items() if len(sets[name]) < size}
    if lacking and short == "refuse":
        have = Counter(candidate.pool for candidate in candidates)
        missing = ", ".join(f"{name} lacks {count} of {sizes[name]} rows" for name, count in lacking.items())
        raise UserError(
            f"too few usable critiques: {missing} (the teacher got {have['right']} pairs right and {have['wrong']} "
            "wrong; half of each set goes to either label, and no picture to two sets). Distil more pairs, ask for "
            "smaller sets with --sizes, or let all sets shrink in proportion with --short take (of a chain: "
            "--set split.short=take)"
        )
    empty = [name for name in lacking if not sets[name]]
    if empty:
        raise UserError(
            f"{empty[0]} would be empty: the teacher left no usable pairs of both labels for it; distil more pairs, or "
            f"leave the set out with --sizes {empty[0]}=0 (of a chain: --set split.{empty[0]}=0)"
        )


def _describe(members: Sequence[Candidate]) -> dict[str, int]:
    labels = Counter(candidate.label for candidate in members)
    pictures = {image for candidate in members for image in candidate.images}
    return {"rows": len(members), "label_1": labels[1], "label_2": labels[2], "pictures": len(pictures)}


def _sources(members: Sequence[Candidate]) -> dict[str, int]:
    return dict(sorted(Counter(c.source for c in members).items()))
