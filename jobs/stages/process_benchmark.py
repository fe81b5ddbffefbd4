"""VisualProcessBench: a judge's verdict on each step of solutions that people have labelled, asked as a study wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.evaluate.steps.asking import Asking, prompts_of
from slurm.profile import Profile

if TYPE_CHECKING:
    from proxygrm.evaluate.judges.endpoint import Endpoint

DATA, IMAGES, JUDGE, EXTRACTOR = "data", "images", "judge", "extractor"
SUMMARY, ANSWERS = "summary.json", "answers.jsonl"
ROW = 400
"""Bytes of a call's other fields."""
STEPS = 10
"""Of a solution, about."""


@dataclass(frozen=True)
class Settings(OnNodes, EvaluateSettings):
    """`temperature` and `top_p` are the judge's; `max_pairs` is of solutions."""

    asking: Asking = field(default_factory=Asking)
    images_root: str = ""
    """Folder of the images; empty: the data's own."""
    threshold: float | None = None
    """A step is right when its soft score, or the score of a scalar model, is above it; none: by the judge's text."""
    verdict_tokens: int = 16
    """Longest verdict, in tokens."""
    description_tokens: int = 2048
    """Longest description, in tokens."""
    judge_model: str = ""
    """Name to ask for, where the judge is an endpoint."""
    extractor_model: str = ""
    """The same of the extractor."""
    concurrency: int = 32
    """Calls to an endpoint at a time."""
    timeout_s: float = 300.0
    api_key_file: str = ""
    """0600 file with the key of an endpoint; empty when it wants none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        from_one = ("verdict_tokens", "description_tokens", "concurrency")
        check_bounds("process benchmark", self, positive=("timeout_s",), from_one=from_one)
        if self.missing_images == "drop":
            raise UserError(
                "process benchmark: missing_images is 'drop', but every solution is judged; give refuse or blank",
                code="settings.unknown-value",
                name="missing_images",
                value=self.missing_images,
                known=["refuse", "blank"],
            )


@dataclass(frozen=True)
class Configured(Settings):
    """What the stage is made of: its settings, and the endpoints that are asked."""

    urls: Mapping[str, str] = field(default_factory=dict)
    """Role -> URL."""


def stage(
    name: str,
    *,
    judge: str | Output,
    data: str | Output,
    settings: Settings,
    extractor: str | Output | None = None,
) -> Stage:
    """judge, extractor: a checkpoint, what another stage makes, or the URL of an endpoint. extractor: describes the
    images for the judge; None: the judge does. data: the release's test.jsonl, or the folder that has it.

    Makes `summary.json`, {"judge": figures}, and `answers.jsonl`.
    """
    roles = {JUDGE: judge, **({EXTRACTOR: extractor} if extractor else {})}
    urls = {role: source for role, source in roles.items() if isinstance(source, str) and is_url(source)}
    trusted = settings.trust_remote_code
    return Stage(
        name=name,
        run=judge_and_score,
        needs={
            DATA: data if isinstance(data, Output) else Given(data, check_release),
            **({IMAGES: Given(settings.images_root)} if settings.images_root else {}),
            **{role: checks.checkpoint(source, name, trusted) for role, source in roles.items() if role not in urls},
        },
        makes=(Artifact(SUMMARY), Artifact(ANSWERS)),
        on=settings.on,
        validate=validate,
        config=Configured(**_values(replace(settings, images_root="")), urls=urls),  # in the fingerprint as a need
        prompts=prompts_of(settings.asking),
        disk=disk,
    )


def _values(settings: Settings) -> dict[str, Any]:
    return {each.name: getattr(settings, each.name) for each in fields(Settings)}


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


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
    from proxygrm.evaluate.steps.release import read_release
    from proxygrm.evaluate.steps.run import StepRun, judge_steps
    from proxygrm.process.stages import ScoreSettings

    settings: Configured = run.config
    solutions = read_release(run.inputs[DATA], run.inputs.get(IMAGES))
    judge, extractor = models(run)
    counts = judge_steps(
        StepRun(
            solutions=solutions[: settings.max_pairs or None],
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
            asking=settings.asking,
        ),
        run.progress,
    )
    read = read_step_answers(run.out / ANSWERS, VISUALPROCESSBENCH, partial=True)
    counts |= {"judged_by": counts["judge"], "notes": read.notes}
    write_json(run.out / SUMMARY, {JUDGE: figures_with_intervals(read.solutions) | _without(counts, "judge", "steps")})


def _without(counts: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in counts.items() if name not in names}


def models(run: StageRun) -> tuple[Any, Any]:
    """The judge, and who describes for it: the same where model and sampling are the same."""
    from proxygrm.core.checkpoints.kinds import SCALAR, kind_of
    from proxygrm.evaluate.judges.scalar_checkpoint import ScalarCheckpointJudge
    from proxygrm.evaluate.judges.select import calls_of

    settings: Configured = run.config
    judging = EvaluateSettings(**{each.name: getattr(settings, each.name) for each in fields(EvaluateSettings)})
    asking = settings.asking
    describing = replace(judging, temperature=asking.description_temperature, top_p=asking.description_top_p)
    judge = source(run, JUDGE, settings.judge_model)
    if isinstance(judge, Path) and kind_of(judge) == SCALAR:
        if asking != Asking():
            raise UserError(
                f"{judge} is a scalar model, which reads a solution as it is; leave the settings of `asking` out",
                code="settings.contradiction",
                judge=judge,
            )
        return ScalarCheckpointJudge(judge, judging), None
    extractor = source(run, EXTRACTOR, settings.extractor_model) if EXTRACTOR in _roles(run) else judge
    calls = calls_of(judge, judging)
    return calls, calls if (extractor, describing) == (judge, judging) else calls_of(extractor, describing)


def _roles(run: StageRun) -> set[str]:
    return {*run.inputs, *run.config.urls}


def source(run: StageRun, role: str, model: str) -> Endpoint | Path:
    """The checkpoint of a role, or its endpoint."""
    from proxygrm.evaluate.judges.endpoint import Endpoint

    settings: Configured = run.config
    if url := settings.urls.get(role):
        return Endpoint(url, model, settings.concurrency, settings.timeout_s, api_key_file=settings.api_key_file)
    return run.inputs[role]


def validate(stage: Stage, profile: Profile) -> None:
    settings: Configured = stage.config
    checks.on_one_node(stage, profile)
    if {JUDGE, EXTRACTOR} & stage.needs.keys():
        checks.serves_here(stage, profile, settings.tensor_parallel_size)
    for role in settings.urls:
        name = f"{role}_model"
        if not getattr(settings, name):
            raise UserError(
                f"its {role} is an endpoint: say which model to ask for with --set {stage.name}.{name}=NAME",
                code="judge.no-model",
                role=role,
                url=settings.urls[role],
            )
