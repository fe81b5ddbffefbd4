"""`process corrupt`: seeds, the ratio, and bad rows."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from jobs.cli.main import main
from proxygrm.process.corrupt import corrupt
from support.refusals import code_of

FACTS = [f"side {number} = {number}" for number in range(1, 13)]
ROWS = [{"id": id_, "vision": {"caption": "Sides.", "key_facts": FACTS}, "kept": None} for id_ in (1, 2, 3)]


def run(tmp_path: Path, rows: list[Any], *options: str) -> tuple[Result, list[dict[str, Any]]]:
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["process", "corrupt", "--input", str(source), "--output", str(target), *options]
    result = CliRunner().invoke(main, words)
    return result, [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []


def test_each_row_has_its_own_draws_which_depend_on_seed_and_id_alone(tmp_path: Path) -> None:
    options = ("--mode", "drop", "--ratio", "0.5", "--seed", "7")
    result, written = run(tmp_path, ROWS, *options)
    assert result.exit_code == 0
    assert [row["id"] for row in written] == [1, 2, 3]
    assert all(row["kept"] is None and "kept" in row for row in written)
    assert len({str(row["vision"]["key_facts"]) for row in written}) == 3
    _, backwards = run(tmp_path, ROWS[::-1], *options)
    assert backwards[::-1] == written


def test_in_compat_every_row_starts_from_the_same_generator(tmp_path: Path) -> None:
    _, written = run(tmp_path, ROWS, "--mode", "flip", "--ratio", "0.4", "--seed", "9", "--compat", "upstream")
    vision, meta = corrupt(ROWS[0]["vision"], "flip", random.Random(9), 0.4, as_upstream=True)
    assert [(row["vision"], row["meta"]) for row in written] == [(vision, meta)] * 3
    assert meta["flipped_key_facts_idx"]


def test_the_ratio_is_needed_by_drop_and_flip_and_ignored_by_the_others(tmp_path: Path) -> None:
    for mode in ("drop", "flip"):
        result, _ = run(tmp_path, ROWS, "--mode", mode, "--seed", "1")
        assert (result.exit_code, code_of(result.output)) == (2, "option.missing")
    result, written = run(tmp_path, ROWS, "--mode", "empty", "--seed", "1", "--ratio", "0.3")
    assert (result.exit_code, len(written)) == (0, 3)
    assert run(tmp_path, ROWS, "--mode", "drop", "--seed", "1", "--ratio", "1.1")[0].exit_code == 2
    assert run(tmp_path, ROWS, "--mode", "drop", "--seed", "1", "--ratio", "nan")[0].exit_code == 2


def test_a_row_without_a_description_is_bad(tmp_path: Path) -> None:
    result, written = run(tmp_path, [ROWS[0], {"id": 4}, {"vision": "text"}], "--mode", "empty", "--seed", "1")
    assert (result.exit_code, code_of(result.output), written) == (2, "data.too-many-bad-rows", [])
