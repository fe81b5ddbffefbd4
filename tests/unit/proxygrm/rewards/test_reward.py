from __future__ import annotations

import pytest

from proxygrm.critique.contract import parse
from proxygrm.rewards.proxy_agreement import AGGREGATIONS, resolve_aggregation, rubric_to_judge, score
from proxygrm.rewards.proxy_verdict import score_proxy
from support.refusals import refused

GOOD = "<rubric>Names red (100%)<justify>j</justify></rubric><eval>1 says red.</eval><answer>{}</answer>"
# The paper's table, repeated here on purpose: number -> ++, +-, -+, --, +failed, -failed.
TABLE = {
    0: (2, 0, 0, -2, 1, -1),
    1: (2, -2, -2, -2, 1, -1),
    2: (1, -1, -1, -1, 1, -1),
    3: (2.5, -0.5, 0, -2, 0.5, -1),
    4: (2.5, -0.5, -0.5, -2, 0.5, -1),
    5: (2.5, -0.5, -0.5, -3, 0.5, -2),
    6: (2, -0.5, 0, -2, 0.5, -1),
    7: (1.5, 0.5, -1, -1, 0.5, -1),
    8: (1.5, 0.5, -1.5, -1, 0.5, -1),
    9: (1.5, 0.5, -1.5, -2, 0.5, -2),
    10: (1, 0.5, -1, -1, 0.5, -1),
}
COLUMNS = [(True, 1.0), (True, -1.0), (False, 1.0), (False, -1.0), (True, None), (False, None)]
CELLS = [(n, right, proxy, row[i]) for n, row in TABLE.items() for i, (right, proxy) in enumerate(COLUMNS)]


@pytest.mark.parametrize(("number", "right", "proxy", "expected"), CELLS)
def test_every_cell_of_the_table(number, right, proxy, expected):
    critique = parse(GOOD.format(1 if right else 2))
    for aggregation in (number, str(number), list(AGGREGATIONS)[number]):
        parts = score(critique, "1", proxy, aggregation)
        assert parts.score == expected + 0.5
        assert parts.accuracy == (1.0 if right else -1.0)
        assert parts.proxy == proxy
        assert parts.unscored == (proxy is None)


@pytest.mark.parametrize(("number", "right", "proxy", "expected"), CELLS)
def test_a_malformed_rollout_scores_the_same_without_the_half_point(number, right, proxy, expected):
    parts = score(parse("Well: " + GOOD.format(1 if right else 2)), 1, proxy, number)
    assert parts.score == expected
    assert parts.format == 0.0
    assert parts.problem == ("unscored" if proxy is None else "text_outside_parts")


def test_there_are_eleven_aggregations_and_the_sum_is_the_default():
    assert len(AGGREGATIONS) == 11
    critique = parse(GOOD.format(2))
    assert score(critique, "2", 1.0).score == 2.5 == score(critique, "2", 1.0, "sum").score


@pytest.mark.parametrize(("verdict", "expected"), [(1, 1.5), (2, -0.5)])
def test_without_a_proxy_the_score_is_accuracy_and_format(verdict, expected):
    parts = score(parse(GOOD.format(verdict)), "1", None, use_proxy=False)
    assert (parts.score, parts.proxy, parts.unscored, parts.problem) == (expected, None, False, None)


def test_a_lost_proxy_opinion_is_marked_and_not_a_zero():
    parts = score(parse(GOOD.format(1)), "1", None)
    assert parts.unscored
    assert parts.problem == "unscored"
    assert parts.proxy is None


@pytest.mark.parametrize("proxy", [1.0, -1.0, None])
def test_without_a_closed_rubric_the_failed_column_counts_and_the_rollout_is_scored(proxy):
    parts = score(parse("<rubric>red (100%)<eval>e</eval><answer>1</answer>"), "1", proxy)
    assert (parts.score, parts.proxy, parts.unscored) == (1.0, None, False)
    assert parts.problem == "unclosed_rubric"


@pytest.mark.parametrize("proxy", [1.0, None])
def test_a_rubric_that_names_the_winner_earns_nothing_from_the_proxy(proxy):
    leak = parse(GOOD.format(1).replace("Names red", "Response 1 is better"))
    assert rubric_to_judge(leak) is None
    parts = score(leak, "1", proxy)
    assert (parts.score, parts.proxy, parts.unscored, parts.problem) == (1.5, None, False, "rubric_names_winner")


@pytest.mark.parametrize(("proxy", "expected", "unscored"), [(1.0, 2.5, False), (-1.0, 0.5, False), (None, 1.5, True)])
def test_a_leak_may_be_allowed_and_then_counts_like_any_rubric(proxy, expected, unscored):
    leak = parse(GOOD.format(1).replace("Names red", "Response 1 is better"))
    assert rubric_to_judge(leak, deny_leaks=False) == "<rubric>\nResponse 1 is better (100%)\n</rubric>"
    parts = score(leak, "1", proxy, deny_leaks=False)
    assert (parts.score, parts.proxy, parts.unscored) == (expected, proxy, unscored)


def test_the_rubric_to_judge_has_neither_justification_nor_verdict():
    assert rubric_to_judge(parse(GOOD.format(1))) == "<rubric>\nNames red (100%)\n</rubric>"


@pytest.mark.parametrize("response", ["", "1", "<answer>10</answer>", "<answer>1/2</answer>", "the answer is 1"])
def test_no_strict_verdict_counts_as_wrong(response):
    assert score(parse(response), "1", None, use_proxy=False).score == -1.0


def test_an_unknown_aggregation_names_the_nearest():
    with refused("reward.unknown-aggregation", name="bonus_evn") as caught:
        resolve_aggregation("bonus_evn")
    assert "'bonus_even'" in str(caught.value)
    with refused("reward.unknown-aggregation", name="11", known=list(AGGREGATIONS)):
        resolve_aggregation(11)


@pytest.mark.parametrize("label", ["Output1", "", "12", 0, 3, 1.5, True, None, "１", "1/2", [1]])
def test_a_label_that_is_neither_1_nor_2_is_refused(label):
    with pytest.raises(ValueError, match="1 or 2"):
        score(parse(GOOD.format(1)), label, 1.0)


@pytest.mark.parametrize("proxy", [0.0, 0, 2, -0.5, float("nan"), True, "1", "", [1]])
def test_an_invalid_proxy_reward_is_refused(proxy):
    with pytest.raises(ValueError, match="proxy reward"):
        score(parse(GOOD.format(1)), "1", proxy)
    with pytest.raises(ValueError, match="proxy reward"):
        score(parse("nothing to judge"), "1", proxy)


@pytest.mark.parametrize("label", [1, "1", 1.0, " 1\n", "1.0"])
def test_a_label_may_be_a_number_or_text(label):
    assert score(parse(GOOD.format(1)), label, 1).score == 2.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>red is right</think><answer>1</answer>", (1, 1, 1.5, None)),
        (" <think>x</think>\n\n<answer> 1 </answer>\n", (1, 1, 1.5, None)),
        ("<think>x</think><answer>2</answer>", (-1, 1, -0.5, None)),
        ("<think>x</think> so <answer>1</answer>", (1, 0, 1, "proxy_layout")),
        ("<answer>1</answer><think>x</think>", (1, 0, 1, "proxy_layout")),
        ("<think> </think><answer>1</answer>", (1, 0, 1, "proxy_layout")),
        ("<think>a</think><think>b</think><answer>1</answer>", (1, 0, 1, "proxy_layout")),
        ("<think>x</think><answer>10</answer>", (-1, 0, -1, "proxy_no_verdict")),
        ("<think>x</think><answer>1</answer><answer>1</answer>", (-1, 0, -1, "proxy_no_verdict")),
        ("", (-1, 0, -1, "proxy_no_verdict")),
    ],
)
def test_a_proxy_in_training_earns_accuracy_and_half_a_point_for_its_layout(
    text: str, expected: tuple[float, float, float, str | None]
) -> None:
    parts = score_proxy(text, "1")
    assert (parts.accuracy, parts.format, parts.score, parts.problem) == expected
    assert parts.proxy is None
    assert not parts.unscored


def test_a_proxy_in_training_has_no_reward_from_an_invalid_label() -> None:
    with pytest.raises(ValueError, match="must be 1 or 2"):
        score_proxy("<think>x</think><answer>1</answer>", "3")
