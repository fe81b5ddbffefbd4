"""Which right solution is paired with which wrong one, and which questions are drawn. Pure, on arrays.

Solutions belong together when their questions (but for blanks) and the contents of their images are equal, wherever in
the release they stand. Of a question with r right and w wrong ones there are max(r, w) pairs: the first right one with
the first wrong one and so on, the fewer ones again from the first. So every solution that has a counterpart is in a
pair, no kind of error is preferred, and the pairs are as few as that allows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from data_tools.ingest.part import key_of
from proxygrm.process.solutions import Solution


def question_key(solution: Solution) -> int:
    question, images = solution.key
    return key_of(question, *images)


def pair_up(question: np.ndarray, right: np.ndarray, steps: np.ndarray) -> list[tuple[int, int]]:
    """(position of the right one, of the wrong one) of each pair, in order of the right ones.

    question: key of each solution's; right: 1, -1, or 0 for unknown; steps: hash of its steps. Equal ones on both sides
    contradict each other and are not a pair.
    """
    order = np.lexsort((np.arange(len(question)), -right, question))
    order = order[right[order] != 0]
    pairs = []
    for group in np.split(order, np.flatnonzero(np.diff(question[order])) + 1):
        count = int((right[group] == 1).sum())
        better, worse = group[:count].tolist(), group[count:].tolist()
        for number in range(max(len(better), len(worse)) if better and worse else 0):
            pair = better[number % len(better)], worse[number % len(worse)]
            if steps[pair[0]] != steps[pair[1]]:
                pairs.append(pair)
    return sorted(pairs)


def drawn(question: np.ndarray, candidates: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Mask of the candidates whose question is one of `count` drawn ones; whether one is depends on the seed and its
    rank among the questions alone."""
    keys: Sequence[int] = np.unique(question[candidates]).tolist()
    order = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    mask: np.ndarray = candidates & np.isin(question, np.array(order[:count], question.dtype))
    return mask
