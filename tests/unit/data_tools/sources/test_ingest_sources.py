"""Every source, from files built column by column in the layout of its release."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from data_tools.ingest.run import ingest, ingest_step
from data_tools.rows.preference import read_pairs
from data_tools.sources import SOURCES, llava_critic, load
from data_tools.sources.base import Excluded
from data_tools.steps.shards import carry_out
from support.refusals import refused
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
    image_bytes,
    jsonl,
    parquet,
    rlaif_v,
    write_images,
)


def test_every_listed_source_can_be_loaded_by_its_name():
    for name in SOURCES:
        assert load(name).name == name
    with refused("data.unknown-source", name="llava", known=list(SOURCES)):
        load("llava")


# --- RLAIF-V


def test_rlaif_v(tmp_path):
    rows = [
        rlaif_v(0), rlaif_v(1), rlaif_v(2, question=" "), rlaif_v(3, chosen=""), rlaif_v(4, rejected=None),
        rlaif_v(5, chosen="bad "), rlaif_v(6, image=b""), rlaif_v(7, image=b"broken"), rlaif_v(0),
        rlaif_v(8, question="q1", image=image_bytes(1)), rlaif_v(0, question="another under the same index"),
    ]  # fmt: skip
    parquet(tmp_path / "in" / "a.parquet", rows[:6], RLAIF_V)
    parquet(tmp_path / "in" / "sub" / "b.parquet", rows[6:], RLAIF_V)
    report = ingest("rlaif-v", tmp_path / "in", tmp_path / "out", max_bad=0.6)
    assert (report["read"], report["kept"]) == (11, 3)
    assert report["bad"] == {"empty_question": 1, "empty_response": 2, "missing_image": 1, "unreadable_image": 1}
    assert report["dropped"] == {"duplicate": 2, "same_responses": 1}
    assert report["notes"] == {"repeated_id": 1}
    assert adds_up(report)
    assert ("sub/b.parquet", 2, "unreadable_image") in dropped(tmp_path / "out")
    pairs = read_pairs(tmp_path / "out")
    assert [p.id for p in pairs] == ["rlaif_v:0", "rlaif_v:1", "rlaif_v:0#2"]
    assert {p.license for p in pairs} == {"cc-by-nc-4.0"}
    assert set(better_and_worse(tmp_path / "out").values()) == {("good", "bad")}
    assert json.loads((tmp_path / "out" / "ingest.json").read_text()) == report


def test_rlaif_v_with_text_indices_and_another_licence(tmp_path):
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
    assert report["bad"] == {"missing_image": 1, "not_one_turn": 1}
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
    write_images(tmp_path / "pics" / "images", [f"{i}.png" for i in range(10)])
    (tmp_path / "mmif.json").write_text(json.dumps(rows, indent=1))
    report = ingest("mmif", tmp_path / "mmif.json", tmp_path / "out", images_root=tmp_path / "pics", max_bad=0.5)
    assert report["bad"] == {"empty_response": 1, "missing_image": 1, "no_question_turn": 1, "not_an_object": 1}
    assert report["dropped"] == {"several_turns": 1}
    assert adds_up(report)
    assert read_pairs(tmp_path / "out")[5].question == "How many 5?"
    assert better_and_worse(tmp_path / "out")["mmif:1"] == ("right 0", "wrong 0")


# --- LLaVA-Critic

HEAD = "<image>\nGiven an image and a question, judge the answers. Your task:\n"


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


def test_llava_critic_rows_without_one_clear_preference_are_excluded_with_a_reason(tmp_path):
    human = HEAD + "Question: [q]\nThe first response: [{}]\nThe second response: [{}]\n"
    good = human.format("a", "b")
    rows = [
        critic(0, good, "Both are fine. Two responses are equally good."),
        critic(1, good, "The better response: [1]. Or rather, the better response: [2]."),
        critic(2, good, "I cannot say."),
        critic(3, good, "They are equally good in colour. The second response is better."),
        critic(4, "Question: q\nResponse 1: a\nResponse 2: b\nResponse 2: c", "The better response: 1"),
        critic(5, "Describe the image.", "A cat."),
        critic(6, good, "The better response: [10]"),
        critic(7, human.format("same", "same"), "The better response: [1]"),
        critic(8, human.format("[open", "b"), "The better response: [1]"),
        critic(9, good, "The better response: [first]", image=None),
        critic(10, good, "x", conversations=[]),
        critic(11, "The first response: [a]\nThe second response: [b]", "The better response: [first]"),
    ]
    report = ingest("llava-critic", parquet(tmp_path / "x.parquet", rows, LLAVA_CRITIC), tmp_path / "o", max_bad=1)
    assert report["dropped"] == {"same_responses": 1, "tie": 2, "unknown_wording": 1}
    assert report["bad"] == {"missing_image": 1, "no_turns": 1, "no_verdict": 2, "two_verdicts": 1, "unclear_turn": 2}
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
        single(3, "q", "best", 90), single(4, "q", "as good", 90), single(5, "q", "other image", 95, shade=1),
        single(6, "tied", "a", 7), single(7, "tied", "b", 7), single(8, "q", "other scale", 1, head="Out of 5.\n"),
        single(9, "r", "low", "3.5"), single(10, "r", "high", 4), single(11, "s", "x", 1), single(12, "s", "x", 2),
    ]  # fmt: skip
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
    assert isinstance(llava_critic.read(row), Excluded)


# --- the user's own data


def test_preference_jsonl_reads_both_layouts_of_the_preference(tmp_path):
    write_images(tmp_path, ["a.png", "b.png"])
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
        "bad_id": 1, "bad_label": 2, "bad_image": 1, "missing_field": 1, "missing_image": 1, "no_label": 1,
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
