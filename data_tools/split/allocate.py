"""Allocates pairs to sets: pairs that share images (or, without any, the question) form a group, and a group goes to at
most one set. Pure functions.

A set takes equally many pairs of each label, and within a label its sources in the proportions of the pool, as far as
the groups allow: a first pass respects these quotas, a second fills what is still free from any source.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from data_tools.rows.critique_index import Pool as JudgedPool
from data_tools.split.training_set import Pool, TrainingSet

UNJUDGED = "unjudged"
"""Pairs without a usable critique, where a set takes all pairs."""


@dataclass(frozen=True)
class Candidate:
    """A pair that a set can take, without its texts."""

    id: str
    source: str
    label: int
    images: tuple[str, ...]
    pool: JudgedPool | None  # whether the teacher judged it right; None: its critique is not usable, or there is none
    row: int = 0  # position in the pairs file
    question: int = 0  # hash of the question of a pair without images; 0: shared with no other
    tries: int = 1  # until it was right
    swapped: bool = False  # the teacher saw the responses in the other order then

    @property
    def judged(self) -> str:
        return self.pool or UNJUDGED

    @property
    def pools(self) -> tuple[Pool, ...]:
        if self.pool is None:
            return ("all",)
        hard = self.pool == "wrong" or self.tries > 1
        return (self.pool, *(("hard",) if hard else ()), "all")

    def shown_swapped(self, pool: Pool) -> bool:
        """Whether a set of the pool shows its responses in the other order."""
        return self.swapped and pool == "right"

    def label_in(self, pool: Pool) -> int:
        """The label, in the order in which a set of the pool shows the responses."""
        return 3 - self.label if self.shown_swapped(pool) else self.label


def group_by_image(candidates: Sequence[Candidate], seed: int) -> list[list[Candidate]]:
    """Groups of pairs, no two of which share an image, or a question without one. Their order depends on the seed and
    the ids only."""
    leader: dict[str, str] = {}

    def find(node: str) -> str:
        while leader.setdefault(node, node) != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for candidate in candidates:
        for image in candidate.images[1:]:
            leader[find(image)] = find(candidate.images[0])
    groups: dict[tuple[str, str | int], list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        alone = ("question", candidate.question) if candidate.question else ("id", candidate.id)
        key = ("image", find(candidate.images[0])) if candidate.images else alone
        groups[key].append(candidate)
    keys = {candidate.id: _sort_key(candidate.id, seed) for candidate in candidates}
    ordered = [sorted(group, key=lambda candidate: keys[candidate.id]) for group in groups.values()]
    return sorted(ordered, key=lambda group: keys[group[0].id])


def _sort_key(pair_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {pair_id}".encode()).digest()


def allocate(
    groups: Sequence[Sequence[Candidate]], wanted: Mapping[str, TrainingSet], seed: int = 0
) -> dict[str, list[Candidate]]:
    """Sets of at most these rows (fewer if there are too few pairs), in an order that depends on seed and ids only.

    A group goes to the set that can use most of it, weighted by the share of rows that the set still needs. Half of
    a set's rows have each label (one more has label 1 if the size is odd). A set beside another is filled at the end,
    from the groups of that one and those of none.
    """
    beside = {name: each for name, each in wanted.items() if each.beside in wanted}
    sets, owner = _allocate(groups, {name: each for name, each in wanted.items() if name not in beside}, seed)
    for name, each in beside.items():
        free = [group for number, group in enumerate(groups) if owner.get(number, each.beside) == each.beside]
        sets |= _allocate(free, {name: each}, seed)[0]
    return {name: sets[name] for name in wanted}


def _allocate(
    groups: Sequence[Sequence[Candidate]], wanted: Mapping[str, TrainingSet], seed: int
) -> tuple[dict[str, list[Candidate]], dict[int, str]]:
    """(sets, name of the set that has a group, by the group's number)."""
    quotas = _Quotas(groups, wanted)
    owner: dict[int, str] = {}
    sets: dict[str, list[Candidate]] = {name: [] for name in wanted}
    allocated: set[str] = set()

    def assign(number: int, name: str, by_source: bool) -> None:
        for candidate in groups[number]:
            if candidate.id not in allocated and quotas.take(name, candidate, by_source):
                owner[number] = name
                allocated.add(candidate.id)
                sets[name].append(candidate)

    for number, group in enumerate(groups):
        best = quotas.best_set(group, by_source=True)
        if best:
            assign(number, best, by_source=True)
    for number in list(owner):
        assign(number, owner[number], by_source=False)
    for number, group in enumerate(groups):
        if number not in owner:
            best = quotas.best_set(group, by_source=False)
            if best:
                assign(number, best, by_source=False)
    return {name: sorted(members, key=lambda c: _sort_key(c.id, seed)) for name, members in sets.items()}, owner


class _Quotas:
    """How many rows each set still takes: by label, and by label and source."""

    def __init__(self, groups: Sequence[Sequence[Candidate]], wanted: Mapping[str, TrainingSet]) -> None:
        available = Counter((pool, c.label_in(pool), c.source) for group in groups for c in group for pool in c.pools)
        self.wanted = wanted
        self.by_label = {
            (name, label): (each.rows + 2 - label) // 2 for name, each in wanted.items() for label in (1, 2)
        }
        self.by_source: dict[tuple[str, int, str], int] = {}
        for (name, label), quota in self.by_label.items():
            pool = {
                source: count for (of, with_label, source), count in available.items()
                if (of, with_label) == (wanted[name].pool, label)
            }  # fmt: skip
            for source, count in apportion(quota, pool).items():
                self.by_source[name, label, source] = count

    def best_set(self, group: Sequence[Candidate], by_source: bool) -> str | None:
        """The set that can use most of the group; None if no set can use any of it."""
        counts = Counter((pool, c.label_in(pool), c.source if by_source else "") for c in group for pool in c.pools)
        best, best_use = None, 0.0
        for name, each in self.wanted.items():
            use = 0.0
            for (pool, label, source), count in counts.items():
                if pool == each.pool:
                    quota = self.by_label[name, label]
                    use += min(count, quota, self.by_source.get((name, label, source), 0) if by_source else quota)
            use *= (self.by_label[name, 1] + self.by_label[name, 2]) / max(each.rows, 1)
            if use > best_use:
                best, best_use = name, use
        return best

    def take(self, name: str, candidate: Candidate, by_source: bool) -> bool:
        pool = self.wanted[name].pool
        label = candidate.label_in(pool)
        if pool not in candidate.pools or not self.by_label[name, label]:
            return False
        key = (name, label, candidate.source)
        if by_source and not self.by_source.get(key):
            return False
        self.by_label[name, label] -= 1
        if self.by_source.get(key):
            self.by_source[key] -= 1
        return True


def apportion(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """`total` divided in proportion to the weights (largest remainder method); ties go to the earlier name."""
    weight_sum = sum(weights.values())
    if not weight_sum:
        return {}
    shares = {name: total * weight // weight_sum for name, weight in weights.items()}
    remainder = total - sum(shares.values())
    for name in sorted(weights, key=lambda name: (-(total * weights[name] % weight_sum), name))[:remainder]:
        shares[name] += 1
    return shares


def allocate_scaled(
    groups: Sequence[Sequence[Candidate]], wanted: Mapping[str, TrainingSet], seed: int = 0
) -> dict[str, list[Candidate]]:
    """Sets in these proportions, as large as the pairs allow, with equally many rows of each label.

    All sets of a pool shrink by the same factor, so that none is full while another is nearly empty.
    """
    available = Counter((pool, c.label_in(pool)) for group in groups for c in group for pool in c.pools)
    scale: dict[Pool, float] = {}
    for pool in {each.pool for each in wanted.values()}:
        requested = sum(each.rows for each in wanted.values() if each.pool == pool)
        scale[pool] = min(1.0, 2 * min(available[pool, 1], available[pool, 2]) / requested) if requested else 1.0
    while True:
        smaller = {name: replace(each, rows=_scaled(each.rows, scale[each.pool])) for name, each in wanted.items()}
        sets = allocate(groups, smaller, seed)
        reached = {name: len(members) / smaller[name].rows for name, members in sets.items() if smaller[name].rows}
        short = {name: share for name, share in reached.items() if share < 1}
        if not short:
            return sets
        for pool in {wanted[name].pool for name in short}:
            least = min(share for name, share in short.items() if wanted[name].pool == pool)
            scale[pool] *= min(max(least, 0.5), 0.99)


def _scaled(size: int, scale: float) -> int:
    """An even number, so that labels stay balanced, unless the set need not shrink."""
    return size if scale >= 1 else int(size * scale) // 2 * 2
