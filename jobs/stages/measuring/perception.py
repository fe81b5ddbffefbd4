"""Perception intervention: a policy answers with the image, a description, a corrupted one, or the question alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, Output, Stage, StageRun
from jobs.stages.measuring import called_models
from jobs.stages.measuring.called_models import CallSettings
from proxygrm.core.bounds import check_bounds
from proxygrm.core.settings import values_of
from proxygrm.evaluate.process.intervene import Intervention
from slurm.profile import Profile

ANSWERS, SUMMARY, POLICY, EXTRACTOR = "answers.jsonl", "summary.json", "policy", "extractor"


@dataclass(frozen=True)
class Settings(Intervention, CallSettings):
    """`temperature` and `top_p` are of the policy and of the descriptions."""

    policy: str = ""
    """A checkpoint, the URL of an endpoint, or `rule-based`; empty: the recipe's own."""
    policy_model: str = ""
    """Name to ask for, where the policy is an endpoint."""
    extractor: str = ""
    """Describes the images; empty: the recipe's own."""
    extractor_model: str = ""
    """The same of the extractor."""
    max_questions: int = 0
    """Only the first so many; 0: all."""

    def __post_init__(self) -> None:
        Intervention.__post_init__(self)
        CallSettings.__post_init__(self)
        check_bounds("perception", self, from_zero=("max_questions",))

    @property
    def intervention(self) -> Intervention:
        return Intervention(**values_of(self, Intervention))


def stage(
    name: str,
    *,
    questions: Given | Output,
    images: Given | Output,
    policy: str | Output,
    extractor: str | Output,
    settings: Settings,
) -> Stage:
    """questions: JSONL of {question, image, answer}. images: the folder of their relative paths. policy, extractor:
    where the settings name none. Makes `summary.json`, {"policy": figures}, and `answers.jsonl`."""
    models = {POLICY: settings.policy or policy, EXTRACTOR: settings.extractor or extractor}
    return Stage(
        name=name,
        run=intervene,
        needs={"questions": questions, "images": images, **called_models.needs(models, name, settings)},
        makes=(Artifact(SUMMARY), Artifact(ANSWERS)),
        on=settings.on,
        validate=validate,
        config=replace(
            settings,
            policy=called_models.service_of(models[POLICY]),
            extractor=called_models.service_of(models[EXTRACTOR]),
        ),
        prompts=settings.intervention.prompts,
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """Every answer twice: raw, and read."""
    settings: Settings = stage.config
    rows = settings.max_questions or need("questions").rows
    each = len(settings.conditions) * settings.solve_tokens + 2 * settings.description_tokens
    return Space(2 * rows * each * TOKEN, {ANSWERS: Amount(rows * each * TOKEN, rows)})


def intervene(run: StageRun) -> None:
    from proxygrm.core.files.whole_file import write_json
    from proxygrm.evaluate.process.files import first_rows
    from proxygrm.evaluate.process.intervened import intervene_file

    settings: Settings = run.config
    questions = first_rows(run.inputs["questions"], run.out / "questions.jsonl", settings.max_questions)
    services = {POLICY: settings.policy, EXTRACTOR: settings.extractor}
    with called_models.called(run, services) as models:
        figures: dict[str, Any] = intervene_file(
            questions,
            run.out / ANSWERS,
            run.inputs["images"],
            settings.intervention,
            models[EXTRACTOR],
            models[POLICY],
            settings.missing_images,
            run.progress,
        )
    write_json(run.out / SUMMARY, {POLICY: figures})


def validate(stage: Stage, profile: Profile) -> None:
    called_models.validate(stage, profile, POLICY, EXTRACTOR)
