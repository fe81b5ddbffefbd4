"""`eval run --bench visualprocessbench`: rows in the release's layout, judged by a service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs.cli.main import main
from proxygrm.core.checkpoints.kinds import kind_of, mark_process
from proxygrm.evaluate.steps.release import read_release
from support.evaluate.http_judges import serving
from support.evaluate.solutions import MODEL, Service, drawn_rows, read, write
from support.refusals import code_of, refused

pytestmark = pytest.mark.slow


def released(folder: Path, count: int) -> list[dict[str, Any]]:
    """Rows of the release's layout: images are below images/, though the archive was unpacked without it."""
    rows = []
    for number, row in enumerate(drawn_rows(folder, count)):
        wrong = row["vlmresponse2"]["reasoningprocess"]
        steps = ["Let us look.", *(step["steptext"] for step in wrong)]
        rows.append(
            {
                "image": [f"images/{row['image']}"],
                "question": row["question"],
                "answer": row["answer"],
                "response": {"steps": steps, "process_correctness": [0, -1, -1]},
                "policy_model": "drawn",
                "data_source": "WeMath" if number % 2 else "DynaMath",
            }
        )
    return rows


def run(folder: Path, judge: object, *more: object, rows: list | None = None) -> Result:
    data = write(folder / "test.jsonl", released(folder, 4) if rows is None else rows)
    words = ["eval", "run", "--bench", "visualprocessbench", "--data", data, "--judge", judge, "--out", folder / "out"]
    return CliRunner().invoke(main, [str(word) for word in [*words, *more]], catch_exceptions=False)


def test_a_service_judges_the_released_rows_and_its_answers_are_scored(tmp_path):
    service = Service()
    with serving(service) as url:
        done = run(tmp_path, url, *MODEL, "--extractor", url)
    assert done.exit_code == 0, done.output
    assert "4 solutions of 12 steps" in done.stdout
    rows = read(tmp_path / "out" / "answers.jsonl")
    assert rows[1] == {
        "id": "2", "data_source": "WeMath", "policy_model": "drawn", "label": [0, -1, -1], "pred": [1, -1, -1],
    }  # fmt: skip
    assert service.calls == 4 + 12
    command = done.stdout.splitlines()[-1].split()[1:]
    figures = CliRunner().invoke(main, [*command, "--json"])
    assert json.loads(figures.stdout)["f1_incorrect"] == 1.0
    assert json.loads(figures.stdout)["by_source"]["DynaMath"]["first_error_accuracy"] == 1.0


def test_without_an_extractor_the_judge_sees_the_image_alone_and_null_is_counted(tmp_path):
    service = Service(edit=lambda text: "hm" if "Is step 3" in text else None)
    with serving(service) as url:
        done = run(tmp_path, url, *MODEL, "--limit", 2)
    assert service.calls == 6
    assert all("(no description)" in text for text in service.texts)
    assert "unreadable: unreadable 2" in done.stdout
    assert [row["pred"] for row in read(tmp_path / "out" / "answers.jsonl")] == [[1, 1, None]] * 2  # nothing was seen


def test_an_endpoint_that_fails_half_way_is_resumed(tmp_path):
    with serving(failing := Service(fail_after=7)) as url:
        done = run(tmp_path, url, *MODEL, "--concurrency", 1)
    assert (done.exit_code, code_of(done.stderr)) == (2, "judge.unanswered")
    assert not (tmp_path / "out" / "answers.jsonl").exists()
    with serving(rest := Service()) as url:
        done = run(tmp_path, url, *MODEL)
    assert done.exit_code == 0
    assert (failing.calls, rest.calls) == (7, 5)


def test_soft_scores_and_a_threshold_decide_in_place_of_the_text(tmp_path):
    with serving(service := Service()) as url:
        done = run(tmp_path, url, *MODEL, "--threshold", 0.85)
    assert done.exit_code == 0
    assert "no probability 12" in done.stdout  # the service sends none
    assert {body["top_logprobs"] for body in service.bodies} == {20}
    assert read(tmp_path / "out" / "answers.jsonl")[0]["scores"] == [None, None, None]


def test_rows_that_cannot_be_judged_are_all_named_and_nothing_is_judged(tmp_path):
    good = released(tmp_path, 1)[0]
    rows = [
        good,
        good | {"response": {"steps": ["a", "b"], "process_correctness": [1]}},
        good | {"response": {"steps": [], "process_correctness": []}},
        good | {"response": {"steps": ["a"], "process_correctness": [2]}},
        good | {"question": ""},
        good | {"data_source": None},
        good | {"image": [{"x": 1}]},
        '{"image": ["ima',
    ]
    with refused(
        "data.bad-steps",
        reasons={
            "another number of labels than of steps": [2],
            "no steps, or one that is not text": [3],
            "process_correctness that is not a list of 1, 0 and -1": [4],
            "no question": [5],
            "no data_source": [6],
            "an image that is not a path": [7],
            "not JSON": [8],
        },
    ):
        read_release(write(tmp_path / "test.jsonl", rows))
    solution = read_release(write(tmp_path / "test.jsonl", [good]))[0]
    assert solution.question.images[0].is_file()
    with refused("file.not-a-file"):
        read_release(tmp_path / "nothing")
    for gone in ("gone.png", None, [], "", [None]):
        done = run(tmp_path, "http://127.0.0.1:9", *MODEL, rows=[good, good | {"image": gone}])
        assert code_of(done.stderr) == "image.missing"
        assert "(row 2)" in done.stderr


def test_options_of_pairs_and_of_steps_are_told_apart(tmp_path):
    for words in (["--votes", 2], ["--shard", "1/2"], ["--contract", "r1"], ["--submit"]):
        assert code_of(run(tmp_path, "http://127.0.0.1:9", *MODEL, *words).stderr) == "option.no-effect"
    words = ["eval", "run", "--pairs", "x", "--judge", "http://127.0.0.1:9", *MODEL, "--out", str(tmp_path / "o")]
    assert code_of(CliRunner().invoke(main, [*words, "--threshold", "0"]).stderr) == "option.no-effect"


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """The config.json of a `tiny` model that generates, of a `scalar` one, and of a marked step judge (`process`)."""
    for name in ("tiny", "scalar", "process"):
        (tmp_path / name).mkdir()
        config = {"model_type": "qwen2_5_vl"} | ({"reward_head": {"layers": 2}} if name == "scalar" else {})
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    mark_process(tmp_path / "process", {"stage": "a test"})
    return tmp_path


def test_a_step_judge_is_known_by_its_marker_and_is_no_judge_of_pairs(tmp_path, checkpoints):
    kinds = {name: kind_of(checkpoints / name) for name in ("tiny", "scalar", "process")}
    assert kinds == {"tiny": "generative", "scalar": "scalar", "process": "process"}
    assert kind_of(checkpoints / "tiny", "process") == "process"
    assert kind_of(checkpoints / "process", "generative") == "generative"
    with refused("checkpoint.other-kind"):
        kind_of(checkpoints / "scalar", "process")
    with refused("checkpoint.other-kind"):
        kind_of(checkpoints / "tiny", "scalar")
    pair = {"id": "a", "prompt": "q", "chosen": "x", "rejected": "y"}
    words = ["eval", "run", "--pairs", str(write(tmp_path / "p.jsonl", [pair])), "--out", str(tmp_path / "o")]
    done = CliRunner().invoke(main, [*words, "--judge", str(checkpoints / "process")])
    assert code_of(done.stderr) == "checkpoint.process"
    done = CliRunner().invoke(main, [*words, "--judge", str(checkpoints / "tiny"), "--kind", "process"])
    assert code_of(done.stderr) == "checkpoint.process"
    words = ["process", "score", "--input", str(write(tmp_path / "q.jsonl", drawn_rows(tmp_path, 1)))]
    words += ["--output", str(tmp_path / "s.jsonl"), "--judge", str(checkpoints / "scalar")]
    assert code_of(CliRunner().invoke(main, words).stderr) == "checkpoint.scalar"
