"""A judge's text as a verdict: ours, which may be unknown, and the released reading, which never is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygrm.core.bad_row import BadRow
from proxygrm.process.verdict import read_verdict

CASES: list[tuple[Any, int | None, int]] = [
    # text, ours, released
    ("1", 1, 1),
    ("-1", -1, -1),
    (" +1\n", 1, 1),
    ("```json\n-1\n```", -1, -1),
    ("1.0", 1, 1),
    ("[-1]", -1, -1),
    ('"-1"', -1, -1),
    ("**-1**", -1, -1),
    ("Score: -1", -1, -1),
    ('{"score": -1}', -1, -1),
    ("\N{MINUS SIGN}1", -1, 1),
    ("<think>1? No.</think>\n-1", -1, -1),
    ("<think>-1? No.</think>\n1", 1, -1),
    ("<think>-1", None, -1),
    ("Step 1 is wrong", None, 1),
    ("0.1", None, 1),
    ("2", None, 1),
    ('{"step":2,"score":0}', None, 1),
    ("correct", None, -1),
    ("2-1", None, 1),
    ("1 or -1", None, -1),
    ("--1", None, -1),
    ("- 1", None, -1),
    ("10", None, 1),
    ("-7 points", None, -1),
    ("1.9", None, 1),
    ("true", None, 1),
    ("no idea", None, -1),
    ("", None, -1),
    (None, None, -1),
    (1, 1, 1),
    (-1.0, -1, -1),
    ("[" * 100_000, None, -1),
    ("Score:" * 100_000 + "1", None, 1),
]


@pytest.mark.parametrize(("text", "ours", "released"), CASES)
def test_a_verdict_is_read_from_the_bare_number_alone(text: Any, ours: int | None, released: int) -> None:
    assert (read_verdict(text), read_verdict(text, as_upstream=True)) == (ours, released)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "5" * 5000])
def test_a_number_on_which_the_released_reading_raises_is_a_bad_row_there_alone(text: Any) -> None:
    assert read_verdict(text) is None
    with pytest.raises(BadRow) as caught:
        read_verdict(text, as_upstream=True)
    assert caught.value.cause == "bad_verdict"


@pytest.mark.parametrize("value", [True, [1], {"a": 1}])
@pytest.mark.parametrize("as_upstream", [False, True])
def test_a_verdict_of_another_type_is_a_bad_row(value: Any, as_upstream: bool) -> None:
    with pytest.raises(BadRow):
        read_verdict(value, as_upstream)


@given(st.text())
def test_any_text_has_one_of_the_three_verdicts(text: str) -> None:
    assert read_verdict(text) in (1, -1, None)


@given(st.text(alphabet="-+1 .[]{}\"'`*:scorejudgment\n"))
def test_a_readable_verdict_is_never_the_opposite_of_the_released_one(text: str) -> None:
    ours = read_verdict(text)
    assert ours is None or read_verdict(text, as_upstream=True) == ours
