"""Which right solution is paired with which wrong one, and which questions are drawn. Pure, on arrays.

Solutions belong together when their questions (but for blanks) and the contents of their images are equal, wherever in
the release they stand. The right ones are put in an order, the surest first (the highest of the lowest scores of their
steps), the wrong ones in another, the one with the latest first error first: its pair differs where it matters. The
first right one is paired with the first wrong one, and so on, so no solution is in two pairs. Ties go by their place in
the release.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from data_tools.ingest.part import key_of
from proxygrm.process.solutions import Solution

UNKNOWN_RANK = 1.0


def question_key(solution: Solution) -> int:
    question, images = solution.key
    return key_of(question, *images)


def rank(solution: Solution) -> float:
    """From 0, the first to be paired, to 1, the last."""
    labels = solution.labels
    if solution.right is False:
        return 1 - labels.index(-1) / len(labels) if -1 in labels else UNKNOWN_RANK
    scores = solution.scores or [None] * len(labels)
    sure = [score if score is not None else float(label == 1) for score, label in zip(scores, labels, strict=True)]
    return 1 - min(sure)


def pair_up(question: np.ndarray, right: np.ndarray, ranks: np.ndarray, steps: np.ndarray) -> list[tuple[int, int]]:
    """(position of the right one, of the wrong one) of each pair, in order of the right ones.

    question: key of each solution's; right: 1, -1, or 0 for unknown; steps: hash of its steps. Equal ones on both sides
    contradict each other and are no pair.
    """
    order = np.lexsort((np.arange(len(question)), ranks, -right, question))
    order = order[right[order] != 0]
    pairs = []
    for group in np.split(order, np.flatnonzero(np.diff(question[order])) + 1):
        count = int((right[group] == 1).sum())
        for better, worse in zip(group[:count].tolist(), group[count:].tolist(), strict=False):
            if steps[better] != steps[worse]:
                pairs.append((better, worse))
    return sorted(pairs)


def drawn(question: np.ndarray, candidates: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Mask of the candidates whose question is one of `count` drawn ones; whether one is depends on the seed and its
    rank among the questions alone."""
    keys: Sequence[int] = np.unique(question[candidates]).tolist()
    order = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\0{key}".encode()).digest())
    mask: np.ndarray = candidates & np.isin(question, np.array(order[:count], question.dtype))
    return mask
