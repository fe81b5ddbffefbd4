from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygrm.critique.contract import Problem, parse, parse_proxy_verdict, rubric_for_proxy
from support.linear_time import assert_linear

GOOD = (
    "<rubric>\n1. Names the colour red (80%)\n2. One clear sentence (20%)\n<justify>Colour is asked.</justify>\n"
    '</rubric>\n<eval>\nResponse 1 says "red", Response 2 says "blue".\n</eval>\n<answer>1</answer>'
)
TAGS = ["<rubric>", "</rubric>", "<justify>", "</justify>", "<eval>", "</eval>", "<answer>", "</answer>"]


def test_a_well_formed_critique_is_read_in_full():
    critique = parse(GOOD)
    assert critique.well_formed
    assert critique.problems == ()
    assert critique.reason is None
    assert critique.verdict == 1
    assert critique.rubric == "1. Names the colour red (80%)\n2. One clear sentence (20%)"
    assert [(i.description, i.weight) for i in critique.items] == [
        ("Names the colour red", 80.0),
        ("One clear sentence", 20.0),
    ]
    assert critique.justification == "Colour is asked."
    assert critique.evaluation == 'Response 1 says "red", Response 2 says "blue".'


def test_white_space_between_and_around_the_parts_is_allowed_or_absent():
    assert parse(f"\n\t {GOOD}  \n").well_formed
    assert parse(GOOD.replace("\n", "")).well_formed
    assert parse(GOOD.replace("<answer>1<", "<answer>\n 1 \n<")).verdict == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: "", Problem.EMPTY),
        (lambda t: " \n", Problem.EMPTY),
        (lambda t: "Sure! " + t, Problem.TEXT_OUTSIDE),
        (lambda t: t + " Done.", Problem.TEXT_OUTSIDE),
        (lambda t: t.replace("<eval>", "so: <eval>"), Problem.TEXT_OUTSIDE),
        (lambda t: t.replace("<rubric>", ""), Problem.NO_RUBRIC),
        (lambda t: t.replace("</rubric>", ""), Problem.UNCLOSED_RUBRIC),
        (lambda t: t.replace("<eval>", ""), Problem.NO_EVAL),
        (lambda t: t.replace("</eval>", ""), Problem.UNCLOSED_EVAL),
        (lambda t: t.replace("<answer>1</answer>", ""), Problem.NO_ANSWER),
        (lambda t: t.replace("</answer>", ""), Problem.UNCLOSED_ANSWER),
        (lambda t: t.replace("<answer>1", "<answer>10"), Problem.BAD_ANSWER),
        (lambda t: t.replace("<answer>1", "<answer>1/2"), Problem.BAD_ANSWER),
        (lambda t: t.replace("<answer>1", "<answer>Response 1"), Problem.BAD_ANSWER),
        (lambda t: t.replace("<answer>1", "<answer>１"), Problem.BAD_ANSWER),
        (lambda t: t.replace("<answer>1", "<answer>"), Problem.BAD_ANSWER),
        (lambda t: t + "<answer>1</answer>", Problem.REPEATED_TAG),
        (lambda t: t.replace("</eval>", "</eval></eval>"), Problem.REPEATED_TAG),
        (lambda t: "<answer>1</answer>" + t.replace("<answer>1</answer>", ""), Problem.WRONG_ORDER),
        (lambda t: t.replace("</rubric>", "").replace("</eval>", "</rubric></eval>"), Problem.WRONG_ORDER),
        (lambda t: t.replace("<eval>", "<eval><justify>x</justify>"), Problem.WRONG_ORDER),
        (lambda t: t.replace("<justify>Colour is asked.</justify>", ""), Problem.NO_JUSTIFY),
        (lambda t: t.replace("Colour is asked.", " "), Problem.NO_JUSTIFY),
        (lambda t: t.replace("</justify>", ""), Problem.NO_JUSTIFY),
    ],
)
def test_each_departure_from_the_contract_has_its_reason(change, problem):
    critique = parse(change(GOOD))
    assert problem in critique.problems
    assert not critique.well_formed
    assert critique.reason in {p.value for p in Problem}


def test_empty_parts_are_named():
    empty = "<rubric><justify>j</justify></rubric><eval> </eval><answer>2</answer>"
    assert {Problem.EMPTY_RUBRIC, Problem.EMPTY_EVAL} <= set(parse(empty).problems)
    assert rubric_for_proxy(empty) is None


def test_verdict_is_read_without_the_other_parts_but_never_guessed():
    assert parse("<answer>2</answer>").verdict == 2
    assert parse("The better one is 2").verdict is None
    assert parse("<answer>1</answer><answer>2</answer>").verdict is None
    assert parse("</answer>1<answer>").verdict is None


def test_weights_that_do_not_total_100_are_remarked_and_leave_the_form_alone():
    critique = parse(GOOD.replace("80%", "70%"))
    assert critique.problems == (Problem.WEIGHTS_NOT_100,)
    assert critique.well_formed
    assert critique.reason is None


def test_an_unclosed_rubric_is_never_sent_to_the_proxy():
    assert rubric_for_proxy(GOOD.replace("</rubric>", "")) is None
    assert rubric_for_proxy("") is None
    assert rubric_for_proxy("</rubric><rubric>") is None


def test_the_proxy_sees_the_rubric_without_justification_evaluation_and_verdict():
    shown = rubric_for_proxy("chatter " + GOOD)
    assert shown == "<rubric>\n1. Names the colour red (80%)\n2. One clear sentence (20%)\n</rubric>"


def test_an_unclosed_justification_is_cut_to_the_end_of_the_rubric():
    assert rubric_for_proxy("<rubric>a (100%)<justify>pick 1</rubric>") == "<rubric>\na (100%)\n</rubric>"


@pytest.mark.parametrize("inside", ["<answer>1</answer>", "<eval>1 wins</eval>", "<rubric>b", "</eval>", "<answer>"])
def test_a_rubric_with_another_part_inside_is_not_shown(inside):
    assert rubric_for_proxy(f"<rubric>a (100%) {inside}</rubric>") is None


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("<think>t</think><answer>1</answer>", 1),
        ("<think>1 or 2</think>\n<answer> 2 </answer>", 2),
        ("<answer>2</answer>", 2),
        ("<answer>12</answer>", None),
        ("<answer>1 or 2</answer>", None),
        ("<answer></answer>", None),
        ("<answer>1", None),
        ("1</answer>", None),
        ("</answer>1<answer>", None),
        ("<answer>1</answer><answer>1</answer>", None),
        ("I pick 2", None),
        ("", None),
    ],
)
def test_proxy_verdict_is_strict(text, verdict):
    assert parse_proxy_verdict(text) == verdict


HOSTILE = [*TAGS, "<rubric", "<", "1", " ", "%", "(1", "weight ", "response 1 ", "<rubric>a", "\n"]


@pytest.mark.parametrize("piece", HOSTILE)
def test_reading_time_is_linear_on_hostile_text(piece):
    def read(size: int) -> None:
        text = "<rubric>" + piece * (size // len(piece))
        for candidate in (text, text + "</rubric>", text + "<answer>1</answer>"):
            parse(candidate)
            rubric_for_proxy(candidate)
            parse_proxy_verdict(candidate)

    assert_linear(read, size=100_000)


pieces = st.lists(st.sampled_from([*TAGS, "1", "2", " ", "\n", "a (50%)", "Response 1 is better", "ü"]), max_size=24)


@given(pieces.map("".join) | st.text())
def test_reading_never_raises_and_its_parts_agree(text):
    critique = parse(text)
    shown = rubric_for_proxy(text)
    assert critique.verdict in (1, 2, None)
    assert (shown is None) == (critique.rubric is None)
    assert critique.well_formed == (critique.reason is None)
    assert shown is None or not any(tag in critique.rubric for tag in TAGS)
    if critique.well_formed:
        assert critique.verdict is not None
        assert critique.rubric
        assert critique.evaluation
        assert critique.justification


free = st.text(alphabet=st.characters(blacklist_characters="<>"), min_size=1).filter(str.strip)


@given(free, free, free, st.sampled_from([1, 2]))
def test_any_text_without_tags_fits_into_the_contract(rubric, justification, evaluation, verdict):
    text = (
        f"<rubric>{rubric}<justify>{justification}</justify></rubric><eval>{evaluation}</eval>"
        f"<answer>{verdict}</answer>"
    )
    critique = parse(text)
    assert critique.well_formed
    assert critique.verdict == verdict
    assert critique.rubric == rubric.strip()
