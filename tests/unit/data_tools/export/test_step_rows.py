"""The rows of process reward's sets by themselves."""

from __future__ import annotations

import pytest

from data_tools.export.step_rows import StepSetOptions, audit_row, step_rows
from proxygrm.process.checklist import Step
from proxygrm.process.judgements import Judged
from proxygrm.process.solutions import Solution
from proxygrm.process.stages import ScoreSettings, step_texts
from proxygrm.process.teacher_rows import Audited
from support.refusals import refused

STEPS = tuple(f"Step of number {number}." for number in range(1, 8))
SOLUTION = Solution("s", "x", "Why?", ("images/a.png",), STEPS, (1,) * 7, None, True, None)
AUDIT = {"errors_and_hallucinations": [], "omissions": [], "p_score": 1.0}


@pytest.mark.parametrize("history", [0, 1, 2, StepSetOptions().history])
def test_a_judge_is_shown_the_earlier_steps_that_scoring_shows(history: int) -> None:
    assert StepSetOptions().history == ScoreSettings().history
    asked = step_texts("Why?", "A circle.", [Step(text) for text in STEPS], ScoreSettings(history=history))
    rows = list(step_rows(SOLUTION, "A circle.", [1, -1, None, 1, 1, 1, -1], history, ["/a.png", "/b.png"]))
    assert [row["id"] for row in rows] == [f"s/{number}" for number in (1, 2, 4, 5, 6, 7)]
    kept = [text for number, text in enumerate(asked, 1) if number != 3]
    assert [row["messages"][0]["content"] for row in rows] == [f"<image><image>{text}" for text in kept]
    assert [row["messages"][1]["content"] for row in rows] == ["1", "-1", "1", "1", "1", "-1"]


def test_an_audit_of_other_claims_is_no_row() -> None:
    judged = [
        Judged(1, None, "AB = 3"),
        Judged(1, None, "AB = 3"),
        Judged(1, None, "BC = 4"),
        *[Judged(1, None, None)] * 4,
    ]
    audited = Audited("- AB = 3\n- BC = 4", "description", "A triangle.", AUDIT)
    row = audit_row(SOLUTION, judged, audited, ["/a.png"])
    assert "Claims:\n- AB = 3\n- BC = 4\n" in row["messages"][0]["content"]
    for other in ([Judged(1, None, "AB = 4")] * 7, [Judged(1, None, None)] * 7):
        with pytest.raises(ValueError, match="claims"):
            audit_row(SOLUTION, other, audited, ["/a.png"])


@pytest.mark.parametrize(("name", "value"), [("history", -1), ("balance", -0.5), ("max_rows", -1)])
def test_options_have_bounds(name: str, value: float) -> None:
    with refused("settings.out-of-range", name=name):
        StepSetOptions(**{name: value})
