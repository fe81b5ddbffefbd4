"""Critiques -> training sets. Pairs that the teacher judged right feed SFT, those it got wrong feed RL.

| set        | from  | file               | row                                              |
|------------|-------|--------------------|--------------------------------------------------|
| proxy_sft  | right | proxy_sft.jsonl    | pair + the teacher's rubric -> thought, verdict  |
| grm_sft    | right | grm_sft.jsonl      | pair -> the teacher's critique                   |
| grm_rl     | wrong | grm_rl.parquet     | pair with its label; the critique is not used    |
| grm_rl_val | wrong | grm_rl_val.parquet | the same, for validation                         |

No picture stands in two sets, both labels are equally frequent in each, and everything left out is counted.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from data_tools.preference import PreferencePair, read_pairs
from data_tools.to_swift import grm_row, proxy_row, write_jsonl
from data_tools.to_verl import write_verl
from proxygrm.critique import Problem, parse
from proxygrm.errors import UserError
from proxygrm.teacher.critiques import CritiqueRow, read_critiques

Pool = Literal["right", "wrong"]
POOLS: dict[str, Pool] = {"proxy_sft": "right", "grm_sft": "right", "grm_rl": "wrong", "grm_rl_val": "wrong"}


@dataclass(frozen=True)
class Candidate:
    pair: PreferencePair
    critique: str
    pool: Pool


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


def split(
    pairs_dir: Path,
    critique_files: Sequence[Path],
    out_dir: Path,
    sizes: Mapping[str, int],
    seed: int = 0,
    short: Literal["refuse", "take"] = "refuse",
) -> SplitReport:
    """Write the four sets and `report.json` into `out_dir`.

    `sizes`: rows of each set. When the critiques do not give that many, `short="refuse"` raises UserError with the
    missing numbers, and "take" makes the sets as large as they can be. The same input and seed give the same rows
    in the same order, whatever the order of the files.
    """
    unknown = sorted(set(sizes) ^ set(POOLS))
    if unknown or min(sizes.values()) < 1:
        raise UserError(f"split sizes {dict(sizes)} must give at least one row to each of: {', '.join(POOLS)}")
    pairs = read_pairs(pairs_dir)
    rows = [row for path in sorted(critique_files) for row in read_critiques(path)]
    candidates, dropped, remarks = sort_by_teacher(pairs, rows)
    groups = by_picture(candidates, seed)
    sets = allocate(groups, sizes)
    _check_sizes(sets, sizes, candidates, short)

    pool_sizes = Counter(c.pool for c in candidates)
    used = Counter(c.pool for members in sets.values() for c in members)
    report = SplitReport(
        pairs=len(pairs),
        critiques=len(rows),
        teachers=sorted({row.model for row in rows}),
        right=pool_sizes["right"],
        wrong=pool_sizes["wrong"],
        dropped=dict(sorted(dropped.items())),
        remarks=dict(sorted(remarks.items())),
        sets={name: _describe(members) for name, members in sets.items()},
        left_over={pool: pool_sizes[pool] - used[pool] for pool in ("right", "wrong")},
        seed=seed,
    )
    write_jsonl(out_dir / "proxy_sft.jsonl", (proxy_row(c.pair, c.critique, pairs_dir) for c in sets["proxy_sft"]))
    write_jsonl(out_dir / "grm_sft.jsonl", (grm_row(c.pair, c.critique, pairs_dir) for c in sets["grm_sft"]))
    for name in ("grm_rl", "grm_rl_val"):
        write_verl(out_dir / f"{name}.parquet", (c.pair for c in sets[name]), name, pairs_dir)
    scratch = out_dir / f".report.json.{os.getpid()}"
    scratch.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")
    scratch.replace(out_dir / "report.json")
    return report


def sort_by_teacher(
    pairs: Sequence[PreferencePair], rows: Iterable[CritiqueRow]
) -> tuple[list[Candidate], Counter[str], Counter[str]]:
    """(candidates, dropped pairs by reason, remarks on kept ones).

    A right critique whose rubric names the winner is dropped: it would teach the leak. A wrong one is kept, because
    RL uses only the pair. Raises UserError for a critique of a pair that is not there.
    """
    known = {pair.id for pair in pairs}
    first: dict[str, CritiqueRow] = {}
    dropped, remarks, candidates = Counter[str](), Counter[str](), []
    for row in rows:
        if row.id not in known:
            raise UserError(f"there is a critique of {row.id!r}, but no such pair; these critiques are of other pairs")
        if first.setdefault(row.id, row) is not row:
            remarks["repeated_critique"] += 1
    for pair in pairs:
        found = first.get(pair.id)
        if found is None:
            dropped["no_critique"] += 1
            continue
        critique = parse(found.critique)  # read again: the contract of today counts, not of the day of distilling
        right = critique.verdict == pair.label
        if critique.reason:
            dropped[critique.reason] += 1
        elif right and Problem.NAMES_WINNER in critique.problems:
            dropped[Problem.NAMES_WINNER.value] += 1
        else:
            remarks.update(problem.value for problem in critique.problems)
            candidates.append(Candidate(pair, found.critique, "right" if right else "wrong"))
    return candidates, dropped, remarks


def by_picture(candidates: Sequence[Candidate], seed: int) -> list[list[Candidate]]:
    """Groups that share no picture with each other, in an order decided by the seed and the ids alone."""
    leader: dict[str, str] = {}

    def find(node: str) -> str:
        while leader.setdefault(node, node) != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for candidate in candidates:
        for image in candidate.pair.images:
            leader[find(f"image {image}")] = find(f"pair {candidate.pair.id}")
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[find(f"pair {candidate.pair.id}")].append(candidate)

    def key(candidate: Candidate) -> bytes:
        return hashlib.sha256(f"{seed} {candidate.pair.id}".encode()).digest()

    ordered = [sorted(group, key=key) for group in groups.values()]
    return sorted(ordered, key=lambda group: key(group[0]))


def allocate(groups: Sequence[Sequence[Candidate]], sizes: Mapping[str, int]) -> dict[str, list[Candidate]]:
    """Each group goes to one set: the one that can use most of it, weighted by the share of rows it still lacks.

    Half of each set's places are for either label (one more for label 1 when the size is odd).
    """
    room = {(name, label): (size + 2 - label) // 2 for name, size in sizes.items() for label in (1, 2)}
    sets: dict[str, list[Candidate]] = {name: [] for name in sizes}
    for group in groups:
        offers = Counter((candidate.pool, candidate.pair.label) for candidate in group)

        def use(name: str, offers: Counter = offers) -> float:
            usable = sum(min(offers[POOLS[name], label], room[name, label]) for label in (1, 2))
            return usable * (room[name, 1] + room[name, 2]) / sizes[name]

        best = max(sizes, key=use)
        for candidate in group:
            place = (best, candidate.pair.label)
            if candidate.pool == POOLS[best] and room[place]:
                room[place] -= 1
                sets[best].append(candidate)
    return sets


def _check_sizes(
    sets: dict[str, list[Candidate]], sizes: Mapping[str, int], candidates: Sequence[Candidate], short: str
) -> None:
    """Refuse, or trim the sets that came out short to equal labels."""
    lacking = {name: size - len(sets[name]) for name, size in sizes.items() if len(sets[name]) < size}
    if lacking and short == "refuse":
        have = Counter(candidate.pool for candidate in candidates)
        missing = ", ".join(f"{name} lacks {count} of {sizes[name]} rows" for name, count in lacking.items())
        raise UserError(
            f"too few usable critiques: {missing} (the teacher got {have['right']} pairs right and {have['wrong']} "
            "wrong; half of each set goes to either label, and no picture to two sets). Distil more pairs or ask for "
            "smaller sets"
        )
    for name in lacking:
        labels = Counter(candidate.pair.label for candidate in sets[name])
        most = min(labels[1], labels[2])
        kept: Counter[int] = Counter()
        trimmed = []
        for candidate in sets[name]:
            kept[candidate.pair.label] += 1
            if kept[candidate.pair.label] <= most:
                trimmed.append(candidate)
        sets[name] = trimmed
        if not trimmed:
            raise UserError(f"{name} would be empty: the teacher left no usable pairs of both labels for it")


def _describe(members: Sequence[Candidate]) -> dict[str, int]:
    labels = Counter(candidate.pair.label for candidate in members)
    pictures = {image for candidate in members for image in candidate.pair.images}
    return {"rows": len(members), "label_1": labels[1], "label_2": labels[2], "pictures": len(pictures)}
