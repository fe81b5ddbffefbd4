"""Candidates: a policy solves each question several times, in steps that name the visual facts they lean on."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, Stage, StageRun
from jobs.stages.data.served_teacher import RULE_BASED, is_service
from jobs.stages.measuring import called_models
from jobs.stages.measuring.called_models import CallSettings
from proxygrm.core.bounds import check_bounds
from proxygrm.critique.prompts.process import POLICY
from proxygrm.evaluate.process.questions import check_candidates
from slurm.profile import Profile

MADE = "policy.jsonl"


@dataclass(frozen=True)
class Settings(CallSettings):
    policy: str = RULE_BASED
    """A checkpoint, the URL of an OpenAI-compatible endpoint, or `rule-based` (the demo's stand-in, which plants
    errors)."""
    policy_model: str = ""
    """Name to ask for, where the policy is an endpoint."""
    candidates: int = 8
    """Of each question."""
    max_questions: int = 0
    """Only the first so many; 0: all."""
    max_tokens: int = 4096
    """Longest candidate, in tokens."""
    temperature: float = 1.0
    """Candidates at 0 would be the same."""
    top_p: float = 0.95
    """They are drawn from the most probable tokens, of this probability together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("process sample", self, from_zero=("max_questions",))
        check_candidates(self.candidates)


def stage(name: str, *, questions: Given, images: Given, settings: Settings) -> Stage:
    """questions: JSONL of {question, image, answer, datasource}. images: the folder of their relative paths. Makes
    `policy.jsonl`, the same rows with `vlmresponse1` ... N, and `report.json`."""
    return Stage(
        name=name,
        run=sample,
        needs={
            "questions": questions, "images": images,
            **called_models.needs({"policy": settings.policy}, name, settings),
        },
        makes=(Artifact(MADE), Artifact("report.json")),
        on=settings.on,
        validate=validate,
        config=settings,
        prompts=(POLICY,),
        disk=disk,
    )  # fmt: skip


def disk(stage: Stage, need: Needs) -> Space:
    """Each candidate twice: raw, and read."""
    settings: Settings = stage.config
    rows = settings.max_questions or need("questions").rows
    size = rows * settings.candidates * settings.max_tokens * TOKEN
    return Space(2 * size, {MADE: Amount(size, rows)})


def sample(run: StageRun) -> None:
    from proxygrm.evaluate.process.files import first_rows, sample_file
    from proxygrm.evaluate.process.sample import Sampling

    settings: Settings = run.config
    questions = first_rows(run.inputs["questions"], run.out / "questions.jsonl", settings.max_questions)
    service = settings.policy if is_service(settings.policy) else ""
    with called_models.called(run, {"policy": service}) as models:
        sampling = Sampling(settings.candidates, settings.evaluation)
        sample_file(questions, run.out / MADE, run.inputs["images"], sampling, models["policy"], run.progress)


def validate(stage: Stage, profile: Profile) -> None:
    called_models.validate(stage, profile, "policy")
