"""No `process` command writes over what it reads, and all of them say so before a model is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxygrm.process.judgements import Judged
from support.evaluate.solutions import process
from support.refusals import code_of

NOBODY = "http://127.0.0.1:9"
ROW = {"question": "q", "answer": "3", "pred": "3", "image": []}
SOLUTION = {
    "id": "s", "subset": "x", "question": "q", "image": [], "steps": ["a"], "labels": [1], "scores": None,
    "right": True, "answer": None,
}  # fmt: skip


def lines(path: Path, *rows: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("match",), ("gate",), ("aggregate",), ("corrupt", "--mode", "empty", "--seed", "0"),
        ("score", "--judge", NOBODY, "--model", "m"), ("sample", "--policy", NOBODY, "--model", "m"),
        ("intervene", "--policy", NOBODY, "--model", "m"),
    ],
)  # fmt: skip
def test_the_input_a_link_to_it_and_a_folder_are_refused_as_output(tmp_path: Path, words: tuple[str, ...]) -> None:
    source = lines(tmp_path / "rows.jsonl", ROW)
    before = source.read_bytes()
    link = tmp_path / "link.jsonl"
    link.symlink_to(source)
    (tmp_path / "folder").mkdir()
    for target, code in ((source, "option.out-is-input"), (link, "option.out-is-input"),
                         (tmp_path / "folder", "file.not-a-file")):  # fmt: skip
        done = process(*words, "--input", source, "--output", target, code=2)
        assert code_of(done.stderr) == code, done.stderr
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link.jsonl", "rows.jsonl"]


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (("aggregate",), ".dropped.jsonl"), (("match",), ".dropped.refused.jsonl"),
        (("score", "--judge", NOBODY, "--model", "m"), ".report.json"),
        (("sample", "--policy", NOBODY, "--model", "m"), ".dropped.jsonl"),
    ],
)  # fmt: skip
def test_no_file_beside_the_output_replaces_or_removes_the_input(
    tmp_path: Path, words: tuple[str, ...], end: str
) -> None:
    source = lines(tmp_path / f"out.jsonl{end}", ROW)
    before = source.read_bytes()
    done = process(words[0], "--input", source, "--output", tmp_path / "out.jsonl", *words[1:], code=2)
    assert code_of(done.stderr) == "option.out-is-input", done.stderr
    assert source.read_bytes() == before


def test_neither_solutions_nor_judgements_are_written_over_by_labelled_rows(tmp_path: Path) -> None:
    solutions = lines(tmp_path / "solutions" / "solutions.jsonl", SOLUTION)
    pairs = lines(tmp_path / "solutions" / "pairs.jsonl")
    judged = lines(tmp_path / "j" / "shard-000.jsonl", {"id": "s", "steps": [Judged(1, None, "a").row("a")]})
    for file in (solutions, pairs, judged):
        before = file.read_bytes()
        done = process("labelled", solutions.parent, "--judgements", judged.parent, "--output", file, code=2)
        assert code_of(done.stderr) == "option.out-is-input"
        assert file.read_bytes() == before
    process("labelled", solutions.parent, "--judgements", judged.parent, "--output", tmp_path / "rows.jsonl")


def test_a_drawing_does_not_take_the_place_of_the_scores(tmp_path: Path) -> None:
    scored = lines(tmp_path / "scored.jsonl", ROW)
    before = scored.read_bytes()
    assert code_of(process("calibrate", scored, "--svg", scored, code=2).stderr) == "option.out-is-input"
    assert scored.read_bytes() == before
