"""Multimodal preference sources, from files built column by column in the layout of their releases.

Layouts were read on cards or in code (docs/data.md). A test with the mark `layout_not_seen` reads a file that was made
from the same guess as its reader, and confirms only that the two agree.
"""

from __future__ import annotations

import base64
import json

import pyarrow as pa
import pytest

from data_tools.ingest.run import ingest
from data_tools.inspect.check import check
from data_tools.inspect.stats import stats
from data_tools.rows.preference import read_pairs
from support.refusals import refused
from support.rows.release_files import (  # fmt: skip
    IMAGE,
    TEXT,
    adds_up,
    better_and_worse,
    cell,
    dropped,
    image_bytes,
    jsonl,
    parquet,
    write_images,
)

# --- MMPR: layout seen


def mmpr(i, **changes):
    return {
        "image": f"p/{i}.png",
        "question": f"<image>\nq{i}",
        "chosen": f"good {i}",
        "rejected": f"bad {i}",
    } | changes


def mmpr_release(folder, prefix="MMPR-v1.2/"):
    """Two subsets, of which meta.json names the files and the roots of the images."""
    jsonl(folder / "annotations" / "sets_a.jsonl", [mmpr(0), mmpr(1), mmpr(2, image=["p/0.png", "p/1.png"])])
    rows = [mmpr(0, question="of b"), mmpr(1, rejected="good 1"), mmpr(3, image=None, question="text only"),
            mmpr(4, video="v.mp4"), mmpr(5, image="p/lost.png"), mmpr(6, chosen="")]  # fmt: skip
    jsonl(folder / "annotations" / "sets_b.jsonl", rows)
    meta = {
        name: {"root": f"{prefix}images/{name}", "annotation": f"{prefix}annotations/sets_{name}.jsonl", "length": 9}
        for name in ("a", "b")
    }
    (folder / "meta.json").write_text(json.dumps(meta))
    for name in ("a", "b"):
        write_images(folder / "images" / name, ["p/0.png", "p/1.png"])
    return folder


@pytest.mark.parametrize("prefix", ["MMPR-v1.2/", ""])
def test_mmpr_finds_images_and_subsets_by_its_meta_file(tmp_path, prefix):
    release = mmpr_release(tmp_path / "MMPR-v1.2", prefix)
    report = ingest("mmpr", release, tmp_path / "out", max_bad=0.5)
    assert (report["read"], report["kept"]) == (9, 5)
    assert report["bad"] == {"empty_response": 1, "missing_image": 1}
    assert report["dropped"] == {"same_responses": 1, "video": 1}
    assert report["notes"] == {"image_tags_differ": 1, "no_id": 8, "no_image": 1}
    assert adds_up(report)
    pairs = read_pairs(tmp_path / "out")
    assert [(pair.id, pair.category, len(pair.images)) for pair in pairs] == [
        ("mmpr:annotations/sets_a.jsonl:1", "a", 1), ("mmpr:annotations/sets_a.jsonl:2", "a", 1),
        ("mmpr:annotations/sets_a.jsonl:3", "a", 2), ("mmpr:annotations/sets_b.jsonl:1", "b", 1),
        ("mmpr:annotations/sets_b.jsonl:3", "b", 0),
    ]  # fmt: skip
    assert pairs[0].question == "q0"
    assert pairs[0].license == "mit"
    assert ("annotations/sets_b.jsonl", 5, "missing_image") in dropped(tmp_path / "out")


def test_mmpr_in_archives_is_refused_in_one_line(tmp_path):
    for name in ("annotations.zip", "images.zip_aa", "images.zip_ab"):
        (tmp_path / name).write_bytes(b"PK")
    (tmp_path / "meta.json").write_text("{}")
    with refused("data.packed", path=tmp_path, archives=["annotations.zip", "images.zip_aa", "images.zip_ab"]):
        ingest("mmpr", tmp_path, tmp_path / "out")
    with refused("data.packed", archives=["images.zip_aa"]):
        ingest("mmpr", tmp_path / "images.zip_aa", tmp_path / "out")
    jsonl(tmp_path / "annotations" / "a.jsonl", [mmpr(0)])
    (tmp_path / "meta.json").write_text("{")
    with refused("file.damaged", path=tmp_path / "meta.json"):
        ingest("mmpr", tmp_path, tmp_path / "out")


ARCHIVES = [
    "a.zip",
    "a.zip_aa",
    "a.zip.001",
    "a.z01",
    "a.7z",
    "a.part1.rar",
    "a.tar",
    "a.tar.gz",
    "a.tgz",
    "a.tar.gz.aa",
]


@pytest.mark.parametrize("name", ARCHIVES)
def test_every_kind_of_archive_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with refused("data.packed", archives=[name]):
        ingest("mmpr", tmp_path, tmp_path / "out")


# --- MM-RLHF: layout seen


def test_mm_rlhf(tmp_path):
    def row(i, **changes):
        return {"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}", "image": f"long/{i}.png",
                "chosen_reason": "better"} | changes  # fmt: skip

    video = row(2, video="video/v")
    del video["image"]
    rows = [row(0), row(1, image="mcq/1.png", prompt="<image>\nq1"), video, row(4, video=7),
            row(3, is_tie=True), row(3, is_tie="yes"),
            row(0, prompt="a question", chosen="a question\nyes", rejected="a question\n\nno")]  # fmt: skip
    jsonl(tmp_path / "in" / "dpo_pairs.jsonl", rows)
    jsonl(tmp_path / "in" / "data.jsonl", [{"unknown": 1}])
    frames = [f"video/v/{i}.jpg" for i in range(40)]
    write_images(tmp_path / "in", ["long/0.png", "mcq/1.png", *frames])
    report = ingest("mm-rlhf", tmp_path / "in", tmp_path / "out", max_bad=0.5)
    assert report["bad"] == {"bad_video": 1}
    assert report["dropped"] == {"tie": 2}
    pairs = read_pairs(tmp_path / "out")
    assert [(pair.category, len(pair.images)) for pair in pairs] == [
        ("long", 1),
        ("mcq", 1),
        ("video", 32),
        ("long", 1),
    ]
    assert pairs[1].question == "q1"
    assert report["notes"]["prompt_in_answers"] == 1
    assert better_and_worse(tmp_path / "out")["mm_rlhf:7"] == ("yes", "no")


# --- VLFeedback: layout seen


def rated(model, *ratings, response=None):
    names = ("Helpfulness", "Ethical Considerations", "Visual Faithfulness")
    annotations = {name: {"Rating": each, "Rationale": "r"} for name, each in zip(names, ratings, strict=True)}
    return {"model": model, "response": response or f"of {model}", "annotations": annotations}


def vlfeedback_rows():
    four = [
        rated("a", "5", "5", "5"),
        rated("b", "4", "5", "4"),
        rated("c", "4", "5", "4"),
        rated("d", "N/A", "5", "1"),
    ]
    return [
        {"id": "x", "prompt": "q", "models": list("abcd"), "completions": four, "img_path": "i/0.png"},
        {"id": "y", "prompt": "q2", "models": ["a"], "completions": four[:1], "img_path": "i/0.png"},
    ]


def test_vlfeedback_makes_every_pair_of_unequal_ratings(tmp_path):
    jsonl(tmp_path / "vlfeedback_80k.jsonl", vlfeedback_rows())
    write_images(tmp_path, ["i/0.png"])
    report = ingest("vlfeedback", tmp_path, tmp_path / "out", max_bad=0.5)
    assert better_and_worse(tmp_path / "out") == {
        "vlfeedback:x/1-2": ("of a", "of b"), "vlfeedback:x/1-3": ("of a", "of c"),
    }  # fmt: skip
    assert report["dropped"] == {"no_rating": 3, "tie": 1}
    assert report["bad"] == {"too_few_responses": 1}
    assert report["options"] == {"pairs": "all"}
    assert adds_up(report)


def test_vlfeedback_as_datasets_writes_it_and_its_largest_gap(tmp_path):
    rows = vlfeedback_rows()[:1]
    rows[0]["completions"] = {name: [each[name] for each in rows[0]["completions"]]
                              for name in ("model", "response", "annotations")}  # fmt: skip
    jsonl(tmp_path / "vlfeedback_80k.jsonl", rows)
    write_images(tmp_path, ["i/0.png"])
    options = {"pairs": "gap"}
    report = ingest("vlfeedback", tmp_path, tmp_path / "out", source_options=options)
    assert better_and_worse(tmp_path / "out") == {"vlfeedback:x/1-2": ("of a", "of b")}
    assert report["options"] == options
    with refused("option.bad-value", option="pairs", value="some"):
        ingest("vlfeedback", tmp_path, tmp_path / "other", source_options={"pairs": "some"})
    with refused("settings.unknown-name", name="pair", near="pairs"):
        ingest("vlfeedback", tmp_path, tmp_path / "other", source_options={"pair": "gap"})


def test_vlfeedback_in_parquet_stores_the_image_of_its_pairs_once(tmp_path):
    rating = pa.struct([("Rating", TEXT), ("Rationale", TEXT)])
    aspects = pa.struct([(name, rating) for name in ("Helpfulness", "Ethical Considerations", "Visual Faithfulness")])
    completion = pa.struct([("annotations", aspects), ("model", TEXT), ("response", TEXT)])
    schema = pa.schema([("id", TEXT), ("prompt", TEXT), ("models", pa.list_(TEXT)),
                        ("completions", pa.list_(completion)), ("img_path", TEXT),
                        ("image", IMAGE)])  # fmt: skip
    row = vlfeedback_rows()[0] | {"image": cell(3)}
    parquet(tmp_path / "in" / "data" / "train-00000-of-00001.parquet", [row], schema)
    jsonl(tmp_path / "in" / "instruction_source.jsonl", [{"id": "x"}])
    report = ingest("vlfeedback", tmp_path / "in", tmp_path / "out")
    assert (report["kept"], report["images"]) == (2, 1)


# --- POVID: layout seen


def test_povid(tmp_path):
    def row(i, **changes):
        def turns(answer):
            return [{"from": "human", "value": f"<image>\nq{i}"}, {"from": "gpt", "value": answer}]

        return {"id": f"p{i}", "image": f"./data/coco/{i}.jpg", "conversations": turns(f"good {i}"),
                "rejected_conversations": turns(f"bad {i}")} | changes  # fmt: skip

    other = [{"from": "human", "value": "another"}, {"from": "gpt", "value": "a"}]
    rows = [row(0), row(1), row(2), row(0, rejected_conversations=other), row(1, rejected_conversations=None)]
    (tmp_path / "POVID_preference_data_for_VLLMs_version_1.json").write_text(json.dumps(rows))
    write_images(tmp_path / "train2014", ["0.jpg", "1.jpg"])
    report = ingest("povid", tmp_path, tmp_path / "out", images_root=tmp_path / "train2014", max_bad=0.8)
    assert report["bad"] == {"missing_image": 1, "no_common_prompt": 1, "unknown_layout": 1}
    assert better_and_worse(tmp_path / "out") == {f"povid:p{i}": (f"good {i}", f"bad {i}") for i in range(2)}
    assert {pair.question for pair in read_pairs(tmp_path / "out")} == {"q0", "q1"}


# --- WildVision-Battle: columns seen on a sister set, the words of `winner` not seen

TURNS = pa.list_(pa.struct([("role", TEXT), ("content", TEXT)]))


def said(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


@pytest.mark.layout_not_seen
def test_wildvision_battle(tmp_path):
    schema = pa.schema([("question_id", TEXT), ("model_a", TEXT), ("model_b", TEXT), ("conversation_a", TURNS),
                        ("conversation_b", TURNS), ("language", TEXT), ("image", IMAGE), ("turn", pa.int32()),
                        ("anony", pa.bool_()), ("winner", TEXT), ("tstamp", pa.int32()), ("judge", TEXT)])  # fmt: skip

    def row(i, winner, a=("q", "left"), b=("q", "right"), **changes):
        return {"question_id": f"w{i}", "conversation_a": said(*a), "conversation_b": said(*b), "language": "English",
                "image": cell(i), "winner": winner} | changes  # fmt: skip

    several = ("q", "left", "and?", "more left"), ("q", "right", "and?", "more right")
    same_start = ("q", "both", "and?", "left"), ("q", "both", "and?", "right")
    rows = [row(0, "model_a"), row(1, "model_b"), row(2, "tie"), row(3, "tie (bothbad)"), row(4, "neither"),
            row(5, "model_a", *several), row(6, "model_b", *same_start), row(7, "model_a", image=None),
            row(8, "Both bad")]  # fmt: skip
    parquet(tmp_path / "in" / "test.parquet", rows, schema)
    report = ingest("wildvision-battle", tmp_path / "in", tmp_path / "out", max_bad=0.5)
    assert report["bad"] == {"bad_label": 1, "missing_image": 1}
    assert report["dropped"] == {"several_turns": 1, "tie": 3}
    assert better_and_worse(tmp_path / "out") == {
        "wildvision_battle:w0": ("left", "right"), "wildvision_battle:w1": ("right", "left"),
        "wildvision_battle:w6": ("right", "left"),
    }  # fmt: skip
    last = read_pairs(tmp_path / "out")[2]
    assert last.question == "User: q\n\nAssistant: both\n\nUser: and?"
    assert last.category == "English"
    assert report["notes"]["several_turns"] == 1


# --- R1-Reward-RL: columns and marks seen, the encoding of `image` not seen


def r1_message(question, first, second, end="###### **Output Format (strictly follow):**  \n<answer>1/2</answer>"):
    text = f"Compare.\n###### **Input:**  \n###### [Question]:\n{question}  \n\n###### [Response 1]:\n{first}  \n\n"
    parts = [{"type": "text", "text": f"{text}###### [Response 2]:\n{second}  \n\n{end}"},
             {"type": "image", "image": "/disk/of/the/authors.jpg"}]  # fmt: skip
    return json.dumps([{"role": "user", "content": parts}])


R1_REWARD = pa.schema([("question", TEXT), ("message", TEXT), ("answer", pa.list_(TEXT)), ("image", TEXT)])


@pytest.mark.layout_not_seen
def test_r1_reward_rl(tmp_path):
    picture = base64.b64encode(image_bytes(5)).decode()

    def row(answer, message=None, **changes):
        return {"question": "q", "message": message or r1_message("What?", "left one", "right one"), "answer": answer,
                "image": picture} | changes  # fmt: skip

    twice = r1_message("What?\n[Response 1]: quoted", "left", "right")
    rows = [row(["<answer>1</answer>"]), row([" 2 "], r1_message("Which?", "left\n\ntwo", "right", end="")),
            row(["3"]), row(["1", "2"]), row(["1"], twice), row(["1"], "not json"),
            row(["1"], "[]"), row(["1"], image=None)]  # fmt: skip
    report = ingest("r1-reward-rl", parquet(tmp_path / "x.parquet", rows, R1_REWARD), tmp_path / "out", max_bad=0.9)
    assert report["bad"] == {
        "bad_label": 2, "message_not_json": 1, "missing_image": 1, "unclear_turn": 1, "unknown_layout": 1,
    }  # fmt: skip
    assert better_and_worse(tmp_path / "out") == {
        "r1_reward_rl:1": ("left one", "right one"), "r1_reward_rl:2": ("right", "left\n\ntwo"),
    }  # fmt: skip
    assert [pair.question for pair in read_pairs(tmp_path / "out")] == ["What?", "Which?"]
    assert report["images"] == 1


# --- OmniAlign-V-DPO: the trainer's fields seen, the files' not


@pytest.mark.layout_not_seen
def test_omnialign_v_dpo_in_both_shapes(tmp_path):
    turns = [{"from": "human", "value": "<image>\nq1"}, {"from": "gpt", "value": "good 1"}]
    jsonl(tmp_path / "chart.jsonl", [{"id": 0, "image": "0.png", "prompt": "<image>\nq0", "chosen": "good 0",
                                      "rejected": "bad 0"}, {"image": "0.png", "answers": ["a", "b"]}])  # fmt: skip
    jsonl(tmp_path / "poster.jsonl", [{"id": 1, "image": "1.png", "conversations": turns, "rejected": "bad 1"}])
    write_images(tmp_path, ["0.png", "1.png"])
    report = ingest("omnialign-v-dpo", tmp_path, tmp_path / "out", max_bad=0.5)
    assert report["bad"] == {"unknown_layout": 1}
    assert [(pair.question, pair.category) for pair in read_pairs(tmp_path / "out")] == [
        ("q0", "chart"),
        ("q1", "poster"),
    ]
    assert better_and_worse(tmp_path / "out") == {f"omnialign_v_dpo:{i}": (f"good {i}", f"bad {i}") for i in range(2)}


@pytest.mark.layout_not_seen
def test_omnialign_v_dpos_conversations_end_with_the_better_answer(tmp_path):
    first = [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "early"}]
    turns = [*first, {"from": "human", "value": "more?"}, {"from": "gpt", "value": "good"}]
    worse = [*turns[:-1], {"from": "gpt", "value": "bad"}]
    rows = [{"image": "0.png", "conversations": turns, "chosen": None, "rejected": rejected}
            for rejected in ("bad", worse)]  # fmt: skip
    jsonl(tmp_path / "chart.jsonl", rows)
    write_images(tmp_path, ["0.png"])
    report = ingest("omnialign-v-dpo", tmp_path, tmp_path / "out")
    assert (report["kept"], report["dropped"]) == (1, {"duplicate": 1})
    (pair,) = read_pairs(tmp_path / "out")
    assert pair.question == "User:\nq\n\nAssistant: early\n\nUser: more?"
    assert list(better_and_worse(tmp_path / "out").values()) == [("good", "bad")]


# --- the prompt inside the answers


def repeated(question):
    return {"chosen": f"{question}\ngood", "rejected": f"{question}\nbad"}


def test_a_prompt_that_both_answers_repeat_is_removed_from_each_layout(tmp_path):
    write_images(tmp_path, ["0.png", "i/0.png"])
    rated = [{"response": f"q\n{text}", "annotations": {"Helpfulness": {"Rating": str(rating)}}}
             for text, rating in (("good", 5), ("bad", 1))]  # fmt: skip
    releases = {
        "mmpr": mmpr(0, image=None, question="q", **repeated("q")),
        "vlfeedback": {"id": 1, "prompt": "q", "completions": rated, "img_path": "0.png"},
        "ultrafeedback": {"instruction": "q", "completions": [each | {"overall_score": n} for n, each in
                                                                  zip((9, 1), rated, strict=True)]},
        "shp": {"post_id": "p", "history": "q", "labels": 1, "human_ref_A": "q\ngood", "human_ref_B": "q\nbad"},
        "tulu-3": {name: said("q", text) for name, text in repeated("q").items()},
    }  # fmt: skip
    for name, row in releases.items():
        file = jsonl(tmp_path / name / "x.jsonl", [row])
        report = ingest(name, file, tmp_path / "out" / name, images_root=tmp_path)
        assert report["notes"].get("prompt_in_answers") == 1, name
        assert list(better_and_worse(tmp_path / "out" / name).values()) == [("good", "bad")]


def test_completions_of_different_lengths_are_not_cut(tmp_path):
    columns = {"response": ["a", "b", "c"], "annotations": [{"Helpfulness": {"Rating": "1"}}] * 2}
    file = jsonl(tmp_path / "x.jsonl", [{"id": 1, "prompt": "q", "completions": columns, "img_path": "0.png"}])
    with refused("data.too-many-bad-rows", reasons={"too_few_responses": 1}):
        ingest("vlfeedback", file, tmp_path / "out")


def test_mmpr_without_a_file_that_its_meta_names_is_refused(tmp_path):
    release = mmpr_release(tmp_path / "MMPR-v1.2")
    assert ingest("mmpr", release, tmp_path / "first", limit=1)["kept"] == 1
    (release / "annotations" / "sets_b.jsonl").unlink()
    with refused("data.missing-files", path=release, files=["sets_b.jsonl"]):
        ingest("mmpr", release, tmp_path / "out")
    assert ingest("mmpr", release / "annotations" / "sets_a.jsonl", tmp_path / "out", images_root=release)["kept"] == 3


def test_an_address_instead_of_a_release_is_said(tmp_path):
    with refused("file.missing"):
        ingest("skywork", "https://host/x.parquet", tmp_path / "out")


# --- check and stats, of the releases that their columns tell


def test_releases_are_checked_and_counted_pair_by_pair(tmp_path):
    jsonl(tmp_path / "v" / "vlfeedback_80k.jsonl", vlfeedback_rows())
    write_images(tmp_path / "v", ["i/0.png"])
    result = check(tmp_path / "v")
    assert (result.kind, result.rows, set(result.problems)) == ("VLFeedback", 7, {"too_few_responses"})
    assert result.remarks["no_rating"] == 3
    row = {"chosen": said("q", "good"), "rejected": said("q", "bad"), "source": "s"}
    counted = stats(jsonl(tmp_path / "s.jsonl", [row, row | {"rejected": said("other", "bad")}]))
    assert (counted["kind"], counted["rows"]) == ("conversation pairs (Skywork)", 2)
    assert counted["rows_with_problems"] == 1


# --- other columns


@pytest.mark.parametrize("name", ["mmpr", "mm-rlhf", "vlfeedback", "povid", "omnialign-v-dpo", "ultrafeedback", "shp"])
def test_other_fields_are_refused_with_the_row(tmp_path, name):
    file = jsonl(tmp_path / "x.jsonl", [{"id": 7, "query": "What?", "answers": ["a", "b"]}])
    with refused("data.too-many-bad-rows", reasons={"unknown_layout": 1}) as caught:
        ingest(name, file, tmp_path / "out")
    assert "query: What?, answers: ['a', 'b']" in caught.value.values["first"]


@pytest.mark.parametrize("name", ["wildvision-battle", "r1-reward-rl", "tulu-3", "ultrafeedback-binarized"])
def test_other_columns_are_refused_with_their_names(tmp_path, name):
    file = parquet(tmp_path / "train.parquet", [{"query": "q"}], pa.schema([("query", TEXT)]))
    with refused("data.missing-columns", path=file):
        ingest(name, file, tmp_path / "out")
