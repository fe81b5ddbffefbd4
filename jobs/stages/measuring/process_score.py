"""Step scores: each image is described, each candidate's visual claims are audited, each step is judged and gated."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, Output, Stage, StageRun
from jobs.stages.measuring import called_models
from jobs.stages.measuring.called_models import CallSettings
from proxygrm.core.bounds import check_bounds
from proxygrm.core.settings import values_of
from proxygrm.critique.prompts.process import AUDIT, DESCRIBE, STEP
from proxygrm.process.gate import UNREADABLE_AUDIT
from proxygrm.process.stages import ScoreSettings
from slurm.profile import Profile

MADE = "scored.jsonl"
ROLES = ("extractor", "auditor", "judge")


@dataclass(frozen=True)
class Settings(ScoreSettings, CallSettings):
    judge: str = ""
    """Scores each step: a checkpoint, the URL of an endpoint, or `rule-based`; empty: the recipe's own."""
    extractor: str = ""
    """Describes the images; empty: the recipe's own."""
    auditor: str = ""
    """Compares claims with the description; empty: the recipe's own."""
    judge_model: str = ""
    """Name to ask for, where the judge is an endpoint."""
    extractor_model: str = ""
    """The same of the extractor."""
    auditor_model: str = ""
    """The same of the auditor."""
    unreadable_audit: str = "keep"
    """What becomes of visual steps without a reliability: `keep` their verdict, `zero` it, or `drop` it (null)."""

    def __post_init__(self) -> None:
        ScoreSettings.__post_init__(self)
        CallSettings.__post_init__(self)
        check_bounds("process score", self, choices={"unreadable_audit": UNREADABLE_AUDIT})

    @property
    def of_steps(self) -> ScoreSettings:
        return ScoreSettings(**values_of(self, ScoreSettings))


def stage(
    name: str,
    *,
    solutions: Given | Output,
    images: Given | Output,
    judge: str | Output,
    extractor: str | Output,
    auditor: str | Output,
    settings: Settings,
) -> Stage:
    """solutions: a policy's rows. images: the folder of their relative paths. judge, extractor, auditor: where the
    settings name none. Makes `scored.jsonl`, the same rows with `eval` in each candidate, and `report.json`."""
    own = {"judge": judge, "extractor": extractor, "auditor": auditor}
    models = {role: getattr(settings, role) or own[role] for role in ROLES}
    return Stage(
        name=name,
        run=score,
        needs={"solutions": solutions, "images": images, **called_models.needs(models, name, settings)},
        makes=(Artifact(MADE), Artifact("report.json")),
        on=settings.on,
        validate=validate,
        config=replace(
            settings,
            judge=called_models.service_of(models["judge"]),
            extractor=called_models.service_of(models["extractor"]),
            auditor=called_models.service_of(models["auditor"]),
        ),
        prompts=(DESCRIBE, AUDIT, STEP),
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """A description for each row, and audits: of each candidate, as long as they may be, raw and read."""
    settings: Settings = stage.config
    solutions = need("solutions")
    texts = settings.description_tokens + 8 * settings.audit_tokens
    size = solutions.size + 2 * solutions.rows * texts * TOKEN
    return Space(2 * size, {MADE: Amount(size, solutions.rows)})


def score(run: StageRun) -> None:
    from proxygrm.evaluate.process.files import score_file
    from proxygrm.evaluate.process.score import Rules

    settings: Settings = run.config
    with called_models.called(run, {role: getattr(settings, role) for role in ROLES}) as models:
        score_file(
            run.inputs["solutions"],
            run.out / MADE,
            run.inputs["images"],
            settings.of_steps,
            models,
            Rules(unreadable_audit=settings.unreadable_audit),
            settings.missing_images,
            run.progress,
        )


def validate(stage: Stage, profile: Profile) -> None:
    called_models.validate(stage, profile, *ROLES)
