"""`process sample` with the rule-based service: seeds, resume at the candidate, rows that share an image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.evaluate.http_judges import serving
from support.evaluate.solutions import MODEL, Service, drawn_rows, process, read, write
from support.refusals import code_of

pytestmark = pytest.mark.slow


def sample(folder: Path, service: Service, rows: list, *more: object, code: int = 0):
    source = write(folder / "questions.jsonl", rows)
    with serving(service) as url:
        words = ("--input", source, "--output", folder / "policy.jsonl", "--policy", url, *MODEL, *more)
        return process("sample", *words, code=code)


def sampled(folder: Path) -> list[dict]:
    return read(folder / "policy.jsonl")


def report(folder: Path) -> dict:
    return json.loads((folder / "policy.jsonl.report.json").read_text())


def test_candidates_have_their_own_stored_seeds_and_scoring_reads_them(tmp_path):
    rows = drawn_rows(tmp_path, 5, responses=0)
    service = Service()
    sample(tmp_path, service, rows, "-n", 4, "--top-p", 0.9)
    out = sampled(tmp_path)
    assert [row["id"] for row in out] == [row["id"] for row in rows]
    seeds = [seed for row in out for seed in row["sampling"]["seeds"]]
    assert len(seeds) == len({*seeds}) == 20
    assert {body["seed"] for body in service.bodies} == {*seeds}
    assert {(body["temperature"], body["top_p"]) for body in service.bodies} == {(1.0, 0.9)}
    assert {key for key in out[0] if key.startswith("vlmresponse")} == {f"vlmresponse{n}" for n in range(1, 5)}
    assert 0 < sum(row[f"vlmresponse{n}"]["finalanswer"] == row["answer"] for row in out for n in range(1, 5)) <= 20
    with serving(Service()) as url:
        process(
            "score", "--input", tmp_path / "policy.jsonl", "--output", tmp_path / "scored.jsonl", "--judge", url, *MODEL
        )
    for row in read(tmp_path / "scored.jsonl"):
        for n in range(1, 5):
            first = row[f"vlmresponse{n}"]["eval"]["raw_step_scores"][0]
            assert first == (1.0 if row[f"vlmresponse{n}"]["finalanswer"] == row["answer"] else -1.0)


def test_an_interrupted_run_and_a_larger_n_ask_for_the_missing_candidates_alone(tmp_path):
    rows = drawn_rows(tmp_path, 6, responses=0)
    failing = Service(fail_after=9)
    done = sample(tmp_path, failing, rows, "-n", 3, "--concurrency", 1, code=2)
    assert code_of(done.stderr) == "judge.unanswered"
    assert "rows 4, 5 and 6" in done.stderr
    rest = Service()
    sample(tmp_path, rest, rows, "-n", 3)
    assert (failing.calls, rest.calls) == (9, 9)
    before = sampled(tmp_path)
    more = Service()
    sample(tmp_path, more, rows, "-n", 5)
    assert more.calls == 12
    assert [row["vlmresponse3"] for row in sampled(tmp_path)] == [row["vlmresponse3"] for row in before]


def test_rows_are_told_apart_even_where_they_share_image_question_and_id(tmp_path):
    (row,) = drawn_rows(tmp_path, 1, responses=0)
    service = Service()
    sample(tmp_path, service, [row, row, row | {"question": "Which shape is drawn?"}], "-n", 2)
    seeds = [seed for row in sampled(tmp_path) for seed in row["sampling"]["seeds"]]
    assert len({*seeds}) == service.calls == 6
    assert report(tmp_path)["repeated_ids"] == {"q0": [1, 2, 3]}


def test_answers_that_are_no_solutions_are_kept_and_counted_by_cause(tmp_path):
    rows = drawn_rows(tmp_path, 4, responses=0)
    answers = iter(
        ['{"reasoningprocess": [{"steptext": "one', "I cannot.", '{"reasoningprocess": [], "finalanswer": "1"}', ""]
    )
    done = sample(tmp_path, Service(edit=lambda text: next(answers)), rows, "-n", 1, "--concurrency", 1)
    out = sampled(tmp_path)
    assert {row["vlmresponse1"].get("error") for row in out} == {"not_json", "no_steps"}
    assert out[1]["vlmresponse1"]["rawoutput"] == "I cannot."
    assert sum(report(tmp_path)["problems"].values()) == 4
    assert report(tmp_path)["without_steps"] == 4
    assert "4 candidates without steps" in done.stderr


def test_what_would_be_overwritten_or_all_the_same_is_refused(tmp_path):
    rows = drawn_rows(tmp_path, 2, responses=1)
    assert code_of(sample(tmp_path, Service(), rows, code=2).stderr) == "process.bad-rows"
    rows = drawn_rows(tmp_path, 2, responses=0)
    done = sample(tmp_path, Service(), rows, "--temperature", 0, code=2)
    assert code_of(done.stderr) == "settings.contradiction"
    assert code_of(sample(tmp_path, Service(), rows, "-n", 1025, code=2).stderr) == "settings.out-of-range"
    sample(tmp_path, Service(), rows, "--temperature", 0, "-n", 1)
    done = sample(tmp_path, Service(), rows, "-n", 2, code=2)
    assert code_of(done.stderr) == "file.made-by-other"
