"""How good the solution is that step scores choose, from N = 1 to all candidates, between what is possible.

Every figure at k is the expectation over all sets of k candidates, so it does not depend on their order, and at the
same k no choice is above `pass`. Candidates with the same highest score share the choice. Exact, by counting: with the
candidates in groups of equal score, the best of k is in a group with the probability
(C(those up to the group, k) - C(those below it, k)) / C(n, k). `plain` takes the first k candidates instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import comb, inf, isclose
from typing import Any

from proxygrm.evaluate.best_of_n.ranking import subsets
from proxygrm.evaluate.best_of_n.solutions import OVERALL, Candidate, Question
from proxygrm.evaluate.scores.metrics import Figures, clustered_interval
from proxygrm.process.aggregate import AGGREGATORS, aggregate

RESAMPLES = 2000
TIE = 1e-9
"""Relative difference of scores that count as the same."""


def best_of_n(questions: Sequence[Question]) -> dict[str, Figures]:
    """{data source: figures} and OVERALL, every figure a share from 0 to 1 with a 95 % bootstrap interval."""
    scored = [_of_question(question) for question in questions]
    sources = sorted({question.source for question in questions})
    groups = {source: [s for q, s in zip(questions, scored, strict=True) if q.source == source] for source in sources}
    clusters = {source: [q.cluster for q in questions if q.source == source] for source in sources}
    groups[OVERALL], clusters[OVERALL] = scored, [question.cluster for question in questions]
    return {name: _summary(group, clusters[name]) for name, group in groups.items()}


def sizes(n: int) -> list[int]:
    """The k of a curve: all up to 16 candidates, powers of two and all of them beyond."""
    return list(range(1, n + 1)) if n <= 16 else sorted({*(2**k for k in range(n.bit_length())), n})


Tree = dict[str, Any]
"""Figures of one question: {pass: {k: share}, bon: {aggregator: {k: share}}, ...}."""


def _of_question(question: Question) -> Tree:
    candidates = question.candidates
    n, correct = len(candidates), [candidate.correct for candidate in candidates]
    ks = sizes(n)
    scores = {name: [_score(name, candidate) for candidate in candidates] for name in AGGREGATORS}
    groups = {name: _groups(values, correct) for name, values in scores.items()}
    labels = _labels(candidates)
    return {
        "pass": {k: pass_at(n, sum(correct), k) for k in ks},
        "bon": {name: {k: _best_of(groups[name], n, k) for k in ks} for name in AGGREGATORS},
        "self_consistency": {k: _majority(labels, tuple(correct), k) for k in ks},
        "random": {k: sum(correct) / n for k in ks},
        "mean": sum(correct) / n,
        "oracle": float(any(correct)),
        "plain": {
            "pass": {k: float(any(correct[:k])) for k in ks},
            "bon": {
                name: {k: _best_of(_groups(scores[name][:k], correct[:k]), k, k) for k in ks} for name in AGGREGATORS
            },
        },
    }


def pass_at(n: int, right: int, k: int) -> float:
    """Probability that one of k of n candidates is right, unbiased (Chen et al. 2021, arXiv 2107.03374)."""
    return 1 - comb(n - right, k) / comb(n, k)


def chosen_of_all(question: Question, aggregator: str) -> float:
    """Expected correctness of the candidate with the highest aggregate."""
    candidates = question.candidates
    scores = [_score(aggregator, candidate) for candidate in candidates]
    groups = _groups(scores, [candidate.correct for candidate in candidates])
    return _best_of(groups, len(candidates), len(candidates))


def _score(name: str, candidate: Candidate) -> float:
    """-inf where there is none: such a candidate is chosen only where all are like it."""
    score = aggregate(name, candidate.scores) if candidate.scores else None
    return -inf if score is None else score


Groups = list[tuple[int, float]]
"""(size, mean correctness) of the candidates of equal score, lowest first."""


def _groups(scores: Sequence[float], correct: Sequence[bool]) -> Groups:
    groups: list[list[bool]] = []
    last = None
    for score, right in sorted(zip(scores, correct, strict=True)):
        if last is None or not isclose(score, last, rel_tol=TIE):
            groups.append([])
            last = score
        groups[-1].append(right)
    return [(len(group), sum(group) / len(group)) for group in groups]


def _best_of(groups: Groups, n: int, k: int) -> float:
    below, expected = 0, 0.0
    for size, mean in groups:
        expected += (comb(below + size, k) - comb(below, k)) * mean
        below += size
    return expected / comb(n, k)


def _labels(candidates: Sequence[Candidate]) -> tuple[int, ...]:
    """The number of each candidate's answer among the distinct ones; -1: it has none and does not vote."""
    known: dict[str, int] = {"": -1}
    return tuple(known.setdefault(candidate.answer_class, len(known) - 1) for candidate in candidates)


@lru_cache(maxsize=100_000)
def _majority(labels: tuple[int, ...], correct: tuple[bool, ...], k: int) -> float:
    """Expected correctness of the most frequent answer among k; answers that are equally frequent share the choice."""
    total, count = 0.0, 0
    for subset in subsets(range(len(labels)), k, f"{labels}"):
        votes = Counter(labels[index] for index in subset if labels[index] >= 0)
        count += 1
        if votes:
            most = max(votes.values())
            winners = [label for label, number in votes.items() if number == most]
            right = [correct[index] for index in subset if labels[index] in winners]
            total += sum(right) / len(right)  # all winners have equally many votes
    return total / count


def _summary(trees: Sequence[Tree], clusters: Sequence[Any]) -> Figures:
    cache: dict[tuple[float, ...], Figures] = {}

    def figure(values: Sequence[float]) -> Figures:
        key = tuple(values)
        if key not in cache:
            low, high = clustered_interval(values, clusters, RESAMPLES)
            cache[key] = {"value": sum(values) / len(values), "low": low, "high": high}
        return cache[key]

    return {"total": len(trees)} | _merged(trees, figure)


def _merged(trees: Iterable[Any], figure: Callable[[Sequence[float]], Figures]) -> Any:
    """The tree of the same shape whose leaves are figures over all trees; k becomes text, as in JSON."""
    trees = list(trees)
    if not isinstance(trees[0], dict):
        return figure(trees)
    return {str(key): _merged([tree[key] for tree in trees], figure) for key in trees[0]}
