"""What page and demo of evpv-prm show: best of N with the gate and without, the step judge, and what is published."""

from __future__ import annotations

from proxygrm.process.aggregate import AGGREGATORS
from proxygrm.report.contents import Column, Report, Results

NOTE = (
    "Published (figure in the authors' repository): macro-F1 67.46 on VisualProcessBench; best of 8 is 8.83, 9.52 and"
    " 9.78 points better for InternVL2.5-8B, 26B and 38B, by an aggregate that is not named. An earlier README had "
    "macro-F1 68.3, and for the 8B policy columns called Pass@8 and BoN@8 (MathVista 74.4 and 79.1, MathVision 32.6 "
    "and 36.8, MathVerse-VO 55.2 and 60.1): no choice among 8 is right more often than one of the 8, so the first "
    "column is something else. The released metric reads scores without the gate. In the demo, images, labels, audits"
    " and the errors of the policy are made by rules: its figures say what these programs do together, nothing of the"
    " paper's."
)
COLUMNS = (
    Column("Questions", "questions", count=True, help="with candidates; of a benchmark its scored steps"),
    Column("Gated", "gated", interval=True, help="best of N by gated scores is right; 95 % bootstrap over questions"),
    Column("As judged", "judged", interval=True, help="the same by the verdicts alone"),
    Column("Gate", "gate", interval=True, help="the difference; where its paired interval reaches 0, it did not help"),
    Column("Pass@N", "pass", interval=True, help="one of the candidates is right: no choice is above it"),
    Column("By chance", "random", interval=True, help="a candidate taken by chance is right"),
    Column("Macro-F1", "macro_f1", interval=True, help="of the step judge on VisualProcessBench"),
)
REPORT = Report(
    title="EVPV-PRM run",
    stages={
        "prm_data": "solutions and pairs", "described_images": "teacher's descriptions",
        "teacher_verdicts": "teacher's judgements", "contradicted_images": "contradicted descriptions",
        "audited_claims": "teacher's audits", "training_sets": "training sets",
        "extractor_sft": "vision SFT", "extractor_sft_merge": "vision SFT, merged",
        "extractor_dpo": "vision DPO", "extractor_dpo_merge": "vision DPO, merged",
        "judge_sft": "step judge, SFT", "judge_sft_merge": "step judge, merged",
        "auditor_sft": "auditor, SFT", "auditor_sft_merge": "auditor, merged",
        "sampled_candidates": "the policy's candidates", "scored_candidates": "scores of their steps",
        "chosen_candidates": "best of N", "process_benchmark": "VisualProcessBench",
        "calibration": "calibration of the reliability",
        "labelled_solutions": "labelled solutions, held out", "labelled_images": "their descriptions",
        "labelled_verdicts": "teacher's judgements of them", "labelled_steps": "their steps as rows",
        "scored_steps": "scores of labelled steps", "step_calibration": "reliability against step labels",
        "perception": "perception intervention", "report": "this page",
    },
    results=Results(
        "chosen_candidates/summary.json", more=("process_benchmark/summary.json",),
        models={**{name: name.replace("_", " ") for name in AGGREGATORS}, "judge": "step judge"},
        title="Best of N by each aggregate, and the step judge", heading="Best of N, with the gate and without",
        note=NOTE, columns=COLUMNS,
    ),
    counts="training_sets/report.json", page="report/report.html",
)  # fmt: skip
