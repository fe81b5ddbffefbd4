"""`process best-of-n`: JSON and tables, ours and the released metric's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from jobs.cli.main import main
from support.refusals import code_of


def row(answer: str, right_at: int) -> dict[str, Any]:
    responses = {
        f"vlmresponse{i}": {
            "finalanswer": answer if i == right_at else "0",
            "eval": {"raw_step_scores": [1.0, -1.0], "final_step_scores": [1.0 if i == right_at else 0.5, -1.0]},
        }
        for i in range(1, 9)
    }
    return {"answer": answer, "datasource": "MathVista"} | responses


def run(tmp_path: Path, *options: str) -> Result:
    path = tmp_path / "scored.jsonl"
    path.write_text("".join(json.dumps(row(str(n), n)) + "\n" for n in range(1, 5)))
    return CliRunner().invoke(main, ["process", "best-of-n", str(path), *options])


def test_json_has_every_curve_for_each_source_and_overall(tmp_path: Path) -> None:
    figures = json.loads(run(tmp_path, "--json").stdout)
    assert list(figures) == ["MathVista", "OVERALL"]
    overall = figures["OVERALL"]
    assert overall["total"] == 4
    assert list(overall["pass"]) == list(overall["bon"]["minimum"]) == [str(k) for k in range(1, 9)]
    assert overall["bon"]["weighted_correctness"]["8"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    raw = json.loads(run(tmp_path, "--json", "--scores", "raw").stdout)["OVERALL"]
    assert raw["bon"]["weighted_correctness"]["8"]["value"] == 0.125
    released = json.loads(run(tmp_path, "--json", "--compat", "upstream").stdout)
    assert released["OVERALL"]["streak_score"]["pass_correct"] == [1, 2, 3, 4, 4, 4, 4, 4]
    assert released["OVERALL"]["streak_score"]["bon_correct"] == [1, 2, 3, 4, 4, 4, 4, 4]


def test_tables_show_the_curves_at_powers_of_two(tmp_path: Path) -> None:
    for options in ((), ("--compat", "upstream")):
        result = run(tmp_path, *options)
        assert result.exit_code == 0, result.output
        assert "OVERALL: 4 questions" in result.stdout
        assert "by streak_score" in result.stdout


def test_scores_has_no_effect_with_compat_and_a_missing_file_is_named(tmp_path: Path) -> None:
    result = run(tmp_path, "--scores", "raw", "--compat", "upstream")
    assert (result.exit_code, code_of(result.output)) == (2, "option.no-effect")
    for options in ((), ("--compat", "upstream")):
        result = CliRunner().invoke(main, ["process", "best-of-n", str(tmp_path / "no.jsonl"), *options])
        assert (result.exit_code, code_of(result.output)) == (2, "file.missing")
