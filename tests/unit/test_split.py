from __future__ import annotations

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from data_tools.demo_pairs import write_demo_pairs
from data_tools.preference import PreferencePair, read_pairs, write_pairs
from data_tools.rlaif_v import ingest
from data_tools.split import Candidate, allocate, by_picture, split
from data_tools.to_verl import check_row, verl_row
from proxygrm.critique import parse, parse_proxy_verdict
from proxygrm.errors import UserError
from proxygrm.prompts import read_grm_prompt
from proxygrm.teacher.critiques import append, critique_row
from proxygrm.teacher.rule_judge import judge

SIZES = {"proxy_sft": 40, "grm_sft": 60, "grm_rl": 40, "grm_rl_val": 10}


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """300 drawn pairs with the rule judge's critiques in two shards."""
    from proxygrm.prompts import grm_prompt

    folder = tmp_path_factory.mktemp("split")
    write_demo_pairs(folder, train=300, held_out=2, seed=1)
    ingest(folder / "train.parquet", folder / "pairs")
    rows = []
    for pair in read_pairs(folder / "pairs"):
        prompt = grm_prompt(pair.question, pair.response_1, pair.response_2, images=0)
        picture = pair.image_paths(folder / "pairs")[0].read_bytes()
        rows.append(critique_row(pair.id, judge(picture, prompt, 0.35).critique, "rule-judge"))
    append(folder / "shard-0.jsonl", rows[::2])
    append(folder / "shard-1.jsonl", rows[1::2])
    return folder


def files(folder):
    return [folder / "shard-0.jsonl", folder / "shard-1.jsonl"]


def jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def made(distilled):
    report = split(distilled / "pairs", files(distilled), distilled / "out", SIZES)
    return report, distilled / "out"


def test_the_sets_have_the_sizes_asked_for_and_equal_labels(made):
    report, out = made
    for name, size in SIZES.items():
        assert report.sets[name]["rows"] == size
        assert report.sets[name]["label_1"] == report.sets[name]["label_2"] == size // 2
    assert json.loads((out / "report.json").read_text())["sets"] == report.sets
    assert len(jsonl(out / "grm_sft.jsonl")) == 60
    assert pq.read_table(out / "grm_rl.parquet").num_rows == 40


def test_every_pair_is_accounted_for(made):
    report, _ = made
    assert report.pairs == report.critiques == 300
    assert report.right + report.wrong + sum(report.dropped.values()) == 300
    used = sum(part["rows"] for part in report.sets.values())
    assert used + sum(report.left_over.values()) == report.right + report.wrong


def test_no_picture_stands_in_two_sets(made):
    _, out = made
    pictures = []
    for name in ("proxy_sft", "grm_sft"):
        pictures.append({image for row in jsonl(out / f"{name}.jsonl") for image in row["images"]})
    for name in ("grm_rl", "grm_rl_val"):
        rows = pq.read_table(out / f"{name}.parquet").to_pylist()
        pictures.append({image for row in rows for image in row["extra_info"]["images"]})
    assert sum(map(len, pictures)) == len(set().union(*pictures)) == sum(SIZES.values())


def test_sft_rows_are_right_and_rl_rows_are_pairs_the_teacher_got_wrong(distilled, made):
    _, out = made
    pairs = {pair.id: pair for pair in read_pairs(distilled / "pairs")}
    verdicts = {row["id"]: row["verdict"] for path in files(distilled) for row in jsonl(path)}
    for row in jsonl(out / "grm_sft.jsonl"):
        prompt, answer = (message["content"] for message in row["messages"])
        pair = pairs[row["id"]]
        assert prompt.startswith("<image>")
        assert read_grm_prompt(prompt) == (pair.question, pair.response_1, pair.response_2)
        assert parse(answer).well_formed
        assert parse(answer).verdict == pair.label
    for row in jsonl(out / "proxy_sft.jsonl"):
        prompt, answer = (message["content"] for message in row["messages"])
        assert prompt.endswith("</rubric>")
        assert "<justify>" not in prompt
        assert answer.startswith("<think>The image shows ")
        assert parse_proxy_verdict(answer) == pairs[row["id"]].label
    for name in ("grm_rl", "grm_rl_val"):
        for row in pq.read_table(out / f"{name}.parquet").to_pylist():
            pair = pairs[row["extra_info"]["id"]]
            assert verdicts[pair.id] == 3 - pair.label
            assert row["reward_model"] == {"style": "rule", "ground_truth": str(pair.label)}
            assert row["extra_info"]["label"] == pair.label
            assert row["extra_info"]["question"] == pair.question
            assert row["images"][0]["bytes"] == pair.image_paths(distilled / "pairs")[0].read_bytes()
            assert row["extra_info"]["image"] == str(pair.image_paths(distilled / "pairs")[0])


def test_the_same_seed_gives_the_same_files_whatever_the_order_of_the_shards(distilled, made, tmp_path):
    split(distilled / "pairs", files(distilled)[::-1], tmp_path / "again", SIZES)
    split(distilled / "pairs", files(distilled), tmp_path / "other", SIZES, seed=1)
    for name in ("proxy_sft.jsonl", "grm_sft.jsonl"):
        assert (tmp_path / "again" / name).read_text() == (made[1] / name).read_text()
        assert (tmp_path / "other" / name).read_text() != (made[1] / name).read_text()
    assert pq.read_table(tmp_path / "again" / "grm_rl.parquet") == pq.read_table(made[1] / "grm_rl.parquet")


def test_too_few_rows_are_refused_with_the_numbers_or_taken_when_asked(distilled, tmp_path):
    sizes = SIZES | {"grm_rl": 200}
    with pytest.raises(UserError, match=r"grm_rl lacks \d+ of 200 rows"):
        split(distilled / "pairs", files(distilled), tmp_path, sizes)
    report = split(distilled / "pairs", files(distilled), tmp_path, sizes, short="take")
    assert 40 < report.sets["grm_rl"]["rows"] < 150
    assert report.sets["grm_rl"]["label_1"] == report.sets["grm_rl"]["label_2"]


def test_wrong_sizes_and_foreign_critiques_are_refused(distilled, tmp_path):
    with pytest.raises(UserError, match="at least one row"):
        split(distilled / "pairs", files(distilled), tmp_path, {"grm_sft": 3})
    append(tmp_path / "x.jsonl", [critique_row("who:1", "", "m")])
    with pytest.raises(UserError, match="no such pair"):
        split(distilled / "pairs", [tmp_path / "x.jsonl"], tmp_path, SIZES)


def test_unusable_missing_leaking_and_repeated_critiques_are_counted(tmp_path):
    good = "<rubric>{}<justify>j</justify></rubric><eval>Response 1 fits.</eval><answer>{}</answer>"
    pairs = [PreferencePair(f"s:{i}", "s", "q", "a", "b", 1 + i % 2, (), "mit") for i in range(40)]
    write_pairs(tmp_path / "pairs", pairs)
    rows = [critique_row(p.id, good.format("a (100%)", p.label if i < 20 else 3 - p.label), "m")
            for i, p in enumerate(pairs)]  # fmt: skip
    rows[0] = critique_row("s:0", "I think 1.", "m")
    rows[1] = critique_row("s:1", good.format("Response 2 is better (100%)", 2), "m")
    rows[2] = critique_row("s:2", good.format("a (90%)", 1), "m")
    append(tmp_path / "c.jsonl", [*rows[:39], rows[5]])
    sizes = {"proxy_sft": 4, "grm_sft": 4, "grm_rl": 4, "grm_rl_val": 2}
    report = split(tmp_path / "pairs", [tmp_path / "c.jsonl"], tmp_path / "out", sizes)
    assert report.dropped == {"no_critique": 1, "text_outside_parts": 1, "rubric_names_winner": 1}
    assert report.remarks == {"repeated_critique": 1, "weights_not_100": 1}
    assert (report.right, report.wrong) == (18, 19)


def test_pairs_that_share_pictures_stay_together_even_through_a_third():
    def candidate(i, images, pool="right"):
        return Candidate(PreferencePair(f"s:{i}", "s", "q", "a", "b", 1 + i % 2, images, "mit"), "", pool)

    chain = [candidate(0, ("a",)), candidate(1, ("a", "b"), "wrong"), candidate(2, ("b",)), candidate(3, ("c",))]
    groups = by_picture(chain, seed=0)
    assert sorted(len(group) for group in groups) == [1, 3]
    sets = allocate(groups, {"proxy_sft": 2, "grm_sft": 2, "grm_rl": 2, "grm_rl_val": 2})
    where = {c.pair.id: name for name, members in sets.items() for c in members}
    assert len({where[i] for i in ("s:0", "s:1", "s:2") if i in where}) == 1


def test_many_pairs_to_a_picture_still_fill_the_sets_without_sharing():
    candidates = [
        Candidate(
            PreferencePair(f"s:{i}", "s", "q", "a", "b", 1 + (i // 3) % 2, (f"{i // 6}.png",), "mit"), "",
            "right" if i % 3 else "wrong",
        )
        for i in range(3000)
    ]  # fmt: skip
    sizes = {"proxy_sft": 200, "grm_sft": 400, "grm_rl": 300, "grm_rl_val": 50}
    sets = allocate(by_picture(candidates, 0), sizes)
    assert {name: len(members) for name, members in sets.items()} == sizes
    owners = Counter(image for members in sets.values() for image in {c.pair.images[0] for c in members})
    assert max(owners.values()) == 1


def test_a_row_whose_labels_disagree_is_never_written(distilled):
    pair = read_pairs(distilled / "pairs")[0]
    row = verl_row(pair, 0, "train", distilled / "pairs")
    check_row(row)
    row["reward_model"]["ground_truth"] = str(3 - pair.label)
    with pytest.raises(ValueError, match="ground truth"):
        check_row(row)
    row = verl_row(pair, 0, "train", distilled / "pairs")
    row["images"] = []
    with pytest.raises(ValueError, match="image tags"):
        check_row(row)
