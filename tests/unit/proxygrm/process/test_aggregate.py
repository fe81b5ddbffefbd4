"""Eight ways from the scores of steps to one score, by hand-computed values."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygrm.core.bad_row import BadRow
from proxygrm.process.aggregate import AGGREGATORS, RELEASED, aggregate, aggregated_row, aggregates

NAMES = [
    "correctness_rate", "weighted_correctness", "streak_score", "geometric_mean", "first_error_position",
    "minimum", "product", "mean",
]  # fmt: skip
HAND = [
    # scores; the eight values in the order of NAMES
    ([1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]),
    # W = 6: (-6 + 6) / 12; streak (-3 + 3) / 9
    ([-1, -1, -1], [0, 0, 0, 0.1, 0, 0, 0, 0]),
    # weights 1 + 2 - 3 + 4 = 4: (4 + 10) / 20; streak 1 + 2 - 1 + 1 = 3: (3 + 4) / 14; 0.1 ** (1 / 4)
    ([1, 1, -1, 1], [0.75, 0.7, 0.5, 0.1**0.25, 0.5, 0, 0, 0.75]),
    # a gated step is not right and not an error: 1 + 1.6 + 3 = 5.6: 11.6 / 12; streak 1 - 1 + 1 = 1: 4 / 9
    ([1, 0.8, 1], [2 / 3, 11.6 / 12, 4 / 9, 0.1 ** (1 / 3), 1, 0.9, 0.9, 2.9 / 3]),
    # 0.5 - 2 = -1.5: 1.5 / 6; streak -2: 0
    ([0.5, -1], [0, 0.25, 0, 0.1, 0.5, 0, 0, 0.375]),
    ([0], [0, 0.5, 0, 0.1, 1, 0.5, 0.5, 0.5]),
    ([1.0], [1, 1, 1, 1, 1, 1, 1, 1]),
    ([], [0] * 8),
]


@pytest.mark.parametrize(("scores", "values"), HAND)
def test_every_aggregate_has_its_hand_computed_value(scores: list[float], values: list[float]) -> None:
    assert list(AGGREGATORS) == NAMES
    assert list(RELEASED) == NAMES[:5]
    assert list(aggregates(scores).values()) == pytest.approx(values, abs=1e-12)


@pytest.mark.parametrize("scores", [[None], [1, None, -1], None])
def test_an_unknown_score_makes_every_aggregate_unknown(scores: Any) -> None:
    assert aggregates(scores) == dict.fromkeys(NAMES)


@given(st.lists(st.one_of(st.sampled_from([1.0, -1.0]), st.floats(-1, 1)), min_size=1, max_size=300))
def test_aggregates_stay_between_0_and_1_and_follow_their_formulas(scores: list[float]) -> None:
    values = aggregates(scores)
    assert all(value is not None and -1e-9 <= value <= 1 + 1e-9 for value in values.values())
    assert values["geometric_mean"] == pytest.approx(
        prod(1.0 if s == 1 else 0.1 for s in scores) ** (1 / len(scores)), rel=1e-9
    )
    assert values["minimum"] <= values["mean"]  # type: ignore[operator]


def test_thousands_of_wrong_steps_do_not_underflow() -> None:
    assert aggregate("geometric_mean", [-1.0] * 5000) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ([1], "not_an_object"), ({}, "no_scores"), ({"scores": None}, "no_scores"), ({"scores": "1"}, "no_scores"),
        ({"scores": ["1"]}, "bad_score"), ({"scores": [True]}, "bad_score"), ({"scores": [2]}, "bad_score"),
        ({"scores": [float("nan")]}, "bad_score"), ({"scores": [float("inf")]}, "bad_score"),
        ({"scores": [[1]]}, "bad_score"), ({"scores": [10**400]}, "bad_score"),
    ],
)  # fmt: skip
def test_what_is_not_a_list_of_scores_is_a_bad_row(row: Any, cause: str) -> None:
    with pytest.raises(BadRow) as caught:
        aggregated_row(row)
    assert caught.value.cause == cause
