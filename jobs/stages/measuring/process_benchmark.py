"""VisualProcessBench: a judge's verdict on each step of solutions that people have labelled, asked as a study wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, Output, Stage, StageRun
from jobs.stages.measuring import called_models
from jobs.stages.measuring.called_models import CallSettings
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.evaluate.steps.asking import Asking, prompts_of
from slurm.profile import Profile

if TYPE_CHECKING:
    from proxygrm.evaluate.steps.run import StepRun

DATA, IMAGES, JUDGE, EXTRACTOR = "data", "images", "judge", "extractor"
SUMMARY, ANSWERS = "summary.json", "answers.jsonl"
ROW = 400
"""Bytes of a call's other fields."""
STEPS = 10
"""Of a solution, about."""


@dataclass(frozen=True)
class Settings(CallSettings):
    """`temperature` and `top_p` are the judge's; `max_pairs` is of solutions."""

    asking: Asking = field(default_factory=Asking)
    """How the judge is asked, beyond what training asked."""
    judge: str = ""
    """A checkpoint, the URL of an endpoint, or `rule-based`; empty: the recipe's own."""
    extractor: str = ""
    """Describes the images for the judge; empty: the recipe's own, or else the judge."""
    judge_model: str = ""
    """Name to ask for, where the judge is an endpoint."""
    extractor_model: str = ""
    """The same of the extractor."""
    images_root: str = ""
    """Folder of the images; empty: the data's own."""
    threshold: float | None = None
    """A step is right when its soft score, or the score of a scalar model, is above it; none: by the judge's text."""
    verdict_tokens: int = 16
    """Longest verdict, in tokens."""
    description_tokens: int = 2048
    """Longest description, in tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("process benchmark", self, from_one=("verdict_tokens", "description_tokens"))
        if self.missing_images == "drop":
            raise UserError(
                "process benchmark: missing_images is 'drop', but every solution is judged; give refuse or blank",
                code="settings.unknown-value",
                name="missing_images",
                value=self.missing_images,
                known=["refuse", "blank"],
            )


def stage(
    name: str,
    *,
    judge: str | Output,
    data: str | Output,
    settings: Settings,
    extractor: str | Output | None = None,
) -> Stage:
    """judge, extractor: where the settings name none; without any extractor the judge describes the images. data: the
    release's test.jsonl, or the folder that has it.

    Makes `summary.json`, {"judge": figures}, and `answers.jsonl`.
    """
    models = {JUDGE: settings.judge or judge}
    if settings.asking.describes:
        models[EXTRACTOR] = settings.extractor or extractor or models[JUDGE]
    if not settings.extractor and not extractor:
        settings = replace(settings, extractor_model=settings.extractor_model or settings.judge_model)
    return Stage(
        name=name,
        run=judge_and_score,
        needs={
            DATA: data if isinstance(data, Output) else Given(data, check_release),
            **({IMAGES: Given(settings.images_root)} if settings.images_root else {}),
            **called_models.needs(models, name, settings),
        },
        makes=(Artifact(SUMMARY), Artifact(ANSWERS)),
        on=settings.on,
        validate=validate,
        config=replace(  # what is a need is in the fingerprint as one
            settings,
            judge=called_models.service_of(models[JUDGE]),
            extractor=called_models.service_of(models.get(EXTRACTOR, "")),
            images_root="",
        ),
        prompts=prompts_of(settings.asking),
        disk=disk,
    )


def check_release(path: Path) -> None:
    """Raises UserError where a row cannot be judged."""
    from proxygrm.evaluate.steps.release import read_release

    read_release(path)


def disk(stage: Stage, need: Needs) -> Space:
    """The answers, as they arrive."""
    settings: Settings = stage.config
    solutions = settings.max_pairs or need(DATA).rows or 3_000
    each = STEPS * (settings.verdict_tokens * TOKEN + ROW) + settings.description_tokens * TOKEN + ROW
    return Space(solutions * each, {ANSWERS: Amount(0, solutions)})


def judge_and_score(run: StageRun) -> None:
    from proxygrm.core.files.whole_file import write_json
    from proxygrm.evaluate.steps.answers import read_step_answers
    from proxygrm.evaluate.steps.benchmark import VISUALPROCESSBENCH
    from proxygrm.evaluate.steps.intervals import figures_with_intervals
    from proxygrm.evaluate.steps.run import judge_steps

    asking = run.config.asking
    if scalar := _scalar_judge(run):
        counts = judge_steps(_step_run(run, scalar), run.progress)
    else:
        services = {JUDGE: run.config.judge} | ({EXTRACTOR: run.config.extractor} if asking.describes else {})
        describing = replace(
            run.config.evaluation, temperature=asking.description_temperature, top_p=asking.description_top_p
        )
        with called_models.called(run, services, {EXTRACTOR: describing}) as models:
            counts = judge_steps(_step_run(run, models[JUDGE], models.get(EXTRACTOR), asking), run.progress)
    read = read_step_answers(run.out / ANSWERS, VISUALPROCESSBENCH, partial=True)
    counts |= {"judged_by": counts["judge"], "notes": read.notes}
    write_json(run.out / SUMMARY, {JUDGE: figures_with_intervals(read.solutions) | _without(counts, "judge", "steps")})


def _step_run(run: StageRun, judge: Any, extractor: Any = None, asking: Asking | None = None) -> StepRun:
    from proxygrm.evaluate.steps.release import read_release
    from proxygrm.evaluate.steps.run import StepRun
    from proxygrm.process.stages import ScoreSettings

    settings: Settings = run.config
    return StepRun(
        solutions=read_release(run.inputs[DATA], run.inputs.get(IMAGES))[: settings.max_pairs or None],
        judge=judge,
        extractor=extractor,
        settings=ScoreSettings(
            description_tokens=settings.description_tokens,
            verdict_tokens=settings.verdict_tokens,
            soft=settings.threshold is not None,
        ),
        missing_images=settings.missing_images,
        out=run.out,
        threshold=settings.threshold,
        asking=asking,
    )


def _without(counts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if name not in names}


def _scalar_judge(run: StageRun) -> Any:
    """The judge where it is a scalar model; None for any other."""
    from proxygrm.core.checkpoints.kinds import SCALAR, kind_of
    from proxygrm.evaluate.judges.scalar_checkpoint import ScalarCheckpointJudge

    settings: Settings = run.config
    judge = run.inputs.get(JUDGE)
    if judge is None or kind_of(judge) != SCALAR:
        return None
    if settings.asking != Asking():
        raise UserError(
            f"{judge} is a scalar model, which reads a solution as it is; leave the settings of `asking` out",
            code="settings.contradiction",
            judge=judge,
        )
    return ScalarCheckpointJudge(judge, settings.evaluation)


def validate(stage: Stage, profile: Profile) -> None:
    called_models.validate(stage, profile, JUDGE, EXTRACTOR)
