"""Every source, from files built column by column in the layout of its release."""

from __future__ import annotations

import json
from dataclasses import asdict

import pyarrow as pa
import pytest

from data_tools.export.convert import convert
from data_tools.ingest.run import ingest
from data_tools.rows.preference import picture_hash, read_pairs
from data_tools.sources import SOURCES, llava_critic, load
from data_tools.sources.base import Left
from proxygrm.core.errors import UserError
from proxygrm.evaluate.rows.pairs import load_pairs
from support.rows.release_files import (  # fmt: skip
    IMAGE,
    LLAVA_CRITIC,
    RLAIF_V,
    TEXT,
    TURN,
    adds_up,
    better_and_worse,
    cell,
    dropped,
    jsonl,
    parquet,
    picture,
    pictures,
    rlaif_v,
)


def test_every_source_that_is_listed_can_be_loaded_under_its_name():
    for name in SOURCES:
        assert load(name).name == name
    with pytest.raises(UserError, match="there are: llava-critic"):
        load("llava")


# --- RLAIF-V


def test_rlaif_v(tmp_path):
    rows = [
        rlaif_v(0), rlaif_v(1), rlaif_v(2, question=" "), rlaif_v(3, chosen=""), rlaif_v(4, rejected=None),
        rlaif_v(5, chosen="bad "), rlaif_v(6, image=b""), rlaif_v(7, image=b"broken"), rlaif_v(0),
        rlaif_v(8, question="q1", image=picture(1)), rlaif_v(0, question="another under the same index"),
    ]  # fmt: skip
    parquet(tmp_path / "in" / "a.parquet", rows[:6], RLAIF_V)
    parquet(tmp_path / "in" / "sub" / "b.parquet", rows[6:], RLAIF_V)
    report = ingest("rlaif-v", tmp_path / "in", tmp_path / "out", max_bad=0.6)
    assert (report["read"], report["kept"]) == (11, 3)
    assert report["bad"] == {"empty_question": 1, "empty_response": 2, "missing_picture": 1, "unreadable_picture": 1}
    assert report["dropped"] == {"duplicate": 2, "same_responses": 1}
    assert report["notes"] == {"repeated_id": 1}
    assert adds_up(report)
    assert ("sub/b.parquet", 2, "unreadable_picture") in dropped(tmp_path / "out")
    pairs = read_pairs(tmp_path / "out")
    assert [p.id for p in pairs] == ["rlaif_v:0", "rlaif_v:1", "rlaif_v:0#2"]
    assert {p.license for p in pairs} == {"cc-by-nc-4.0"}
    assert set(better_and_worse(tmp_path / "out").values()) == {("good", "bad")}
    assert json.loads((tmp_path / "out" / "ingest.json").read_text()) == report


def test_rlaif_v_with_text_indices_and_a_licence_of_ones_own(tmp_path):
    schema = RLAIF_V.set(RLAIF_V.get_field_index("idx"), pa.field("idx", TEXT))
    path = parquet(tmp_path / "x.parquet", [rlaif_v(3) | {"idx": "seven"}], schema)
    ingest("rlaif-v", path, tmp_path / "out", license="mine")
    assert [(p.id, p.license) for p in read_pairs(tmp_path / "out")] == [("rlaif_v:seven", "mine")]


# --- RLHF-V


def test_rlhf_v_in_its_original_layout(tmp_path):
    schema = pa.schema([("ds_name", TEXT), ("image", IMAGE), ("text", TEXT), ("origin_dataset", TEXT),
                        ("origin_split", TEXT), ("idx", pa.int64()), ("image_path", TEXT)])  # fmt: skip
    texts = [json.dumps({"question": f"q{i}", "chosen": f"right {i}", "rejected": f"wrong {i}"}) for i in range(12)] + [
        "{not json",
        "[]",
        json.dumps({"question": "q", "chosen": "a"}),
    ]
    rows = [{"image": cell(i), "text": text, "idx": i} for i, text in enumerate(texts)]
    report = ingest("rlhf-v", parquet(tmp_path / "x.parquet", rows, schema), tmp_path / "out", max_bad=0.3)
    assert report["bad"] == {"empty_response": 1, "text_not_json": 2}
    assert better_and_worse(tmp_path / "out") == {f"rlhf_v:{i}": (f"right {i}", f"wrong {i}") for i in range(12)}
    assert {p.label for p in read_pairs(tmp_path / "out")} == {1, 2}


def test_rlhf_v_in_llamafactorys_layout(tmp_path):
    schema = pa.schema([("conversations", pa.list_(TURN)), ("chosen", TURN), ("rejected", TURN),
                        ("images", pa.list_(IMAGE))])  # fmt: skip

    def row(i, **changes):
        return {
            "conversations": [{"from": "human", "value": f"<image>What of {i}?"}], "images": [cell(i)],
            "chosen": {"from": "gpt", "value": f"right {i}"}, "rejected": {"from": "gpt", "value": f"wrong {i}"},
        } | changes  # fmt: skip

    rows = [row(i) for i in range(9)] + [row(9, conversations=[]), row(10, images=[])]
    report = ingest("rlhf-v", parquet(tmp_path / "x.parquet", rows, schema), tmp_path / "out", max_bad=0.3)
    assert report["bad"] == {"missing_picture": 1, "not_one_turn": 1}
    pairs = read_pairs(tmp_path / "out")
    assert pairs[0].question == "What of 0?"
    assert better_and_worse(tmp_path / "out")["rlhf_v:9"] == ("right 8", "wrong 8")  # ids are row numbers, from 1
    assert len({p.images for p in pairs}) == 9


# --- MMIF


def test_mmif(tmp_path):
    def row(i, **changes):
        return {
            "images": [f"images/{i}.png"], "conversations": [{"from": "human", "value": f"<image>\nHow many {i}?"}],
            "chosen": {"from": "gpt", "value": f"right {i}"}, "rejected": {"from": "gpt", "value": f"wrong {i}"},
        } | changes  # fmt: skip

    rows = [row(i) for i in range(6)]
    rows += [row(6, images=["images/gone.png"]), row(7, conversations=[]), row(8, chosen=None), 7]
    rows += [row(9, conversations=[{"value": "a"}, {"value": "b"}])]
    pictures(tmp_path / "pics" / "images", [f"{i}.png" for i in range(10)])
    (tmp_path / "mmif.json").write_text(json.dumps(rows, indent=1))
    report = ingest("mmif", tmp_path / "mmif.json", tmp_path / "out", images_root=tmp_path / "pics", max_bad=0.5)
    assert report["bad"] == {"empty_response": 1, "missing_picture": 1, "no_question_turn": 1, "not_an_object": 1}
    assert report["dropped"] == {"several_turns": 1}
    assert adds_up(report)
    assert read_pairs(tmp_path / "out")[5].question == "How many 5?"
    assert better_and_worse(tmp_path / "out")["mmif:1"] == ("right 0", "wrong 0")


# --- LLaVA-Critic

HEAD = "<image>\nGiven a picture and a question, judge the answers. Your task:\n"


def critic(i, human, gpt, **changes):
    turns = [{"from": "human", "value": human}, {"from": "gpt", "value": gpt}]
    return {"id": f"c{i}", "source": "s", "conversations": turns, "image": cell(0)} | changes


WORDINGS = [
    ("The first response: [{}]\nThe second response: [{}]\nASSISTANT:\n", "second", "first"),
    ("Response 1: [{}]\nResponse 2: [{}]\n", "2", "1"),
    ("Response A: [{}]\n\nResponse B: [{}]\nSay which.", "B", "A"),
    ("**Response 1:** {}\n\n**Response 2:** {}", "2", "1"),
]


@pytest.mark.parametrize(("responses", "second", "first"), WORDINGS)
@pytest.mark.parametrize(
    "says", ["The better response: [{}].", "Reasons.\nThe better response: {}", "the better response: **[{}]**, as"]
)
def test_llava_critic_pairwise(tmp_path, responses, second, first, says):
    human = HEAD + "Question: [What is it?\nQuestion: or that? [a]]\n" + responses
    rows = [
        critic(0, human.format("a [left]", "b, right:\nyes"), says.format(second)),
        critic(1, human.format("a [left]", "b, right:\nyes too"), says.format(first)),
    ]
    path = parquet(tmp_path / "x.parquet", rows, LLAVA_CRITIC)
    report = ingest("llava-critic", path, tmp_path / "out")
    assert report["kept"] == 2
    assert better_and_worse(tmp_path / "out") == {
        "llava_critic:c0": ("b, right:\nyes", "a [left]"), "llava_critic:c1": ("a [left]", "b, right:\nyes too"),
    }  # fmt: skip
    pair = read_pairs(tmp_path / "out")[0]
    assert "What is it?\nQuestion: or that? [a]" in pair.question
    assert (pair.license, len(pair.images)) == ("apache-2.0", 1)


def test_llava_critic_rows_without_one_clear_preference_leave_for_a_reason(tmp_path):
    human = HEAD + "Question: [q]\nThe first response: [{}]\nThe second response: [{}]\n"
    good = human.format("a", "b")
    rows = [
        critic(0, good, "Both are fine. Two responses are equally good."),
        critic(1, good, "The better response: [1]. Or rather, the better response: [2]."),
        critic(2, good, "I cannot say."),
        critic(3, good, "They are equally good in colour. The second response is better."),
        critic(4, "Question: q\nResponse 1: a\nResponse 2: b\nResponse 2: c", "The better response: 1"),
        critic(5, "Describe the picture.", "A cat."),
        critic(6, good, "The better response: [10]"),
        critic(7, human.format("same", "same"), "The better response: [1]"),
        critic(8, human.format("[open", "b"), "The better response: [1]"),
        critic(9, good, "The better response: [first]", image=None),
        critic(10, good, "x", conversations=[]),
        critic(11, "The first response: [a]\nThe second response: [b]", "The better response: [first]"),
    ]
    report = ingest("llava-critic", parquet(tmp_path / "x.parquet", rows, LLAVA_CRITIC), tmp_path / "o", max_bad=1)
    assert report["dropped"] == {"same_responses": 1, "tie": 2, "unknown_wording": 1}
    assert report["bad"] == {"missing_picture": 1, "no_turns": 1, "no_verdict": 2, "two_verdicts": 1, "unclear_turn": 2}
    assert better_and_worse(tmp_path / "o") == {"llava_critic:c8": ("[open", "b")}


def test_llava_critic_two_scores(tmp_path):
    human = ("<image>\n[Question]\nwhat?\n\n[Assistant 1]\nfirst [x]\n\n[End of Assistant 1]\n\n[Assistant 2]\nsecond"
             "\n\n[End of Assistant 2]\n\n[System]\nGive two scores.\n")  # fmt: skip
    gpts = ["8 7.5\nbecause", "3, 9", "5 5\n", "eight seven", "8 7 6\n"]
    rows = [critic(i, human, gpt, image=cell(i)) for i, gpt in enumerate(gpts)]
    rows.append(critic(5, human.replace("[Question]", "[Q]"), "1 2"))
    report = ingest("llava-critic", parquet(tmp_path / "x.parquet", rows, LLAVA_CRITIC), tmp_path / "o", max_bad=1)
    assert (report["dropped"], report["bad"]) == ({"tie": 1}, {"no_scores": 2, "unclear_turn": 1})
    assert better_and_worse(tmp_path / "o") == {
        "llava_critic:c0": ("first [x]", "second"), "llava_critic:c1": ("second", "first [x]"),
    }  # fmt: skip
    assert read_pairs(tmp_path / "o")[0].question == "what?"


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_llava_critic_single_scores_pair_the_best_with_the_worst_of_a_question(tmp_path, shards):
    def single(i, question, response, score, shade=0, head=HEAD):
        human = f"{head}Question: [{question}]\nThe LMM response: [{response}]\nASSISTANT:\n"
        return critic(i, human, f"Good.\nFinal Score: {score}", image=cell(shade))

    rows = [
        single(0, "q", "middling", 50), single(1, "q", "poor", 10), single(2, "alone", "x", 4),
        single(3, "q", "best", 90), single(4, "q", "as good", 90), single(5, "q", "other picture", 95, shade=1),
        single(6, "tied", "a", 7), single(7, "tied", "b", 7), single(8, "q", "other scale", 1, head="Out of 5.\n"),
        single(9, "r", "low", "3.5"), single(10, "r", "high", 4), single(11, "s", "x", 1), single(12, "s", "x", 2),
    ]  # fmt: skip
    from data_tools.ingest.run import ingest_step
    from data_tools.steps.shards import carry_out

    path = parquet(tmp_path / "x.parquet", rows, LLAVA_CRITIC, row_group_size=3)
    report = carry_out(ingest_step("llava-critic", path, tmp_path / "o"), shards, workers=1)
    assert report["dropped"] == {"between": 2, "partner": 2, "same_responses": 2, "tie": 2, "unpaired": 3}
    assert report["kept"] == 2
    assert adds_up(report)
    assert better_and_worse(tmp_path / "o") == {
        "llava_critic:c3": ("best", "poor"), "llava_critic:c10": ("high", "low"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "text", [" " * 300_000, "[" * 300_000, "Response 1:\n" * 20_000, "the better response" + " *" * 100_000]
)
def test_llava_critic_reads_hostile_turns_in_linear_time(text):
    row = critic(0, "Question: [" + text + "\nResponse 1: [" + text + "]\nResponse 2: " + text, text)
    assert isinstance(llava_critic.read(row), Left)


# --- benchmarks


def test_vl_rewardbench_parquet(tmp_path):
    schema = pa.schema([("id", TEXT), ("query", TEXT), ("response", pa.list_(TEXT)), ("image", IMAGE),
                        ("human_ranking", pa.list_(pa.int64())), ("models", pa.list_(TEXT)), ("judge", TEXT),
                        ("rationale", TEXT), ("query_source", TEXT), ("ground_truth", TEXT)])  # fmt: skip
    ids = ["RLAIF-V-1", "RLHF-V-2", "hallucination_pair-3", "mathverse_4", "mmmu_pro_5", "wildvision-battle-6"]
    rows = [
        {
            "id": id_,
            "query": f"q{i}",
            "response": ["left", "right"],
            "human_ranking": [i % 2, 1 - i % 2],
            "image": cell(i),
        }
        for i, id_ in enumerate(ids)
    ]
    rows += [rows[0] | {"query": "again"}, rows[0], rows[0] | {"human_ranking": [0, 0]}, rows[0] | {"response": ["a"]}]
    report = ingest("vl-rewardbench", parquet(tmp_path / "x.parquet", rows, schema), tmp_path / "out", max_bad=0.2)
    assert report["bad"] == {"no_label": 1, "not_two_responses": 1}
    assert report["notes"] == {"duplicate": 1, "repeated_id": 2}  # every row of a benchmark counts
    pairs = read_pairs(tmp_path / "out")
    assert [p.category for p in pairs] == ["hallucination"] * 3 + ["reasoning"] * 2 + ["general"] + [
        "hallucination"
    ] * 2
    assert [p.id for p in pairs][-2:] == ["vl_rewardbench:RLAIF-V-1#2", "vl_rewardbench:RLAIF-V-1#3"]
    sides = [("left", "right"), ("right", "left")]
    assert list(better_and_worse(tmp_path / "out").values()) == [*sides, *sides, *sides, sides[0], sides[0]]
    assert picture_hash(pairs[0].images[0]) == picture_hash(pairs[6].images[0])


def bench_row(i, **changes):
    return {"id": f"RLAIF-V-{i}", "prompt": "What?", "chosen": "good", "rejected": "bad", "image": f"img/{i}.png",
            "chosen_reason": "", "rejected_reason": ""} | changes  # fmt: skip


def test_vl_rewardbench_jsonl(tmp_path):
    pictures(tmp_path / "img", [f"{i}.png" for i in range(20)])
    path = jsonl(tmp_path / "my bench.jsonl", [bench_row(i) for i in range(20)])
    report = ingest("vl-rewardbench", path, tmp_path / "out")
    assert (report["read"], report["kept"], report["pictures"]) == (20, 20, 20)
    assert set(better_and_worse(tmp_path / "out").values()) == {("good", "bad")}
    assert {p.category for p in read_pairs(tmp_path / "out")} == {"hallucination"}


@pytest.mark.parametrize("name", ["json", "jsonl", "parquet"])
def test_multimodal_rewardbench(tmp_path, name):
    def row(id_, category, better="Output1"):
        return {"ID": id_, "Image": "img/0.png", "Text": f"q {id_}", "Output1": "one", "Output2": "two",
                "Better": better, "Category": category}  # fmt: skip

    rows = [
        row("correctness-1", "correctness"), row("x", "preference", "Output2"), row("k", "knowledge"),
        row("MATH-1", "reasoning"), row("livecode-1", "reasoning"), row("Pairs-1", "safety"), row("hm-1", "safety"),
        row("v", "vqa"), row("w", "vqa", "output1"),
    ]  # fmt: skip
    pictures(tmp_path / "img", ["0.png"])
    path = tmp_path / f"all_data.{name}"
    if name == "parquet":
        parquet(path, rows, pa.schema([(column, TEXT) for column in rows[0]]))
    elif name == "jsonl":
        jsonl(path, rows)
    else:
        path.write_text(json.dumps(rows))
    report = ingest("multimodal-rewardbench", path, tmp_path / "out", max_bad=0.2)
    assert report["bad"] == {"no_label": 1}
    assert [p.category for p in read_pairs(tmp_path / "out")] == [
        "correctness", "preference", "knowledge", "reasoning/math", "reasoning/coding", "safety/bias",
        "safety/toxicity", "vqa",
    ]  # fmt: skip
    assert better_and_worse(tmp_path / "out")["multimodal_rewardbench:x"] == ("two", "one")


def test_mm_rlhf_rewardbench_with_pictures_and_frames(tmp_path):
    root = tmp_path / "data"
    pictures(root, ["mcq/long_video.png", "short/0.png"])
    pictures(root / "video" / "a", [f"frame_{i}.png" for i in range(100)])
    pictures(root / "video" / "b", ["1.png", "2.png", "10.png", "notes.txt"])
    rows = [
        bench_row(0, id="1_2", image="mcq/long_video.png"), bench_row(1, id="1_2", image="mcq/long_video.png", chosen="other"),  # noqa: E501
        bench_row(2, id="s", image="./short/0.png"), bench_row(3, id="v", image=None, video="video/a.mp4"),
        bench_row(4, id="w", image=None, video="video/b"), bench_row(5, id="n", image=None),
    ]  # fmt: skip
    path = jsonl(root / "mm_reward_bench.jsonl", rows)
    with pytest.raises(UserError, match="the pictures of 1 rows are missing"):
        ingest("mm-rlhf-rewardbench", path, tmp_path / "out", max_bad=0.2)
    report = ingest("mm-rlhf-rewardbench", path, tmp_path / "out", missing_images="drop", max_bad=0.2)
    assert report["bad"] == {"missing_picture": 1}
    pairs = read_pairs(tmp_path / "out")
    assert [p.category for p in pairs] == ["mcq", "mcq", "short", "video", "video"]
    assert [p.group for p in pairs] == ["1_2", "1_2", "s", "v", "w"]
    assert [len(p.images) for p in pairs] == [1, 1, 1, 32, 3]
    stored = [path.read_bytes() for path in pairs[3].image_paths(tmp_path / "out")]
    assert (stored[0], stored[-1]) == (picture(0), picture(99))
    assert [path.read_bytes() for path in pairs[4].image_paths(tmp_path / "out")] == [picture(i) for i in (0, 1, 2)]
    rows[3]["video"] = "video/none.mp4"
    with pytest.raises(UserError, match=r"pictures of 2 rows.*video/none\.mp4 has no folder of frames"):
        ingest("mm-rlhf-rewardbench", jsonl(path, rows), tmp_path / "out2")
    report = ingest("mm-rlhf-rewardbench", path, tmp_path / "out2", missing_images="blank", max_bad=0.2)
    assert report["notes"]["blank_picture"] == 1


@pytest.mark.parametrize("name", ["vl-rewardbench", "mm-rlhf-rewardbench"])
def test_a_benchmark_that_was_converted_has_its_ids_again_and_can_be_ingested_anew(tmp_path, name):
    pictures(tmp_path / "mcq", ["0.png", "1.png"])
    pictures(tmp_path / "video" / "a", ["1.png", "2.png"])
    pictures(tmp_path / "img", [f"{i}.png" for i in range(5)])
    rows = [bench_row(1), bench_row(1, prompt="Who?"), bench_row(2, id="mmmu_1"), bench_row(3, id="wild-4")]
    if name == "mm-rlhf-rewardbench":
        rows = [
            bench_row(0, id="x", image="mcq/0.png"), bench_row(1, id="x", image="mcq/0.png", prompt="Who?"),
            bench_row(2, id="v", image=None, video="video/a.mp4"),
        ]  # fmt: skip
    ingest(name, jsonl(tmp_path / "bench.jsonl", rows), tmp_path / "one")
    convert("bench", tmp_path / "one", tmp_path / "again.jsonl")
    again = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert [row["id"] for row in again] == [row["id"] for row in rows]
    ingest(name, tmp_path / "again.jsonl", tmp_path / "two")
    one, two = read_pairs(tmp_path / "one"), read_pairs(tmp_path / "two")
    assert [asdict(pair) | {"license": ""} for pair in one] == [asdict(pair) | {"license": ""} for pair in two]
    judged = load_pairs(tmp_path / "again.jsonl")
    assert [(p.category, p.group, len(p.images)) for p in judged] == [(p.category, p.group, len(p.images)) for p in one]


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("vl-rewardbench", {"image": "mcq/0.png"}, "of_mm_rlhf_rewardbench"),
        ("vl-rewardbench", {"video": "video/a.mp4"}, "of_mm_rlhf_rewardbench"),
        ("mm-rlhf-rewardbench", {"image": "img/0.png"}, "no_category"),
    ],
)
def test_a_row_of_another_benchmark_is_no_row_of_this_one(tmp_path, name, changes, reason):
    pictures(tmp_path / "img", ["0.png"])
    pictures(tmp_path / "mcq", ["0.png"])
    with pytest.raises(UserError, match=f"1 of 1 rows are bad.*{reason} 1"):
        ingest(name, jsonl(tmp_path / "bench.jsonl", [bench_row(0, **changes)]), tmp_path / "out")


# --- people's own data


def test_preference_jsonl_takes_both_ways_to_say_what_is_better(tmp_path):
    pictures(tmp_path, ["a.png", "b.png"])
    responses = {"response_1": "one", "response_2": "two"}
    rows = [
        {"question": "q1", "chosen": "good", "rejected": "bad", "images": ["a.png", "b.png"]},
        {"prompt": "q2", "chosen": "good", "rejected": "bad", "image": "a.png", "id": 7, "source": "My Set", "license": "mit"},  # noqa: E501
        {"question": "q3", **responses, "label": 2}, {"question": "q4", **responses, "label": "1"},
        {"question": "q5", **responses, "label": 1.0, "id": "ünï:1", "category": "c"},
        {"question": "q6", **responses, "label": "Tie"}, {"question": "q7", **responses, "label": 0},
        {"question": "q8", **responses, "label": True}, {"question": "q9", **responses},
        {"question": "q"}, {"question": "q", "chosen": "a", "rejected": ["b"]}, {"prompt": 3, "chosen": "a", "rejected": "b"},  # noqa: E501
        {"question": "q", "chosen": "a", "rejected": "b", "video": "v.mp4"}, {"question": "q", "chosen": "a", "rejected": "b", "id": [1]},  # noqa: E501
        {"question": "q", "chosen": "a", "rejected": "b", "images": 3}, {"question": "q", "chosen": "a", "rejected": "b", "image": "no.png"},  # noqa: E501
    ]  # fmt: skip
    report = ingest("preference-jsonl", jsonl(tmp_path / "My pairs.jsonl", rows), tmp_path / "out", max_bad=1)
    assert report["dropped"] == {"tie": 1}
    assert report["bad"] == {
        "bad_id": 1, "bad_label": 2, "bad_picture": 1, "missing_field": 1, "missing_picture": 1, "no_label": 1,
        "not_text": 2, "video": 1,
    }  # fmt: skip
    assert adds_up(report)
    assert better_and_worse(tmp_path / "out") == {
        "my_pairs:1": ("good", "bad"), "my_set:7": ("good", "bad"), "my_pairs:3": ("two", "one"),
        "my_pairs:4": ("one", "two"), "my_pairs:ünï:1": ("one", "two"),
    }  # fmt: skip
    pairs = read_pairs(tmp_path / "out")
    assert [len(p.images) for p in pairs] == [2, 1, 0, 0, 0]
    assert (pairs[1].license, pairs[4].category) == ("mit", "c")
