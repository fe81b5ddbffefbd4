"""How trainings went, side by side: the largest value and the last, over seeds; what is not finite is counted."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from jobs.cli.run.ablate import trainings_of
from jobs.engine.recipe import CellTable
from jobs.engine.sweep import Cell
from proxygrm.report.tables.training import Extent, extent, training_extents

FIRST = [{"step": 0, "score": 0.5}, {"step": 1, "loss": -3.0}, {"step": 2, "loss": 0.25, "score": 0.7}]
SECOND = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": math.nan}, {"step": 3, "loss": 0.75}]


def test_the_largest_is_by_size_over_all_seeds_and_the_last_is_their_mean() -> None:
    assert extent([FIRST, SECOND], "loss") == Extent(3.0, 0.5, 1)
    assert extent([FIRST, SECOND], "score") == Extent(0.5 + 0.2, 0.7)
    assert extent([FIRST], "gone") == Extent(None, None)


def test_the_table_names_what_was_not_finite() -> None:
    out = io.StringIO()
    table = training_extents("runs", {"a": [FIRST, SECOND], "b": []}, {"loss": "loss", "score": "score"})
    Console(file=out, width=100).print(table)
    assert "3 (1 not finite)" in out.getvalue()


def test_cells_of_one_setting_are_read_together_and_a_cell_without_a_step_is_left_out(tmp_path: Path) -> None:
    cells = [Cell(f"{name}-{seed}", (), (("cell", name), ("rl.seed", str(seed)))) for name in "ab" for seed in (1, 2)]
    for cell, rows in zip(cells, (FIRST, SECOND, FIRST), strict=False):
        folder = tmp_path / "cells" / cell.name / "rl"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = CellTable("x", model="m", figures=(), seed="rl.seed", metrics="rl/metrics.jsonl", curves={"loss": "loss"})
    found = trainings_of(tmp_path, cells, table)
    assert {name: [len(rows) for rows in trainings] for name, trainings in found.items()} == {"a": [3, 3], "b": [3]}
    assert trainings_of(tmp_path, cells, CellTable("x", model="m", figures=())) == {}
    assert extent(found["a"], "loss").largest == pytest.approx(3.0)
