"""R1-Reward's training sets: right judgements teach, pairs that took several tries or never came right are for RL."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_tools.export.convert import convert
from data_tools.filters.difficulty import read_samples
from data_tools.rows.preference import ImageStore, PreferencePair, read_pairs, write_pairs
from data_tools.split.run import split
from data_tools.split.training_set import TrainingSet
from proxygrm.core.pairs import arrange
from proxygrm.critique.prompts import r1_prompt
from proxygrm.critique.think_answer import parse
from proxygrm.teacher.critiques import append, critique_row
from support.refusals import refused
from support.rows.release_files import image_bytes

PAIRS, TRIES = 120, 3
JUDGED = "<think>Compared, for try {}.</think><answer>{}</answer>"
SETS = {
    "sft": TrainingSet("right", "swift-r1", 40),
    "sft_val": TrainingSet("right", "swift-r1", 8),
    "rl": TrainingSet("hard", "verl-r1", 60, beside="sft"),
    "rl_val": TrainingSet("hard", "verl-r1", 8),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs that come right at try 1, 2, 3 or never, in turn; every 30th has nothing but malformed answers."""
    path = tmp_path_factory.mktemp("tries")
    store = ImageStore(path / "pairs")
    pairs = [
        arrange(f"s:{i}", "s", "Which?", f"good {i}", f"bad {i}", (store.add(image_bytes(i)),), "")
        for i in range(PAIRS)
    ]
    write_pairs(path / "pairs", pairs)
    rows = []
    for i, pair in enumerate(pairs):
        for attempt in range(1, TRIES + 1):
            right, swapped = attempt == i % 4 + 1, attempt % 2 == 0
            verdict = pair.label if right != swapped else 3 - pair.label
            text = f"I say {verdict}" if i % 30 == 29 else JUDGED.format(attempt, verdict)
            rows.append(critique_row(pair.id, text, "m", contract="r1", attempt=attempt, swapped=swapped, seed=attempt))
            if right and i % 30 != 29:
                break
    append(path / "a.jsonl", rows[1::2])
    append(path / "b.jsonl", rows[::2])
    return path


@pytest.fixture(scope="module")
def made(folder: Path) -> Any:
    return split(folder / "pairs", [folder / "a.jsonl", folder / "b.jsonl"], folder / "out", SETS)


def took(pair: PreferencePair) -> int | None:
    """Tries until right, by how the fixture wrote them; None: never."""
    number = int(pair.id.removeprefix("s:"))
    return None if number % 4 == 3 or number % 30 == 29 else number % 4 + 1


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_sft_rows_are_the_judgement_that_was_right_in_the_order_in_which_the_teacher_saw_the_responses(
    folder: Path, made: Any
) -> None:
    pairs, at = {pair.id: pair for pair in read_pairs(folder / "pairs")}, defaultdict(int)
    rows = jsonl(folder / "out" / "sft.jsonl")
    for row in rows:
        pair = pairs[row["id"]]
        attempt = took(pair)
        assert attempt is not None
        at[attempt] += 1
        shown = (pair.response_1, pair.response_2)[:: -1 if attempt == 2 else 1]
        prompt, answer = (message["content"] for message in row["messages"])
        assert prompt == r1_prompt(pair.question, *shown, images=1)
        assert answer == JUDGED.format(attempt, 3 - pair.label if attempt == 2 else pair.label)
    assert min(at[attempt] for attempt in (1, 2, 3)) > 0
    answers = [parse(row["messages"][1]["content"]).verdict for row in rows]
    assert answers.count(1) == answers.count(2) == 20, "balanced as shown"
    assert made.sets["sft"] == {"rows": 40, "label_1": 20, "label_2": 20, "images": 40}


def test_rl_rows_took_two_tries_or_more_or_never_came_right_and_those_in_between_are_in_both_sets(
    folder: Path, made: Any
) -> None:
    pairs = {pair.id: pair for pair in read_pairs(folder / "pairs")}
    taught = {row["id"] for row in jsonl(folder / "out" / "sft.jsonl")}
    rows = pq.read_table(folder / "out" / "rl.parquet").to_pylist()
    tries = [took(pairs[row["extra_info"]["id"]]) for row in rows]
    assert 1 not in tries
    assert {2, 3, None} == set(tries)
    both = [row["extra_info"]["id"] for row in rows if row["extra_info"]["id"] in taught]
    assert both
    for row in rows:
        pair = pairs[row["extra_info"]["id"]]
        assert row["prompt"][0]["content"] == r1_prompt(pair.question, pair.response_1, pair.response_2, images=1)
        assert row["reward_model"]["ground_truth"] == str(pair.label)
    validation = {row["id"] for row in jsonl(folder / "out" / "sft_val.jsonl")}
    validation |= {row["extra_info"]["id"] for row in pq.read_table(folder / "out" / "rl_val.parquet").to_pylist()}
    assert len(validation) == 16
    assert not validation & (taught | {row["extra_info"]["id"] for row in rows})


def test_how_many_tries_it_took_is_in_the_report_and_pairs_without_a_usable_judgement_are_dropped(made: Any) -> None:
    ends = [took(pair) for pair in map(_numbered, range(PAIRS)) if int(pair.id.removeprefix("s:")) % 30 != 29]
    assert made.tries == {"1": ends.count(1), "2": ends.count(2), "3": ends.count(3), "never": ends.count(None)}
    assert made.dropped == {"no_answer": 4}
    assert made.right + made.wrong + 4 == PAIRS


def _numbered(number: int) -> PreferencePair:
    return arrange(f"s:{number}", "s", "", "", "", (), "")


def test_the_filter_counts_the_verdicts_of_all_tries_in_the_pair_s_own_order(folder: Path) -> None:
    samples = read_samples([folder / "a.jsonl", folder / "b.jsonl"])
    for pair in read_pairs(folder / "pairs"):
        right, number = samples[pair.id].right(pair.label), int(pair.id.removeprefix("s:"))
        assert right == (took(pair) is not None)
        assert samples[pair.id].unusable == (TRIES if number % 30 == 29 else 0)


def test_released_pairs_become_rl_rows_without_a_teacher(folder: Path, tmp_path: Path) -> None:
    sets = {"rl": TrainingSet("all", "verl-r1", 80), "rl_val": TrainingSet("all", "verl-r1", 10)}
    report = split(folder / "pairs", [], tmp_path, sets, short="take")
    assert {name: counts["rows"] for name, counts in report.sets.items()} == {"rl": 80, "rl_val": 10}
    assert report.left_over == {"right": 0, "wrong": 0, "unjudged": 30}


def test_critiques_by_another_contract_are_refused_and_contracts_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    critiques = [folder / "a.jsonl"]
    with refused("critique.other-contract", path=critiques[0], contract="r1"):
        split(folder / "pairs", critiques, tmp_path, {"sft": TrainingSet("right", "swift-grm", 4)})
    mixed = {"a": TrainingSet("right", "swift-grm", 4), "b": TrainingSet("right", "swift-r1", 4)}
    with refused("data.mixed-contracts", contracts=["proxy", "r1"]):
        split(folder / "pairs", critiques, tmp_path, mixed)


def test_convert_writes_both_files_by_contract(folder: Path, tmp_path: Path) -> None:
    files = [folder / "a.jsonl", folder / "b.jsonl"]
    report = convert("swift-r1", folder / "pairs", tmp_path / "sft.jsonl", critiques=files)
    pairs = read_pairs(folder / "pairs")
    right = [pair for pair in pairs if took(pair)]
    assert report["dropped"] == {"no_answer": 4, "teacher_wrong": PAIRS - 4 - len(right)}
    rows = jsonl(tmp_path / "sft.jsonl")
    assert [row["id"] for row in rows] == [pair.id for pair in right]
    for row, pair in zip(rows, right, strict=True):
        shown = (pair.response_1, pair.response_2)[:: -1 if took(pair) == 2 else 1]
        assert row["messages"][0]["content"] == r1_prompt(pair.question, *shown, images=1)
        assert parse(row["messages"][1]["content"]).problem == ""
    convert("verl-r1", folder / "pairs", tmp_path / "rl.parquet")
    prompts = [row["prompt"][0]["content"] for row in pq.read_table(tmp_path / "rl.parquet").to_pylist()]
    assert prompts == [r1_prompt(pair.question, pair.response_1, pair.response_2, images=1) for pair in pairs]
