"""What an unseen judge is shown, and the gains counted by hand. The judge of the runs is real HTTP, its rule is not."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI, HTTPException, Request
from test_distill import serving

from proxygrm.errors import UserError
from proxygrm.evaluate.endpoint_judge import Endpoint
from proxygrm.evaluate.pairs import EvalPair
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.evaluate.shown import AS_IS, SWAPPED, Shown, judged_row, shown_in_orders
from proxygrm.evaluate.transfer import conditions, other_pairs, read_source, same_sights, told_prompt
from proxygrm.evaluate.transfer_figures import accuracy, corrected, gain
from proxygrm.evaluate.transfer_run import Transfer, transfer

SETTINGS = EvaluateSettings(missing_images="blank")


def pairs(count=12, categories=("colour",), subjects=None):
    return [
        EvalPair(
            id=f"p{at}",
            question=f"What <image> is \n'{at % (subjects or count)}' 猫?",
            response_1=f"one {at}",
            response_2=f"two {at}",
            label=1 + at % 2,
            category=categories[at % len(categories)],
        )
        for at in range(count)
    ]


def critique(rubric, verdict=1):
    return f"<rubric>{rubric} (100%)<justify>SECRET why</justify></rubric><eval>SECRET</eval><answer>{verdict}</answer>"


def rows(made, text=lambda s: critique(f"Names {s.pair.id} {s.order}")):
    answer = {"tokens": 1, "truncated": False, "problem": None}
    return [judged_row(s, answer | {"text": text(s)}) for s in shown_in_orders(made)]


def write(path: Path, found) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in found))
    return path


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
        (lambda found: [*found[:1], found[1] | {"label": 3}], r"row 2 is no judgement: ValueError"),
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


# --- figures --------------------------------------------------------------------------------------------------------


def test_accuracy_and_gain_counted_by_hand():
    keys = ["a", "a", "b", "b", "c", "c", "d", "d"]
    without = [1, 0, 0, 0, 1, 1, 1, 1]
    own = [1, 1, 1, 1, 0, 1, None, 1]
    figures = accuracy(keys, own)
    assert (figures["pairs"], figures["judgements"]) == (4, 7)
    assert figures["accuracy"] == (1 + 1 + 0.5 + 1) / 4
    found = gain(keys, without, own)
    # a: .5 -> 1, b: 0 -> 1, c: 1 -> .5, d (its one shared sight): 1 -> 1
    assert (found["pairs"], found["judgements"]) == (4, 7)
    assert (found["without"], found["with"], found["difference"]) == (2.5 / 4, 3.5 / 4, 0.25)
    assert (found["won"], found["lost"], found["p"]) == (2, 1, 1.0)
    assert found["low"] < 0.25 < found["high"]


def test_a_gain_over_nothing_shared_is_no_number():
    found = gain(["a", "b"], [1, None], [None, 1])
    assert (found["pairs"], found["difference"], found["p"]) == (0, None, None)
    cells = [{"gains": {"none": found}}, {"gains": {"none": gain(["a"] * 2, [0, 0], [1, 1])}}]
    corrected(cells)
    assert [cell["gains"]["none"]["p_holm"] for cell in cells] == [None, 1.0]


# --- a whole run against a real server ------------------------------------------------------------------------------


class Reader:
    """Answers 1 and 2 by a plain rule: without a rubric always 1; with the pair's own it finds the better response."""

    def __init__(self, truth):
        self.truth, self.prompts, self.fail_after = truth, Counter(), None
        self.app = FastAPI()
        self.app.get("/v1/models")(lambda: {"data": [{"id": "reader"}]})
        self.app.post("/v1/chat/completions")(self.complete)

    async def complete(self, request: Request):
        text = (await request.json())["messages"][0]["content"][-1]["text"]
        if self.fail_after is not None and sum(self.prompts.values()) >= self.fail_after:
            raise HTTPException(403)
        self.prompts[text] += 1
        answer = "<think>x</think><answer>1</answer>"
        for first, (name, label) in self.truth.items():
            if f"Response 1: {first}\n" in text and f"Names {name} " in text:
                answer = f"<think>x</think><answer>{label}</answer>"
        if "Names p1 " in text:
            answer = "the first one"
        return {"choices": [{"message": {"content": answer}, "finish_reason": "stop"}], "usage": {}}


@contextmanager
def reading(made):
    truth = {s.responses[0]: (s.pair.id, s.label) for s in shown_in_orders(made)}
    reader = Reader(truth)
    with serving(reader.app) as url:
        yield reader, Endpoint(url, "reader", concurrency=2, attempts=1)


def test_a_run_counts_what_the_judge_said_resumes_at_the_row_and_asks_nothing_twice(tmp_path):
    made = pairs(8, ("colour", "shape"))
    taught = write(tmp_path / "rl.jsonl", rows(made))
    base = write(tmp_path / "start.jsonl", rows(made, lambda s: "no rubric at all"))
    with reading(made) as (reader, endpoint):
        asked = Transfer({"rl": taught}, {"reader": endpoint}, tmp_path / "out", SETTINGS, base)
        reader.fail_after = 10
        with pytest.raises(UserError, match="the key is refused"):
            transfer(asked)
        kept = len((tmp_path / "out" / "raw" / "reader.jsonl").read_text().splitlines()) - 1
        assert kept >= 8
        assert not (tmp_path / "out" / "transfer.json").exists()
        reader.fail_after = None
        figures = transfer(asked)
        assert set(reader.prompts.values()) == {1}
        assert figures["judgements_by_judge"] == len(reader.prompts) == 48
        again = transfer(asked)
        assert sum(reader.prompts.values()) == 48
    assert json.loads((tmp_path / "out" / "transfer.json").read_text()) == json.loads(json.dumps(again)) == figures

    assert (figures["pairs"], figures["orders"], figures["sights"]) == (8, 2, 16)
    (cell,) = figures["cells"]
    # Without a rubric always 1: right in one of two orders. With its own: all but p1, whose answers are no verdicts.
    none, own, other, start = (cell["conditions"][name] for name in ("none", "own", "other", "base"))
    assert (none["accuracy"], none["unparsed"], none["pairs"]) == (0.5, 0, 8)
    assert (own["accuracy"], own["unparsed"], own["judgements"]) == (7 / 8, 2, 16)
    assert other["unparsed"] == 2
    assert (start["accuracy"], start["judgements"], start["not_sent"]) == (None, 0, {"no_rubric": 16})
    over = cell["gains"]["none"]
    assert (over["difference"], over["won"], over["lost"]) == (3 / 8, 7, 0)
    assert over["p"] == over["p_holm"] == pytest.approx(2 / 2**7)
    assert (over["clear"]["pairs"], over["clear"]["difference"]) == (7, 0.5)  # p1 has no verdict by its own rubric
    assert [note.split(":")[0] for note in cell["notes"]] == ["own rubric", "another pair's rubric"]
    assert "2 of 16 judgements have no verdict" in cell["notes"][0]
    assert cell["gains"]["base"]["pairs"] == 0
    assert {name: of["conditions"]["none"]["pairs"] for name, of in cell["categories"].items()} == {
        "colour": 4, "shape": 4,
    }  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "out" / "reader.jsonl").read_text().splitlines()]
    assert len(lines) == 16 * 4
    assert sum(row["asked"] for row in lines) == 48


def test_several_reward_models_and_judges_make_a_matrix_and_no_rubric_is_asked_once_for_all(tmp_path):
    made = pairs(4)
    files = {name: write(tmp_path / f"{name}.jsonl", rows(made)) for name in ("sft", "rl")}
    with reading(made) as (reader, endpoint):
        asked = Transfer(files, {"a": endpoint, "b": endpoint}, tmp_path / "out", SETTINGS)
        figures = transfer(asked)
    assert [(cell["grm"], cell["judge"]) for cell in figures["cells"]] == [
        ("sft", "a"), ("rl", "a"), ("sft", "b"), ("rl", "b"),
    ]  # fmt: skip
    assert figures["judgements_by_judge"] == 24  # both wrote the same: none, own and another pair's of 8 sights
    assert set(reader.prompts.values()) == {2}
    assert "base" not in figures["cells"][0]["conditions"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rubrics": {}}, "needs rubrics and a judge"),
        ({"judges": {"../a": Path("x")}}, "cannot be a name"),
        ({"judges": {"transfer": Path("x")}}, "cannot be a name"),
        ({"judges": {"a": Path("nowhere")}}, "no checkpoint at nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_asked(tmp_path, change, said):
    given = {
        "rubrics": {"rl": write(tmp_path / "rl.jsonl", rows(pairs(2)))},
        "judges": {"a": Endpoint("http://x", "m")},
    }
    with pytest.raises(UserError, match=said):
        transfer(Transfer(**(given | change), out=tmp_path / "out", settings=SETTINGS))


def test_rubrics_that_lack_pairs_of_what_was_to_be_judged_are_refused(tmp_path):
    released = [{"id": f"p{at}", "prompt": f"q {at}", "chosen": "a", "rejected": "b"} for at in range(3)]
    given = write(tmp_path / "pairs.jsonl", released)
    from proxygrm.evaluate.pairs import load_pairs

    some = write(tmp_path / "rl.jsonl", rows(load_pairs(given)[:2]))
    asked = Transfer({"rl": some}, {"a": Endpoint("http://127.0.0.1:1", "m")}, tmp_path / "out", SETTINGS, pairs=given)
    with pytest.raises(UserError, match=r"rl and --pairs did not see the same: 4 shared, 2 only in --pairs \(p2"):
        transfer(asked)


def test_the_first_of_several_votes_counts(tmp_path):
    made = pairs(2)
    voted = [judged_row(Shown(made[0], AS_IS, 0, vote), {"text": critique(f"vote {vote}"), "tokens": 1,
             "truncated": False, "problem": None}) for vote in range(3)]  # fmt: skip
    source = read_source("rl", write(tmp_path / "rows.jsonl", voted))
    assert [rubric.text for rubric in source.rubrics.values()] == ["<rubric>\nvote 0 (100%)\n</rubric>"]


def test_the_tables_say_n_the_matrix_and_what_keeps_a_gain_from_counting(tmp_path):
    from rich.console import Console

    from proxygrm.evaluate.transfer_print import show

    made = pairs(8, ("colour", "[shape]"))
    files = {name: write(tmp_path / f"{name}.jsonl", rows(made)) for name in ("sft", "rl")}
    base = write(tmp_path / "start.jsonl", rows(made, lambda s: "none"))
    with reading(made) as (_, endpoint):
        notes = {"b": "seen [in] training"}
        figures = transfer(Transfer(files, {"b": endpoint}, tmp_path / "out", SETTINGS, base, notes=notes))
    console = Console(width=200, record=True, file=(tmp_path / "said").open("w"))
    show(figures, console)
    said = console.export_text()
    for words in ("N = 8 pairs, both orders, 16 sights", "seen [in] training", "[shape]", "no rubric 16", "7:0",
                  "+37.5", "+50.0 of 7", "points over no rubric", "have no verdict"):  # fmt: skip
        assert words in said


def test_the_command_measures_from_files_and_says_what_is_wrong_with_its_words(tmp_path):
    from eval_runs import call

    made = pairs(4)
    taught = write(tmp_path / "a=b rows.jsonl", rows(made))
    with reading(made) as (_, endpoint):
        words = ["transfer", "--rubrics", f"rl={taught}", "--judge", f"big={endpoint.url}", "--out", tmp_path / "out"]
        figures = json.loads(call(*words, "--model", "big=reader", "--missing-images", "blank", "--json"))
        assert figures["cells"][0]["gains"]["none"]["pairs"] == 4
        for wrong, message in (
            (words, "say which model of it to ask"),
            ([*words[:2], str(taught), *words[3:], "--model", "reader"], "say what it is called"),
            ([*words, "--limit", "2"], "--limit is of --pairs"),
            ([*words[:4], f"big={tmp_path}", *words[5:]], "no checkpoint"),
            ([*words, "--judge", f"big={endpoint.url}"], "two are called 'big'"),
        ):
            with pytest.raises(UserError, match=message):
                call(*wrong)
