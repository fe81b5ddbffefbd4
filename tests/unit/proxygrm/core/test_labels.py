"""What is a label is the same everywhere a row or a request is read."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from data_tools.sources.base import Excluded
from data_tools.sources.preference_jsonl import label_of
from proxygrm.core.labels import BadLabel, NoLabel, as_label, label_in, same_label
from proxygrm.evaluate.agreement.cases import read_cases
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.transfer.rubrics import ordered_pair_of
from proxygrm.rewards.accuracy import Accuracy
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.reward_fn import compute_score
from proxygrm.rl.plugins.step_rollouts import LABEL_MISMATCH
from proxygrm.serving.front.app import LabelField

CRITIQUE = "<rubric>Names red (100%)<justify>j</justify></rubric><eval>e</eval><answer>{}</answer>"
ONE = [1, "1", " 1\n", 1.0, "1.0", "<answer>1</answer>", " <answer> 1 </answer>\n", ["<answer>1</answer>"], ["1"],
       ("1",), np.int64(1), np.array(["<answer>1</answer>"], dtype=object)]  # fmt: skip
NONE = [0, 3, -1, "0", "3", "", " ", "12", "1/2", "<answer>3</answer>", "<answer></answer>", "<answer>1",
        "<answer>1</answer><answer>2</answer>", "<ANSWER>1</ANSWER>", "one", "１", True, False, np.True_, 1.5, None,
        float("nan"), [], ["1", "2"], ["1", "1"], [["1"]], [None], [True], {"label": 1}, b"1"]  # fmt: skip


@pytest.mark.parametrize("written", ONE, ids=repr)
def test_every_way_in_which_files_write_a_label_is_read(written):
    assert as_label(written) == 1


@pytest.mark.parametrize("written", NONE, ids=repr)
def test_everything_else_is_not_a_label(written):
    with pytest.raises(BadLabel, match="must be 1 or 2"):
        as_label(written)


def test_a_row_has_its_label_in_any_of_the_known_fields():
    rows = [
        {"ground_truth": 2},
        {"label": "2"},
        {"gts": "<answer>2</answer>"},
        {"answer": ["<answer>2</answer>"]},
        {"reward_model": {"style": "rule", "ground_truth": "2"}},
        {"extra_info": {"label": 2}},
        {"ground_truth": 2, "label": "2", "answer": "1"},  # what is the answer of a row that has a label?
        {"ground_truth": 2, "label": "good"},
        {"ground_truth": None, "label": None, "gts": 2},  # a table of rows of several kinds fills up with nulls
        {"label": None, "reward_model": {"ground_truth": "2"}},
        {"label": None, "answer": ["<answer>2</answer>"]},
    ]
    assert [label_in(row) for row in rows] == [2] * len(rows)


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ({}, "no_label"),
        ({"label": None}, "no_label"),
        ({"label": 3}, "bad_label"),
        ({"label": None, "gts": 3}, "bad_label"),
        ({"label": 1, "ground_truth": "<answer>2</answer>"}, "labels_differ"),
        ({"gts": "1", "reward_model": {"ground_truth": "2"}}, "labels_differ"),
        ({"reward_model": "1"}, "no_label"),
    ],
)
def test_a_row_without_one_label_says_why(row, cause):
    with pytest.raises(BadLabel) as caught:
        label_in(row)
    assert caught.value.cause == cause
    assert isinstance(caught.value, NoLabel) == (cause == "no_label" and "label" not in row)


def test_two_ways_of_writing_the_same_label_are_the_same():
    assert same_label("<answer>1</answer>", 1)
    assert not same_label("2", 1)
    assert not same_label("x", "x")


# One reader of rows each: from the label as written to 1, 0 or an error.


def by_pairs(written, folder: Path):
    file = folder / "pairs.jsonl"
    file.write_text(json.dumps({"id": "1", "prompt": "q", "response_1": "a", "response_2": "b", "label": written}))
    return load_pairs(file)[0].label


def by_ingest(written, folder: Path):
    label = label_of(written)
    if isinstance(label, Excluded):
        raise ValueError(label.reason)
    return label


def by_transfer(written, folder: Path):
    row = {"id": "1", "question": "q", "response_1": "a", "response_2": "b", "label": written}
    return ordered_pair_of(row).pair.label


def by_agreement(written, folder: Path):
    row = {"id": "1", "question": "q", "response_1": "a", "response_2": "b", "critique": CRITIQUE, "label": written}
    file = folder / "rows.jsonl"
    file.write_text(json.dumps(row))
    return read_cases([file]).cases[0].label


def by_front(written, folder: Path):
    return TypeAdapter(LabelField).validate_python(written)


def by_rl(written, folder: Path):
    options = RewardOptions(str(folder), str(folder / "stop"), 8, reward=Accuracy()).write(folder / "options.json")
    pair = {"question": "q", "response_1": "a", "response_2": "b", "label": 1, "images": []}
    row = asyncio.run(compute_score("x", CRITIQUE.format(1), written, pair, options=str(options)))
    if row["problem"] == LABEL_MISMATCH:
        raise ValueError(LABEL_MISMATCH)
    return 1 if (row["score"], row["label"]) == (1.5, "1") else 0


READERS = [by_pairs, by_ingest, by_transfer, by_agreement, by_front, by_rl]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("written", ONE[:9], ids=repr)
def test_every_reader_takes_every_way_of_writing_it(reader, written, tmp_path):
    assert reader(written, tmp_path) == 1


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("written", [0, 3, "<answer>3</answer>", ["1", "2"], "12", True, 1.5, "", None], ids=repr)
def test_no_reader_takes_what_is_not_a_label(reader, written, tmp_path):
    from proxygrm.core.errors import UserError

    with pytest.raises((ValueError, UserError, ValidationError)):
        reader(written, tmp_path)


@pytest.mark.parametrize("order", [1, -1])
def test_ingest_reads_blocks_whose_rows_write_labels_differently(order, tmp_path):
    from click.testing import CliRunner
    from pyarrow.parquet import read_table

    from jobs.cli.main import main

    labels = ["<answer>1</answer>", ["<answer>1</answer>"], 1, "1", ["1", "2"], 3]
    rows = [
        {"id": str(n), "prompt": f"q{n}", "response_1": f"better {n}", "response_2": f"worse {n}", "label": label}
        for n, label in enumerate(labels)
    ][::order]
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["data", "ingest", "preference-jsonl", str(file), "--out", str(tmp_path / "out"), "--max-bad", "0.5"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "bad: bad label" in result.output
    found = read_table(tmp_path / "out" / "pairs.parquet").to_pylist()
    assert {row[f"response_{row['label']}"] for row in found} == {f"better {n}" for n in range(4)}
