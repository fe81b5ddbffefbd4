"""`eval run --judge CHECKPOINT` with a scalar reward model: scores, shards, resuming, and wrong checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs.cli.main import main
from support.refusals import code_of, refused
from support.scalar_models import make_scalar

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.slow

PAIRS = 6


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` (generates), `scalar`, and `pairs.jsonl` with images."""
    from PIL import Image

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    folder = tmp_path_factory.mktemp("scene")
    build_tiny_model(folder / "tiny", demo_corpus(0, n=50))
    make_scalar(folder / "tiny", folder / "scalar")
    rows = []
    for number in range(PAIRS):
        Image.new("RGB", (56, 56), (40 * number, 0, 0)).save(folder / f"{number}.png")
        row = {"id": f"p{number}", "question": "Which colour?", "chosen": "red " * number + "red", "rejected": "blue"}
        rows.append(row | {"image": f"{number}.png"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(scene: Path, out: Path, *more: str, judge: str = "scalar") -> Result:
    words = ["eval", "run", "--pairs", str(scene / "pairs.jsonl"), "--judge", str(scene / judge), "--out", str(out)]
    return CliRunner().invoke(main, [*words, "--device", "cpu", *more])


def answers(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def judged(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("judged")
    done = run(scene, out)
    assert done.exit_code == 0, done.output
    return out


def test_a_scalar_checkpoint_judges_each_pair_once_with_its_scores(judged: Path) -> None:
    rows = answers(judged)
    assert [row["id"] for row in rows] == [f"p{number}" for number in range(PAIRS)]
    for row in rows:
        one, two = row["scores"]
        assert row["verdict"] == (1 if one > two else 2)
        assert (row["order"], row["problems"], row["refused"]) == ("as_is", [], None)
    done = CliRunner().invoke(
        main, ["eval", "score", "--bench", "pairs", "--answers", str(judged / "answers.jsonl"), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["judgements"] == PAIRS


def test_scores_in_shards_and_after_an_interruption_are_the_same(scene: Path, judged: Path, tmp_path: Path) -> None:
    for shard in ("2/2", "1/2"):
        done = run(scene, tmp_path, "--shard", shard)
        assert done.exit_code == 0, done.output
    expected = {row["id"]: row["scores"] for row in answers(judged)}
    for row in answers(tmp_path):
        assert row["scores"] == pytest.approx(expected[row["id"]], abs=1e-5)
    # An interruption after half of the rows: those are not scored again.
    shutil.copytree(judged, again := tmp_path / "again")
    (raw,) = (again / "raw").glob("*.jsonl")
    lines = raw.read_text().splitlines(keepends=True)
    kept = [json.loads(line) for line in lines[: 1 + PAIRS // 2]]
    raw.write_text("".join(lines[: 1 + PAIRS // 2]))
    (again / "run.json").unlink()
    done = run(scene, again)
    assert done.exit_code == 0, done.output
    assert [json.loads(line) for line in raw.read_text().splitlines()][: len(kept)] == kept
    assert {row["id"]: pytest.approx(row["scores"], abs=1e-5) for row in answers(again)} == expected


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--orders", "both"), "eval.orders-of-scores"),
        (("--temperature", "0.5"), "option.no-effect"),
        (("--max-tokens", "5"), "option.no-effect"),
        (("--tensor-parallel-size", "2"), "option.no-effect"),
        (("--max-model-len", "100000"), "checkpoint.context-too-short"),
    ],
)
def test_options_of_judges_that_write_are_refused(
    scene: Path, tmp_path: Path, options: tuple[str, ...], code: str
) -> None:
    done = run(scene, tmp_path / "out", *options)
    assert (done.exit_code, code_of(done.output)) == (2, code)
    assert not (tmp_path / "out").exists()


def test_scalar_checkpoints_are_refused_where_text_is_needed(scene: Path) -> None:
    from proxygrm.evaluate.judges.by_rubric import rubric_judge
    from proxygrm.evaluate.settings import EvaluateSettings

    with refused("checkpoint.scalar", path=scene / "scalar"):
        rubric_judge(scene / "scalar", EvaluateSettings())


def test_a_checkpoint_without_its_head_is_refused_and_nothing_is_written(scene: Path, tmp_path: Path) -> None:
    shutil.copytree(scene / "scalar", scene / "headless")
    shutil.copyfile(scene / "tiny" / "model.safetensors", scene / "headless" / "model.safetensors")
    done = run(scene, tmp_path / "out", judge="headless")
    assert (done.exit_code, code_of(done.output)) == (2, "checkpoint.no-head")
    assert not (tmp_path / "out").exists()


def test_a_scalar_checkpoint_ranks_candidates(scene: Path, tmp_path: Path) -> None:
    answers_of_one = [{"response": text, "correct": text == "red"} for text in ("red", "blue", "red and blue")]
    row = {"id": "a", "question": "Which colour?", "image": str(scene / "3.png"), "candidates": answers_of_one}
    (tmp_path / "candidates.jsonl").write_text(json.dumps(row) + "\n")
    files = [str(tmp_path / "candidates.jsonl"), str(tmp_path / "judged.jsonl")]
    done = CliRunner().invoke(main, ["eval", "best-of-n", *files, "--judge", str(scene / "scalar"), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in Path(files[1]).read_text().splitlines()]
    verdicts = {(row["first"], row["second"]): row["verdict"] for row in rows}
    assert len(verdicts) == 6
    assert all(verdicts[a, b] == 3 - verdicts[b, a] for a, b in verdicts)  # whatever the order


def test_a_scalar_checkpoint_judges_steps_by_the_solution_up_to_each_of_them(scene: Path, tmp_path: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        steps = ["First.", "red " * number + "red", "So it is red."]
        response = {"steps": steps, "process_correctness": [1, -1, 0]}
        return {"image": [f"{number}.png"], "question": "Which colour?", "response": response, "data_source": "WeMath"}

    def judged(*more: str) -> Result:
        words = ["eval", "run", "--bench", "visualprocessbench", "--data", str(data), "--images-root", str(scene)]
        words += ["--judge", str(scene / "scalar"), "--out", str(tmp_path / "out"), "--device", "cpu"]
        return CliRunner().invoke(main, [*words, *more])

    data = tmp_path / "test.jsonl"
    data.write_text("".join(json.dumps(row(number)) + "\n" for number in (0, 1, 2, 0)))
    assert code_of(judged().stderr) == "eval.needs-threshold"
    assert judged("--threshold", "0").exit_code == 0
    out = answers(tmp_path / "out")
    assert [len({*each["scores"]}) for each in out] == [3, 3, 3, 3]
    assert [each["pred"] for each in out] == [[1 if score > 0 else -1 for score in each["scores"]] for each in out]
    assert out[0]["scores"] == out[3]["scores"]
    assert len((tmp_path / "out" / "raw" / "scalar_steps.jsonl").read_text().splitlines()) == 1 + 3
    assert judged("--threshold", "5").exit_code == 0
    assert [each["scores"] for each in answers(tmp_path / "out")] == [each["scores"] for each in out]
