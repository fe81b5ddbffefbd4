"""Questions of a policy: which rows are used, which are counted, and where they go."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from data_tools.export.question_rows import Amounts, write_question_rows
from proxygrm.critique.prompts.process import policy_prompt
from support.refusals import refused

AMOUNTS = Amounts(held_out=4, validation=3, cold_start=2)


def png(colour: tuple[int, int, int]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(out, "PNG")
    return out.getvalue()


def write(folder: Path, rows: list[Any]) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(30):
        (folder / f"{number}.png").write_bytes(png((number, 0, 0)))
    (folder / "text.png").write_text("this is no image")
    file = folder / "questions.jsonl"
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return file


def good(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"q{number}", "question": "How red?", "image": f"{number}.png", "answer": number, **more}


def held_out(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "held_out.jsonl").read_text().splitlines()]


def test_every_question_goes_to_one_part_and_comes_back_whole(tmp_path: Path) -> None:
    source = write(tmp_path / "in", [good(number) for number in range(20)])
    report = write_question_rows(source, tmp_path / "out", AMOUNTS, instruction="Write a number.")
    parts = {name: report[name] for name in ("train", "validation", "held_out", "cold_start")}
    assert parts == {"train": 11, "validation": 3, "held_out": 4, "cold_start": 2}
    train = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    validation = pq.read_table(tmp_path / "out" / "validation.parquet").to_pylist()
    shown = [json.loads(line) for line in (tmp_path / "out" / "cold_start.jsonl").read_text().splitlines()]
    ids = [row["extra_info"]["id"] for row in train + validation] + [row["id"] for row in held_out(tmp_path / "out")]
    assert sorted([*ids, *(row["id"] for row in shown)]) == sorted(f"q{number}" for number in range(20))
    for row in train:
        number = int(row["extra_info"]["id"][1:])
        assert row["prompt"] == [{"role": "user", "content": "<image>How red?\nWrite a number."}]
        assert row["images"] == [{"bytes": png((number, 0, 0)), "path": None}]
        assert row["extra_info"]["answers"] == [str(number)] == [row["reward_model"]["ground_truth"]]
        (image,) = row["extra_info"]["images"]
        assert Path(image).read_bytes() == png((number, 0, 0))
    assert all(Path(row["images"][0]).parent == tmp_path / "out" / "images" for row in shown)


def test_equal_questions_about_equal_images_stay_together(tmp_path: Path) -> None:
    rows = [good(number % 10) | {"id": f"r{number}"} for number in range(20)]  # each twice
    write_question_rows(write(tmp_path / "in", rows), tmp_path / "out", Amounts(6, 2, 0))
    train = pq.read_table(tmp_path / "out" / "train.parquet", columns=["extra_info"]).to_pylist()
    trained = {image for row in train for image in row["extra_info"]["images"]}
    measured = {image for row in held_out(tmp_path / "out") for image in row["images"]}
    assert len(held_out(tmp_path / "out")) == 6
    assert not trained & measured


def test_the_seed_alone_decides_who_is_held_out(tmp_path: Path) -> None:
    rows = [good(number) for number in range(20)]
    found = []
    for name, order, seed in (("a", rows, 0), ("b", rows[::-1], 0), ("c", rows, 1)):
        write_question_rows(write(tmp_path / f"in{name}", order), tmp_path / name, AMOUNTS, seed=seed)
        found.append({row["id"] for row in held_out(tmp_path / name)})
    assert found[0] == found[1] != found[2]


BAD = {
    "unreadable_image": good(0, image="text.png"),
    "missing_image": good(0, image="nowhere.png"),
    "no_question": good(0, question=" "),
    "bad_answer": good(0, answer={"is": "red"}),
    "bad_reference": good(0, reference=7),
    "not_an_object": [1],
    "not_json": "{",
    "repeated_id": good(1),
}


def test_what_cannot_be_used_is_left_out_and_counted_by_its_cause(tmp_path: Path) -> None:
    source = write(tmp_path / "in", [*(good(number) for number in range(1, 20)), *BAD.values()])
    report = write_question_rows(source, tmp_path / "out", AMOUNTS, max_bad=0.5)
    assert report["bad"] == dict.fromkeys(BAD, 1)
    assert report["bad_lines"] == {cause: [line] for line, cause in enumerate(BAD, 20)}
    assert report["used"] == 19
    with refused("questions.bad-rows"):
        write_question_rows(source, tmp_path / "again", AMOUNTS, max_bad=0.2)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"question": "a \ud800"}, "not_unicode"), ({"answer": "\ud800"}, "not_unicode"),
        ({"id": "\ud800"}, "not_unicode"),
        ({"choices": [None, "red"]}, "bad_choices"), ({"choices": ["red", " "]}, "bad_choices"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_and_choices_with_a_gap_are_left_out(
    tmp_path: Path, change: dict[str, Any], cause: str
) -> None:
    rows = [good(number) for number in range(1, 20)] + [good(0, **change)]
    report = write_question_rows(write(tmp_path / "in", rows), tmp_path / "out", AMOUNTS, max_bad=0.5)
    assert report["bad_lines"] == {cause: [20]}


def test_a_blank_reference_is_none(tmp_path: Path) -> None:
    rows = [good(number, reference=" ") for number in range(20)]
    write_question_rows(write(tmp_path / "in", rows), tmp_path / "out", AMOUNTS)
    shown = [json.loads(line) for line in (tmp_path / "out" / "cold_start.jsonl").read_text().splitlines()]
    assert all(row["messages"][1]["content"].strip() for row in shown)


def test_questions_without_an_answer_are_trained_on_but_never_shown_answers(tmp_path: Path) -> None:
    rows = [good(number, answer=[None, float("nan")][number % 4 // 2] if number % 2 else "red") for number in range(20)]
    report = write_question_rows(write(tmp_path / "in", rows), tmp_path / "out", AMOUNTS)
    assert report["without_answer"] == 10
    shown = [json.loads(line) for line in (tmp_path / "out" / "cold_start.jsonl").read_text().splitlines()]
    assert [row["messages"][1]["content"] for row in shown] == ["red", "red"]


def test_questions_of_text_alone_have_a_folder_of_no_images(tmp_path: Path) -> None:
    rows = [{"question": f"What is {number} + 1?", "answers": [number + 1]} for number in range(20)]
    write_question_rows(write(tmp_path / "in", rows), tmp_path / "out", AMOUNTS)
    assert [path.name for path in (tmp_path / "out" / "images").iterdir()] == ["index.json"]
    assert pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()[0]["images"] == []


def test_with_steps_the_prompts_ask_for_them_and_only_solutions_are_shown(tmp_path: Path) -> None:
    steps = json.dumps({"reasoningprocess": [{"steptext": "It is red."}], "finalanswer": "red"})
    rows = [good(number, reference=steps if number % 4 else "red") for number in range(20)]
    source = write(tmp_path / "in", rows)
    write_question_rows(source, tmp_path / "out", Amounts(4, 3, 5), instruction="Write a number.", steps=True)
    train = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    assert {row["prompt"][0]["content"] for row in train} == {"<image>" + policy_prompt("How red?")}
    shown = [json.loads(line)["messages"] for line in (tmp_path / "out" / "cold_start.jsonl").read_text().splitlines()]
    assert [message["content"] for messages in shown for message in messages] == [
        "<image>" + policy_prompt("How red?"), steps
    ] * 5  # fmt: skip
    with refused("questions.too-few"):
        write_question_rows(source, tmp_path / "again", Amounts(1, 1, 16), steps=True)


@pytest.mark.parametrize("amounts", [Amounts(30, 1, 0), Amounts(1, 1, 18), Amounts(12, 8, 0)])
def test_too_few_questions_are_refused(tmp_path: Path, amounts: Amounts) -> None:
    rows = [good(number, answer=None if number < 10 else 1) for number in range(20)]
    with refused("questions.too-few", rows=20):
        write_question_rows(write(tmp_path / "in", rows), tmp_path / "out", amounts)


def test_more_rows_than_a_row_group_are_all_written(tmp_path: Path) -> None:
    rows = [{"question": f"What is {number} + 1?", "answer": number + 1} for number in range(600)]
    write_question_rows(write(tmp_path / "in", rows), tmp_path / "out", Amounts(10, 10, 0))
    file = pq.ParquetFile(tmp_path / "out" / "train.parquet")
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (580, 3)
    asked = [row["question"] for row in file.read(columns=["extra_info"]).column(0).to_pylist()]
    assert len(set(asked)) == 580


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with refused("file.empty"):
        write_question_rows(write(tmp_path / "in", []), tmp_path / "out", AMOUNTS)
    with refused("file.not-a-file"):
        write_question_rows(tmp_path / "none.jsonl", tmp_path / "out", AMOUNTS)
