"""Which right solution is paired with which wrong one."""

from __future__ import annotations

import numpy as np

from data_tools.solutions.pairing import drawn, pair_up, question_key
from proxygrm.process.solutions import Solution


def solution(question="q", images=("a.png",)):
    return Solution("1", "s", question, images, ("a",), (1,), None, True, None)


def pairs_of(*rows):
    """rows: (question, right, steps)"""
    question, right, steps = (np.array(column) for column in zip(*rows, strict=True))
    return pair_up(question.astype("u8"), right, steps.astype("u8"))


def test_solutions_are_paired_within_their_question_wherever_they_stand():
    assert pairs_of((1, 1, 10), (2, -1, 11), (3, 1, 12), (1, -1, 13), (2, 1, 14)) == [(0, 3), (4, 1)]


def test_every_solution_with_a_counterpart_is_in_a_pair_and_none_of_an_unknown_end():
    assert pairs_of((1, 1, 1), (1, -1, 2), (1, -1, 3), (1, 0, 4), (1, -1, 5)) == [(0, 1), (0, 2), (0, 4)]
    assert pairs_of((1, 1, 1), (1, 1, 2), (1, -1, 3), (1, 1, 4), (1, -1, 5)) == [(0, 2), (1, 4), (3, 2)]
    assert pairs_of((1, 1, 1), (1, 1, 2)) == []
    assert pairs_of((1, -1, 1), (2, 1, 2)) == []
    assert pairs_of((1, 0, 1)) == []


def test_equal_steps_on_both_sides_are_no_pair():
    assert pairs_of((1, 1, 7), (1, -1, 7)) == []
    assert pairs_of((1, 1, 7), (1, -1, 7), (1, -1, 8)) == [(0, 2)]


def test_no_rows_are_no_pairs():
    empty = np.array([], "u8")
    assert pair_up(empty, empty.astype("i1"), empty) == []


def test_questions_are_the_same_but_for_blanks_and_only_about_the_same_images():
    key = question_key(solution("How  many?\n"))
    assert key == question_key(solution("How many?"))
    assert key != question_key(solution("How many?", ("b.png",)))
    assert key != question_key(solution("How many ?"))


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
