"""`process gate` and `process aggregate`: one row out for each row in, bad ones named, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobs.cli.main import main
from support.refusals import code_of

SOLUTION = {
    "id": "a",
    "steps": [{"steptext": "AB is 3.", "visualdependency": "AB = 3"}, {"steptext": "So 4.", "visualdependency": None}],
    "audit": '{"p_score": 0.5}',
    "verdicts": ["1", "1"],
    "kept": {"as": ["it", "is", None]},
}


def run(tmp_path: Path, command: str, rows: list[Any], *options: str) -> tuple[Result, list[dict[str, Any]]]:
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    words = ["process", command, "--input", str(source), "--output", str(target), *options]
    result = CliRunner().invoke(main, words)
    written = [json.loads(line) for line in target.read_text().splitlines()] if target.exists() else []
    return result, written


def test_gate_writes_a_row_for_each_row_in_order_and_keeps_other_keys(tmp_path: Path) -> None:
    rows = [SOLUTION | {"id": number} for number in range(5)]
    result, written = run(tmp_path, "gate", rows)
    assert result.exit_code == 0, result.output
    assert [row["id"] for row in written] == list(range(5))
    assert all(row["kept"] == SOLUTION["kept"] and row["steps"] == SOLUTION["steps"] for row in written)
    assert [row["final"] for row in written] == [[0.5, 1.0]] * 5
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out.jsonl"]


def test_gate_counts_what_could_not_be_read(tmp_path: Path) -> None:
    rows = [
        SOLUTION | {"verdicts": ["1", "correct"]},
        SOLUTION | {"audit": "?"},
        SOLUTION | {"steps": [], "verdicts": []},
    ]
    for options in ([], ["--compat", "upstream"]):
        result, written = run(tmp_path, "gate", rows, *options)
        assert result.exit_code == 0
        for words in ("3 rows", "1 unreadable verdicts", "1 unreadable audits", "1 without steps"):
            assert words in result.output
        assert written[0]["raw"] == ([1.0, -1.0] if options else [1.0, None])
        assert written[1]["reliability"] == (0.0 if options else None)
        assert written[2]["aggregates"]["raw"]["mean"] == 0.0


def test_gate_zeroes_or_drops_an_unreadable_audit_as_asked(tmp_path: Path) -> None:
    rows = [SOLUTION | {"audit": None}]
    for choice, final in (("keep", [1.0, 1.0]), ("zero", [0.0, 1.0]), ("drop", [None, 1.0])):
        _, (row,) = run(tmp_path, "gate", rows, "--unreadable-audit", choice)
        assert row["final"] == final
    result, _ = run(tmp_path, "gate", rows, "--unreadable-audit", "drop", "--compat", "upstream")
    assert (result.exit_code, code_of(result.output)) == (2, "option.no-effect")


@pytest.mark.parametrize(
    "bad",
    [
        SOLUTION | {"verdicts": ["1"]}, {"id": "b"}, [1], None, '{"id": "b", "steps": [', '"text"', "[" * 100_000,
        SOLUTION | {"verdicts": ["1", True]},
    ],
)  # fmt: skip
def test_a_bad_row_is_named_and_nothing_is_written_unless_allowed(tmp_path: Path, bad: Any) -> None:
    rows = [SOLUTION, bad, SOLUTION]
    result, written = run(tmp_path, "gate", rows)
    assert (result.exit_code, code_of(result.output), written) == (2, "data.too-many-bad-rows", [])
    assert "rows.jsonl line 2" in result.output
    result, written = run(tmp_path, "gate", rows, "--max-bad", "0.5")
    assert (result.exit_code, len(written)) == (0, 2)
    (listed,) = (tmp_path / "out.jsonl.dropped.jsonl").read_text().splitlines()
    assert json.loads(listed)["row"] == 2


def test_an_earlier_output_survives_a_refused_run(tmp_path: Path) -> None:
    run(tmp_path, "gate", [SOLUTION])
    result, written = run(tmp_path, "gate", [{"id": "b"}])
    assert result.exit_code == 2
    assert [row["id"] for row in written] == ["a"]


def test_aggregate_adds_all_eight(tmp_path: Path) -> None:
    result, written = run(
        tmp_path, "aggregate", [{"scores": [1, 1, -1, 1], "id": 3}, {"scores": []}, {"scores": [None]}]
    )
    assert result.exit_code == 0
    assert written[0] == {
        "scores": [1, 1, -1, 1], "id": 3, "correctness_rate": 0.75, "weighted_correctness": 0.7, "streak_score": 0.5,
        "geometric_mean": pytest.approx(0.1**0.25), "first_error_position": 0.5, "minimum": 0.0, "product": 0.0,
        "mean": 0.75,
    }  # fmt: skip
    assert written[1]["mean"] == written[1]["streak_score"] == 0.0
    assert written[2]["mean"] is None


def test_aggregate_refuses_rows_without_scores(tmp_path: Path) -> None:
    result, written = run(tmp_path, "aggregate", [{"scores": [1]}, {"scores": ["1"]}, {"scores": [3]}])
    assert (result.exit_code, written) == (2, [])
    assert "score 1 is str" in result.output
    assert "score 1 is 3" in result.output
