"""What an unseen judge is shown: the own rubric, another pair's in the control, and nothing else of a critique."""

from __future__ import annotations

import random

import pytest

from proxygrm.core.errors import UserError
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.rows.shown import AS_IS, SWAPPED, Shown, judged_row, shown_in_orders
from proxygrm.evaluate.transfer.conditions import conditions, other_pairs, read_source, same_sights, told_prompt
from support.evaluate.runs import write
from support.evaluate.transfers import critique, pairs, rows

# --- whose rubric is shown instead -----------------------------------------------------------------------------


def checked(sights, has=None):
    has = has or [True] * len(sights)
    found = other_pairs(sights, has)
    for at, donor in enumerate(found):
        if donor is not None:
            assert has[at]
            assert has[donor]
            assert sights[donor].pair.question != sights[at].pair.question
    return found


def test_in_the_control_every_rubric_goes_once_to_another_pair_of_its_category_in_its_order():
    sights = shown_in_orders(pairs(30, ("colour", "shape", "count")))
    found = checked(sights)
    assert sorted(found) == list(range(60))
    for at, donor in enumerate(found):
        assert (sights[at].pair.category, sights[at].order) == (sights[donor].pair.category, sights[donor].order)


def test_the_control_depends_on_contents_and_seed_and_not_on_the_order_of_rows():
    sights = shown_in_orders(pairs(20))
    mixed = random.Random(3).sample(sights, len(sights))
    given = [
        {of[at].key: of[donor].key for at, donor in enumerate(other_pairs(of, [True] * len(of), seed))}
        for of, seed in ((sights, 0), (mixed, 0), (sights, 1))
    ]
    assert given[0] == given[1] != given[2]


@pytest.mark.parametrize("subjects", [2, 3, 5])
def test_pairs_about_the_same_picture_and_question_never_exchange_rubrics(subjects):
    sights = shown_in_orders(pairs(10, subjects=subjects))
    found = checked(sights)
    assert sorted(found) == list(range(20))


def test_a_category_of_one_pair_borrows_from_the_others_and_a_lone_subject_gets_nothing():
    made = [*pairs(6), EvalPair("lonely", "Count?", "1", "2", 1, category="count")]
    sights = shown_in_orders(made)
    found = checked(sights)
    assert None not in found
    assert {sights[found[at]].order for at in range(len(sights)) if sights[at].order == SWAPPED} == {SWAPPED}
    assert other_pairs(shown_in_orders(pairs(4, subjects=1)), [True] * 8) == [None] * 8
    assert other_pairs([], []) == []


def test_one_subject_that_outweighs_all_others_still_gets_other_rubrics():
    made = [EvalPair(f"a{at}", "same?", f"{at}", "x", 1) for at in range(6)] + [EvalPair("b", "other?", "1", "2", 1)]
    sights = shown_in_orders(made)
    found = checked(sights)
    assert None not in found
    assert checked(sights, [True] * 13 + [False])[-1] is None


# --- what is shown ------------------------------------------------------------------------------------------------


def test_nothing_of_a_critique_but_its_closed_rubric_is_shown(tmp_path):
    source = read_source("rl", write(tmp_path / "r w.jsonl", rows(pairs(4))))
    sights = same_sights([source])
    asked = conditions(sights, source, source)
    for name, condition in asked.items():
        for told, s in zip(condition.told, sights, strict=True):
            text = told_prompt(told)
            assert "SECRET" not in text
            assert ("<rubric>" in text) == (name != "none")
            assert f"Response 1: {s.responses[0]}\n\nResponse 2: {s.responses[1]}" in text
            assert "What [image] is" in text
    assert asked["own"].told[1].rubric == "<rubric>\nNames p0 swapped (100%)\n</rubric>"
    assert asked["other"].told[1].rubric != asked["own"].told[1].rubric
    assert asked["base"].told == asked["own"].told


def test_the_prompts_with_and_without_a_rubric_differ_in_what_they_say_of_it_alone(tmp_path):
    source = read_source("rl", write(tmp_path / "rows.jsonl", rows(pairs(2))))
    (s, *_) = same_sights([source])
    asked = conditions([s], source, None)
    with_, without = (told_prompt(asked[name].told[0]) for name in ("own", "none"))
    body = without[without.index("Question:") :]
    assert with_.endswith(f"{body}\n\n{asked['own'].told[0].rubric}")
    assert without.split("check it")[1].split("Question")[0] == with_.split("check it")[1].split("Question")[0]


def test_sights_come_back_from_rows_as_they_were_shown(tmp_path):
    made = pairs(3)
    source = read_source("rl", write(tmp_path / "rows.jsonl", rows(made)))
    expected = {s.key: s for s in shown_in_orders(made)}
    assert source.sights == expected
    assert [s.label for s in source.sights.values()] == [s.label for s in expected.values()]


def test_leaks_and_missing_rubrics_are_counted_and_not_sent(tmp_path):
    texts = {
        "p0": critique("Response 2 is better"), "p1": "<rubric>never closed <answer>1</answer>", "p2": "",
    }  # fmt: skip
    made = rows(pairs(6), lambda s: texts.get(s.pair.id, critique(f"Names {s.pair.id}")))
    source = read_source("rl", write(tmp_path / "rows.jsonl", made))
    assert source.counts() == {"sights": 12, "no_rubric": 4, "leaks": 2}
    sights = same_sights([source])
    asked = conditions(sights, source, None)
    for name in ("own", "other"):
        assert asked[name].not_sent == {"leak": 2, "no_rubric": 4}
        assert [told is None for told in asked[name].told] == [True] * 6 + [False] * 6
    shown = {told.rubric for of in asked.values() for told in of.told if told}
    assert not any(rubric and "better" in rubric for rubric in shown)
    allowed = conditions(sights, source, None, allow_leaks=True)
    assert allowed["own"].not_sent == {"no_rubric": 4}
    assert "better" in allowed["own"].told[0].rubric


def test_rubrics_of_another_pair_that_read_like_the_own_are_counted(tmp_path):
    source = read_source("rl", write(tmp_path / "rows.jsonl", rows(pairs(4), lambda s: critique("Be right"))))
    sights = same_sights([source])
    asked = conditions(sights, source, None)
    assert asked["other"].own_text == 8
    assert {told.key for told in asked["own"].told} == {told.key for told in asked["other"].told}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: [*found[:1], '{"id": 1'], r"row 2 is not JSON"),
        (lambda found: [*found[:1], found[0]], r"row 2 judges what stands there already \(p0"),
        (lambda found: [*found[:1], found[1] | {"label": 3}], r"row 2 is no judgement: BadLabel .* must be 1 or 2"),
        (lambda found: [{k: v for k, v in found[0].items() if k != "question"}], r"row 1 .* KeyError 'question'"),
        (lambda found: ["[1]"], r"row 1 is no judgement"),
        (lambda found: ["", ""], r"holds no judgements"),
    ],
)
def test_bad_files_of_rubrics_are_refused_with_the_row(tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        read_source("rl", write(tmp_path / "rows.jsonl", change(rows(pairs(2)))))


def test_a_torn_last_line_and_a_file_that_is_not_there_are_said(tmp_path):
    path = write(tmp_path / "rows.jsonl", rows(pairs(2)))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="row 4 is cut off"):
        read_source("rl", path)
    with pytest.raises(UserError, match="No such file"):
        read_source("rl", tmp_path / "gone.jsonl")


def test_sources_of_different_pairs_are_compared_on_shared_ones_only_when_asked(tmp_path):
    a = read_source("a", write(tmp_path / "a.jsonl", rows(pairs(4))))
    b = read_source("b", write(tmp_path / "b.jsonl", rows(pairs(4))[2:]))
    with pytest.raises(UserError, match=r"a and b did not see the same: 6 shared, 2 only in a \(p0.*--common"):
        same_sights([a, b])
    assert len(same_sights([a, b], common=True)) == 6
    c = read_source("c", write(tmp_path / "c.jsonl", rows([EvalPair("z", "q", "1", "2", 1)])))
    with pytest.raises(UserError, match="0 shared"):
        same_sights([a, c], common=True)


def test_the_first_of_several_votes_counts(tmp_path):
    made = pairs(2)
    voted = [judged_row(Shown(made[0], AS_IS, 0, vote), {"text": critique(f"vote {vote}"), "tokens": 1,
             "truncated": False, "problem": None}) for vote in range(3)]  # fmt: skip
    source = read_source("rl", write(tmp_path / "rows.jsonl", voted))
    assert [rubric.text for rubric in source.rubrics.values()] == ["<rubric>\nvote 0 (100%)\n</rubric>"]
