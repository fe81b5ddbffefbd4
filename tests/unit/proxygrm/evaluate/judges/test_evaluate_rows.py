from __future__ import annotations

import json

import pytest
from PIL import Image

from proxygrm.core.errors import UserError
from proxygrm.evaluate.judges import engine
from proxygrm.evaluate.rows.ordered_pair import judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair, check_pairs, load_pairs
from proxygrm.evaluate.rows.row_file import RowFile
from proxygrm.evaluate.settings import EvaluateSettings
from support.refusals import refused

MADE_BY = {"model": "m", "seed": 0}
PAIR = EvalPair("p", "q?", "good", "bad", 1)
GOOD = "<rubric>1. Sees (100%)<justify>j</justify></rubric><eval>e</eval><answer>2</answer>"


def write(path, rows):
    with RowFile(path, MADE_BY) as file:
        for row in rows:
            file.append(row)


def read(path):
    with RowFile(path, MADE_BY) as file:
        return file.rows, file.truncated_bytes


def test_rows_can_be_read_after_closing(tmp_path):
    path = tmp_path / "deep" / "a.jsonl"
    write(path, [{"key": "1"}, {"key": "\ud83d \u2028 \n 猫"}])
    assert read(path) == ([{"key": "1"}, {"key": "\ud83d \u2028 \n 猫"}], 0)


@pytest.mark.parametrize("kept", range(1, 14))
def test_a_row_truncated_anywhere_is_removed_and_the_file_can_be_continued(tmp_path, kept):
    path = tmp_path / "a.jsonl"
    write(path, [{"key": "1"}])
    with path.open("a") as file:
        file.write('{"key": "two"}'[:kept])
    write(path, [{"key": "3"}])
    assert read(path) == ([{"key": "1"}, {"key": "3"}], 0)


def test_a_file_truncated_in_its_first_line_starts_again(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"made_by": {"mod')
    write(path, [{"key": "1"}])
    assert read(path)[0] == [{"key": "1"}]


def test_rows_reach_the_disk_even_when_the_work_is_interrupted(tmp_path):
    path = tmp_path / "a.jsonl"

    def work():
        with RowFile(path, MADE_BY) as file:
            file.append({"key": "1"})
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        work()
    assert read(path)[0] == [{"key": "1"}]


def test_answers_of_another_model_are_not_mixed_in(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, [{"key": "1"}])
    with refused("file.made-by-other", path=path, changed=["seed"]), RowFile(path, MADE_BY | {"seed": 1}):
        pass
    assert read(path)[0] == [{"key": "1"}]


def test_a_file_in_which_no_judge_ever_answered_is_started_again_by_another(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, [])
    with RowFile(path, MADE_BY | {"seed": 1}) as file:
        assert file.rows == []
        file.append({"key": "1"})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"made_by": MADE_BY | {"seed": 1}}, {"key": "1"}
    ]  # fmt: skip


def test_damage_in_the_middle_is_an_error_and_nothing_is_lost(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, [{"key": "1"}])
    path.write_text(path.read_text() + "garbage\n" + '{"key": "2"}\n')
    with refused("file.damaged", path=path), RowFile(path, MADE_BY):
        pass
    assert "garbage" in path.read_text()


def test_both_orders_are_adjacent_with_the_label_swapped():
    first, second = ordered_pairs([PAIR])
    assert (first.responses, first.label) == (("good", "bad"), 1)
    assert (second.responses, second.label) == (("bad", "good"), 2)
    assert len(ordered_pairs([PAIR], "as-given")) == 1


def test_repeated_ids_and_changed_texts_have_different_keys():
    changed = EvalPair("p", "q?", "good", "worse", 1)
    keys = [s.key for s in ordered_pairs([PAIR, PAIR, changed])]
    assert len(set(keys)) == 6
    assert ordered_pairs([changed])[0].key not in keys[:4]


def test_a_row_has_what_was_shown_and_what_was_answered():
    answer = {"text": GOOD, "tokens": 30, "truncated": False, "problem": None}
    proxy_answer = {"text": "<think>t</think><answer>1</answer>", "tokens": 5, "truncated": False, "problem": None}
    row = judged_row(ordered_pairs([PAIR])[1], answer, proxy_answer)
    assert (row["response_1"], row["label"], row["verdict"], row["correct"]) == ("bad", 2, 2, True)
    assert (row["proxy_verdict"], row["proxy_agrees"]) == (1, False)
    assert row["rubric"] == "<rubric>\n1. Sees (100%)\n</rubric>"
    assert (row["order"], row["well_formed"], row["items"]) == ("swapped", True, [{"text": "Sees", "weight": 100.0}])


def test_a_refused_prompt_is_unparsed_with_the_reason():
    row = judged_row(ordered_pairs([PAIR])[0], {"text": "", "tokens": 0, "truncated": False, "problem": "too long"})
    assert (row["verdict"], row["correct"], row["refused"]) == (None, None, "too long")
    assert (row["proxy_asked"], row["problems"]) == (False, ["prompt_refused"])


def test_a_benchmark_jsonl_is_read_with_the_better_response_in_either_position(tmp_path):
    rows = [{"id": f"mmmu_{i}", "prompt": "p", "chosen": "C", "rejected": "R", "image": "x/y.png"} for i in range(20)]
    path = tmp_path / "vl_rewardbench.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows) + "\n\n")
    pairs = load_pairs(path)
    assert {p.label for p in pairs} == {1, 2}
    assert all((p.response_1, p.response_2)[p.label - 1] == "C" for p in pairs)
    assert pairs[0].images == (tmp_path / "x" / "y.png",)
    assert pairs[0].category == "reasoning"


def test_a_users_jsonl_is_read_with_its_categories_and_groups(tmp_path):
    rows = [
        {"id": 7, "question": "q", "chosen": "c", "rejected": "r", "images": ["1.png", "2.png"], "category": "signs"},
        {"id": "8", "question": "q", "response_1": "a", "response_2": "b", "label": "2", "group": "g", "source": "m"},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(json.dumps(row).encode() for row in rows))
    first, second = load_pairs(path)
    assert (first.id, first.question, first.source, first.category, len(first.images)) == ("7", "q", "mine", "signs", 2)
    assert (first.response_1, first.response_2)[first.label - 1] == "c"
    assert (second.response_1, second.response_2, second.label, second.group, second.source) == ("a", "b", 2, "g", "m")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "unexpected end"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not valid UTF-8"),
        (b'{"prompt":"p","chosen":"c","rejected":"r"}', "id is None"),
        (b'{"id":1,"chosen":"c","rejected":"r"}', "prompt is NoneType, not a text"),
        (b'{"id":1,"prompt":"p","chosen":null,"rejected":"r"}', "chosen is NoneType, not a text"),
        (b'{"id":1,"prompt":"p","chosen":"c","rejected":["r"]}', "rejected is list, not a text"),
        (b'{"id":1,"prompt":"p","response_1":"c","response_2":"r","label":0}', "label is 0, not 1 or 2"),
        (b'{"id":1,"prompt":"p","chosen":"c","rejected":"r","image":{"bytes":"iVBO"}}', "str where the bytes"),
        (b'{"id":1,"prompt":"p","chosen":"c","rejected":"r","image":"a","images":["b"]}', "not among `images`"),
        (b'{"id":1,"prompt":"p","chosen":"c","rejected":"r","video":"v"}', "it has a video"),
    ],
)
def test_an_invalid_row_is_named_by_its_line_with_the_reason(tmp_path, line, why):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b'{"id": "a", "prompt": "p", "chosen": "c", "rejected": "r"}\n' + line)
    with refused("data.bad-pair", path=path, row=2) as caught:
        load_pairs(path)
    assert why in caught.value.values["reason"]


def test_no_pairs_is_an_error(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    for path in (tmp_path / "empty.jsonl", tmp_path, tmp_path / "gone"):
        with refused("data.no-pairs", path=path):
            load_pairs(path)


def test_missing_images_are_refused_unless_blank_ones_are_requested(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "here.png")
    pairs = [EvalPair(str(i), "q", "a", "b", 1, (tmp_path / name,)) for i, name in enumerate(("here.png", "gone.png"))]
    with refused("image.missing", path=tmp_path / "gone.png", count=1, total=2):
        check_pairs(pairs, "refuse")
    assert check_pairs(pairs, "blank") == 1


@pytest.mark.parametrize(
    "wrong", [{"device": "gpu"}, {"missing_images": "skip"}, {"max_tokens": 0}, {"temperature": -1}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        EvaluateSettings(**wrong)


def test_a_hashed_order_is_the_same_whichever_response_the_file_lists_first():
    orders = set()
    for number in range(40):
        pair = EvalPair(f"p{number}", f"q{number}", "good", "bad", 1)
        swapped = EvalPair("other id", f"q{number}", "bad", "good", 2)
        (first,), (second,) = (ordered_pairs([p], "hashed", seed=3) for p in (pair, swapped))
        assert (first.responses, first.label) == (second.responses, second.label)
        orders.add(first.responses)
    assert len(orders) == 2


def test_votes_are_adjacent_with_different_keys_and_seeds():
    ordered = ordered_pairs([PAIR], "both", votes=3)
    settings = EvaluateSettings(temperature=1.0, votes=3, seed=7)
    assert [(s.sample, s.order) for s in ordered] == [(n, o) for n in range(3) for o in ("as_is", "swapped")]
    assert len({s.key for s in ordered}) == len({settings.seed_of(s.key) for s in ordered}) == 6
    assert ordered_pairs([PAIR])[0].key == ordered[0].key
    assert EvaluateSettings().seed_of(ordered[0].key) is None


def test_equal_scores_are_a_tie_and_count_as_no_verdict():
    from proxygrm.evaluate.scores.metrics import summarise

    answer = {"text": "", "tokens": 0, "truncated": False, "problem": None}
    rows = [judged_row(ordered_pairs([PAIR])[0], answer | {"scores": scores}) for scores in ([1, 1], [2, 1])]
    assert [(row["verdict"], row["correct"], row["problems"]) for row in rows] == [("tie", None, []), (1, True, [])]
    figures = summarise([row | {"id": str(n)} for n, row in enumerate(rows)])
    assert (figures["accuracy"], figures["accuracy_unparsed_wrong"], figures["says_1"]) == (1.0, 0.5, 1.0)


def test_a_file_that_another_process_is_writing_is_refused(tmp_path):
    with (
        RowFile(tmp_path / "a.jsonl", MADE_BY),
        pytest.raises(UserError, match="another process is writing"),
        RowFile(tmp_path / "a.jsonl", MADE_BY),
    ):
        pass


def test_a_folder_that_cannot_be_written_to_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with refused("file.cannot-write", path=tmp_path / "file" / "parts"):
        RowFile(tmp_path / "file" / "parts" / "a.jsonl", MADE_BY).__enter__()


@pytest.mark.needs("torch")
def test_a_missing_gpu_is_a_user_error(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [engine.choose_device(device) for device in ("auto", "cpu")] == ["cpu", "cpu"]
    with refused("judge.no-gpu"):
        engine.choose_device("cuda")
