"""The visual checklist: which steps lean on the image, and on what."""

from __future__ import annotations

from typing import Any

import pytest

from proxygrm.core.bad_row import BadRow
from proxygrm.process.checklist import EMPTY, checklist_of, normal_dependency, steps_in


@pytest.mark.parametrize("value", [None, "", " \n", "null", " NULL ", "Null"])
def test_null_blank_and_the_word_null_are_no_dependency(value: Any) -> None:
    assert normal_dependency(value) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(" AB = 3 ", "AB = 3"), ("none", "none"), ("N/A", "N/A"), (False, "False"), (0, "0"), ([], "[]"), (3.5, "3.5")],
)
def test_everything_else_is_a_dependency_by_its_text(value: Any, text: str) -> None:
    assert normal_dependency(value) == text


def test_the_checklist_names_each_fact_once_in_order_and_every_visual_step() -> None:
    facts = ["AB = 3", None, "angle C is right", " AB = 3 ", "ab = 3", "null"]
    steps = steps_in([{"steptext": "s", "visualdependency": fact} for fact in facts])
    checklist = checklist_of(steps)
    assert checklist.items == ("AB = 3", "angle C is right", "ab = 3")
    assert checklist.visual_indices == (0, 2, 3, 4)
    assert checklist.text == "- AB = 3\n- angle C is right\n- ab = 3"


def test_a_solution_that_leans_on_nothing_has_the_empty_checklist() -> None:
    checklist = checklist_of(steps_in([{"steptext": "2 + 2 = 4"}]))
    assert (checklist.items, checklist.visual_indices, checklist.text) == ((), (), EMPTY)
    assert checklist_of([]).text == "(empty)"


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (None, "no_steps"), ({}, "no_steps"), ("text", "no_steps"), (["text"], "bad_step"), ([None], "bad_step"),
        ([{"steptext": 3}], "bad_step"), ([{"visualdependency": "x"}], "bad_step"),
    ],
)  # fmt: skip
def test_what_is_not_a_list_of_steps_is_a_bad_row(value: Any, cause: str) -> None:
    with pytest.raises(BadRow) as caught:
        steps_in(value)
    assert caught.value.cause == cause


def test_a_dependency_nested_beyond_all_depth_is_a_bad_row() -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(BadRow):
        steps_in([{"steptext": "s", "visualdependency": nested}])
