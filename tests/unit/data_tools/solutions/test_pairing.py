"""Which right solution is paired with which wrong one."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.solutions.pairing import drawn, pair_up, question_key, rank
from proxygrm.process.solutions import Solution


def solution(labels, right, scores=None, question="q", images=("a.png",)):
    steps = tuple(f"step {number}" for number in range(len(labels)))
    return Solution("1", "s", question, images, steps, tuple(labels), scores, right, None)


def pairs_of(*rows):
    """rows: (question, right, rank, steps)"""
    question, right, ranks, steps = (np.array(column) for column in zip(*rows, strict=True))
    return pair_up(question.astype("u8"), right, ranks, steps.astype("u8"))


def test_solutions_are_paired_within_their_question_wherever_they_stand():
    rows = [(1, 1, 0, 10), (2, -1, 0, 11), (3, 1, 0, 12), (1, -1, 0, 13), (2, 1, 0, 14)]
    assert pairs_of(*rows) == [(0, 3), (4, 1)]


def test_no_solution_is_in_two_pairs_and_one_without_a_known_end_in_none():
    rows = [(1, 1, 0, 1), (1, 1, 0, 2), (1, -1, 0, 3), (1, 0, 0, 4), (1, 1, 0, 5), (2, 0, 0, 6)]
    assert pairs_of(*rows) == [(0, 2)]
    assert pairs_of(*rows, (1, -1, 0, 7)) == [(0, 2), (1, 6)]
    assert pairs_of((1, 1, 0, 1), (1, 1, 0, 2)) == []
    assert pairs_of((1, 0, 0, 1)) == []


def test_the_surest_right_one_meets_the_latest_error_first():
    rows = [(1, 1, 0.9, 1), (1, 1, 0.1, 2), (1, -1, 0.8, 3), (1, -1, 0.2, 4), (1, -1, 0.5, 5)]
    assert pairs_of(*rows) == [(0, 4), (1, 3)]


def test_equal_steps_on_both_sides_are_no_pair():
    assert pairs_of((1, 1, 0, 7), (1, -1, 0, 7)) == []


def test_no_rows_are_no_pairs():
    empty = np.array([], "u8")
    assert pair_up(empty, empty.astype("i1"), empty.astype("f4"), empty) == []


@pytest.mark.parametrize(
    ("labels", "right", "scores", "expected"),
    [
        ([1, 1, -1, -1], False, None, 0.5), ([-1, -1], False, None, 1.0), ([1, 1, 1, -1], False, None, 0.25),
        ([1, None], False, None, 1.0), ([None, None], False, None, 1.0),  # where the error is, is unknown
        ([1, 1], True, None, 0.0), ([1, None], True, None, 1.0), ([1, 1], True, (1.0, 0.25), 0.75),
        ([1, 1], True, (1.0, None), 0.0), ([1, -1], True, (1.0, 0.0), 1.0),
    ],
)  # fmt: skip
def test_the_rank_of_a_solution(labels, right, scores, expected):
    assert rank(solution(labels, right, scores)) == expected


def test_questions_are_the_same_but_for_blanks_and_only_about_the_same_images():
    key = question_key(solution([1], True, question="How  many?\n"))
    assert key == question_key(solution([1], False, question="How many?"))
    assert key != question_key(solution([1], True, question="How many?", images=("b.png",)))
    assert key != question_key(solution([1], True, question="How many ?"))


def test_drawn_questions_depend_on_the_seed_and_are_taken_whole():
    question = np.array([1, 2, 1, 3, 4, 3], "u8")
    candidates = np.array([True, True, True, True, False, True])
    chosen = [set(question[drawn(question, candidates, 2, seed)].tolist()) for seed in range(20)]
    assert all(len(each) == 2 for each in chosen)
    assert set.union(*chosen) == {1, 2, 3}
    assert len({tuple(sorted(each)) for each in chosen}) > 1
    mask = drawn(question, candidates, 2, 0)
    assert all(mask[question == key].all() for key in chosen[0])
    assert set(question[drawn(question, candidates, 1, 0)].tolist()) < chosen[0]  # fewer are some of more
    assert drawn(question, candidates, 99, 0).tolist() == candidates.tolist()
