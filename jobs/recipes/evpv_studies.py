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


_CHOICES = CellTable(
    "chosen_candidates/summary.json",
    model="mean",
    figures=("gated", "judged", "gate", "pass"),
    title="best of N of each cell, by the mean of its step scores",
    intervals=True,
    plot=("gated", "judged"),
)
_CONDITIONS = ("accuracy_image", "accuracy_described", "accuracy_corrupted", "accuracy_question")

SWEEP = Sweep(
    {
        "scored_candidates": PerCell("ablation_scores", throttled=True),
        "chosen_candidates": PerCell("ablation_choices"),
    },
    needed_alone=True,
    table=_CHOICES,
)
"""Of a spec that names none: candidates scored in another way."""
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
    "gate": _of("chosen_candidates", _CHOICES),
    "calibration": Sweep(
        {
            "scored_candidates": PerCell("ablation_scores", throttled=True),
            "calibration": PerCell("ablation_calibration"),
        },
        needed_alone=True,
        table=CellTable(
            "calibration/summary.json",
            model="reliability",
            figures=("auroc", "ece", "right_below", "right_above", "gap"),
            title="what the reliability of each cell says of the answers",
            intervals=True,
            plot=("auroc", "ece"),
        ),
    ),
}
"""By the name that a spec gives as `sweep`."""
