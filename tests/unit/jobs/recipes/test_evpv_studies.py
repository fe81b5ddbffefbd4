"""The studies of EVPV-PRM: the settings of each cell, and a study on the rule-based service up to its table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner, Result

from jobs.cli.main import main
from jobs.engine import sweep
from jobs.engine.request import Request, save
from jobs.engine.run_folder.ledger import Ledger
from jobs.recipes import evpv_prm, read_spec, resolve, shipped
from proxygrm.critique.prompts.process import DESCRIBE, STEP
from proxygrm.evaluate.process.questions import Question
from proxygrm.evaluate.steps.asking import AskedWork, seen_by_all
from proxygrm.process.checklist import Step
from proxygrm.process.stages import ScoreSettings
from support.evaluate import step_study
from support.evaluate.http_judges import serving
from support.evaluate.solutions import Service, questions_in_steps
from support.evaluate.step_release import release, run_stage
from support.evaluate.step_study import RECIPE

ROOT = Path(__file__).parents[4]
Shown = list[tuple[str, tuple[Path, ...]]]


@pytest.mark.parametrize("preset", ["paper", "demo"])
@pytest.mark.parametrize("spec", shipped(evpv_prm.RECIPE), ids=lambda spec: spec.name)
def test_every_shipped_spec_is_a_study_of_the_recipe_that_trains_nothing_twice(spec: sweep.Spec, preset: str) -> None:
    config = evpv_prm.RECIPE.settings(preset)
    chain = {stage.name: stage.fingerprint() for stage in evpv_prm.RECIPE.stages(config)}
    stages = sweep.stages(evpv_prm.RECIPE, config, spec.cells, spec.throttle, spec.sweep)
    repeated = evpv_prm.RECIPE.sweep_of(spec.sweep)
    own = [stage for stage in stages if stage.name.startswith("cells/")]
    shared = [stage for stage in stages if stage not in own]
    assert {stage.name for stage in own} == {
        f"cells/{cell.name}/{name}" for cell in spec.cells for name in repeated.per_cell
    }
    assert {stage.name: stage.fingerprint() for stage in shared}.items() <= chain.items()
    needed = {parent.name for stage in stages for parent in stage.upstream()}
    assert {stage.name for stage in shared} <= needed, "a stage that no cell needs"
    last = list(repeated.per_cell)[-1]
    different = {stage.fingerprint() for stage in own if stage.name.endswith(f"/{last}")}
    assert len(different) == len(spec.cells)
    table = repeated.table
    assert table
    assert table.file.split("/")[0] in repeated.per_cell
    assert table.plot
    assert table.intervals


def asked_of_judge(settings: Any, question: Question) -> Shown:
    """Every request to the judge about a solution. Of the image's description it is only known how it was sampled."""
    asking = settings.asking
    question = seen_by_all(question, asking.images)
    work = AskedWork([question], ScoreSettings(), (DESCRIBE, STEP) if asking.describes else (STEP,), asking)
    if asking.describes:
        sampled = f"{asking.description} {asking.description_temperature} {asking.description_top_p}"
        text = json.dumps(
            {"caption": f"It shows {sampled}.", "key_facts": [f"AB = {n}" for n in range(1, 9)], "uncertain": ["C"]}
        )
        key = work.describing(question).key
        work.answers[key] = {"key": key, "text": text, "problem": None, "truncated": False}
    requests = work.judging(question, question.solutions[0])
    assert len({request.key for request in requests}) == len(requests)
    return [(request.text, request.images) for request in requests]


def test_the_thirty_settings_are_26_questions_to_the_judge_and_the_duplicates_are_the_known_ones(
    tmp_path: Path,
) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    steps = tuple(Step(f"Step text {number}") for number in range(12))
    question = Question("Why?", ("1.png",), (tmp_path / "1.png",), (steps,))
    cells = read_spec(RECIPE, "judge-settings").cells
    same: dict[str, list[int]] = defaultdict(list)
    for number, cell in enumerate(cells, 1):
        settings = sweep.settings_of(step_study.preset(), cell).process_benchmark
        same[repr((asked_of_judge(settings, question), settings.temperature, settings.top_p))].append(number)
    assert len(cells) == 30
    assert len(same) == 26
    assert [group for group in same.values() if len(group) > 1] == [[1, 24, 25], [2, 14], [13, 27]]
    without = ("!parse-fail-random", "!judge-no-visionjson-with-image", "!combo-no-visionjson-text-only")
    assert len(read_spec(RECIPE, "judge-settings", without).cells) == 27


def test_what_the_cells_show_the_judge_is_what_their_names_say(tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"x")
    question = Question("Why?", ("1.png",), (tmp_path / "1.png",), (tuple(Step(f"s{n}") for n in range(12)),))
    shown: dict[str, Shown] = {}
    for cell in read_spec(RECIPE, "judge-settings").cells:
        settings = sweep.settings_of(step_study.preset(), cell).process_benchmark
        shown[cell.name] = asked_of_judge(settings, question)

    def last(name: str) -> tuple[str, int]:
        text, images = shown[name][-1]
        return text, len(images)

    text, images = last("baseline")
    assert images == 1
    assert '"AB = 8"' in text
    assert "Step 12: s11" in text
    assert last("judge-text-only-keep-visionjson") == (text, 0)
    assert last("multi-image-none")[1] == 0
    assert "no_image_available" in last("multi-image-none")[0]
    assert "(no description)" in last("no-structured-vision")[0]
    assert "What the image shows" not in last("judge-prefix-novision")[0]
    assert "Step 3: s11" in last("history-last2")[0]  # numbered from 1
    assert "s8" not in last("history-last2")[0]
    assert "Step 1: s11" in last("history-none")[0]
    assert '"key_facts": []' in last("vision-corrupt-drop-facts")[0]
    assert '"caption": ""' in last("vision-corrupt-empty")[0]
    assert "ablated" not in "".join(text for steps in shown.values() for text, _ in steps)


def studied(folder: Path, spec: str, url: str, only: Sequence[str] = (), count: int = 12) -> Path:
    """The run folder of a study whose cells have run here."""
    read = read_spec(RECIPE, spec, only)
    release(folder / "release", count)
    file = step_study.__file__
    given = (f"judge={url}", f"data={folder / 'release'}", f"questions={questions_in_steps(folder, 12)}")
    asked = Request(
        recipe=file,
        assignments=given,
        ablation_name=read.name,
        ablation=read.cells,
        sweep=read.sweep,
        folder=str(folder),
    )
    resolved = resolve(asked)
    save(resolved, Ledger(folder / "run"))
    for stage in resolved.stages:
        (run_stage(stage, folder / "run") / "DONE.json").write_text("{}")
    return folder / "run"


def table(run: Path, *words: str) -> Result:
    with patch.dict(os.environ):  # the command turns to the cluster of this checkout
        done = CliRunner().invoke(main, ["ablate", "--table", "--run", str(run), *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.slow
def test_corruption_has_curves_with_intervals_and_says_whether_they_fall(tmp_path: Path) -> None:
    with serving(Service()) as url:
        run = studied(tmp_path, "corruption", url, ["uncorrupted", "*-0.2", "*-0.6", "*-1.0"])
    text = table(run).output
    rows = {row["name"]: row for row in json.loads((run / "ablations" / "corruption" / "table.json").read_text())}
    assert rows["uncorrupted"]["means"]["macro_f1"] == 1.0
    dropped = rows["drop-1.0"]["means"]
    assert dropped["macro_f1_low"] < dropped["macro_f1"] < dropped["macro_f1_high"] < 1
    drop, flip = json.loads((run / "ablations" / "corruption" / "trends.json").read_text())
    assert [point["x"] for point in drop["points"]] == [0, 0.2, 0.6, 1.0]
    assert (drop["curve"], drop["monotone"], drop["solutions"]) == ("drop", True, 12)
    assert drop["spearman"] < -0.8
    assert flip["change"]["high"] < 0
    assert "drop: from corruption ratio 0 to 1" in text
    assert "never rises" in text
    compared = json.loads((run / "ablations" / "corruption" / "comparisons.json").read_text())
    last = next(row for row in compared if row["run"] == "drop-1.0")
    assert last["difference"] == pytest.approx(dropped["macro_f1"] - 1)
    assert last["p"] < 0.05
    svg = (run / "ablations" / "corruption" / "plot.svg").read_text()
    assert svg.count("<circle") == 8
    assert "corruption ratio" in svg


@pytest.mark.slow
def test_perception_shows_four_conditions_side_by_side(tmp_path: Path) -> None:
    with serving(Service()) as url:
        run = studied(tmp_path, "perception", url)
    text = table(run).output
    rows = {
        row["name"]: row["means"] for row in json.loads((run / "ablations" / "perception" / "table.json").read_text())
    }
    planted = rows["errors-planted"]
    assert planted["accuracy_described_low"] > planted["accuracy_corrupted_high"]
    assert len({row["accuracy_image"] for row in rows.values()}) == 1  # the same call in every cell
    assert "four conditions" in text
    assert (run / "ablations" / "perception" / "plot.svg").read_text().count("<circle") == 4 * len(rows)


def test_looking_at_the_recipe_and_its_studies_writes_nothing(tmp_path: Path) -> None:
    """Importing the released runner makes a folder where one stands."""
    code = "from jobs.recipes import evpv_prm; from jobs.stages.measuring import perception, process_benchmark"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
