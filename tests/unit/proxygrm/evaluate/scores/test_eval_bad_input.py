from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks import BENCHMARKS
from proxygrm.evaluate.scores.score import read, score
from support.evaluate.answers import answer, own, scored, vl_rows, write
from support.refusals import refused

GOOD = answer("mmmu_1", True)


def bad(reason, *rows):
    return "eval.bad-answers", {"reasons": {reason: list(rows)}}


@pytest.mark.parametrize(
    ("rows", "code", "values"),
    [
        ([GOOD, GOOD | {"rewards": [1]}], *bad("`rewards` is not a pair of numbers", 2)),
        ([GOOD | {"rewards": [1, None]}], *bad("`rewards` is not a pair of numbers", 1)),
        ([GOOD | {"rewards": [True, False]}], *bad("`rewards` is not a pair of numbers", 1)),
        ([GOOD | {"rewards": "10"}], *bad("`rewards` is not a pair of numbers", 1)),
        ([GOOD | {"rewards": [float("nan"), 0]}], *bad("`rewards` holds NaN or an infinity", 1)),
        ([GOOD | {"rewards": [float("-inf"), 0]}], *bad("`rewards` holds NaN or an infinity", 1)),
        ([GOOD | {"reverse": "false"}], *bad("`reverse` is neither true nor false", 1)),
        ([GOOD, answer("", True)], *bad("no id", 2)),
        (
            [GOOD, "not json", "[1]"],
            "eval.bad-answers",
            {"reasons": {"the line is not JSON": [2], "the line is not a JSON object": [3]}},
        ),
        ([GOOD] * 3 + ["{}"] * 7, *bad("neither `rewards` nor `verdict`", *range(4, 11))),
        ([own("a", "as_is", 3, 1)], *bad("`label` is neither 1 nor 2", 1)),
        ([own("a", "as_is", 1, 1, ground_truth=2)], *bad("two fields disagree about the label", 1)),
        ([own("a", "as_is", None, 1)], *bad("no label", 1)),
        ([own("a", "as_is", 1, 0)], *bad("`verdict` is not 1, 2, tie or null", 1)),
        (
            [GOOD, {k: v for k, v in answer("mmmu_2", True).items() if k != "reverse"}],
            "eval.mixed-orders",
            {"rows": [2]},
        ),
        ([], "eval.no-answers", {}),
    ],
)
def test_rows_that_cannot_be_scored_are_named_even_with_partial(tmp_path, rows, code, values):
    with refused(code, **values):
        scored(tmp_path, rows, partial=True)


def test_a_truncated_last_line_is_named_and_left_out_only_on_request(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD)[:20])
    with refused("eval.cut-off", path=file, row=2):
        read("vl-rewardbench", [file])
    figures = score(read("vl-rewardbench", [file], partial=True))
    assert figures["partial"]
    assert figures["n"] == 1
    assert figures["notes"][0].startswith("PARTIAL: 1 of 1,250")
    assert any("row 2) is cut off" in note for note in figures["notes"])


def test_missing_repeated_and_foreign_rows_are_refused(tmp_path):
    rows = vl_rows(random.Random(1))
    with refused("eval.missing-pairs", count=1249, missing=1, bench="vl-rewardbench"):
        scored(tmp_path, rows[:-1])
    with refused("eval.extra-pairs", count=1251, repeated=[1251]):
        scored(tmp_path, [*rows, rows[3]])
    with refused("eval.wrong-ids", ids=1224, expected=1225, repeated=[1250]):
        scored(tmp_path, [*rows[:-1], rows[40]])
    with refused("bench.other-benchmark", rows=[2], count=1250, other="mm-rlhf-rewardbench"):
        scored(tmp_path, [rows[0], rows[-1] | {"image": "mcq/1.png"}, *rows[2:]])
    with refused("bench.other-benchmark", other="vl-rewardbench"):
        scored(tmp_path, rows, "mm-rlhf-rewardbench", partial=True)
    with refused("eval.no-category", rows=[1], needs="a `Category`"):
        scored(tmp_path, [answer("x", True)], "multimodal-rewardbench", partial=True)


def test_the_pairs_decide_which_answers_are_expected(tmp_path):
    rows = [answer("a", True), answer("a", False), answer("b", True)]
    assert scored(tmp_path, rows, "pairs", expected=["a", "b", "a"])["expected"] == 3
    with refused("eval.missing-ids", ids=["c"], total=4):
        scored(tmp_path, rows, "pairs", expected=["a", "b", "a", "c"])
    with refused("eval.unexpected-ids", ids=["a"], rows=[1, 2]):
        scored(tmp_path, rows, "pairs", expected=["a", "b", "c"])


def test_the_pairs_may_be_a_folder_or_a_jsonl(tmp_path):
    from proxygrm.core.pairs import PreferencePair, write_pairs
    from proxygrm.evaluate.scores.expected import ids_of

    ids = ["vl_rewardbench:RLHF-V-1", "vl_rewardbench:RLHF-V-1#2", "vl_rewardbench:mmmu_1"]
    write_pairs(tmp_path / "pairs", [PreferencePair(i, "vl_rewardbench", "q", "a", "b", 1, (), "") for i in ids])
    assert ids_of(tmp_path / "pairs") == ["RLHF-V-1", "RLHF-V-1", "mmmu_1"]
    (file,) = write(tmp_path / "rows.jsonl", [{"id": 7}, "", {"ID": "x"}])
    assert ids_of(file) == ["7", "x"]
    file.write_bytes(b'{"id": "a"}\n{"id": "\xff"}\n')
    with refused("data.bad-pair", path=file, row=2):
        ids_of(file)
    with refused("data.no-pairs", path=tmp_path / "nothing"):
        ids_of(tmp_path / "nothing")


def test_nasty_ids_and_texts_are_read(tmp_path):
    rows = [answer('mmmu "q"\n\u2028é', True), '{"id": "mmmu_\\ud800", "rewards": [1, 0], "reverse": false}']
    assert scored(tmp_path, rows, partial=True)["n"] == 2


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["id", "ID", "rewards", "reverse", "critic", "chosen", "image", "Category", "sample",
                             "verdict", "label", "source", "copy", "response_1", "response_2", "group"]),
            ANYTHING | st.lists(st.floats() | st.integers(), min_size=2, max_size=2) | st.sampled_from([1, 2]),
        ), max_size=4,
    ),
    bench=st.sampled_from(sorted(BENCHMARKS)),
)  # fmt: skip
def test_any_rows_give_figures_or_a_one_line_error(tmp_path_factory, rows, bench):
    try:
        figures = scored(tmp_path_factory.mktemp("any"), rows, bench, partial=True)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert 0 <= figures["overall"] <= 1


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "jobs", "eval", *map(str, arguments)], capture_output=True, text=True)


def test_the_command_prints_json_and_ends_with_2_on_bad_input(tmp_path):
    (file,) = write(tmp_path / "my answers.jsonl", vl_rows(random.Random(2)))
    done = command("score", "--bench", "vl-rewardbench", "--answers", file, "--json", "--audit")
    figures = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert {"n", "overall", "macro", "categories"} <= set(figures)
    assert figures["audit"]["weighted"]["holds"]
    write(file, [GOOD])
    done = command("score", "--bench", "vl-rewardbench", "--answers", file, "--json")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    done = command("score", "--bench", "vl-rewardbench", "--answers", file, "--json", "--partial")
    assert done.returncode == 0
    assert "PARTIAL: 1 of 1,250 pairs" in done.stderr
