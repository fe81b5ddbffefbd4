"""`process match`: any JSON values in, a verdict out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from jobs.cli.main import main
from support.refusals import code_of


def run(tmp_path: Path, rows: list[Any], *options: str) -> tuple[Result, list[dict[str, Any]]]:
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["process", "match", "--input", str(source), "--output", str(target), *options]
    result = CliRunner().invoke(main, words)
    return result, [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []


def test_each_row_keeps_its_keys_and_says_whether_the_answer_is_right(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "pred": "\\boxed{\\frac{1}{2}}", "answer": "\\frac{1}{2}"},
        {"id": 2, "pred": "0.001", "answer": "0.004"},
        {"id": 3, "pred": "40", "answer": "B", "choices": ["30", "40"]},
        {"id": 4, "pred": None, "answer": None},
        {"id": 5, "pred": {"a": [1, None]}, "answer": {"a": [1, None]}},
        {"id": 6, "pred": 12.0, "answer": "12"},
    ]
    result, written = run(tmp_path, rows)
    assert result.exit_code == 0
    assert [row["equal"] for row in written] == [True, False, True, False, True, True]
    assert [{key: row[key] for key in row if key != "equal"} for row in written] == rows
    _, written = run(tmp_path, rows, "--compat", "upstream")
    assert [row["equal"] for row in written] == [False, True, True, False, True, True]


def test_a_row_without_both_answers_is_bad(tmp_path: Path) -> None:
    result, written = run(tmp_path, [{"pred": "1"}, {"answer": "1"}, [1]])
    assert (result.exit_code, code_of(result.output), written) == (2, "data.too-many-bad-rows", [])
    assert "answer is missing" in result.output
    assert "pred is missing" in result.output
