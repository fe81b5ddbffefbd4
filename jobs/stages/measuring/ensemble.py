"""Ensemble: the scores of several scalar reward models over the same pairs, together and beside each. It needs no GPU,
and other weights need no model again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jobs.engine.space.amounts import Needs, Space
from jobs.engine.stage import Artifact, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds
from proxygrm.evaluate.ensemble.combine import LABELLED, MEAN, STANDARDISED, WEIGHTS

HELD_OUT, VALIDATION = "held_out", "validation"
SUMMARY = "summary.json"
ROW = 5_000
"""Bytes of a judgement: the texts, and what was made of them."""


@dataclass(frozen=True)
class Settings(OnNodes):
    weights: str = MEAN
    """mean (the best in BaseReward's paper), accuracy, margin or standardised (docs/evaluation.md); all but mean are
    taken from the pairs held off from training."""

    def __post_init__(self) -> None:
        check_bounds("ensemble", self, choices={"weights": WEIGHTS})

    @property
    def validated(self) -> bool:
        """Whether the weights are taken from pairs that were held off."""
        return self.weights in (*LABELLED, STANDARDISED)


def stage(
    name: str,
    *,
    held_out: Output,
    benchmarks: Mapping[str, Output],
    settings: Settings,
    validation: Output | None = None,
) -> Stage:
    """All are summaries of stages that judged the same models; benchmarks: by name. Makes `summary.json` of the
    held-out pairs, and BENCHMARK/summary.json; beside each the judgements. One model stays alone in them."""
    needs = {HELD_OUT: held_out, **benchmarks, **({VALIDATION: validation} if validation else {})}
    return Stage(
        name=name,
        run=combine,
        needs=needs,
        makes=(Artifact(SUMMARY), *(Artifact(f"{each}/{SUMMARY}") for each in benchmarks)),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """The judgements of the ensemble; those of the models are hard links."""
    return Space(ROW * sum(need(label).rows for label in stage.needs if label != VALIDATION))


def combine(run: StageRun) -> None:
    from proxygrm.evaluate.ensemble.judged import Judged, add_ensemble

    judged = {label: Judged(path.parent) for label, path in run.inputs.items()}
    validation = judged.pop(VALIDATION, None)
    for done, (label, one) in enumerate(judged.items()):
        run.progress(done, len(judged), label)
        add_ensemble(one, run.out if label == HELD_OUT else run.out / label, run.config.weights, validation)
