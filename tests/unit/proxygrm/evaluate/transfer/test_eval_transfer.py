"""What an unseen judge sees: the own rubric, another pair's in the control, and nothing else of a critique."""

from __future__ import annotations

import random

import pytest

from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges.by_rubric import rubric_prompt
from proxygrm.evaluate.rows.ordered_pair import AS_IS, SWAPPED, OrderedPair, judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.transfer.conditions import conditions
from proxygrm.evaluate.transfer.controls import other_pairs
from proxygrm.evaluate.transfer.rubrics import read_rubrics, shared_pairs
from support.evaluate.runs import write
from support.evaluate.transfers import critique, pairs, rows
from support.refusals import refused

# --- whose rubric is shown instead -----------------------------------------------------------------------------


def checked(ordered, has=None):
    has = has or [True] * len(ordered)
    donors = other_pairs(ordered, has)
    for at, donor in enumerate(donors):
        if donor is not None:
            assert has[at]
            assert has[donor]
            assert ordered[donor].pair.question != ordered[at].pair.question
    return donors


def test_in_the_control_every_rubric_goes_once_to_another_pair_of_its_category_in_its_order():
    ordered = ordered_pairs(pairs(30, ("colour", "shape", "count")))
    donors = checked(ordered)
    assert sorted(donors) == list(range(60))
    for at, donor in enumerate(donors):
        assert (ordered[at].pair.category, ordered[at].order) == (ordered[donor].pair.category, ordered[donor].order)


def test_the_control_depends_on_contents_and_seed_and_not_on_the_order_of_rows():
    ordered = ordered_pairs(pairs(20))
    mixed = random.Random(3).sample(ordered, len(ordered))
    given = [
        {of[at].key: of[donor].key for at, donor in enumerate(other_pairs(of, [True] * len(of), seed))}
        for of, seed in ((ordered, 0), (mixed, 0), (ordered, 1))
    ]
    assert given[0] == given[1] != given[2]


@pytest.mark.parametrize("subjects", [2, 3, 5])
def test_pairs_about_the_same_image_and_question_never_exchange_rubrics(subjects):
    ordered = ordered_pairs(pairs(10, subjects=subjects))
    donors = checked(ordered)
    assert sorted(donors) == list(range(20))


def test_a_category_of_one_pair_borrows_from_the_others_and_a_lone_subject_gets_nothing():
    eval_pairs = [*pairs(6), EvalPair("lonely", "Count?", "1", "2", 1, category="count")]
    ordered = ordered_pairs(eval_pairs)
    donors = checked(ordered)
    assert None not in donors
    assert {ordered[donors[at]].order for at in range(len(ordered)) if ordered[at].order == SWAPPED} == {SWAPPED}
    assert other_pairs(ordered_pairs(pairs(4, subjects=1)), [True] * 8) == [None] * 8
    assert other_pairs([], []) == []


def test_one_subject_that_outweighs_all_others_still_gets_other_rubrics():
    eval_pairs = [EvalPair(f"a{at}", "same?", f"{at}", "x", 1) for at in range(6)] + [
        EvalPair("b", "other?", "1", "2", 1)
    ]
    ordered = ordered_pairs(eval_pairs)
    donors = checked(ordered)
    assert None not in donors
    assert checked(ordered, [True] * 13 + [False])[-1] is None


# --- what is shown ------------------------------------------------------------------------------------------------


def test_nothing_of_a_critique_but_its_closed_rubric_is_shown(tmp_path):
    source = read_rubrics("rl", write(tmp_path / "r w.jsonl", rows(pairs(4))))
    ordered = shared_pairs([source])
    by_condition = conditions(ordered, source, source)
    for name, condition in by_condition.items():
        for request, s in zip(condition.requests, ordered, strict=True):
            text = rubric_prompt(request)
            assert "SECRET" not in text
            assert ("<rubric>" in text) == (name != "none")
            assert f"Response 1: {s.responses[0]}\n\nResponse 2: {s.responses[1]}" in text
            assert "What [image] is" in text
    assert by_condition["own"].requests[1].rubric == "<rubric>\nNames p0 swapped (100%)\n</rubric>"
    assert by_condition["other"].requests[1].rubric != by_condition["own"].requests[1].rubric
    assert by_condition["base"].requests == by_condition["own"].requests


def test_the_prompts_with_and_without_a_rubric_differ_only_in_the_rubric(tmp_path):
    source = read_rubrics("rl", write(tmp_path / "rows.jsonl", rows(pairs(2))))
    (s, *_) = shared_pairs([source])
    by_condition = conditions([s], source, None)
    with_, without = (rubric_prompt(by_condition[name].requests[0]) for name in ("own", "none"))
    body = without[without.index("Question:") :]
    assert with_.endswith(f"{body}\n\n{by_condition['own'].requests[0].rubric}")
    assert without.split("check it")[1].split("Question")[0] == with_.split("check it")[1].split("Question")[0]


def test_ordered_pairs_are_read_from_rows_as_they_were_shown(tmp_path):
    eval_pairs = pairs(3)
    source = read_rubrics("rl", write(tmp_path / "rows.jsonl", rows(eval_pairs)))
    expected = {s.key: s for s in ordered_pairs(eval_pairs)}
    assert source.ordered == expected
    assert [s.label for s in source.ordered.values()] == [s.label for s in expected.values()]


def test_leaks_and_missing_rubrics_are_counted_and_not_sent(tmp_path):
    texts = {
        "p0": critique("Response 2 is better"), "p1": "<rubric>never closed <answer>1</answer>", "p2": "",
    }  # fmt: skip
    eval_pairs = rows(pairs(6), lambda s: texts.get(s.pair.id, critique(f"Names {s.pair.id}")))
    source = read_rubrics("rl", write(tmp_path / "rows.jsonl", eval_pairs))
    assert source.counts() == {"sights": 12, "no_rubric": 4, "leaks": 2}
    ordered = shared_pairs([source])
    by_condition = conditions(ordered, source, None)
    for name in ("own", "other"):
        assert by_condition[name].not_sent == {"leak": 2, "no_rubric": 4}
        assert [request is None for request in by_condition[name].requests] == [True] * 6 + [False] * 6
    shown = {request.rubric for of in by_condition.values() for request in of.requests if request}
    assert not any(rubric and "better" in rubric for rubric in shown)
    allowed = conditions(ordered, source, None, allow_leaks=True)
    assert allowed["own"].not_sent == {"no_rubric": 4}
    assert "better" in allowed["own"].requests[0].rubric


def test_rubrics_of_another_pair_that_equal_the_own_are_counted(tmp_path):
    source = read_rubrics("rl", write(tmp_path / "rows.jsonl", rows(pairs(4), lambda s: critique("Be right"))))
    ordered = shared_pairs([source])
    by_condition = conditions(ordered, source, None)
    assert by_condition["other"].same_as_own == 8
    assert {request.key for request in by_condition["own"].requests} == {
        request.key for request in by_condition["other"].requests
    }


@pytest.mark.parametrize(
    ("change", "code", "values"),
    [
        (lambda rows: [*rows[:1], rows[0]], "eval.duplicate-judgement", {"row": 2, "id": "p0"}),
        (lambda rows: [*rows[:1], rows[1] | {"label": 3}], "eval.bad-judgement", {"row": 2}),
        (
            lambda rows: [{k: v for k, v in rows[0].items() if k != "question"}],
            "eval.bad-judgement",
            {"row": 1, "reason": "'question'"},
        ),
        (lambda rows: ["[1]"], "eval.bad-judgement", {"row": 1}),
        (lambda rows: ["", ""], "eval.no-judgements", {}),
    ],
)
def test_bad_files_of_rubrics_are_refused_with_the_row(tmp_path, change, code, values):
    with refused(code, **values):
        read_rubrics("rl", write(tmp_path / "rows.jsonl", change(rows(pairs(2)))))


def test_a_truncated_last_line_and_a_missing_file_are_refused(tmp_path):
    path = write(tmp_path / "rows.jsonl", rows(pairs(2)))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="row 4 is cut off"):
        read_rubrics("rl", path)
    with refused("file.cannot-read", path=tmp_path / "gone.jsonl"):
        read_rubrics("rl", tmp_path / "gone.jsonl")


def test_sources_of_different_pairs_are_compared_on_shared_ones_only_with_common(tmp_path):
    a = read_rubrics("a", write(tmp_path / "a.jsonl", rows(pairs(4))))
    b = read_rubrics("b", write(tmp_path / "b.jsonl", rows(pairs(4))[2:]))
    with refused("eval.different-pairs", runs=["a", "b"], shared=6):
        shared_pairs([a, b])
    assert len(shared_pairs([a, b], common=True)) == 6
    c = read_rubrics("c", write(tmp_path / "c.jsonl", rows([EvalPair("z", "q", "1", "2", 1)])))
    with refused("eval.different-pairs", shared=0):
        shared_pairs([a, c], common=True)


def test_the_first_of_several_votes_counts(tmp_path):
    eval_pairs = pairs(2)
    voted = [judged_row(OrderedPair(eval_pairs[0], AS_IS, 0, vote), {"text": critique(f"vote {vote}"), "tokens": 1,
             "truncated": False, "problem": None}) for vote in range(3)]  # fmt: skip
    source = read_rubrics("rl", write(tmp_path / "rows.jsonl", voted))
    assert [rubric.text for rubric in source.rubrics.values()] == ["<rubric>\nvote 0 (100%)\n</rubric>"]
