"""The gains of shown rubrics, counted by hand, and whole runs before a judge over real HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.transfer.figures import accuracy, add_corrected_p, gain
from proxygrm.evaluate.transfer.run import Transfer, measure_transfer
from support.evaluate.runs import call, write
from support.evaluate.transfers import SETTINGS, critique, pairs, reading, rows
from support.refusals import refused

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


def test_a_gain_without_shared_pairs_is_not_a_number():
    found = gain(["a", "b"], [1, None], [None, 1])
    assert (found["pairs"], found["difference"], found["p"]) == (0, None, None)
    cells = [{"gains": {"none": found}}, {"gains": {"none": gain(["a"] * 2, [0, 0], [1, 1])}}]
    add_corrected_p(cells)
    assert [cell["gains"]["none"]["p_holm"] for cell in cells] == [None, 1.0]


# --- a whole run against a real server ------------------------------------------------------------------------------


def test_a_run_counts_the_judges_verdicts_resumes_at_the_row_and_requests_nothing_twice(tmp_path):
    eval_pairs = pairs(8, ("colour", "shape"))
    taught = write(tmp_path / "rl.jsonl", rows(eval_pairs))
    base = write(tmp_path / "start.jsonl", rows(eval_pairs, lambda s: "no rubric at all"))
    with reading(eval_pairs) as (reader, endpoint):
        request = Transfer({"rl": taught}, {"reader": endpoint}, tmp_path / "out", SETTINGS, base)
        reader.fail_after = 10
        with pytest.raises(UserError, match="the key is refused"):
            measure_transfer(request)
        kept = len((tmp_path / "out" / "raw" / "reader.jsonl").read_text().splitlines()) - 1
        assert kept >= 8
        assert not (tmp_path / "out" / "transfer.json").exists()
        reader.fail_after = None
        figures = measure_transfer(request)
        assert set(reader.prompts.values()) == {1}
        assert figures["judgements_by_judge"] == len(reader.prompts) == 48
        again = measure_transfer(request)
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


def test_several_reward_models_and_judges_make_a_matrix_and_the_bare_prompt_is_sent_once(tmp_path):
    eval_pairs = pairs(4)
    files = {name: write(tmp_path / f"{name}.jsonl", rows(eval_pairs)) for name in ("sft", "rl")}
    with reading(eval_pairs) as (reader, endpoint):
        request = Transfer(files, {"a": endpoint, "b": endpoint}, tmp_path / "out", SETTINGS)
        figures = measure_transfer(request)
    assert [(cell["grm"], cell["judge"]) for cell in figures["cells"]] == [
        ("sft", "a"), ("rl", "a"), ("sft", "b"), ("rl", "b"),
    ]  # fmt: skip
    assert figures["judgements_by_judge"] == 24  # both wrote the same: none, own and another pair's of 8 sights
    assert set(reader.prompts.values()) == {2}
    assert "base" not in figures["cells"][0]["conditions"]


@pytest.mark.parametrize(
    ("change", "code", "values"),
    [
        ({"rubrics": {}}, "eval.nothing-to-transfer", {}),
        ({"judges": {"../a": Path("x")}}, "eval.bad-name", {"name": "../a"}),
        ({"judges": {"transfer": Path("x")}}, "eval.bad-name", {"name": "transfer"}),
        ({"judges": {"a": Path("nowhere")}}, "checkpoint.missing", {"path": Path("nowhere")}),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_request(tmp_path, change, code, values):
    request = {
        "rubrics": {"rl": write(tmp_path / "rl.jsonl", rows(pairs(2)))},
        "judges": {"a": Endpoint("http://x", "m")},
    }
    with refused(code, **values):
        measure_transfer(Transfer(**(request | change), out=tmp_path / "out", settings=SETTINGS))


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("0.7", 0),
        (critique("Response 1 is better"), 8),
    ],
)
def test_rows_without_any_rubric_to_send_are_refused_before_any_request(tmp_path, text, leaks):
    bare = write(tmp_path / "bare.jsonl", rows(pairs(4), lambda s: text))
    with reading(pairs(4)) as (reader, endpoint):
        with refused("eval.no-rubrics", name="bare", count=8, leaks=leaks):
            measure_transfer(Transfer({"bare": bare}, {"reader": endpoint}, tmp_path / "out", SETTINGS))
        assert not reader.prompts


def test_rubrics_that_lack_some_of_the_pairs_are_refused(tmp_path):
    released = [{"id": f"p{at}", "prompt": f"q {at}", "chosen": "a", "rejected": "b"} for at in range(3)]
    file = write(tmp_path / "pairs.jsonl", released)
    some = write(tmp_path / "rl.jsonl", rows(load_pairs(file)[:2]))
    request = Transfer({"rl": some}, {"a": Endpoint("http://127.0.0.1:1", "m")}, tmp_path / "out", SETTINGS, pairs=file)
    with refused("eval.different-pairs", runs=["rl", "--pairs"], shared=4):
        measure_transfer(request)


def test_the_tables_have_n_the_matrix_and_what_weakens_a_gain(tmp_path):
    from rich.console import Console

    from proxygrm.report.tables.transfer import show

    eval_pairs = pairs(8, ("colour", "[shape]"))
    files = {name: write(tmp_path / f"{name}.jsonl", rows(eval_pairs)) for name in ("sft", "rl")}
    base = write(tmp_path / "start.jsonl", rows(eval_pairs, lambda s: "none"))
    with reading(eval_pairs) as (_, endpoint):
        notes = {"b": "seen [in] training"}
        figures = measure_transfer(Transfer(files, {"b": endpoint}, tmp_path / "out", SETTINGS, base, notes=notes))
    console = Console(width=200, record=True, file=(tmp_path / "output").open("w"))
    show(figures, console)
    output = console.export_text()
    for words in ("N = 8 pairs, both orders, 16 in all", "seen [in] training", "[shape]", "no rubric 16", "7:0",
                  "+37.5", "+50.0 of 7", "points over no rubric", "have no verdict"):  # fmt: skip
        assert words in output


def test_the_command_measures_from_files_and_refuses_wrong_options(tmp_path):
    eval_pairs = pairs(4)
    taught = write(tmp_path / "a=b rows.jsonl", rows(eval_pairs))
    with reading(eval_pairs) as (_, endpoint):
        words = ["transfer", "--rubrics", f"rl={taught}", "--judge", f"big={endpoint.url}", "--out", tmp_path / "out"]
        figures = json.loads(call(*words, "--model", "big=reader", "--missing-images", "blank", "--json"))
        assert figures["cells"][0]["gains"]["none"]["pairs"] == 4
        for wrong, code, values in (
            (words, "judge.no-model", {"url": endpoint.url}),
            ([*words[:2], str(taught), *words[3:], "--model", "reader"], "option.no-name", {"option": "--rubrics"}),
            ([*words, "--limit", "2"], "option.limit-without-pairs", {}),
            ([*words[:4], f"big={tmp_path}", *words[5:]], "judge.unknown-kind", {"path": str(tmp_path)}),
            ([*words, "--judge", f"big={endpoint.url}"], "option.repeated-name", {"name": "big"}),
        ):
            with refused(code, **values):
                call(*wrong)
