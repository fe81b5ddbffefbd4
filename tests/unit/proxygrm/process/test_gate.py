"""The gate, and a row of `process gate`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygrm.core.bad_row import BadRow
from proxygrm.process.aggregate import aggregates
from proxygrm.process.gate import gate, gate_row

STEPS = [
    {"steptext": "AB is 3.", "visualdependency": "AB = 3"},
    {"steptext": "So BC is 4.", "visualdependency": None},
    {"steptext": "C is right.", "visualdependency": "C = 90"},
    {"steptext": "AB again.", "visualdependency": "AB = 3"},
]


def row(**changes: Any) -> dict[str, Any]:
    return {"id": 7, "steps": STEPS, "audit": '{"p_score": 0.8}', "verdicts": ["1", "1", "-1", "1"]} | changes


def test_a_right_visual_step_becomes_the_reliability_and_an_error_stays_one() -> None:
    gated = gate_row(row()).row
    assert gated["id"] == 7
    assert gated["checklist"] == "- AB = 3\n- C = 90"
    assert gated["visual_indices"] == [0, 2, 3]
    assert gated["reliability"] == 0.8
    assert gated["raw"] == [1.0, 1.0, -1.0, 1.0]
    assert gated["final"] == [0.8, 1.0, -1.0, 0.8]
    # weights 1 + 2 - 3 + 4 = 4: 14 / 20; gated 0.8 + 2 - 3 + 3.2 = 3: 13 / 20
    assert gated["aggregates"]["raw"]["weighted_correctness"] == pytest.approx(0.7)
    assert gated["aggregates"]["final"]["weighted_correctness"] == pytest.approx(0.65)
    assert gated["aggregates"]["final"]["correctness_rate"] == 0.25
    assert gate_row(row(), as_upstream=True).row == gated


def test_a_reliability_of_0_leaves_visual_steps_0_and_others_alone() -> None:
    assert gate([1.0, 1.0, -1.0], [0, 2], 0.0) == [0.0, 1.0, -1.0]


@pytest.mark.parametrize(
    ("choice", "final"),
    [("keep", [1.0, 1.0, -1.0, 1.0]), ("zero", [0.0, 1.0, -1.0, 0.0]), ("drop", [None, 1.0, -1.0, None])],
)
def test_an_unreadable_audit_is_unknown_and_its_steps_are_as_asked(choice: str, final: list[float | None]) -> None:
    gated = gate_row(row(audit="cannot tell"), unreadable_audit=choice)
    assert gated.row["reliability"] is None
    assert gated.audit_unreadable
    assert gated.row["final"] == final
    assert (gated.row["aggregates"]["final"]["mean"] is None) == (choice == "drop")
    assert gated.row["aggregates"]["raw"]["mean"] == 0.75


def test_released_an_unreadable_audit_is_0_and_is_still_counted() -> None:
    gated = gate_row(row(audit='{"p_score": "85%"}'), as_upstream=True)
    assert (gated.row["reliability"], gated.row["final"]) == (0.0, [0.0, 1.0, -1.0, 0.0])
    assert gated.audit_unreadable


def test_an_unreadable_verdict_is_null_and_never_a_minus_1() -> None:
    gated = gate_row(row(verdicts=["1", "correct", "Step 1 is wrong", ""]))
    assert gated.row["raw"] == [1.0, None, None, None]
    assert gated.row["final"] == [0.8, None, None, None]
    assert set(gated.row["aggregates"]["raw"].values()) == {None}
    assert gated.unreadable_verdicts == 3


def test_released_an_unreadable_verdict_is_guessed_and_is_still_counted() -> None:
    gated = gate_row(row(verdicts=["1", "correct", "Step 1 is wrong", ""]), as_upstream=True)
    assert gated.row["raw"] == [1.0, -1.0, 1.0, -1.0]
    assert gated.unreadable_verdicts == 3


@pytest.mark.parametrize("as_upstream", [False, True])
def test_a_solution_without_steps_is_counted_and_has_the_aggregates_of_an_empty_list(as_upstream: bool) -> None:
    gated = gate_row(row(steps=[], verdicts=[]), as_upstream)
    assert gated.no_steps
    assert gated.row["aggregates"] == {"raw": aggregates([]), "final": aggregates([])}
    assert set(gated.row["aggregates"]["final"].values()) == {0.0}
    assert gated.row["checklist"] == "(empty)"


def test_without_visual_steps_an_unreadable_audit_changes_nothing_and_does_not_count() -> None:
    steps = [{"steptext": "2 + 2 = 4", "visualdependency": "null"}]
    gated = gate_row(row(steps=steps, verdicts=["1"], audit=None), unreadable_audit="drop")
    assert (gated.row["final"], gated.audit_unreadable) == ([1.0], False)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"verdicts": ["1"]}, "verdict_count"), ({"verdicts": ["1"] * 5}, "verdict_count"),
        ({"verdicts": None}, "no_verdicts"), ({"verdicts": "1"}, "no_verdicts"), ({"steps": None}, "no_steps"),
        ({"verdicts": ["1", "1", "1", [1]]}, "bad_verdict"), ({"audit": {"p_score": 1}}, "bad_audit"),
        ({"audit": 0.8}, "bad_audit"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("as_upstream", [False, True])
def test_what_is_not_a_judged_solution_is_a_bad_row(changes: dict[str, Any], cause: str, as_upstream: bool) -> None:
    with pytest.raises(BadRow) as caught:
        gate_row(row(**changes), as_upstream)
    assert caught.value.cause == cause


@given(
    st.lists(st.tuples(st.sampled_from([1.0, -1.0, None]), st.booleans()), max_size=250),
    st.one_of(st.none(), st.floats(0, 1)),
    st.sampled_from(["keep", "zero", "drop"]),
)
def test_the_gate_only_lowers_right_visual_steps(
    steps: list[tuple[float | None, bool]], reliability: float | None, choice: str
) -> None:
    raw = [score for score, _ in steps]
    final = gate(raw, [index for index, (_, visual) in enumerate(steps) if visual], reliability, choice)
    assert len(final) == len(raw)
    for (score, visual), gated in zip(steps, final, strict=True):
        if score != 1.0 or not visual:
            assert gated == score
        else:
            assert gated == (reliability if reliability is not None else {"keep": 1, "zero": 0, "drop": None}[choice])
