"""Studies of step judges compare settings, not draws: the same call has the same seed in each of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from proxygrm.critique.prompts.process import DESCRIBE, STEP
from proxygrm.evaluate.process.questions import Question
from proxygrm.evaluate.steps.asking import AskedWork, Asking
from proxygrm.process.checklist import Step
from proxygrm.process.stages import ScoreSettings


def test_settings_that_ask_for_the_same_description_get_the_same_one(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    question = Question("Why?", ("1.png",), (tmp_path / "1.png",), ((Step("One."), Step("Two.")),))
    base = Asking(description="structured", description_temperature=0.2)

    def described(asking: Asking) -> str:
        return AskedWork([question], ScoreSettings(), (DESCRIBE, STEP), asking).describing(question).key

    same = [replace(base, corruption="empty"), replace(base, judge_sees_image=False)]
    assert {described(each) for each in same} == {described(base)}
    assert described(replace(base, description="structured_short")) != described(base)
