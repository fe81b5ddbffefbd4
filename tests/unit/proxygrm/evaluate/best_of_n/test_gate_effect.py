"""The gate on against off, on the same questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxygrm.evaluate.best_of_n.gate import gate_again, gate_effect


def response(answer: str, raw: list[float], final: list[float]) -> dict[str, Any]:
    return {"finalanswer": answer, "eval": {"raw_step_scores": raw, "final_step_scores": final}}


HELPED = {"vlmresponse1": response("1", [1, 1], [0.5, 1]), "vlmresponse2": response("5", [1, 1], [1, 1])}
"""The gate finds the misread candidate; as judged the two tie."""
HURT = {"vlmresponse1": response("1", [1, 1], [1, 1]), "vlmresponse2": response("5", [1, 1], [0.5, 1])}
SAME = {"vlmresponse1": response("1", [-1, 1], [-1, 1]), "vlmresponse2": response("5", [1, 1], [1, 1])}


def scored(folder: Path, *candidates: dict[str, Any]) -> Path:
    rows = [
        {"question": f"How many in {n}?", "answer": "5", "datasource": "drawn", **each}
        for n, each in enumerate(candidates)
    ]
    path = folder / "scored.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_difference_is_that_of_both_choices_with_its_own_interval(tmp_path: Path) -> None:
    figures = gate_effect(scored(tmp_path, *[HELPED] * 6, *[SAME] * 2))["mean"]
    assert (figures["judged"], figures["gated"], figures["gate"]) == (0.625, 1.0, 0.375)
    assert (figures["better"], figures["worse"]) == (6, 0)
    assert 0 < figures["gate_low"] < 0.375 < figures["gate_high"] <= 0.5
    assert (figures["pass"], figures["random"]) == (1.0, 0.5)


def test_a_gate_that_hurts_as_often_as_it_helps_has_no_effect(tmp_path: Path) -> None:
    figures = gate_effect(scored(tmp_path, *[HELPED] * 4, *[HURT] * 4))["mean"]
    assert figures["gate"] == 0
    assert figures["gate_low"] < 0 < figures["gate_high"]
    assert (figures["better"], figures["worse"]) == (4, 4)


def test_an_aggregate_that_does_not_see_half_a_right_step_is_not_changed_by_it(tmp_path: Path) -> None:
    """The first -1 is where it was; a share of exact ones loses the gated step."""
    summary = gate_effect(scored(tmp_path, HELPED))
    assert summary["first_error_position"]["gate"] == 0
    assert summary["correctness_rate"]["gate"] == pytest.approx(0.5)


def test_the_gate_can_treat_unreadable_audits_otherwise_without_asking_again(tmp_path: Path) -> None:
    """The first candidate's audit could not be read; it is wrong, and was kept."""
    unread = response("1", [1, 1], [1, 1])
    unread["eval"] |= {"local_p_score": None, "visual_step_indices": [0]}
    audited = response("5", [1, 1], [0.8, 1])
    audited["eval"] |= {"local_p_score": 0.8, "visual_step_indices": [0]}
    path = scored(tmp_path, *[{"vlmresponse1": unread, "vlmresponse2": audited}] * 3)
    effects = {mode: gate_effect(gate_again(path, tmp_path / mode, mode))["mean"] for mode in ("keep", "zero", "drop")}
    assert {mode: figures["gated"] for mode, figures in effects.items()} == {"keep": 0.0, "zero": 1.0, "drop": 1.0}
    assert {figures["judged"] for figures in effects.values()} == {0.5}
    rows = [json.loads(line) for line in (tmp_path / "drop").read_text().splitlines()]
    assert rows[0]["vlmresponse1"]["eval"]["final_step_scores"] == [None, 1]
    assert rows[0]["vlmresponse2"] == audited
    kept = [json.loads(line) for line in (tmp_path / "keep").read_text().splitlines()]
    assert kept == [json.loads(line) for line in path.read_text().splitlines()]
