from __future__ import annotations

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.ingest.run import ingest
from data_tools.rows.preference import PreferencePair, read_pairs, write_pairs
from data_tools.sources.demo_pairs import write_demo_pairs
from data_tools.split.allocate import Candidate, allocate, allocate_scaled, apportion, group_by_image
from data_tools.split.run import split
from jobs.cli.data import data
from proxygrm.core.errors import UserError
from proxygrm.critique.contract import parse, parse_proxy_verdict, rubric_for_proxy
from proxygrm.critique.prompts import proxy_prompt, read_grm_prompt
from proxygrm.demo.rule_judge import judge
from proxygrm.teacher.critiques import append, critique_row, read_critiques
from support.refusals import refused
from support.training_sets import SETS, sized

JUDGED = "<rubric>r (100%)<justify>j</justify></rubric><eval>One fits.</eval><answer>{}</answer>"
SIZES = {"proxy_sft": 40, "grm_sft": 60, "grm_rl": 40, "grm_rl_val": 10}


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """300 drawn pairs with the rule judge's critiques in two shards."""
    from proxygrm.critique.prompts import grm_prompt

    folder = tmp_path_factory.mktemp("split")
    write_demo_pairs(folder, train=300, held_out=2, seed=1)
    ingest("rlaif-v", folder / "train.parquet", folder / "pairs")
    rows = []
    for pair in read_pairs(folder / "pairs"):
        prompt = grm_prompt(pair.question, pair.response_1, pair.response_2, images=0)
        image = pair.image_paths(folder / "pairs")[0].read_bytes()
        rows.append(critique_row(pair.id, judge(image, prompt, 0.35).critique, "rule-judge"))
    append(folder / "shard-0.jsonl", rows[::2])
    append(folder / "shard-1.jsonl", rows[1::2])
    return folder


def files(folder):
    return [folder / "shard-0.jsonl", folder / "shard-1.jsonl"]


def jsonl(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def made(distilled):
    report = split(distilled / "pairs", files(distilled), distilled / "out", sized(SIZES))
    return report, distilled / "out"


def test_the_sets_have_the_requested_sizes_and_equal_labels(made):
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


def test_no_image_is_in_two_sets(made):
    _, out = made
    images = []
    for name in ("proxy_sft", "grm_sft"):
        images.append({image for row in jsonl(out / f"{name}.jsonl") for image in row["images"]})
    for name in ("grm_rl", "grm_rl_val"):
        rows = pq.read_table(out / f"{name}.parquet").to_pylist()
        images.append({image for row in rows for image in row["extra_info"]["images"]})
    assert sum(map(len, images)) == len(set().union(*images)) == sum(SIZES.values())


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
    split(distilled / "pairs", files(distilled)[::-1], tmp_path / "again", sized(SIZES))
    split(distilled / "pairs", files(distilled), tmp_path / "other", sized(SIZES), seed=1)
    for name in ("proxy_sft.jsonl", "grm_sft.jsonl"):
        assert (tmp_path / "again" / name).read_text() == (made[1] / name).read_text()
        assert (tmp_path / "other" / name).read_text() != (made[1] / name).read_text()
    assert pq.read_table(tmp_path / "again" / "grm_rl.parquet") == pq.read_table(made[1] / "grm_rl.parquet")


def test_too_few_pairs_are_refused_with_the_numbers_or_the_sets_shrink(distilled, made, tmp_path):
    sizes = SIZES | {"grm_rl": 200}
    with refused("data.too-few-pairs", right=made[0].right, wrong=made[0].wrong) as caught:
        split(distilled / "pairs", files(distilled), tmp_path, sized(sizes))
    assert set(caught.value.values["missing"]) == {"grm_rl", "grm_rl_val"}
    assert 0 < caught.value.values["missing"]["grm_rl"] < 200
    report = split(distilled / "pairs", files(distilled), tmp_path, sized(sizes), short="take")
    assert 40 < report.sets["grm_rl"]["rows"] < 150
    assert report.sets["grm_rl"]["label_1"] == report.sets["grm_rl"]["label_2"]


def test_wrong_sizes_and_critiques_of_other_pairs_are_refused(distilled, tmp_path):
    for sizes, code, values in (
        ({}, "data.bad-sizes", {"sizes": {}}),
        ({"grm_sft": -1, "grm_rl": 2}, "data.bad-sizes", {"sizes": {"grm_sft": -1, "grm_rl": 2}}),
    ):
        with refused(code, **values):
            split(distilled / "pairs", files(distilled), tmp_path, sized(sizes))
    append(tmp_path / "x.jsonl", [critique_row("who:1", "", "m")])
    with refused("critique.other-pairs", path=distilled / "pairs", first="who:1"):
        split(distilled / "pairs", [tmp_path / "x.jsonl"], tmp_path, sized(SIZES))


def test_critiques_of_pairs_that_a_filter_dropped_are_counted(distilled, tmp_path):
    append(tmp_path / "gone.jsonl", [critique_row(f"who:{i}", "", "m") for i in range(3)])
    without = split(distilled / "pairs", files(distilled), tmp_path / "one", sized(SIZES))
    report = split(distilled / "pairs", [*files(distilled), tmp_path / "gone.jsonl"], tmp_path / "two", sized(SIZES))
    assert report.remarks == without.remarks | {"critique_of_no_pair": 3}
    assert (report.sets, report.critiques) == (without.sets, without.critiques + 3)
    done = CliRunner().invoke(
        data,
        ["split", str(distilled / "pairs"), *map(str, files(distilled)), str(tmp_path / "gone.jsonl"),
         "--out", str(tmp_path / "three"), "--sizes", ",".join(f"{name}={SIZES.get(name, 0)}" for name in SETS)],
    )  # fmt: skip
    assert "note: critique of no pair" in done.output


def test_rows_of_id_and_critique_alone_give_the_same_sets(distilled, made, tmp_path):
    for file in files(distilled):
        rows = [{key: row[key] for key in ("id", "critique")} for row in jsonl(file)]
        (tmp_path / file.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = split(distilled / "pairs", files(tmp_path), tmp_path / "out", sized(SIZES))
    assert (report.sets, report.right, report.wrong) == (made[0].sets, made[0].right, made[0].wrong)
    assert (tmp_path / "out" / "grm_sft.jsonl").read_text() == (made[1] / "grm_sft.jsonl").read_text()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"critique": "x"}, "has no id"), ({"id": "a"}, "has no critique"), ({}, "has no id and no critique"),
        ({"id": 1, "critique": "x"}, "must be strings"), ([], "not a JSON object"),
        ({"id": "a", "critique": "\ud800"}, ""),
    ],
)  # fmt: skip
def test_a_row_that_is_not_a_critique_is_named_by_both_readers(distilled, tmp_path, row, says):
    bad = tmp_path / "own.jsonl"
    bad.write_text('{"id": "a", "critique": "b"}\n' + json.dumps(row) + "\n")
    for read in (
        lambda: split(distilled / "pairs", [bad], tmp_path / "out", sized(SIZES)),
        lambda: list(read_critiques(bad)),
    ):
        with pytest.raises(UserError, match=rf"own\.jsonl line 2 is not a critique \(.*{says}") as error:
            read()
        assert "\n" not in str(error.value)


def test_unusable_missing_leaking_and_repeated_critiques_are_counted(tmp_path):
    good = "<rubric>{}<justify>j</justify></rubric><eval>Response 1 fits.</eval><answer>{}</answer>"
    pairs = [PreferencePair(f"s:{i}", "s", f"q{i}", "a", "b", 1 + i % 2, (), "mit") for i in range(40)]
    write_pairs(tmp_path / "pairs", pairs)
    rows = [critique_row(p.id, good.format("a (100%)", p.label if i < 20 else 3 - p.label), "m")
            for i, p in enumerate(pairs)]  # fmt: skip
    rows[0] = critique_row("s:0", "I think 1.", "m")
    rows[1] = critique_row("s:1", good.format("Response 2 is better (100%)", 2), "m")
    rows[2] = critique_row("s:2", good.format("a (90%)", 1), "m")
    append(tmp_path / "c.jsonl", [*rows[:39], rows[5]])
    sizes = {"proxy_sft": 4, "grm_sft": 4, "grm_rl": 4, "grm_rl_val": 2}
    report = split(tmp_path / "pairs", [tmp_path / "c.jsonl"], tmp_path / "out", sized(sizes))
    assert report.dropped == {"no_critique": 1, "text_outside_parts": 1, "rubric_names_winner": 1}
    assert report.remarks == {"repeated_critique": 1, "weights_not_100": 1}
    assert (report.right, report.wrong) == (18, 19)


def test_the_proxys_rl_set_has_the_teachers_rubric_last_and_keeps_the_label(distilled, tmp_path):
    sizes = {"proxy_rl": 20, "proxy_sft": 20, "grm_sft": 0}
    report = split(distilled / "pairs", files(distilled), tmp_path, sized(sizes))
    assert set(report.sets) == {"proxy_sft", "proxy_rl"}
    assert not (tmp_path / "grm_sft.jsonl").exists()
    pairs = {pair.id: pair for pair in read_pairs(distilled / "pairs")}
    critiques = {row["id"]: row["critique"] for path in files(distilled) for row in jsonl(path)}
    rows = pq.read_table(tmp_path / "proxy_rl.parquet").to_pylist()
    assert len(rows) == 20
    for row in rows:
        pair, rubric = pairs[row["extra_info"]["id"]], rubric_for_proxy(critiques[row["extra_info"]["id"]])
        prompt = row["prompt"][0]["content"]
        assert prompt == proxy_prompt(pair.question, pair.response_1, pair.response_2, rubric, images=1)
        assert prompt.endswith("</rubric>")
        assert row["extra_info"]["rubric"] == rubric
        assert row["reward_model"]["ground_truth"] == str(pair.label)


def test_splitting_again_without_a_set_removes_its_old_file(distilled, tmp_path):
    split(distilled / "pairs", files(distilled), tmp_path, sized(SIZES))
    split(distilled / "pairs", files(distilled), tmp_path, sized({"grm_sft": 10}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grm_sft.jsonl", "report.json"]


def candidate(i, images, pool="right", source="s"):
    return Candidate(f"s:{i}", source, 1 + i % 2, images, pool, i)


def test_pairs_that_share_images_stay_together_even_through_a_third():
    chain = [candidate(0, ("a",)), candidate(1, ("a", "b"), "wrong"), candidate(2, ("b",)), candidate(3, ("c",))]
    groups = group_by_image(chain, seed=0)
    assert sorted(len(group) for group in groups) == [1, 3]
    sets = allocate(groups, sized({"proxy_sft": 2, "grm_sft": 2, "grm_rl": 2, "grm_rl_val": 2}))
    where = {c.id: name for name, members in sets.items() for c in members}
    assert len({where[i] for i in ("s:0", "s:1", "s:2") if i in where}) == 1


def test_many_pairs_per_image_still_fill_the_sets_without_sharing():
    candidates = [
        Candidate(f"s:{i}", "s", 1 + (i // 3) % 2, (f"{i // 6}.png",), "right" if i % 3 else "wrong")
        for i in range(3000)
    ]
    sizes = {"proxy_sft": 200, "grm_sft": 400, "grm_rl": 300, "grm_rl_val": 50}
    sets = allocate(group_by_image(candidates, 0), sized(sizes))
    assert {name: len(members) for name, members in sets.items()} == sizes
    owners = Counter(image for members in sets.values() for image in {c.images[0] for c in members})
    assert max(owners.values()) == 1


def test_sources_are_as_frequent_in_each_set_as_in_the_pool():
    candidates = [candidate(i, (), source="big" if i % 10 else "small") for i in range(1000)]
    candidates += [candidate(i, (), source="small") for i in range(1001, 1100, 2)]  # label 2 only
    sets = allocate(group_by_image(candidates, 0), sized({"proxy_sft": 100, "grm_sft": 300}))
    for name, members in sets.items():
        small = Counter(c.label for c in members if c.source == "small")
        share = {1: 0.2 * 0.5, 2: 0.5 * 50 / 550}
        for label in (1, 2):
            assert small[label] == pytest.approx(share[label] * len(members), abs=1), (name, label)


def test_too_few_pairs_shrink_all_sets_of_a_pool_alike():
    candidates = [candidate(i, ()) for i in range(300)] + [candidate(i, (), "wrong") for i in range(300, 400)]
    sizes = {"proxy_sft": 500, "proxy_rl": 1000, "grm_sft": 1000, "grm_rl": 60, "grm_rl_val": 10}
    sets = allocate_scaled(group_by_image(candidates, 0), sized(sizes))
    assert {name: len(members) for name, members in sets.items()} == {
        "proxy_sft": 60, "proxy_rl": 120, "grm_sft": 120, "grm_rl": 60, "grm_rl_val": 10,
    }  # fmt: skip
    for members in sets.values():
        assert len({Counter(c.label for c in members)[label] for label in (1, 2)}) == 1


@given(st.integers(0, 200), st.dictionaries(st.text("ab<ö", max_size=3), st.integers(0, 99), max_size=5))
def test_shares_add_up_to_the_total_and_are_within_one_of_exact(total, weights):
    shares = apportion(total, weights)
    whole = sum(weights.values())
    if whole:
        assert sum(shares.values()) == total
        assert all(abs(shares[name] - total * weight / whole) < 1 for name, weight in weights.items())
        assert all(shares[name] == 0 for name, weight in weights.items() if not weight)


PAIRS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from([1, 2]), st.lists(st.integers(0, 30), max_size=2),
              st.sampled_from(["right", "wrong"])), max_size=60,
)  # fmt: skip
WANTED = st.fixed_dictionaries({name: st.integers(1, 12) for name in SETS})


@given(PAIRS, WANTED, st.randoms(use_true_random=False), st.sampled_from([allocate, allocate_scaled]))
@settings(max_examples=150, deadline=None)
def test_sets_share_no_image_are_no_larger_than_requested_and_do_not_depend_on_the_order(rows, sizes, random, how):
    candidates = [
        Candidate(f"i{i}", source, label, tuple(f"{n}.png" for n in images), pool, i)
        for i, (source, label, images, pool) in enumerate(rows)
    ]
    sets = how(group_by_image(candidates, 7), sized(sizes), 7)
    owner = {}
    for name, members in sets.items():
        assert len(members) <= sizes[name]
        assert len({c.id for c in members}) == len(members)
        assert all(c.pool == SETS[name].pool for c in members)
        labels = Counter(c.label for c in members)
        if how is allocate_scaled:
            assert abs(labels[1] - labels[2]) <= 1
        for c in members:
            for image in c.images:
                assert owner.setdefault(image, name) == name
    random.shuffle(candidates)
    assert how(group_by_image(candidates, 7), sized(sizes), 7) == sets


@given(WANTED, st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_sets_are_full_when_every_pair_has_its_own_image_and_there_are_just_enough(sizes, seed):
    candidates = []
    for pool in ("right", "wrong"):
        for label in (1, 2):
            needed = sum((size + 2 - label) // 2 for name, size in sizes.items() if SETS[name].pool == pool)
            for i in range(needed):
                name = f"{pool}{label}{i}"
                candidates.append(Candidate(name, "ab"[i % 3 == 0], label, (name,), pool))
    sets = allocate(group_by_image(candidates, seed), sized(sizes), seed)
    assert {name: len(members) for name, members in sets.items()} == sizes


def test_pairs_without_images_about_one_question_stay_in_one_set(tmp_path):
    """UltraFeedback has six pairs a prompt, SHP hundreds a post."""
    rows = [
        PreferencePair(f"s:{i}", "s", f"question {i // 4}", f"a {i}", f"b {i}", 1 + i % 2, (), "mit") for i in range(80)
    ]  # fmt: skip
    write_pairs(tmp_path / "pairs", rows)
    append(tmp_path / "c.jsonl", [critique_row(row.id, JUDGED.format(row.label), "m") for row in rows])
    sizes = {"proxy_sft": 20, "grm_sft": 30}
    report = split(tmp_path / "pairs", [tmp_path / "c.jsonl"], tmp_path / "out", sized(sizes))
    questions = [{int(row["id"][2:]) // 4 for row in jsonl(tmp_path / "out" / f"{name}.jsonl")} for name in sizes]
    assert not questions[0] & questions[1]
    assert {name: counts["rows"] for name, counts in report.sets.items()} == sizes
    used = [row["id"] for name in sizes for row in jsonl(tmp_path / "out" / f"{name}.jsonl")]
    assert report.shared_question["right"] == sum(
        row.id not in used and int(row.id[2:]) // 4 in questions[0] | questions[1] for row in rows
    )
