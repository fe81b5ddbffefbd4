"""Rows of VisualPRM400K in its three forms: steps, labels, what is unknown, and what is no solution."""

from __future__ import annotations

from typing import Any

import pytest

from data_tools.sources.base import Excluded
from data_tools.sources.visualprm import RawSolution, Reading, read
from proxygrm.core.images.fields import NoImage, NotGiven
from support.refusals import refused
from support.rows.visualprm_files import conversation, outcome, scored


def solution(row: dict[str, Any], of_outcomes: bool = False, **reading: Any) -> RawSolution:
    found = read(row, Reading(**reading), of_outcomes)
    assert isinstance(found, RawSolution), found
    return found


def reason(row: dict[str, Any]) -> tuple[str, bool]:
    found = read(row, Reading())
    assert isinstance(found, Excluded), found
    return found.reason, found.bad


def test_every_turn_is_a_step_with_its_label_and_the_last_one_decides() -> None:
    found = solution(conversation(["Three dots.", "3 + 2 = 5.", "Answer: 5"], ["+", "-", " +\n"]))
    assert (found.question, found.images) == ("How many?", ("0.png",))
    assert (found.steps, found.labels) == (["Three dots.", "3 + 2 = 5.", "Answer: 5"], [1, -1, 1])
    assert (found.right, found.scores, found.answer, found.outcome) == (True, None, None, False)
    assert solution(conversation(["a", "b"], ["+", "-"])).right is False


def test_a_threshold_changes_no_label_of_a_conversation_and_that_is_noted() -> None:
    found = solution(conversation(["a"], ["+"]), threshold=0.5)
    assert (found.labels, found.notes) == ([1], ("threshold_not_used",))
    assert solution(conversation(["a"], ["+"])).notes == ()


def test_an_empty_conversation_is_not_called_a_list_that_is_no_list() -> None:
    found = read({"image": "a.png", "conversations": []}, Reading())
    assert (found.reason, found.detail) == ("bad_turns", "conversations is an empty list, not a list of turns")


def test_steps_after_the_first_error_are_what_the_release_says_or_unknown() -> None:
    row = conversation(["a", "b", "c", "d"], ["+", "-", "-", "+"])
    assert solution(row).labels == [1, -1, -1, 1]
    assert solution(row, after_error="unknown").labels == [1, -1, None, None]
    assert solution(row, after_error="unknown").right is True
    assert solution(conversation(["a", "b"], ["+", "+"]), after_error="unknown").labels == [1, 1]


def test_a_turn_without_the_system_or_with_other_names_of_roles_is_read() -> None:
    row = conversation(["a", "b"], ["+", "-"])
    turns = [
        {"role": {"human": "user", "gpt": "assistant"}[turn["from"]], "content": turn["value"]}
        for turn in row["conversations"][1:]
    ]
    assert solution(row | {"conversations": turns}).labels == [1, -1]


@pytest.mark.parametrize("verdict", ["?", "", "+-", "−", "1", None, 1, ["+", "-"], {"a": 1}])
def test_a_verdict_that_is_neither_plus_nor_minus_is_named(verdict: Any) -> None:
    found = read(conversation(["a", "b"], ["+", verdict]), Reading())
    assert found == Excluded("bad_verdict", repr(verdict))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda turns: [], "bad_turns"),
        (lambda turns: turns[:-1], "bad_turns"),  # the last step has no verdict
        (lambda turns: [turns[0], turns[2], turns[1]], "bad_turns"),
        (lambda turns: [*turns, turns[0], turns[1]], "bad_turns"),  # a system turn in the middle
        (lambda turns: "+", "bad_turns"),
        (lambda turns: None, "bad_turns"),
        (lambda turns: [turns[1] | {"value": "How many? 5"}, turns[2]], "no_question"),
        (lambda turns: [turns[1] | {"value": "### Question:\nHow many?\n5"}, turns[2]], "no_question"),
        (lambda turns: [turns[1], turns[2], turns[1] | {"value": 3}, turns[2]], "not_text"),
        (lambda turns: [turns[1] | {"value": "### Question:\nq\n### Solution Process:\n "}, turns[2]], "empty_steps"),
    ],
)  # fmt: skip
def test_a_conversation_of_another_shape_is_bad(change: Any, expected: str) -> None:
    row = conversation(["a"], ["+"])
    assert reason(row | {"conversations": change(row["conversations"])}) == (expected, True)


def test_a_whole_response_with_one_label_is_an_outcome_and_its_steps_are_unknown() -> None:
    found = solution(outcome("Three dots.\n\n3 + 2 = 5.\n \nAnswer: 5", "-"))
    assert found.steps == ["Three dots.", "3 + 2 = 5.", "Answer: 5"]
    assert (found.labels, found.right, found.outcome) == ([None, None, None], False, True)
    alone = outcome("It is 5.", "+")
    assert solution(alone).labels == [1]  # a solution of one step
    assert solution(alone, of_outcomes=True)[3:7] == ([None], None, True, None)


def test_a_score_above_the_threshold_is_right_and_one_equal_to_it_is_not() -> None:
    row = scored([("a", 16, 16), ("b", 4, 16), ("c", 1, 16)])
    found = solution(row)
    assert (found.labels, found.scores, found.right, found.answer) == ([1, 1, 1], [1.0, 0.25, 0.0625], True, "5")
    assert solution(row, threshold=0.25).labels == [1, -1, -1]
    assert solution(row, threshold=0.25).right is False


def test_steps_that_were_not_measured_after_a_zero_are_unknown_and_the_solution_is_wrong() -> None:
    found = solution(scored([("a", 16, 16), ("b", 0, 16), ("c", 0, 0), ("d", 0, 0)]), after_error="unknown")
    assert (found.labels, found.scores, found.right) == ([1, -1, None, None], [1.0, 0.0, None, None], False)


def test_measured_steps_after_an_error_keep_their_labels_where_the_release_says_what_it_measured() -> None:
    row = scored([("a", 2, 16), ("b", 8, 16)])
    assert solution(row, threshold=0.2, after_error="unknown").labels == [-1, 1]
    for item in row["steps_with_score"]:
        del item["num_mc_total"]
    assert solution(row, threshold=0.2).labels == [-1, 1]
    assert solution(row, threshold=0.2, after_error="unknown").labels == [-1, None]


def test_a_solution_of_which_nothing_was_measured_is_neither_right_nor_wrong() -> None:
    assert solution(scored([("a", 0, 0), ("b", 0, 0)])).right is None
    unscored = scored([("a", 16, 16)])
    unscored["steps_with_score"].append({"step": "b", "score": None})
    found = solution(unscored)
    assert (found.labels, found.right, found.notes) == ([1, None], None, ("step_without_score",))


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], ("no_steps", False)), ("a", ("bad_steps", True)), (["a"], ("bad_steps", True)),
        ([{"score": 1.0}], ("not_text", True)), ([{"step": 3, "score": 1.0}], ("not_text", True)),
        ([{"step": "a", "score": "1"}], ("bad_score", True)), ([{"step": "a", "score": 1.5}], ("bad_score", True)),
        ([{"step": "a", "score": True}], ("bad_score", True)), ([{"step": "a", "score": -1}], ("bad_score", True)),
        ([{"step": "a", "score": float("nan")}], ("bad_score", True)),
        ([{"step": "a", "score": 1, "num_mc_total": -1}], ("bad_score", True)),
        ([{"step": "a", "score": 1, "num_mc_total": "16"}], ("bad_score", True)),
        ([{"step": "a", "score": 1, "num_mc_total": float("inf")}], ("bad_score", True)),
        ([{"step": " \n", "score": 1}], ("empty_steps", True)),
    ],
)  # fmt: skip
def test_scored_steps_of_another_shape_are_named(items: Any, expected: tuple[str, bool]) -> None:
    assert reason(scored([("a", 1, 1)]) | {"steps_with_score": items}) == expected


def test_a_blank_step_is_left_out_with_its_label_and_counted() -> None:
    found = solution(scored([("a", 16, 16), ("  ", 4, 16), ("b ", 0, 16)]))
    assert (found.steps, found.labels, found.scores) == (["a", "b"], [1, -1], [1.0, 0.0])
    assert found.notes == ("blank_step_left_out",)


def test_a_score_that_differs_from_its_count_is_noted() -> None:
    row = scored([("a", 8, 16)])
    row["steps_with_score"][0]["score"] = 0.75
    assert solution(row).notes == ("score_is_not_its_count",)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("a.png", ("a.png",)), (["a.png", "b.png"], ("a.png", "b.png")), ("a.png ", ("a.png ",)),
        (None, (NotGiven("the turn begins with 1 <image> for 0 images"),)),
        (["a.png", None], ("a.png", NotGiven("image 2 of the list is null"))),
    ],
)  # fmt: skip
def test_images_are_a_path_or_a_list_and_a_named_one_without_path_is_missing(image: Any, expected: Any) -> None:
    assert solution(conversation(["a"], ["+"], image=image)).images == expected
    assert solution(scored([("a", 1, 1)], image=image)).images == expected


def test_a_value_that_names_no_image_is_an_error() -> None:
    with pytest.raises(NoImage):
        read(conversation(["a"], ["+"], image=7), Reading())


@pytest.mark.parametrize(
    ("answer", "expected"), [("5", "5"), (5, "5"), (["5", "6"], '["5", "6"]'), (None, None), ("", None)]
)
def test_the_answer_is_text(answer: Any, expected: str | None) -> None:
    assert solution(scored([("a", 1, 1)], answer=answer)).answer == expected


def test_a_row_of_another_release_is_named() -> None:
    assert reason({"question": "q", "chosen": "a"}) == ("unknown_layout", True)


def test_settings_out_of_bounds_are_refused() -> None:
    with refused("settings.out-of-range", name="threshold"):
        Reading(threshold=1.5)
    with refused("settings.unknown-value", name="after_error"):
        Reading(after_error="wrong")
