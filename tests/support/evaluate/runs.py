"""`eval run` as the tests call it, and the files it writes.

The fixtures `demo` and `judge` are available in a test file that imports `demo_fixture` and `judge_fixture`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from data_tools.ingest.run import ingest
from data_tools.sources.demo_pairs import write_demo_pairs
from jobs.cli.eval.main import evaluation
from proxygrm.demo.rule_judge import build_app
from support.evaluate.http_judges import serving

MODEL = ("--model", "rule-judge", "--max-tokens", "100")


@pytest.fixture(name="demo", scope="module")
def demo_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pairs with an image each."""
    folder = tmp_path_factory.mktemp("eval run")
    write_demo_pairs(folder, train=24, held_out=2, seed=0)
    ingest("rlaif-v", folder / "train.parquet", folder / "pairs")
    return folder / "pairs"


@pytest.fixture(name="judge", scope="module")
def judge_fixture() -> Iterator[str]:
    """URL of the rule-based judge, which is sometimes wrong."""
    with serving(build_app(0.3)) as url:
        yield url


def call(*words: object) -> str:
    result = CliRunner().invoke(evaluation, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def run(out: Path, judge: object, *more: object) -> str:
    return call("run", "--out", out, "--judge", judge, *more)


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]


def raw(out: Path) -> list[dict]:
    lines = [line for file in (out / "raw").iterdir() for line in file.read_text().splitlines()[1:]]
    return [json.loads(line) for line in lines]


def scored(out: Path, *more: object) -> dict:
    return json.loads(call("score", "--bench", "pairs", "--answers", out / "answers.jsonl", "--json", *more))


def write(path: Path, rows: list) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def mm_release(folder: Path, image: Path) -> Path:
    """Four rows of two ids in MM-RLHF-RewardBench's layout; one is a video, as a folder of frames."""
    for frame in range(40):
        (folder / "video" / "v").mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / "video" / "v" / f"{frame}.png")
    (folder / "mcq").mkdir()
    shutil.copy(image, folder / "mcq" / "a.png")
    row = {"prompt": 'What\n"is" this? 猫', "chosen": "right", "rejected": "wrong"}
    released = [row | {"id": "a", "image": "mcq/a.png", "rejected": f"wrong {i}"} for i in range(3)]
    return write(folder / "mm_reward_bench.jsonl", [*released, row | {"id": "b", "video": "video/v.mp4"}])
