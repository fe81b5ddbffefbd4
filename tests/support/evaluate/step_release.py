"""Drawn solutions in the layout of VisualProcessBench's release, and a stage that judges them, run in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.engine.stage import Output, Stage, StageRun
from support.evaluate.solutions import drawn_rows, write


def released(folder: Path, count: int) -> list[dict[str, Any]]:
    """Rows of the release's layout: images are below images/, though the archive was unpacked without it. The second
    step says what is seen, rightly in every other row; the third adds up wrongly."""
    rows = []
    for number, row in enumerate(drawn_rows(folder, count)):
        response = row["vlmresponse1" if number % 2 else "vlmresponse2"]
        steps = ["Let us look.", response["reasoningprocess"][0]["steptext"], "Adding up, 1 + 1 = 3."]
        rows.append(
            {
                "image": [f"images/{row['image']}"],
                "question": row["question"],
                "answer": row["answer"],
                "response": {"steps": steps, "process_correctness": [0, 1 if number % 2 else -1, -1]},
                "policy_model": "drawn",
                "data_source": "WeMath" if number % 2 else "DynaMath",
            }
        )
    return rows


def release(folder: Path, count: int) -> Path:
    """test.jsonl with its images, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "test.jsonl", released(folder, count))
    return folder


def run_stage(stage: Stage, run_dir: Path) -> Path:
    """The stage's folder, after it has run here on its given inputs."""
    assert not any(isinstance(need, Output) for need in stage.needs.values())
    run = StageRun(stage, run_dir, None, stage.input_paths(run_dir), lambda done, total, note: None)
    run.out.mkdir(parents=True, exist_ok=True)
    stage.run(run)
    for made in stage.makes:
        made.check(run.out / made.path)
    return run.out
