"""Who goes into which set: groups of pairs that share pictures, each given to one set at most. Pure decisions.

A set takes equally many pairs of either label, and of each label its sources in the proportions of the pool, as far
as groups allow: a first pass keeps to these places, a second fills what is still free with either source.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_tools.rows.critique_index import Pool

POOLS: dict[str, Pool] = {
    "proxy_sft": "right", "proxy_rl": "right", "proxy_rl_val": "right", "grm_sft": "right",
    "grm_rl": "wrong", "grm_rl_val": "wrong",
}  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A pair with a usable critique; its texts stay on disk."""

    id: str
    source: str
    label: int
    images: tuple[str, ...]
    pool: Pool  # whether the teacher judged it right
    row: int = 0  # place in the pairs file


def by_picture(candidates: Sequence[Candidate], seed: int) -> list[list[Candidate]]:
    """Groups that share no picture with each other, in an order decided by the seed and the ids alone."""
    leader: dict[str, str] = {}

    def find(node: str) -> str:
        while leader.setdefault(node, node) != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for candidate in candidates:
        for image in candidate.images[1:]:
            leader[find(image)] = find(candidate.images[0])
    groups: dict[tuple[bool, str], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        key = (True, find(candidate.images[0])) if candidate.images else (False, candidate.id)
        groups[key].append(candidate)
    place = {candidate.id: _place(candidate.id, seed) for candidate in candidates}
    ordered = [sorted(group, key=lambda candidate: place[candidate.id]) for group in groups.values()]
    return sorted(ordered, key=lambda group: place[group[0].id])


def _place(pair_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {pair_id}".encode()).digest()


def allocate(
    groups: Sequence[Sequence[Candidate]], sizes: Mapping[str, int], seed: int = 0
) -> dict[str, list[Candidate]]:
    """Sets of at most these sizes (smaller where pairs lack), each in an order decided by the seed and the ids.

    A group goes to the set that can use most of it, weighted by the share of rows that the set still lacks. Half of
    a set's places are for either label (one more for label 1 when the size is odd).
    """
    places = _Places(groups, sizes)
    owner: dict[int, str] = {}
    sets: dict[str, list[Candidate]] = {name: [] for name in sizes}
    taken: set[str] = set()

    def give(number: int, name: str, by_source: bool) -> None:
        for candidate in groups[number]:
            if candidate.id not in taken and places.take(name, candidate, by_source):
                owner[number] = name
                taken.add(candidate.id)
                sets[name].append(candidate)

    for number, group in enumerate(groups):
        best = places.best(group, by_source=True)
        if best:
            give(number, best, by_source=True)
    for number in list(owner):
        give(number, owner[number], by_source=False)
    for number, group in enumerate(groups):
        if number not in owner:
            best = places.best(group, by_source=False)
            if best:
                give(number, best, by_source=False)
    return {name: sorted(members, key=lambda c: _place(c.id, seed)) for name, members in sets.items()}


class _Places:
    """How many rows each set still takes: by label, and by label and source."""

    def __init__(self, groups: Sequence[Sequence[Candidate]], sizes: Mapping[str, int]) -> None:
        have = Counter((c.pool, c.label, c.source) for group in groups for c in group)
        self.sizes = sizes
        self.by_label = {(name, label): (size + 2 - label) // 2 for name, size in sizes.items() for label in (1, 2)}
        self.by_source: dict[tuple[str, int, str], int] = {}
        for (name, label), room in self.by_label.items():
            pool = {source: count for (p, at, source), count in have.items() if (p, at) == (POOLS[name], label)}
            for source, count in in_proportion(room, pool).items():
                self.by_source[name, label, source] = count

    def best(self, group: Sequence[Candidate], by_source: bool) -> str | None:
        """The set with the most use for the group; None when there is no place for any of it."""
        offers = Counter((c.pool, c.label, c.source if by_source else "") for c in group)
        best, most = None, 0.0
        for name, size in self.sizes.items():
            use = 0.0
            for (pool, label, source), count in offers.items():
                if pool == POOLS[name]:
                    room = self.by_label[name, label]
                    use += min(count, room, self.by_source.get((name, label, source), 0) if by_source else room)
            use *= (self.by_label[name, 1] + self.by_label[name, 2]) / max(size, 1)
            if use > most:
                best, most = name, use
        return best

    def take(self, name: str, candidate: Candidate, by_source: bool) -> bool:
        if candidate.pool != POOLS[name] or not self.by_label[name, candidate.label]:
            return False
        place = (name, candidate.label, candidate.source)
        if by_source and not self.by_source.get(place):
            return False
        self.by_label[name, candidate.label] -= 1
        if self.by_source.get(place):
            self.by_source[place] -= 1
        return True


def in_proportion(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """`total` cut in proportion to the weights by largest remainders; ties go to the earlier name."""
    whole = sum(weights.values())
    if not whole:
        return {}
    shares = {name: total * weight // whole for name, weight in weights.items()}
    rest = total - sum(shares.values())
    for name in sorted(weights, key=lambda name: (-(total * weights[name] % whole), name))[:rest]:
        shares[name] += 1
    return shares


def fit(groups: Sequence[Sequence[Candidate]], sizes: Mapping[str, int], seed: int = 0) -> dict[str, list[Candidate]]:
    """The sets in the proportions of the sizes asked for, as large as the pairs allow, with equal labels.

    The sets of a pool shrink by one factor together: none is full while another starves.
    """
    have = Counter((c.pool, c.label) for group in groups for c in group)
    scale: dict[str, float] = {}
    for pool in ("right", "wrong"):
        asked = sum(size for name, size in sizes.items() if POOLS[name] == pool)
        scale[pool] = min(1.0, 2 * min(have[pool, 1], have[pool, 2]) / asked) if asked else 1.0
    while True:
        smaller = {name: _scaled(size, scale[POOLS[name]]) for name, size in sizes.items()}
        sets = allocate(groups, smaller, seed)
        short = {name for name, members in sets.items() if len(members) < smaller[name]}
        if not short:
            return sets
        for pool in {POOLS[name] for name in short}:
            reached = min(len(sets[name]) / smaller[name] for name in short if POOLS[name] == pool)
            scale[pool] *= min(max(reached, 0.5), 0.99)


def _scaled(size: int, scale: float) -> int:
    """Even, so that labels stay equal, unless nothing has to give."""
    return size if scale >= 1 else int(size * scale) // 2 * 2
