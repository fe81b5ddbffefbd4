"""What `eval run` refuses."""

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
from support.refusals import code_of, refused


def test_missing_frames_and_images_are_counted_and_blank_only_on_request(demo, judge, tmp_path):
    data = mm_release(tmp_path, next((demo / "images").iterdir()))
    shutil.rmtree(tmp_path / "video")
    options = ("--bench", "mm-rlhf-rewardbench", "--data", data, *MODEL)
    with pytest.raises(UserError, match=r"images of 1 rows are missing .*video/v.mp4 has no folder of frames"):
        run(tmp_path / "out", judge, *options)
    with serving(Flaky(500, every=10**9)) as url, refused("judge.accepts-nothing", count=8):
        run(tmp_path / "out", url, *options, "--missing-images", "blank")  # no demo pairs: the rule judge says so
    assert json.loads((tmp_path / "out" / "pairs" / "ingest.json").read_text())["notes"]["blank_image"] == 1


def test_pairs_with_a_blank_image_from_ingestion_are_counted(judge, demo, tmp_path):
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
    note = "1 judgements were made with a blank image where one was missing"
    assert note in scored(tmp_path / "out")["notes"]
    scores = write(tmp_path / "s.jsonl", [{"id": name, "rewards": [1, 0]} for name in ("seen", "blind")])
    run(tmp_path / "scalar", scores, "--pairs", tmp_path / "pairs")
    assert note not in scored(tmp_path / "scalar")["notes"]  # whoever made the scores saw the images


SCORE = {"id": "0", "score_1": 1, "score_2": 0}


@pytest.mark.parametrize(
    ("lines", "code", "values"),
    [
        ([SCORE, "{torn"], "judge.bad-scores", {"reasons": {"not JSON": [2]}}),
        ([SCORE, SCORE | {"score_2": None}, {"id": "2", "rewards": [1]}], "judge.bad-scores",
         {"reasons": {"scores that are not numbers": [2], "no pair of scores": [3]}}),
        ([SCORE, SCORE | {"score_1": float("nan")}], "judge.bad-scores", {"reasons": {"NaN or an infinity": [2]}}),
        ([SCORE, {"score_1": 1, "score_2": 0}], "judge.bad-scores", {"reasons": {"no id": [2]}}),
        ([SCORE], "judge.missing-scores", {"ids": ["1", "2"], "total": 3}),
        ([SCORE, SCORE, SCORE | {"id": "1"}, SCORE | {"id": "2"}], "judge.scores-without-pair", {"rows": [2]}),
        ([SCORE | {"id": name} for name in ("0", "1", "2", "x\ny")], "judge.scores-without-pair", {"ids": ["x\ny"]}),
        ([""], "judge.no-scores", {}),
    ],
)  # fmt: skip
def test_scores_that_cannot_be_used_are_named_by_their_rows(tmp_path, lines, code, values):
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    pairs = write(tmp_path / "pairs.jsonl", [pair | {"id": str(i)} for i in range(3)])
    with refused(code, **values):
        run(tmp_path / "out", write(tmp_path / "s.jsonl", lines), "--pairs", pairs)


def test_a_truncated_last_line_of_scores_is_named(tmp_path):
    (tmp_path / "s.jsonl").write_text(json.dumps(SCORE) + "\n" + json.dumps(SCORE)[:9])
    pairs = write(tmp_path / "pairs.jsonl", [{"id": "0", "prompt": "p", "chosen": "c", "rejected": "r"}])
    with refused("judge.bad-scores", reasons={"cut off": [2]}):
        run(tmp_path / "out", tmp_path / "s.jsonl", "--pairs", pairs)


def test_missing_files_and_files_that_are_not_images_are_named_by_their_rows(judge, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "here.png")
    (tmp_path / "text.png").write_text("I am no image")
    names = ["here.png", "gone.png", "here.png", "gone too.png", "text.png"]
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    pairs = write(tmp_path / "pairs.jsonl", [pair | {"id": str(i), "image": name} for i, name in enumerate(names)])
    with refused("image.missing", count=2, total=4, rows=[2, 4]):
        run(tmp_path / "out", judge, "--pairs", pairs, *MODEL)
    with refused("image.unreadable", path=tmp_path / "text.png", total=4, rows=[5]):
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
    other_benchmark = {"rows": [2, 3], "count": 3, "other": "vl-rewardbench"}
    for words, code, values in (
        (("--pairs", pairs, "--bench", "mm-rlhf-rewardbench"), "bench.other-benchmark", other_benchmark),
        (("--bench", "vl-rewardbench"), "eval.needs-pairs", {}),
        (("--pairs", pairs, "--data", pairs), "option.conflict", {}),
        (("--data", pairs), "eval.data-without-bench", {}),
        (("--pairs", tmp_path / "gone"), "data.no-pairs", {"path": tmp_path / "gone"}),
        (("--pairs", pairs, "--max-pixels", "9"), "judge.max-pixels", {"max_pixels": 9}),
    ):
        with refused(code, **values):
            run(tmp_path / "out", judge, *words, *MODEL)
    with refused("judge.no-model", url=judge):
        run(tmp_path / "out", judge, "--pairs", demo)
    with pytest.raises(UserError, match="does not serve 'other'; it serves: rule-judge"):
        run(tmp_path / "out", judge, "--pairs", demo, "--model", "other")
    with refused("judge.unknown-kind", path=str(tmp_path)):
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[5])
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert code_of(done.stderr) == "judge.unknown-kind"
