"""Process sets: solutions, and what a teacher wrote about them, become the training sets of process reward."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_tools.export.step_rows import PROMPTS, StepSetOptions
from data_tools.export.step_sets import REPORT, Sources, check_sources, check_validation, sets_of, step_sets_step
from jobs.engine.space.amounts import Amount, Needs, Space, Unknown
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from jobs.stages.data.shards import carry_out
from proxygrm.core.bounds import check_bounds
from proxygrm.core.settings import values_of

ROW = 3_000
"""Bytes of a row: instruction, answer and paths."""
STEPS = 8
"""Of a solution, for the forecast; VisualPRM400K's have 12 at most."""


@dataclass(frozen=True)
class Settings(OnNodes, StepSetOptions):
    validation: float = 0.01
    """Share of the images whose rows are set aside for the evaluation loss; 0: none."""
    max_bad: float = 0.01
    """Share of solutions without their images above which it fails."""
    shards: int = 8
    """Parts of the work; the result does not depend on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("process sets", self, from_one=("shards",), shares=("max_bad",))
        check_validation(self.validation)

    @property
    def options(self) -> StepSetOptions:
        return StepSetOptions(**values_of(self, StepSetOptions))


def stage(
    name: str,
    *,
    solutions: Given | Output,
    descriptions: Given | Output,
    judgements: Given | Output | None,
    settings: Settings,
    contradictions: Given | Output | None = None,
    audits: Given | Output | None = None,
) -> Stage:
    """What the teacher wrote: judgements may be None where `labels` is `measured` and nobody learns to audit,
    contradictions where no preferences are trained on. Makes `report.json` and NAME.jsonl of each set (vision_sft,
    vision_dpo, step_judge, audit), and with a share for validation NAME_val.jsonl."""
    given = {"judgements": judgements, "contradictions": contradictions, "audits": audits}
    taught = {label: need for label, need in given.items() if need is not None}
    sources = Sources(Path("solutions"), Path("descriptions"), **{label: Path(label) for label in taught})
    check_sources(sources, settings.options, settings.validation)
    sets = sets_of(settings.options, contradictions is not None, settings.validation)
    return Stage(
        name=name,
        run=write_sets,
        needs={"solutions": solutions, "descriptions": descriptions, **taught},
        makes=(*(Artifact(f"{each}.jsonl") for each in sets), Artifact(REPORT)),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        prompts=PROMPTS,
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """The rows twice, in parts and together; some of the audits three times."""
    rows = need("solutions").rows
    if not rows:
        raise Unknown("how many solutions there are")
    counts = {"vision_sft": rows, "vision_dpo": rows, "step_judge": rows * (STEPS + 1), "audit": rows}
    makes = {f"{name}.jsonl": Amount(count * ROW, count) for name, count in counts.items()}
    return Space(2 * sum(amount.size for amount in makes.values()), makes)


def write_sets(run: StageRun) -> None:
    settings: Settings = run.config
    step = step_sets_step(
        Sources(**run.inputs), run.out, settings.options, validation=settings.validation, max_bad=settings.max_bad
    )
    carry_out(step, run)
