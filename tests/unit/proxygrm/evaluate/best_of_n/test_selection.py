"""The best candidates as training data: who is chosen, and what is left out and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from jobs.cli.main import main
from support.refusals import code_of


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prompt(row_id: str, *texts: str, **more: Any) -> dict[str, Any]:
    return {"id": row_id, "question": f"What of {row_id}?", "candidates": list(texts), **more}


def beats(row_id: str, winner: int, *losers: int) -> list[dict[str, Any]]:
    return [{"id": row_id, "first": winner, "second": loser, "verdict": 1} for loser in losers]


def run(*words: object) -> Result:
    return CliRunner().invoke(main, ["eval", "best-of-n", *map(str, words)])


def sft(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_best_answer_of_each_prompt_becomes_a_row_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"an image")
    candidates = lines(
        tmp_path / "candidates.jsonl",
        [prompt("a", "red", "It is <image> blue.", image="1.png"), prompt("b", "one", "two", "three")],
    )
    judged = lines(tmp_path / "judged.jsonl", [*beats("a", 1, 0), *beats("b", 2, 0, 1), *beats("b", 0, 1)])
    done = run(candidates, judged, "--sft", tmp_path / "sft.jsonl", "--json")
    assert json.loads(done.stdout)["sft"] == {"chosen": 2, "tied": 0}
    assert sft(tmp_path / "sft.jsonl") == [
        {
            "id": "a",
            "messages": [
                {"role": "user", "content": "<image>What of a?"},
                {"role": "assistant", "content": "It is [image] blue."},
            ],
            "images": [str(tmp_path / "1.png")],
        },
        {
            "id": "b",
            "messages": [{"role": "user", "content": "What of b?"}, {"role": "assistant", "content": "three"}],
            "images": [],
        },
    ]


def test_prompts_that_give_no_row_are_counted_by_their_cause(tmp_path: Path) -> None:
    rows = [
        prompt("good", "x", "y", "z"),
        prompt("alone", "x"),
        prompt("even", "x", "y"),
        prompt("silent", " ", "y"),
        prompt("blind", "x", "y", image="nowhere.png"),
        prompt("mute", "x", "y", question=""),
        prompt("odd", "x", "y", image=7),
    ]
    tie = {"id": "even", "first": 0, "second": 1, "verdict": "tie"}
    wins = [win for name in ("silent", "blind", "mute", "odd") for win in beats(name, 0, 1)]
    shared = [*beats("good", 1, 0), *beats("good", 2, 0)]
    candidates = lines(tmp_path / "candidates.jsonl", rows)
    judged = lines(tmp_path / "judged.jsonl", [tie, *wins, *shared])
    done = run(candidates, judged, "--sft", tmp_path / "sft.jsonl", "--json")
    assert json.loads(done.stdout)["sft"] == {
        "chosen": 1, "tied": 1, "one_candidate": 1, "all_tied": 1, "empty": 1, "missing_image": 1, "no_question": 1,
        "bad_images": 1,
    }  # fmt: skip
    assert sft(tmp_path / "sft.jsonl")[0]["messages"][1]["content"] == "y"


def test_where_nothing_is_chosen_nothing_is_written(tmp_path: Path) -> None:
    candidates, judged = lines(tmp_path / "c.jsonl", [prompt("a", "x")]), lines(tmp_path / "j.jsonl", [])
    assert code_of(run(candidates, judged, "--sft", tmp_path / "sft.jsonl").output) == "eval.nothing-chosen"
    assert not (tmp_path / "sft.jsonl").exists()


def test_a_prompt_without_candidates_is_refused_with_its_row(tmp_path: Path) -> None:
    candidates, judged = lines(tmp_path / "c.jsonl", [prompt("a", "x", "y"), prompt("b")]), lines(tmp_path / "j", [])
    assert code_of(run(candidates, judged, "--sft", tmp_path / "sft.jsonl").output) == "eval.bad-candidates"


def solution(answer: str, *scores: float | None) -> dict[str, Any]:
    steps = [{"steptext": f"So {answer}.", "visualdependency": None}]
    found: dict[str, Any] = {"reasoningprocess": steps, "finalanswer": answer}
    return found | ({"eval": {"final_step_scores": list(scores), "raw_step_scores": list(scores)}} if scores else {})


def test_a_process_model_s_scores_choose_solutions(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "How many?", "answer": "4", "vlmresponse1": solution("3", 0.8, -1.0),
         "vlmresponse2": solution("4", 1.0, 0.8), "vlmresponse3": solution("5")},
        {"question": "Who?", "answer": "me", "vlmresponse1": solution("me", 1.0), "vlmresponse2": solution("you", 1.0)},
    ]  # fmt: skip
    scored = lines(tmp_path / "scored.jsonl", rows)
    done = run(scored, "--steps", "minimum", "--sft", tmp_path / "sft.jsonl", "--out", tmp_path / "r.jsonl", "--json")
    figures = json.loads(done.stdout)
    assert figures["sft"] == {"chosen": 1, "tied": 0, "all_tied": 1}
    assert [row["accuracy"] for row in figures["accuracy_at"]] == [(1 / 3 + 1 / 2) / 2, (2 / 3 + 1 / 2) / 2, 1.0]
    assert figures["ranked_by"] == "the steps' minimum"
    assert "1 candidates have no score" in done.stderr
    (row,) = sft(tmp_path / "sft.jsonl")
    assert json.loads(row["messages"][1]["content"]) == solution("4")
    assert "How many?" in row["messages"][0]["content"]
    ranking = sft(tmp_path / "r.jsonl")
    assert [(each["id"], each["ranking"][0]["candidate"]) for each in ranking] == [("a", 1), ("row 2", 0)]


def test_a_response_that_is_null_takes_no_other_one_s_place(tmp_path: Path) -> None:
    row = {"id": "a", "question": "How many?", "answer": "4", "vlmresponse1": None, "vlmresponse2": solution("3", -1.0),
           "vlmresponse3": solution("4", 1.0)}  # fmt: skip
    scored = lines(tmp_path / "scored.jsonl", [row])
    run(scored, "--steps", "minimum", "--sft", tmp_path / "sft.jsonl", "--json")
    (chosen,) = sft(tmp_path / "sft.jsonl")
    assert json.loads(chosen["messages"][1]["content"]) == solution("4")


def test_a_text_that_no_file_can_hold_is_left_out_and_counted(tmp_path: Path) -> None:
    candidates = lines(tmp_path / "candidates.jsonl", [prompt("a", "x", "y \ud800"), prompt("b", "x", "y")])
    judged = lines(tmp_path / "judged.jsonl", [*beats("a", 1, 0), *beats("b", 1, 0)])
    done = run(candidates, judged, "--sft", tmp_path / "sft.jsonl", "--json")
    assert json.loads(done.stdout)["sft"] == {"chosen": 1, "tied": 0, "not_unicode": 1}
    assert [row["id"] for row in sft(tmp_path / "sft.jsonl")] == ["b"]


def test_no_output_replaces_an_input_or_the_other_output(tmp_path: Path) -> None:
    candidates = lines(tmp_path / "candidates.jsonl", [prompt("a", "x", "y")])
    judged = lines(tmp_path / "judged.jsonl", beats("a", 1, 0))
    before = candidates.read_bytes(), judged.read_bytes()
    (tmp_path / "link").symlink_to(judged)
    for option in ("--out", "--sft"):
        for target in (candidates, judged, tmp_path / "link"):
            assert code_of(run(candidates, judged, option, target).output) == "option.out-is-input"
        assert code_of(run(candidates, judged, option, tmp_path).output) == "file.not-a-file"
    same = run(candidates, judged, "--out", tmp_path / "o", "--sft", tmp_path / "o")
    assert code_of(same.output) == "option.conflict"
    assert (candidates.read_bytes(), judged.read_bytes()) == before


def test_judgements_and_step_scores_exclude_each_other(tmp_path: Path) -> None:
    file = lines(tmp_path / "c.jsonl", [prompt("a", "x", "y")])
    for words in ([file], [file, file, "--steps", "minimum"], [file, "--steps", "minimum", "--reference"]):
        assert code_of(run(*words).output) == "option.conflict"
