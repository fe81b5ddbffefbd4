"""The studies of EVPV-PRM: what each repeats for a cell, and what its table and drawing show (`Recipe.sweeps`).

Their specs are in ablations/evpv_prm; the stages stand in the recipe under the names below.
"""

from __future__ import annotations

from dataclasses import replace

from jobs.engine.recipe import CellTable, PerCell, Sweep

_BENCHMARK = CellTable(
    "process_benchmark/summary.json",
    model="judge",
    figures=("macro_f1", "f1_correct", "f1_incorrect", "first_error_accuracy"),
    title="step judge on VisualProcessBench",
    intervals=True,
    plot=("macro_f1",),
    steps="answers.jsonl",
)


def _of(stage: str, table: CellTable) -> Sweep:
    """One stage for each cell; of the others what it needs."""
    return Sweep({stage: PerCell(f"ablation_{stage}", throttled=True)}, needed_alone=True, table=table)


_CONDITIONS = ("accuracy_image", "accuracy_described", "accuracy_corrupted", "accuracy_question")

SWEEPS = {
    "process_benchmark": _of("process_benchmark", _BENCHMARK),
    "corruption": _of(
        "process_benchmark",
        replace(
            _BENCHMARK,
            figures=("macro_f1", "f1_correct", "f1_incorrect"),
            axis="process_benchmark.asking.corruption_ratio",
            curve="process_benchmark.asking.corruption",
        ),
    ),
    "perception": _of(
        "perception",
        CellTable(
            "perception/summary.json",
            model="policy",
            figures=_CONDITIONS,
            title="right answers of the policy under four conditions",
            intervals=True,
            plot=_CONDITIONS,
        ),
    ),
}
"""By the name that a spec gives as `sweep`."""
