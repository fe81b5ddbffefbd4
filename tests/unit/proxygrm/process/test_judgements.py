"""How a teacher's judgements and audits are read from its texts."""

from __future__ import annotations

import json

import pytest

from proxygrm.core.bad_row import BadRow
from proxygrm.process.judgements import Judged, judged_steps, read_audit, read_judgements, same_text

RIGHT = {"step": 1, "score": 1, "category": None, "visualdependency": "AB = 3"}
WRONG = {"step": 2, "score": -1, "category": "calculation", "visualdependency": None}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([RIGHT, WRONG]),
        f"```json\n{json.dumps([RIGHT, WRONG], indent=1)}\n```",
        f"The list [1, -1] it is.\n{json.dumps([RIGHT, RIGHT])} No: {json.dumps([RIGHT, WRONG])} That is all.",
        json.dumps({"judgements": [RIGHT, WRONG]}),
        json.dumps([RIGHT, WRONG])[:-1] + ",]",
        json.dumps([RIGHT | {"visualdependency": " AB = 3 "}, WRONG | {"visualdependency": "null"}]),
    ],
)
def test_the_last_list_of_objects_counts_wherever_it_stands(text):
    assert read_judgements(text, 2) == [Judged(1, None, "AB = 3"), Judged(-1, "calculation", None)]


def test_a_claim_keeps_its_latex():
    text = r'[{"step": 1, "score": 1, "category": null, "visualdependency": "\angle A = \frac{1}{2}\theta"}]'
    assert read_judgements(text, 1) == [Judged(1, None, r"\angle A = \frac{1}{2}\theta")]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"step": 2}, "wrong_order"),
        ({"step": "1"}, "wrong_order"),
        ({"step": True}, "wrong_order"),
        ({"score": 0}, "bad_score"),
        ({"score": 1.0}, "bad_score"),
        ({"score": None}, "bad_score"),
        ({"score": -1}, "no_category"),
        ({"category": "logic"}, "category_of_a_right_step"),
        ({"category": ["logic"]}, "bad_category"),
        ({"score": -1, "category": "Logic"}, "bad_category"),
        ({"visualdependency": 3}, "bad_dependency"),
    ],
)
def test_a_judgement_out_of_the_closed_sets_is_not_read(change, cause):
    with pytest.raises(BadRow) as caught:
        read_judgements(json.dumps([RIGHT | change]), 1)
    assert caught.value.cause == cause


@pytest.mark.parametrize(("judged", "steps"), [([RIGHT], 2), ([RIGHT, WRONG], 1)])
def test_there_are_as_many_judgements_as_steps(judged, steps):
    with pytest.raises(BadRow) as caught:
        read_judgements(json.dumps(judged), steps)
    assert caught.value.cause == "wrong_count"


def test_a_row_of_judgements_is_read_as_it_was_written():
    judged = read_judgements(json.dumps([RIGHT, WRONG]), 2)
    texts = ("AB is 3.", "3 + 3 = 7.")
    row = [each.row(text) for text, each in zip(texts, judged, strict=True)]
    assert judged_steps(json.loads(json.dumps(row))) == list(zip(texts, judged, strict=True))
    for bad in ([], [{"score": 1}], None):
        with pytest.raises(BadRow):
            judged_steps(bad)


def error(severity: str) -> dict:
    return {"faulty_statement": "a", "correction_or_reason": "b", "severity": severity}


def audit(errors: list, score: object, **more: object) -> str:
    return json.dumps({"errors_and_hallucinations": errors, "omissions": [], "p_score": score} | more)


@pytest.mark.parametrize(
    ("errors", "score"),
    [([], 1), (["High"], 0.5), (["High", "Low"], 0.3), (["Low"] * 2, 0.6), (["High"] * 3, 0), (["Low"] * 3, 0.4)],
)
def test_a_reliability_is_what_the_contradictions_leave_of_one(errors, score):
    found = read_audit(f"So:\n{audit([error(each) for each in errors], score, remark='x')}")
    assert found == {"errors_and_hallucinations": [error(e) for e in errors], "omissions": [], "p_score": float(score)}
    with pytest.raises(BadRow) as caught:
        read_audit(audit([error(each) for each in errors], score - 0.1 if score else 0.1))
    assert caught.value.cause == "score_not_of_errors"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("nothing", "unreadable"),
        (audit([], 1)[:-5], "unreadable"),
        (audit([], "1"), "bad_score"),
        (audit([], True), "bad_score"),
        (audit([], 100), "bad_score"),
        (audit([], float("nan")), "bad_score"),
        (audit([error("high")], 0.5), "bad_errors"),
        (audit(["a"], 0.5), "bad_errors"),
        (audit([], 1, omissions=None), "bad_errors"),
        (json.dumps({"p_score": 1}), "bad_errors"),
    ],
)
def test_an_audit_that_is_not_one_is_not_read(text, cause):
    with pytest.raises(BadRow) as caught:
        read_audit(text)
    assert caught.value.cause == cause


def test_descriptions_are_the_same_whatever_their_blanks():
    assert same_text("Two  circles.\n", "Two circles.")
    assert not same_text("Two circles A.", "Two circles a.")
