from __future__ import annotations

import pytest

from proxygrm.evaluate.rows.categories import category_of
from proxygrm.evaluate.scores.metrics import summarise, wilson


def row(id_: str, order: str, label: int, verdict: int | None, proxy: int | None = None, **more) -> dict:
    return {
        "id": id_,
        "copy": 0,
        "order": order,
        "source": "s",
        "category": "",
        "label": label,
        "verdict": verdict,
        "correct": None if verdict is None else verdict == label,
        "well_formed": verdict is not None,
        "names_winner": False,
        "refused": None,
        "truncated": False,
        "tokens": 10,
        "proxy_asked": proxy is not None,
        "proxy_verdict": proxy,
        "proxy_agrees": None if proxy is None else proxy == label,
        "rubric": None if proxy is None else "<rubric>r</rubric>",
        "image_missing": False,
    } | more


# Three pairs in two orders: a right twice; b says 1 twice, so right once; c unparsed once, then wrong.
ROWS = [
    row("a", "as_is", 1, 1, proxy=1),
    row("a", "swapped", 2, 2, proxy=1),
    row("b", "as_is", 1, 1, proxy=1),
    row("b", "swapped", 2, 1, proxy=2),
    row("c", "as_is", 2, None),
    row("c", "swapped", 1, 2, names_winner=True, truncated=True, proxy=None, proxy_asked=True, rubric="<rubric>"),
]


def test_shares_are_those_counted_by_hand():
    figures = summarise(ROWS)
    assert (figures["pairs"], figures["judgements"], figures["unparsed"]) == (3, 6, 1)
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["accuracy_unparsed_wrong"] == pytest.approx(3 / 6)
    assert figures["both_orders_accuracy"] == pytest.approx(1 / 3)
    assert figures["order_consistency"] == pytest.approx(1 / 2)  # a names one response twice, b both, c has one verdict
    assert figures["says_1"] == pytest.approx(3 / 5)
    assert figures["format_rate"] == pytest.approx(5 / 6)
    assert figures["proxy_agreement"] == pytest.approx(3 / 4)
    assert figures["proxy_agreement_all"] == pytest.approx(3 / 6)
    assert figures["proxy_same_verdict"] == pytest.approx(2 / 4)
    assert (figures["proxy_asked"], figures["proxy_unparsed"], figures["no_rubric"]) == (5, 1, 1)
    assert (figures["names_winner"], figures["truncated"], figures["mean_tokens"]) == (1, 1, 10)


def test_nothing_to_count_is_none_and_not_zero():
    figures = summarise([row("a", "as_is", 1, None)])
    for name in (
        "accuracy",
        "accuracy_low",
        "proxy_agreement",
        "proxy_agreement_all",
        "says_1",
        "both_orders_accuracy",
    ):
        assert figures[name] is None
    assert figures["accuracy_unparsed_wrong"] == 0
    assert summarise([])["pairs"] == 0


def test_the_interval_takes_the_pair_as_the_trial():
    figures = summarise(ROWS)
    assert (figures["accuracy_low"], figures["accuracy_high"]) == wilson(0.6 * 3, 3)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (81, 263, 0.25525, 0.36621), (15, 148, 0.06237, 0.16052)],
)
def test_wilson_intervals_agree_with_published_values(right, n, low, high):
    # 81/263 and 15/148: Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
    assert wilson(right, n) == pytest.approx((low, high), abs=1e-4)


def test_with_no_trial_the_interval_is_everything():
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_same_id_twice_is_two_pairs():
    rows = [row("a", o, 1, 1, copy=c) for c in (0, 1) for o in ("as_is", "swapped")]
    assert summarise(rows)["pairs"] == 2


def test_sources_and_categories_have_their_own_figures_and_the_macro_is_their_mean():
    rows = [
        row("a", "as_is", 1, 1, category="x"),
        row("b", "as_is", 1, 2, category="x"),
        row("c", "as_is", 1, 1, category="y"),
    ]
    figures = summarise(rows)
    assert figures["by_category"]["x"]["accuracy"] == 0.5
    assert figures["by_source"]["s"]["pairs"] == 3
    assert figures["macro_accuracy"] == pytest.approx(0.75)
    assert "by_category" not in summarise(ROWS)


@pytest.mark.parametrize(
    ("source", "id_", "category"),
    [
        ("vl_rewardbench", "RLAIF-V-123", "hallucination"),
        ("VL-RewardBench", "RLHF-V-9", "hallucination"),
        ("vl_rewardbench_400", "hallucination_pair-1003", "hallucination"),
        ("vl_rewardbench", "vl_rewardbench:mathverse_77", "reasoning"),
        ("vl_rewardbench", "mmmu_x", "reasoning"),
        ("vl_rewardbench", "wildvision-battle/mmmu", "general"),
        ("demo_colour", "mmmu_x", ""),
    ],
)
def test_categories_are_the_official_ones_in_any_spelling(source, id_, category):
    assert category_of(source, id_) == category
