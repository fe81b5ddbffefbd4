"""Categories, halves and acc+ of each benchmark."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from proxygrm.evaluate.benchmarks import Facts, benchmark, mm_rlhf_rewardbench, multimodal_rewardbench
from proxygrm.evaluate.benchmarks.vl_rewardbench import category_of, upstream_category_of
from proxygrm.evaluate.rows.ordered_pair import judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.report.tables.score import show
from support.evaluate.answers import VL_IDS, answer, own, scored, write
from support.refusals import refused


def test_the_case_bug_gives_the_upstream_partition_and_the_official_rule_does_not():
    for rule, sizes in ((category_of, (183, 749, 318)), (upstream_category_of, (484, 448, 318))):
        names = [rule(id_) for id_ in VL_IDS]
        assert tuple(names.count(name) for name in ("general", "hallucination", "reasoning")) == sizes


def test_acc_plus_counts_ids_with_every_pair_right(tmp_path):
    def row(id_, path, right, text):
        return answer(id_, right, image=path, prompt="p", chosen=text, rejected="r")

    rows = [
        row("a", "mcq/long_tail.png", True, "1"), row("a", "mcq/long_tail.png", True, "2"),
        row("b", "./long/x.png", True, "1"), row("b", "./long/x.png", False, "2"),
        answer("c", True, video="video/mcq_clip.mp4"),
    ]  # fmt: skip
    figures = scored(tmp_path, rows, "mm-rlhf-rewardbench", partial=True)
    assert (figures["overall"], figures["acc_plus"], figures["acc_plus_ids"]) == (4 / 5, pytest.approx(2 / 3), 3)
    assert {name: c["n"] for name, c in figures["categories"].items()} == {"mcq": 2, "long": 2, "video": 1}
    upstream = scored(tmp_path, rows, "mm-rlhf-rewardbench", "upstream", partial=True)
    assert {name: c["n"] for name, c in upstream["categories"].items()} == {"mcq": 3, "long": 2}


def test_acc_plus_of_both_orders_has_a_note_that_it_is_harder(tmp_path):
    rows = [
        own("a", order, label, 1, source="mm_rlhf_rewardbench", category="mcq")
        | {"question": "q", "response_1": "ab"[label - 1], "response_2": "ba"[label - 1]}
        for order, label in (("as_is", 1), ("swapped", 2))
    ]
    notes = {n: scored(tmp_path, rows[:n], "mm-rlhf-rewardbench", partial=True)["notes"] for n in (1, 2)}
    assert [any(note.startswith("acc+ requires") for note in notes[n]) for n in (1, 2)] == [False, True]


def test_images_named_by_their_hash_have_no_upstream_category(tmp_path):
    rows = [
        own(f"a{i}", "as_is", 1, 1, source="mm_rlhf_rewardbench", category="mcq", image=f"/x/short/images/{i:064x}.png")
        for i in range(3)
    ]
    assert set(scored(tmp_path, rows, "mm-rlhf-rewardbench", partial=True)["categories"]) == {"mcq"}
    with refused("eval.no-category", rows=[1, 2, 3], needs="an image or video path"):
        scored(tmp_path, rows, "mm-rlhf-rewardbench", "upstream", partial=True)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_folder_of_the_user_called_like_a_category_decides_nothing(tmp_path, absolute):
    mine = tmp_path / "short"
    mine.mkdir()
    released = [
        {"id": str(at), "prompt": "q", "chosen": "a", "rejected": "b",
         "image": str(mine / name) if absolute else name}
        for at, name in enumerate(["mcq/a.png", "video/b.png", "img/c.png"])
    ]  # fmt: skip
    pairs = load_pairs(write(mine / "mm_reward_bench.jsonl", released)[0])
    judged = {"text": "<answer>1</answer>", "tokens": 1, "truncated": False, "problem": None}
    rows = [judged_row(shown, judged) for shown in ordered_pairs(pairs)]
    assert all(row["image"].startswith(str(mine)) for row in rows)
    sizes = scored(tmp_path, rows, "mm-rlhf-rewardbench", "upstream", partial=True)["categories"]
    assert {name: c["n"] for name, c in sizes.items()} == {"mcq": 1, "video": 1, "none": 1}
    official = scored(tmp_path, rows[:4], "mm-rlhf-rewardbench", partial=True)["categories"]
    assert {name: c["n"] for name, c in official.items()} == {"mcq": 1, "video": 1}


def test_halves_that_are_the_partition_are_in_the_table_once(tmp_path):
    rows = [
        {"ID": f"{start}-{i}", "Category": category, "rewards": [1, 0]}
        for i, (start, category) in enumerate([("math", "reasoning"), ("code", "reasoning"), ("pairs", "safety")])
    ]
    for partition in ("split", "official"):
        shown = io.StringIO()
        show(scored(tmp_path, rows, "multimodal-rewardbench", partition, partial=True), Console(file=shown, width=200))
        assert shown.getvalue().count("reasoning/math") == 1


@pytest.mark.parametrize(
    ("path", "official", "upstream"),
    [
        ("mcq/a.png", "mcq", "mcq"),
        ("short/prolonged.png", "short", "long"),
        ("/data/MM-RLHF/safety/a.png", "safety", "safety"),
        ("/shorts/video/a.mp4", "video", "short"),
        ("/data/long/mcq/a.png", None, "mcq"),
        ("img/a.png", None, "none"),
        ("mcq", None, "mcq"),
    ],
)
def test_mm_rlhf_categories(path, official, upstream):
    assert mm_rlhf_rewardbench.category_of(path) == official
    assert mm_rlhf_rewardbench.upstream_category_of(path) == upstream


def test_multimodal_rewardbench_splits_and_the_macro_with_all(tmp_path):
    rows = [
        answer("Pairs_1", True, Category="Safety"), answer("hateful_2", False, Category="safety"),
        answer("MathVista_3", True, Category="reasoning"), answer("EMMA-4", True, Category="reasoning"),
        answer("nocaps_5", False, Category="preference"),
    ]  # fmt: skip
    figures = scored(tmp_path, rows, "multimodal-rewardbench", partial=True)
    assert {n: (c["n"], c["accuracy"]) for n, c in figures["categories"].items()} == {
        "preference": (1, 0), "reasoning": (2, 1), "safety": (2, 0.5),
    }  # fmt: skip
    assert {n: c["accuracy"] for n, c in figures["splits"].items()} == {
        "reasoning/coding": 1, "reasoning/math": 1, "safety/bias": 1, "safety/toxicity": 0,
    }  # fmt: skip
    upstream = scored(tmp_path, rows, "multimodal-rewardbench", "upstream", partial=True)
    assert upstream["macro"] == pytest.approx((1 + 0 + 1 + 1 + 0 + 3 / 5) / 6)
    assert scored(tmp_path, rows, "multimodal-rewardbench", "split", partial=True)["macro"] == pytest.approx(3 / 5)
    assert multimodal_rewardbench.category_of("safety/bias") == "safety"


def test_upstreams_script_does_not_see_the_field_ID():
    facts = Facts("pairs_1", "safety", "", "")
    partitions = benchmark("Multimodal_RewardBench").partitions
    assert partitions["split"].category(facts) == "safety/bias"
    assert partitions["upstream"].category(facts) == "safety/toxicity"
