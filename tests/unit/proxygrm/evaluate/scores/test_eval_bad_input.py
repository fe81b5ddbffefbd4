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

GOOD = answer("mmmu_1", True)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, GOOD | {"rewards": [1]}], "not a pair of numbers in row 2"),
        ([GOOD | {"rewards": [1, None]}], "not a pair of numbers in row 1"),
        ([GOOD | {"rewards": [True, False]}], "not a pair of numbers in row 1"),
        ([GOOD | {"rewards": "10"}], "not a pair of numbers in row 1"),
        ([GOOD | {"rewards": [float("nan"), 0]}], "NaN or an infinity in row 1"),
        ([GOOD | {"rewards": [float("-inf"), 0]}], "NaN or an infinity in row 1"),
        ([GOOD | {"reverse": "false"}], "`reverse` is neither true nor false in row 1"),
        ([GOOD, answer("", True)], "no id in row 2"),
        ([GOOD, "not json", "[1]"], "not JSON in row 2; the line is not a JSON object in row 3"),
        ([GOOD] * 3 + ["{}"] * 7, r"neither `rewards` nor `verdict` in 7 rows \(4, 5, 6, 7, 8, ...\)"),
        ([own("a", "as_is", 3, 1)], "`label` is neither 1 nor 2"),
        ([own("a", "as_is", 1, 1, ground_truth=2)], "two fields disagree about the label"),
        ([own("a", "as_is", None, 1)], "no label"),
        ([own("a", "as_is", 1, 0)], "`verdict` is not 1, 2, tie or null"),
        ([GOOD, {k: v for k, v in answer("mmmu_2", True).items() if k != "reverse"}], "`reverse` is missing in row 2"),
        ([], "holds no answers"),
    ],
)
def test_rows_that_cannot_be_scored_are_named_even_with_partial(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        scored(tmp_path, rows, partial=True)


def test_a_torn_last_line_is_named_and_left_out_only_on_request(tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD)[:20])
    with pytest.raises(UserError, match=r"the last line \(row 2\) is cut off"):
        read("vl-rewardbench", [file])
    figures = score(read("vl-rewardbench", [file], partial=True))
    assert figures["partial"]
    assert figures["n"] == 1
    assert figures["notes"][0].startswith("PARTIAL: 1 of 1,250")
    assert any("row 2) is cut off" in note for note in figures["notes"])


def test_missing_repeated_and_foreign_rows_are_refused(tmp_path):
    rows = vl_rows(random.Random(1))
    with pytest.raises(UserError, match=r"1,249 pairs, but VL-RewardBench has 1,250 or 1,247: 1 are missing"):
        scored(tmp_path, rows[:-1])
    with pytest.raises(UserError, match=r"1,251 pairs.* row 1,251 repeat"):
        scored(tmp_path, [*rows, rows[3]])
    with pytest.raises(UserError, match=r"of 1,224 ids instead of 1,225: .*row 1,250 repeat"):
        scored(tmp_path, [*rows[:-1], rows[40]])
    with pytest.raises(UserError, match=r"row 2 of 1,250 are answers to MM-RLHF-RewardBench"):
        scored(tmp_path, [rows[0], rows[-1] | {"image": "mcq/1.png"}, *rows[2:]])
    with pytest.raises(UserError, match="--bench vl-rewardbench"):
        scored(tmp_path, rows, "mm-rlhf-rewardbench", partial=True)
    with pytest.raises(UserError, match="no category can be told, because the row lacks a `Category`"):
        scored(tmp_path, [answer("x", True)], "multimodal-rewardbench", partial=True)


def test_the_given_pairs_say_what_must_be_there(tmp_path):
    rows = [answer("a", True), answer("a", False), answer("b", True)]
    assert scored(tmp_path, rows, "pairs", expected=["a", "b", "a"])["expected"] == 3
    with pytest.raises(UserError, match=r"1 of 4 pairs have no answer: c; "):
        scored(tmp_path, rows, "pairs", expected=["a", "b", "a", "c"])
    with pytest.raises(UserError, match=r"not among the given pairs, or stand there less often: a \(rows 1 and 2\)"):
        scored(tmp_path, rows, "pairs", expected=["a", "b", "c"])


def test_the_given_pairs_may_be_a_folder_or_a_jsonl(tmp_path):
    from proxygrm.core.pairs import PreferencePair, write_pairs
    from proxygrm.evaluate.scores.expected import ids_of

    ids = ["vl_rewardbench:RLHF-V-1", "vl_rewardbench:RLHF-V-1#2", "vl_rewardbench:mmmu_1"]
    write_pairs(tmp_path / "pairs", [PreferencePair(i, "vl_rewardbench", "q", "a", "b", 1, (), "") for i in ids])
    assert ids_of(tmp_path / "pairs") == ["RLHF-V-1", "RLHF-V-1", "mmmu_1"]
    (file,) = write(tmp_path / "rows.jsonl", [{"id": 7}, "", {"ID": "x"}])
    assert ids_of(file) == ["7", "x"]
    file.write_bytes(b'{"id": "a"}\n{"id": "\xff"}\n')
    with pytest.raises(UserError, match="line 2 is not a pair with an id"):
        ids_of(file)
    with pytest.raises(UserError, match="does not exist"):
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
def test_whatever_stands_in_the_rows_there_are_figures_or_one_line(tmp_path_factory, rows, bench):
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
