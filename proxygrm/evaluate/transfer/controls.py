"""The control of rubric transfer: which pair's rubric each ordered pair is judged by instead of its own."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from proxygrm.evaluate.judges.base import text_hash
from proxygrm.evaluate.rows.ordered_pair import OrderedPair


def other_pairs(ordered: Sequence[OrderedPair], has_rubric: Sequence[bool], seed: int = 0) -> list[int | None]:
    """For each ordered pair with a rubric, the index of the pair whose rubric is used instead; None where none fits.

    Never a pair about the same images and question, in either order. Within a category and an order each rubric is used
    exactly once (a derangement), so the control has the same rubrics, only on the wrong pairs. Categories that are too
    small or too uniform for that are merged; should even that fail, the next suitable rubric is used, possibly for
    several pairs. Determined by a hash of the contents and the seed, not by the order of the rows.
    """
    indices = [index for index, has in enumerate(has_rubric) if has]
    rank = {index: text_hash(f"{seed}\0{ordered[index].key}") for index in indices}
    subject = {index: _subject(ordered[index]) for index in indices}
    subject_rank = {index: text_hash(f"{seed}\0{subject[index]}") for index in indices}
    donors: list[int | None] = [None] * len(ordered)

    def derange(groups: Mapping[Any, list[int]]) -> list[int]:
        """Assign donors within each group; returns the indices of the groups where that is not possible."""
        unassigned = []
        for group in groups.values():
            by_subject = sorted(group, key=lambda index: (subject_rank[index], rank[index]))
            shift = max(Counter(subject[index] for index in by_subject).values())
            if 2 * shift > len(by_subject):
                unassigned += group
                continue
            # Equal subjects are adjacent, at most `shift` of them, so `shift` further on is another subject.
            for position, index in enumerate(by_subject):
                donors[index] = by_subject[(position + shift) % len(by_subject)]
        return unassigned

    unassigned = derange(_grouped(indices, lambda index: (ordered[index].pair.category, ordered[index].order)))
    unassigned = derange(_grouped(unassigned, lambda index: ordered[index].order))
    by_rank = sorted(indices, key=rank.__getitem__)
    position_of = {index: position for position, index in enumerate(by_rank)}
    for index in unassigned:
        following = by_rank[position_of[index] + 1 :] + by_rank[: position_of[index]]
        suitable = [other for other in following if subject[other] != subject[index]]
        same_order = (other for other in suitable if ordered[other].order == ordered[index].order)
        donors[index] = next(same_order, suitable[0] if suitable else None)
    return donors


def _grouped(indices: Sequence[int], key: Callable[[int], Any]) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for index in indices:
        groups[key(index)].append(index)
    return groups


def _subject(ordered: OrderedPair) -> str:
    return json.dumps([ordered.pair.question, [path.name for path in ordered.pair.images]])
