"""What is read from the answers of the stages."""

from __future__ import annotations

import pytest

from proxygrm.process.stages import Description


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
