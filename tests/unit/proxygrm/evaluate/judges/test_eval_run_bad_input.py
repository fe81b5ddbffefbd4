"""What `eval run` refuses, and how it says so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from data_tools.ingest.run import ingest
from proxygrm.core.errors import UserError
from proxygrm.core.pairs import read_pairs
from support.evaluate.http_judges import Flaky, serving
from support.evaluate.runs import MODEL, demo_fixture, judge_fixture, mm_release, rows, run, scored, write  # noqa: F401


def test_missing_frames_and_pictures_are_counted_and_blank_only_on_request(demo, judge, tmp_path):
    data = mm_release(tmp_path, next((demo / "images").iterdir()))
    shutil.rmtree(tmp_path / "video")
    options = ("--bench", "mm-rlhf-rewardbench", "--data", data, *MODEL)
    with pytest.raises(UserError, match=r"pictures of 1 rows are missing .*video/v.mp4 has no folder of frames"):
        run(tmp_path / "out", judge, *options)
    with serving(Flaky(500, every=10**9)) as url, pytest.raises(UserError, match="takes none of the 8 prompts"):
        run(tmp_path / "out", url, *options, "--missing-images", "blank")  # no demo pairs: the rule judge says so
    assert json.loads((tmp_path / "out" / "pairs" / "ingest.json").read_text())["notes"]["blank_picture"] == 1


def test_pairs_that_were_ingested_blind_are_told_as_such(judge, demo, tmp_path):
    pairs = read_pairs(demo)
    row = {"question": pairs[0].question, "response_1": pairs[0].response_1, "response_2": pairs[0].response_2}
    lines = [
        row | {"id": "seen", "label": 1, "image": pairs[0].images[0]},
        row | {"id": "blind", "label": 2, "image": "no.png"},
    ]
    file = write(tmp_path / "mine.jsonl", lines)
    ingest("preference-jsonl", file, tmp_path / "pairs", images_root=demo / "images", missing_images="blank")
    run(tmp_path / "out", judge, "--pairs", tmp_path / "pairs", *MODEL, "--orders", "as-given")
    assert [row["image_missing"] for row in rows(tmp_path / "out")] == [False, True]
    note = "1 judgements were made with a blank picture where one was missing"
    assert note in scored(tmp_path / "out")["notes"]
    scores = write(tmp_path / "s.jsonl", [{"id": name, "rewards": [1, 0]} for name in ("seen", "blind")])
    run(tmp_path / "scalar", scores, "--pairs", tmp_path / "pairs")
    assert note not in scored(tmp_path / "scalar")["notes"]  # whoever made the scores saw the pictures


SCORE = {"id": "0", "score_1": 1, "score_2": 0}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([SCORE, "{torn"], "not JSON in row 2"),
        ([SCORE, SCORE | {"score_2": None}, {"id": "2", "rewards": [1]}],
         "scores that are not numbers in row 2; no pair of scores in row 3"),
        ([SCORE, SCORE | {"score_1": float("nan")}], "NaN or an infinity in row 2"),
        ([SCORE, {"score_1": 1, "score_2": 0}], "no id in row 2"),
        ([SCORE], "no scores for 2 of 3 pairs: 1, 2"),
        ([SCORE, SCORE, SCORE | {"id": "1"}, SCORE | {"id": "2"}], "row 2 score no pair, or one that is scored"),
        ([SCORE | {"id": name} for name in ("0", "1", "2", "x\ny")], "row 4 score no pair.*: x y"),
        ([""], "holds no scores"),
    ],
)  # fmt: skip
def test_scores_that_cannot_be_used_are_named_by_their_rows(tmp_path, lines, message):
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    pairs = write(tmp_path / "pairs.jsonl", [pair | {"id": str(i)} for i in range(3)])
    with pytest.raises(UserError, match=message):
        run(tmp_path / "out", write(tmp_path / "s.jsonl", lines), "--pairs", pairs)


def test_a_torn_last_line_of_scores_is_named(tmp_path):
    (tmp_path / "s.jsonl").write_text(json.dumps(SCORE) + "\n" + json.dumps(SCORE)[:9])
    pairs = write(tmp_path / "pairs.jsonl", [{"id": "0", "prompt": "p", "chosen": "c", "rejected": "r"}])
    with pytest.raises(UserError, match="cut off in row 2"):
        run(tmp_path / "out", tmp_path / "s.jsonl", "--pairs", pairs)


def test_pictures_that_are_missing_or_none_are_named_by_their_rows(judge, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "here.png")
    (tmp_path / "text.png").write_text("I am no picture")
    names = ["here.png", "gone.png", "here.png", "gone too.png", "text.png"]
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    pairs = write(tmp_path / "pairs.jsonl", [pair | {"id": str(i), "image": name} for i, name in enumerate(names)])
    with pytest.raises(UserError, match=r"2 of 4 pictures are missing \(rows 2 and 4\)"):
        run(tmp_path / "out", judge, "--pairs", pairs, *MODEL)
    with pytest.raises(UserError, match=r"1 of 4 files are no pictures \(row 5\).*text.png"):
        run(tmp_path / "out", judge, "--pairs", pairs, *MODEL, "--missing-images", "blank")
    assert not (tmp_path / "out" / "raw").exists()


def test_a_bad_row_of_a_released_file_stops_the_run_before_anything_is_judged(judge, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    good = {"id": "mmmu_1", "prompt": "p", "chosen": "c", "rejected": "r", "image": "a.png"}
    torn = tmp_path / "torn.jsonl"
    torn.write_text(json.dumps(good) + "\n" + json.dumps(good)[:30])
    for data, message in (
        (write(tmp_path / "bad.jsonl", [good, {"id": "mmmu_2", "prompt": "p", "image": "a.png"}]), "row 2"),
        (torn, "row 2.*cut_off"),
    ):
        with pytest.raises(UserError, match=message):
            run(tmp_path / "out", judge, "--bench", "vl-rewardbench", "--data", data, *MODEL)
    assert not (tmp_path / "out" / "answers.jsonl").exists()


def test_pairs_of_another_benchmark_and_impossible_requests_are_refused(demo, judge, tmp_path):
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    pairs = write(tmp_path / "pairs.jsonl", [pair | {"id": name} for name in ("7", "mathverse_1", "RLHF-V-2")])
    for words, message in (
        (("--pairs", pairs, "--bench", "mm-rlhf-rewardbench"), r"rows 2 and 3 of 3 belong to VL-RewardBench"),
        (("--bench", "vl-rewardbench"), "give what to judge"),
        (("--pairs", pairs, "--data", pairs), "give what to judge"),
        (("--data", pairs), "--data needs --bench"),
        (("--pairs", tmp_path / "gone"), "no pairs at"),
        (("--pairs", pairs, "--max-pixels", "9"), "scales pictures itself"),
    ):
        with pytest.raises(UserError, match=message):
            run(tmp_path / "out", judge, *words, *MODEL)
    with pytest.raises(UserError, match="--model NAME"):
        run(tmp_path / "out", judge, "--pairs", demo)
    with pytest.raises(UserError, match="does not serve 'other'; it serves: rule-judge"):
        run(tmp_path / "out", judge, "--pairs", demo, "--model", "other")
    with pytest.raises(UserError, match=r"no checkpoint .* no endpoint"):
        run(tmp_path / "out", tmp_path, "--pairs", demo)
    with pytest.raises(AssertionError, match="0 is not in the range x>0"):
        run(tmp_path / "out", judge, "--pairs", demo, *MODEL, "--timeout", "0")


def test_a_mistake_on_the_command_line_is_one_line_and_exit_status_2(tmp_path):
    command = [
        sys.executable,
        "-m",
        "jobs",
        "eval",
        "run",
        "--judge",
        "no where",
        "--pairs",
        "x",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[5])
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("proxygrm: --judge no where is no checkpoint")
