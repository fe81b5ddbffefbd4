"""Text-only preference sources, from files built column by column in the layout of their releases (all seen)."""

from __future__ import annotations

import pyarrow as pa
import pytest

from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from data_tools.sources.rated import rating
from data_tools.sources.turns import turns_of
from support.refusals import refused
from support.rows.release_files import TEXT, adds_up, better_and_worse, jsonl, parquet

TURNS = pa.list_(pa.struct([("role", TEXT), ("content", TEXT)]))


def said(*texts):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


# --- UltraFeedback

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")


def rated(name, overall, *ratings, **changes):
    annotations = {aspect: {"Rating": rating} for aspect, rating in zip(ASPECTS, ratings, strict=True)}
    return {"model": name, "response": f"of {name}", "annotations": annotations, "overall_score": overall} | changes


def prompts():
    a = rated("a", 8.5, "4", "5", "5", "3")
    b = rated("b", "7", "3", "3", "3", "3", annotations={name: [{"Rating": "5"}] for name in ASPECTS})  # an early form
    c = rated("c", 10, "2", "2", "2", "2")  # the wrong 10 of old copies: 1
    d = rated("d", 7, "N/A", "3", "3", "3")
    return [
        {"source": "sharegpt", "instruction": "q", "models": list("abcd"), "completions": [a, b, c, d]},
        {"source": "flan", "instruction": "p", "completions": [rated("e", 10, "3", "3", "3", "3"), a]},
    ]


def test_ultrafeedback_makes_all_pairs_of_unequal_scores(tmp_path):
    report = ingest("ultrafeedback", jsonl(tmp_path / "x.jsonl", prompts()), tmp_path / "out")
    assert better_and_worse(tmp_path / "out") == {
        "ultrafeedback:1/1-2": ("of a", "of b"), "ultrafeedback:1/1-3": ("of a", "of c"),
        "ultrafeedback:1/1-4": ("of a", "of d"), "ultrafeedback:1/2-3": ("of b", "of c"),
        "ultrafeedback:1/4-3": ("of d", "of c"),
    }  # fmt: skip
    assert report["dropped"] == {"no_rating": 1, "tie": 1}  # the second prompt has a 10 that was rated again
    assert report["options"] == {"pairs": "all", "score": "overall"}
    assert adds_up(report)
    assert {pair.category for pair in read_pairs(tmp_path / "out")} == {"sharegpt"}


@pytest.mark.parametrize(("score", "pair", "dropped"), [
    ("overall", {"ultrafeedback:1/1-3": ("of a", "of c")}, {"no_rating": 1}),
    ("fine", {"ultrafeedback:1/2-3": ("of b", "of c"), "ultrafeedback:2/2-1": ("of a", "of e")}, {}),
])  # fmt: skip
def test_the_largest_gap_by_either_score(tmp_path, score, pair, dropped):
    options = {"pairs": "gap", "score": score}
    report = ingest("ultrafeedback", jsonl(tmp_path / "x.jsonl", prompts()), tmp_path / "out", source_options=options)
    assert better_and_worse(tmp_path / "out") == pair
    assert report["dropped"] == dropped
    assert report["options"] == options


def test_another_option_is_another_step(tmp_path):
    file = jsonl(tmp_path / "x.jsonl", prompts())
    first = ingest("ultrafeedback", file, tmp_path / "out")
    second = ingest("ultrafeedback", file, tmp_path / "out", source_options={"pairs": "gap"})
    assert (first["kept"], second["kept"]) == (5, 1)
    assert first["stamp"] != second["stamp"]


BINARIZED = pa.schema([("prompt", TEXT), ("prompt_id", TEXT), ("chosen", TURNS), ("rejected", TURNS),
                       ("score_chosen", pa.float64()), ("score_rejected", pa.float64())])  # fmt: skip


def test_ultrafeedback_binarized(tmp_path):
    def row(i, high, low, chosen="good", rejected="bad"):
        return {"prompt": f"q{i}", "prompt_id": f"h{i}", "chosen": said(f"q{i}", chosen), "score_chosen": high,
                "rejected": said(f"q{i}", rejected), "score_rejected": low}  # fmt: skip

    rows = [row(0, 8.0, 3.0), row(1, 5.0, 5.0), row(2, 4.0, 6.0), row(3, None, None), row(4, 8.0, 7.0, "same", "same")]
    parquet(tmp_path / "in" / "train_prefs-00000-of-00001.parquet", rows, BINARIZED)
    parquet(tmp_path / "in" / "test_prefs-00000-of-00001.parquet", rows, BINARIZED)
    report = ingest("ultrafeedback-binarized", tmp_path / "in", tmp_path / "out")
    assert (report["read"], report["dropped"]) == (5, {"same_responses": 1, "tie": 1})
    assert report["notes"] == {"no_image": 3, "ratings_reversed": 1}
    assert [pair.id for pair in read_pairs(tmp_path / "out")] == [f"ultrafeedback_binarized:h{i}" for i in (0, 2, 3)]


# --- Tulu-3, OLMo-2, Skywork

TULU = pa.schema([("id", TEXT), ("prompt", TEXT), ("chosen", TURNS), ("rejected", TURNS), ("source", TEXT)])


def test_tulu_3_takes_the_prompt_from_what_both_sides_share(tmp_path):
    system = [{"role": "system", "content": "Be brief."}]
    rows = [
        {"id": "a", "prompt": "q", "chosen": said("q", "good"), "rejected": said("q", "bad"), "source": "if"},
        {"id": "b", "prompt": "q2", "chosen": said("q", "x", "q2", "good"), "rejected": said("q", "x", "q2", "bad")},
        {"id": "c", "prompt": "q", "chosen": system + said("q", "good"), "rejected": system + said("q", "bad")},
        {"id": "d", "prompt": "q", "chosen": said("q", "good"), "rejected": said("other", "bad")},
        {"id": "e", "prompt": "q", "chosen": said("q", "good"), "rejected": said("q")},
        {"id": "f", "prompt": "q", "chosen": said("q", "x", "more", "y"), "rejected": said("q", "bad")},
        {"id": "g", "prompt": "q", "chosen": [], "rejected": said("q", "bad")},
    ]
    report = ingest("tulu-3", parquet(tmp_path / "train-0.parquet", rows, TULU), tmp_path / "out", max_bad=0.5)
    assert report["bad"] == {"no_answer": 1, "no_common_prompt": 1, "unknown_layout": 1}
    assert report["dropped"] == {"several_turns": 1}
    assert report["notes"] == {"no_image": 3, "several_turns": 2}
    pairs = read_pairs(tmp_path / "out")
    assert [pair.question for pair in pairs] == [
        "q", "User: q\n\nAssistant: x\n\nUser: q2", "System: Be brief.\n\nUser: q",
    ]  # fmt: skip
    assert set(better_and_worse(tmp_path / "out").values()) == {("good", "bad")}
    assert pairs[0].category == "if"
    assert pairs[0].images == ()


def test_both_revisions_of_olmo_2(tmp_path):
    old = pa.schema([("chosen", TURNS), ("rejected", TURNS), ("chosen_model", TEXT), ("rejected_model", TEXT),
                     ("id", TEXT), ("source", TEXT)])  # fmt: skip
    new = old.append(pa.field("chosen_rating", pa.float64())).append(pa.field("rejected_rating", pa.float64()))

    def row(i, *ratings):
        return {
            "id": f"o{i}",
            "chosen": said("q", f"good {i}"),
            "rejected": said("q", f"bad {i}"),
            "source": "s",
        } | dict(zip(("chosen_rating", "rejected_rating"), ratings, strict=False))

    assert ingest("olmo-2", parquet(tmp_path / "a.parquet", [row(0), row(1)], old), tmp_path / "old")["kept"] == 2
    rows = [row(0, 4.5, 2.0), row(1, 3.0, 3.0), row(2, None, None), row(3, 2.0, 4.0)]
    report = ingest("olmo-2", parquet(tmp_path / "b.parquet", rows, new), tmp_path / "new")
    assert report["dropped"] == {"tie": 1}
    assert report["notes"] == {"no_image": 3, "ratings_reversed": 1}


def test_skywork_in_parquet_and_in_json_lines_gives_the_same_pairs(tmp_path):
    schema = pa.schema([("chosen", TURNS), ("rejected", TURNS), ("source", TEXT)])
    rows = [{"chosen": said(f"q{i}", "good"), "rejected": said(f"q{i}", "bad"), "source": "magpie"} for i in range(3)]
    ingest("skywork", parquet(tmp_path / "a.parquet", rows, schema), tmp_path / "a")
    ingest("skywork", jsonl(tmp_path / "b.jsonl", rows), tmp_path / "b")
    assert read_pairs(tmp_path / "a") == read_pairs(tmp_path / "b")
    assert [pair.category for pair in read_pairs(tmp_path / "a")] == ["magpie"] * 3


def test_a_text_that_repeats_the_prompt_loses_it_on_both_sides_only(tmp_path):
    rows = [
        {"prompt": "What?", "chosen": "What?\ngood", "rejected": "What?\n\nbad", "source": "s"},
        {"prompt": "Why?", "chosen": "Why?\nis a good question", "rejected": "bad", "source": "s"},
    ]
    report = ingest("skywork", jsonl(tmp_path / "x.jsonl", rows), tmp_path / "out")
    assert set(better_and_worse(tmp_path / "out").values()) == {("good", "bad"), ("Why?\nis a good question", "bad")}
    assert report["notes"]["prompt_in_answers"] == 1


@pytest.mark.parametrize(("chosen", "rejected", "pair", "note"), [
    ("What?\r\nA", "What?\nB", ("A", "B"), "prompt_in_answers"),
    ("What?\n\nWhat?\nA", "What?\nB", ("What?\nA", "B"), "prompt_in_answers"),
    ("What?\nA", "B", ("What?\nA", "B"), "prompt_in_one_answer"),
    ("What? A", "What? B", ("What? A", "What? B"), ""),
    ("What?", "What?\nB", ("What?", "What?\nB"), "prompt_in_one_answer"),
])  # fmt: skip
def test_where_the_prompt_stands_in_the_answers(tmp_path, chosen, rejected, pair, note):
    rows = [{"id": "1", "prompt": "What?", "chosen": chosen, "rejected": rejected, "source": "s"}]
    report = ingest("tulu-3", jsonl(tmp_path / "x.jsonl", rows), tmp_path / "out")
    assert list(better_and_worse(tmp_path / "out").values()) == [pair]
    assert report["notes"] == {"no_image": 1} | ({note: 1} if note else {})


NO_RATINGS = [
    "N/A",
    "nan",
    "inf",
    "1_0",
    "0x10",
    "5/5",
    "4,5",
    "٣",
    "",
    " ",
    "Rating: 5",
    None,
    True,
    [4],
    {"a": 1},
    "1e999",
]


@pytest.mark.parametrize("value", NO_RATINGS)
def test_what_is_not_a_number_is_not_a_rating(value):
    assert rating(value) is None


@pytest.mark.parametrize(("value", "number"), [("4", 4), (" 4.5 ", 4.5), ("-1", -1), ("1e1", 10), (".5", 0.5), (3, 3)])
def test_a_rating_may_be_a_text(value, number):
    assert rating(value) == number


def test_turns_in_every_known_shape():
    as_roles, as_from = said("q", "a"), [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    as_lists = {"role": ["user", "assistant"], "content": ["q", "a"]}
    in_parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "q"}]}, as_roles[1]]
    read = turns_of(as_roles)
    assert read == turns_of(as_from) == turns_of(as_lists) == turns_of(in_parts)
    wrong = ([], "q", ["q"], [{"content": "q"}], {}, {"role": ["user"], "content": ["q", "a"]})
    assert [turns_of(value) for value in wrong] == [None] * len(wrong)


# --- SHP


def shp(i, label, **changes):
    return {"post_id": f"p{i}", "domain": "askscience_train", "upvote_ratio": 0.9, "history": f"post {i}",
            "c_root_id_A": f"a{i}", "c_root_id_B": f"b{i}", "score_A": 9 if label else 2,
            "score_B": 2 if label else 9, "human_ref_A": f"A {i}", "human_ref_B": f"B {i}", "labels": label,
            "score_ratio": 4.5} | changes  # fmt: skip


def test_shp_label_1_prefers_a_and_only_the_training_split_is_read(tmp_path):
    rows = [shp(0, 1), shp(1, 0), shp(2, 1, score_A=1), shp(3, 2), shp(4, 1, score_ratio=1.2),
            shp(0, 1, c_root_id_B="c", human_ref_B="C 0")]  # fmt: skip
    jsonl(tmp_path / "in" / "askscience" / "train.json", rows[:3])
    jsonl(tmp_path / "in" / "askhr" / "train.json", rows[3:])
    jsonl(tmp_path / "in" / "askhr" / "validation.json", rows)
    report = ingest("shp", tmp_path / "in", tmp_path / "out", max_bad=0.3)
    assert report["files"] == ["askhr/train.json", "askscience/train.json"]
    assert report["bad"] == {"bad_label": 1}
    assert report["notes"] == {"no_image": 5, "scores_reversed": 1}
    assert better_and_worse(tmp_path / "out") == {
        "shp:p0/a0-b0": ("A 0", "B 0"), "shp:p1/a1-b1": ("B 1", "A 1"), "shp:p2/a2-b2": ("A 2", "B 2"),
        "shp:p4/a4-b4": ("A 4", "B 4"), "shp:p0/a0-c": ("A 0", "C 0"),
    }  # fmt: skip
    options = {"min_ratio": "2"}
    report = ingest("shp", tmp_path / "in", tmp_path / "few", max_bad=0.3, source_options=options)
    assert report["dropped"] == {"low_ratio": 1}
    with refused("data.no-files"):
        ingest("shp", jsonl(tmp_path / "other" / "validation.json", rows).parent, tmp_path / "x")


def test_shp_without_a_gap_is_dropped(tmp_path):
    rows = [shp(0, 1, score_A=3, score_B=3), shp(1, 1, score_ratio="N/A"), shp(2, 1)]
    file = jsonl(tmp_path / "train.json", rows)
    report = ingest("shp", file, tmp_path / "out")
    assert (report["kept"], report["dropped"]) == (2, {"tie": 1})
    report = ingest("shp", file, tmp_path / "few", source_options={"min_ratio": "2"})
    assert (report["kept"], report["dropped"]) == (1, {"no_ratio": 1, "tie": 1})
