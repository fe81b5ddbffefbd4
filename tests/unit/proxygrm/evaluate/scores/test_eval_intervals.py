from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest

from proxygrm.evaluate.benchmarks import BENCHMARKS, benchmark
from proxygrm.evaluate.scores.metrics import wilson
from support.refusals import refused


def slow_wilson(right: int, n: int) -> tuple[float, float]:
    """The interval by its definition: all p that the score test does not reject, searched by bisection."""

    def inside(p: float) -> bool:
        return (right / n - p) ** 2 <= 1.959964**2 * p * (1 - p) / n

    ends = []
    for far in (0.0, 1.0):
        near, edge = right / n, far
        for _ in range(60):
            middle = (near + edge) / 2
            near, edge = (middle, edge) if inside(middle) else (near, middle)
        ends.append(near)
    return ends[0], ends[1]


@pytest.mark.parametrize(("right", "n"), [(3, 10), (1, 46), (938, 1247), (17, 34)])
def test_intervals_agree_with_their_definition(right, n):
    assert wilson(right, n) == pytest.approx(slow_wilson(right, n), abs=1e-9)


def test_the_bootstrap_agrees_with_one_that_draws_rows():
    import numpy as np

    from proxygrm.evaluate.scores.metrics import macro_interval

    groups = [np.repeat([0.0, 0.5, 1.0], [9, 4, 7]), np.repeat([0.0, 1.0], [30, 70])]
    rng = np.random.default_rng(5)
    slow = [np.mean([rng.choice(group, len(group)).mean() for group in groups]) for _ in range(4000)]
    assert macro_interval(groups) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.012)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 9), (10, 10), (40, 61)])
def test_mcnemar_is_the_exact_binomial_test(b, c):
    from proxygrm.evaluate.scores.paired import mcnemar_exact

    n = b + c
    tail = sum(Fraction(comb(n, k), 2**n) for k in range(min(b, c) + 1))
    assert mcnemar_exact(b, c) == pytest.approx(min(1.0, float(2 * tail)))


def test_every_benchmark_has_an_official_partition_first():
    for bench in BENCHMARKS.values():
        assert next(iter(bench.partitions)) == "official"
    with refused("bench.unknown-benchmark", name="x", known=list(BENCHMARKS)):
        benchmark("x")
