"""The reliability in an auditor's text."""

from __future__ import annotations

from typing import Any

import pytest

from proxygrm.process.audit import audit_object, reliability_in

CASES: list[tuple[Any, float | None, float]] = [
    # text, ours, released
    ('{"p_score": 0.8}', 0.8, 0.8),
    ('```json\n{"errors_and_hallucinations": [], "omissions": [], "p_score": 1.0}\n```', 1.0, 1.0),
    ('Here it is: {"p_score": "0.5",} as asked.', 0.5, 0.5),
    ("{'p_score': 0}", 0.0, 0.0),
    ('{"p_score": 1}', 1.0, 1.0),
    ('{"p_score": true}', None, 1.0),
    ('{"p_score": false}', None, 0.0),
    ('{"p_score": "about 0.7"}', None, 0.7),
    ('{"p_score": "85%"}', None, 0.0),
    ('{"p_score": 85}', None, 0.0),
    ('{"p_score": -0.1}', None, 0.0),
    ('{"p_score": 1.0000001}', None, 0.0),
    ('{"p_score": NaN}', None, 0.0),
    ('{"p_score": "nan"}', None, 0.0),
    ('{"p_score": Infinity}', None, 0.0),
    ('{"p_score": null}', None, 0.0),
    ('{"p_score": [0.5]}', None, 0.0),
    ('{"score": 0.5}', None, 0.0),
    ('{"p_score": 0.5, "errors": [', None, 0.0),
    ("p_score: 0.5", None, 0.0),
    ("", None, 0.0),
    (None, None, 0.0),
    ("[" * 100_000, None, 0.0),
    ('{"a":' * 100_000, None, 0.0),
    ('{"p_score": 1' + "0" * 5000 + "}", None, 0.0),
]


@pytest.mark.parametrize(("text", "ours", "released"), CASES)
def test_reliability_is_a_number_from_0_to_1_or_unknown(text: Any, ours: float | None, released: float) -> None:
    assert reliability_in(text) == ours
    assert reliability_in(text, as_upstream=True) == released


def test_the_last_object_with_the_key_counts_and_as_released_the_first_object() -> None:
    text = 'The form is {"p_score": 1.0}. Mine: {"p_score": 0.3} {"note": "done"}'
    assert reliability_in(text) == 0.3
    assert reliability_in(text, as_upstream=True) == 1.0


def test_a_brace_in_a_string_does_not_end_the_object() -> None:
    found = audit_object('x {"note": "a } and \\" {", "p_score": 0.2} y')
    assert found == {"note": 'a } and " {', "p_score": 0.2}
