"""The sentences of this room's errors, once each; other tests compare codes and values."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from proxygrm.core.bad_row import BadRow
from proxygrm.core.errors import UserError
from proxygrm.rewards.proxy_agreement import AGGREGATIONS, resolve_aggregation
from proxygrm.rewards.rollouts import ScoreOptions, score_row

ERRORS = [
    (lambda: resolve_aggregation("bonus_evn"), "unknown reward aggregation 'bonus_evn'; did you mean 'bonus_even'?"),
    (
        lambda: resolve_aggregation(11),
        f"unknown reward aggregation '11'; there are {', '.join(AGGREGATIONS)} (or 0 to 10)",
    ),
]
BAD_ROWS = [
    ([], "not_an_object", "the line is not a JSON object"),
    ({"ground_truth": 1}, "no_response", "response is missing, it must be text"),
    ({"critique": 3}, "no_response", "critique is 3, it must be text"),
    ({"response": ""}, "no_label", "ground_truth is missing (it may also be called label, gts, answer)"),
    ({"response": "", "label": 3}, "bad_label", "ground truth is 3, it must be 1 or 2"),
    (
        {"response": "", "label": 1, "gts": 2},
        "labels_differ",
        "label is 1, but gts is 2",
    ),
    (
        {"response": "", "label": 1},
        "no_proxy_reward",
        "proxy_reward is missing; null means unscored, and --no-proxy scores without",
    ),
    (
        {"response": "", "label": 1, "proxy_reward": 0},
        "bad_proxy_reward",
        "proxy reward is 0, it must be 1, -1 or null",
    ),
]


@pytest.mark.parametrize(("act", "sentence"), ERRORS)
def test_every_error_says_what_where_and_what_to_do(act: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        act()
    assert str(caught.value) == sentence
    assert caught.value.code


@pytest.mark.parametrize(("row", "cause", "sentence"), BAD_ROWS)
def test_every_bad_row_has_a_cause_and_names_its_field(row: dict, cause: str, sentence: str) -> None:
    with pytest.raises(BadRow) as caught:
        score_row(row, ScoreOptions())
    assert (caught.value.cause, str(caught.value)) == (cause, sentence)
