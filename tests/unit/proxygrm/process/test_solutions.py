"""The reader of a solutions folder: what it takes, and every row that it refuses by file and number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxygrm.core.errors import UserError
from proxygrm.process.solutions import (
    SolutionPair,
    check_solutions,
    read_solution_pairs,
    read_solutions,
    solution_of,
)
from support.refusals import refused

ROW = {
    "id": "TabMWP/a.jsonl:1", "subset": "TabMWP", "question": "How many?", "image": ["images/0.png"],
    "steps": ["There are 3.", "So 5."], "labels": [1, None], "scores": [0.5, None], "right": True, "answer": "5",
}  # fmt: skip
PAIR = {"question": "How many?", "image": ["images/0.png"], "right": "a", "wrong": "b"}


def folder_of(tmp_path: Path, *rows: Any, pairs: Any = ()) -> Path:
    for name, lines in (("solutions.jsonl", rows), ("pairs.jsonl", pairs)):
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        (tmp_path / name).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return tmp_path


def test_a_row_is_read_and_written_back_as_it_was(tmp_path: Path) -> None:
    more = ROW | {"id": "b", "image": [], "scores": None, "right": None, "answer": None, "labels": [-1, 1]}
    folder = folder_of(tmp_path, ROW, more, pairs=[PAIR])
    first, second = read_solutions(folder)
    assert [first.row(), second.row()] == [ROW, more]
    assert first.image_paths(folder) == [folder / "images/0.png"]
    assert list(read_solution_pairs(folder)) == [SolutionPair("How many?", ("images/0.png",), "a", "b")]


def test_the_key_is_of_the_question_without_its_spaces_and_of_the_images(tmp_path: Path) -> None:
    spaced = solution_of(ROW | {"question": " How\n many? "})
    assert spaced.key == solution_of(ROW).key
    assert solution_of(ROW | {"image": ["images/1.png"]}).key != spaced.key


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"id": ""}, "bad_id"), ({"id": 7}, "bad_id"), ({"subset": None}, "bad_subset"),
        ({"question": None}, "bad_question"), ({"image": "images/0.png"}, "bad_image"), ({"image": [""]}, "bad_image"),
        ({"image": ["images/0.png", "/etc/0.png"]}, "image_outside"), ({"image": ["a/../../0.png"]}, "image_outside"),
        ({"image": ["a\0.png"]}, "image_outside"),
        ({"steps": []}, "bad_steps"), ({"steps": ["a", 2]}, "bad_steps"), ({"steps": "ab"}, "bad_steps"),
        ({"labels": [1]}, "bad_labels"), ({"labels": [1, 0]}, "bad_labels"), ({"labels": [1, True]}, "bad_labels"),
        ({"labels": [1, 1.0]}, "bad_labels"), ({"labels": None}, "bad_labels"), ({"scores": [1.0]}, "bad_scores"),
        ({"scores": ["0.5", None]}, "bad_scores"), ({"scores": [float("nan"), 1]}, "bad_scores"),
        ({"question": "\ud800?"}, "not_unicode"), ({"steps": ["a", "\udfff"]}, "not_unicode"),
        ({"answer": "\ud800"}, "not_unicode"),
        ({"scores": [True, 1]}, "bad_scores"), ({"right": 1}, "bad_right"), ({"answer": 5}, "bad_answer"),
    ],
)  # fmt: skip
def test_a_row_that_is_not_a_solution_is_refused_by_its_number(
    tmp_path: Path, change: dict[str, Any], cause: str
) -> None:
    folder = folder_of(tmp_path, ROW, "", ROW | {"id": "b"} | change)
    with refused("data.bad-solution", row=3, cause=cause):
        list(read_solutions(folder))


@pytest.mark.parametrize(("line", "code"), [("[]", "data.bad-solution"), ("{", "file.bad-row")])
def test_a_line_that_is_not_an_object_is_refused(tmp_path: Path, line: str, code: str) -> None:
    with pytest.raises(UserError) as caught:
        list(read_solutions(folder_of(tmp_path, line)))
    assert (caught.value.code, caught.value.values["row"]) == (code, 1)


def test_a_repeated_id_is_refused(tmp_path: Path) -> None:
    with refused("data.bad-solution", row=2, cause="repeated_id"):
        list(read_solutions(folder_of(tmp_path, ROW, ROW)))


def test_a_bad_pair_is_refused(tmp_path: Path) -> None:
    with refused("data.bad-solution", row=2, cause="bad_wrong"):
        list(read_solution_pairs(folder_of(tmp_path, ROW, pairs=[PAIR, PAIR | {"wrong": None}])))


@pytest.mark.parametrize("missing", ["solutions.jsonl", "pairs.jsonl"])
def test_another_folder_is_refused(tmp_path: Path, missing: str) -> None:
    (folder_of(tmp_path, ROW) / missing).unlink()
    with refused("data.not-a-solutions-folder", missing=[missing]):
        check_solutions(tmp_path)
