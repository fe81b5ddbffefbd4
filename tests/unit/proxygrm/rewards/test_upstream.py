"""Upstream's reading of a response, case by case, and against a plain regex version of its description."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygrm.rewards import upstream
from proxygrm.rewards.upstream import accuracy, rubric_for_proxy, score, well_formed
from support.linear_time import assert_linear

GOOD = "<rubric>\nred (100%)\n<justify>j</justify>\n</rubric>\n<eval>\ne\n</eval>\n<answer>{}</answer>"


@pytest.mark.parametrize(
    ("response", "label", "expected"),
    [
        ("<answer>1</answer>", 1, 1),
        ("<answer>2</answer>", 1, -1),
        ("<answer> Response 2. </answer>", 2, 1),
        ("<answer>10</answer>", 1, 1),
        ("<answer>12</answer>", 1, -1),
        ("<answer>1/2</answer>", 2, -1),
        ("<answer>1</answer><answer>2</answer>", 1, 1),
        ("<answer>1</answer><answer>2</answer>", 2, -1),
        ("<answer><answer>1</answer>", 1, 1),
        ("</answer>1<answer>2</answer>", 2, 1),
        ("<answer>\n1\n</answer>", 1, 1),
        ("<answer></answer>1", 1, -1),
        ("<answer>one</answer>", 1, -1),
        ("<answer>１</answer>", 1, -1),
        ("the better one is 1", 1, 1),
        ("a weight of 100%", 1, 1),
        ("1 or 2", 1, -1),
        ("<answer>1", 1, 1),
        ("<answer>1 beats 2", 1, -1),
        ("<ANSWER>1</ANSWER>", 1, 1),
        ("", 1, -1),
        ("", 2, -1),
    ],
)
def test_accuracy_looks_for_the_digit_in_the_first_answer_or_anywhere(response, label, expected):
    assert accuracy(response, label) == expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (GOOD.format(1), True),
        (GOOD.format("whatever"), True),
        ("<rubric></rubric><eval></eval><answer></answer>", True),
        ("<think>t</think>\n<summary>s</summary>\n<answer>1</answer>", True),
        ("\n\n" + GOOD.format(1) + "\n", True),
        (GOOD.format("</answer>1"), True),
        (GOOD.format(1).replace("red", "red </rubric> </eval> <think>"), True),
        (" " + GOOD.format(1), False),
        (GOOD.format(1) + " ", False),
        (GOOD.format(1).replace("\n", "\r\n"), False),
        (GOOD.format(1).replace("<eval>", " <eval>"), False),
        (GOOD.format(1).replace("red", "<rubric>"), False),
        (GOOD.format(1).replace("red", "<answer>"), False),
        ("<think>t</think><eval>s</eval><answer>1</answer>", False),
        ("<rubric>r</rubric><eval>e</eval>", False),
        ("<rubric></rubric><eval></eval><answer>", False),
        ("<rubric></eval><answer></rubric><eval></answer>", False),
        ("<rubric><eval></rubric></eval><answer></answer>", False),
        ("<RUBRIC>r</RUBRIC><eval>e</eval><answer>1</answer>", False),
        ("", False),
    ],
)
def test_form_is_one_of_two_layouts_without_anything_between_the_parts(response, expected):
    assert well_formed(response) is expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (GOOD.format(1), "<rubric>\nred (100%)\n</rubric>"),
        ("chatter <rubric>a</rubric>b</rubric>", "chatter <rubric>a</rubric>"),
        ("<rubric>a<justify>b</justify>c</rubric>", "<rubric>a</rubric>"),
        ("<rubric>a<eval>1 wins</eval><answer>1</answer>", "<rubric>a<eval>1 wins</eval><answer>1</answer></rubric>"),
        ("<rubric>a</rubric><justify>b", "<rubric>a</rubric>"),
        ("<justify>b<rubric>a</rubric>", "</rubric>"),
        ("no tags", "no tags</rubric>"),
        ("", "</rubric>"),
    ],
)
def test_the_rubric_is_all_text_before_its_end_cut_at_the_justification(response, expected):
    assert rubric_for_proxy(response) == expected


# number -> ++, +-, -+, --, +failed, -failed; typed from the paper's table, not from the code.
TABLE = """0 2 0 0 -2 1 -1
1 2 -2 -2 -2 1 -1
2 1 -1 -1 -1 1 -1
3 2.5 -0.5 0 -2 0.5 -1
4 2.5 -0.5 -0.5 -2 0.5 -1
5 2.5 -0.5 -0.5 -3 0.5 -2
6 2 -0.5 0 -2 0.5 -1
7 1.5 0.5 -1 -1 0.5 -1
8 1.5 0.5 -1.5 -1 0.5 -1
9 1.5 0.5 -1.5 -2 0.5 -2
10 1 0.5 -1 -1 0.5 -1"""


@pytest.mark.parametrize("row", TABLE.splitlines())
def test_the_score_is_the_cell_of_the_table_and_half_a_point_for_form(row):
    number, *cells = row.split()
    columns = [(1, 1), (1, -1), (2, 1), (2, -1), (1, None), (2, None)]
    for (verdict, proxy), cell in zip(columns, cells, strict=True):
        parts = score(GOOD.format(verdict), "1", proxy, number)
        assert parts.score == float(cell) + 0.5
        assert not parts.unscored
        assert parts.problem == (None if proxy else "proxy_failed")
        assert score(" " + GOOD.format(verdict), 1, proxy, int(number)).score == float(cell)


def test_without_a_proxy_the_score_is_accuracy_and_form():
    assert score(GOOD.format(1), 1, None, use_proxy=False).score == 1.5
    assert score("2", 1, None, "9", use_proxy=False).score == -1.0


def test_a_rollout_without_rubric_keeps_its_proxy_reward():
    assert score("<answer>1</answer>", 1, 1).score == 2.0


def test_an_invalid_label_or_proxy_reward_is_refused_here_too():
    with pytest.raises(ValueError, match="ground truth"):
        score("1", 3, 1)
    with pytest.raises(ValueError, match="proxy reward"):
        score("1", 1, 0.0)


PIECES = ["<rubric>", "</rubric>", "<eval>", "</eval>", "<answer>", "</answer>", "<think>", "</think>", "<summary>",
          "</summary>", "<justify>", "1", "2", " ", "\n", "\r", "x"]  # fmt: skip
ordered = st.tuples(*[st.lists(st.sampled_from(PIECES), max_size=2).map("".join) for _ in range(5)]).map(
    lambda f: f"<rubric>{f[0]}</rubric>{f[1]}<eval>{f[2]}</eval>{f[3]}<answer>{f[4]}</answer>"
)


@given(st.lists(st.sampled_from(PIECES), max_size=16).map("".join) | ordered)
def test_it_reads_as_the_patterns_of_the_description_do(text):
    match = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    kept = re.sub(r"[^A-Za-z0-9]", "", match[1] if match else text)
    for label in (1, 2):
        expected = str(label) in kept and str(3 - label) not in kept
        assert (accuracy(text, label) > 0) == expected
    flat = text.replace("\n", "")
    expected = any(
        re.fullmatch("".join(f"<{part}>.*?</{part}>" for part in layout), flat) is not None
        and all(flat.count(f"<{part}>") == 1 for part in layout)
        for layout in (("rubric", "eval", "answer"), ("think", "summary", "answer"))
    )
    assert well_formed(text) == expected


@pytest.mark.parametrize("piece", [*PIECES, "<", "</rubric><eval>", "</eval><answer>"])
def test_reading_time_is_linear_on_hostile_text(piece):
    def read(size: int) -> None:
        text = "<rubric>" + piece * (size // len(piece)) + "</answer>"
        upstream.score(text, 1, None)
        rubric_for_proxy(text)

    assert_linear(read, size=1_000_000)
