"""What the stages ask, and what is read from their answers."""

from __future__ import annotations

import pytest

from proxygrm.process.checklist import Step
from proxygrm.process.stages import Description, ScoreSettings, step_texts


@pytest.mark.parametrize(
    ("written", "text"),
    [
        (r'{"image_description": "\alpha is \frac{1}{2} of \triangle ABC"}', r"\alpha is \frac{1}{2} of \triangle ABC"),
        (r'{"image_description": "\\frac{1}{2}, then\n\"x\""}', '\\frac{1}{2}, then\n"x"'),
        ('{"image_description": "two\nlines",}', "two\nlines"),
    ],
)  # fmt: skip
def test_a_description_keeps_its_latex_and_line_breaks(written: str, text: str) -> None:
    assert Description.of({"text": written, "truncated": False, "problem": None}) == Description(written, text)


def test_a_step_is_judged_without_those_after_it() -> None:
    steps = [Step(f"Step of number {number}.") for number in range(1, 9)]
    texts = step_texts("Why?", "A circle.", steps, ScoreSettings(history=2))
    for at, text in enumerate(texts, 1):
        shown = [number for number in range(1, 9) if f"Step of number {number}." in text]
        assert shown == list(range(shown[0], at + 1))
        assert min(at, 3) <= len(shown) <= 4
