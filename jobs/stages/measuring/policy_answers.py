"""Held-out questions, answered by policies before and after training, and judged by whoever is to judge them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space
from jobs.engine.stage import Artifact, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds
from proxygrm.critique.contracts import KINDS
from proxygrm.critique.prompts.process import AUDIT, DESCRIBE, POLICY, STEP
from proxygrm.evaluate.names import check_file_name
from proxygrm.evaluate.settings import EvaluateSettings

QUESTIONS, SUMMARY, JUDGE, HELPER = "questions", "summary.json", "judge.", "helper."
ROW = 1_000
"""Bytes of a judgement's other fields."""


@dataclass(frozen=True)
class Settings(OnNodes, EvaluateSettings):
    """`max_tokens` is of an answer, `temperature` of the policies and of judges that write."""

    critique_tokens: int = 8192
    """Of a judge that writes, and of a process model's descriptions and audits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("policy answers", self, from_one=("critique_tokens",))


@dataclass(frozen=True)
class Asked(Settings):
    """What the stage is made of: its settings, and how the questions are asked."""

    instruction: str = ""
    steps: bool = False
    kinds: Mapping[str, str] = field(default_factory=dict)


def stage(
    name: str,
    *,
    questions: Output,
    images: Output,
    policies: Mapping[str, str | Output],
    judges: Mapping[str, str | Output],
    instruction: str,
    settings: Settings,
    steps: bool = False,
    kinds: Mapping[str, str] | None = None,
    helpers: Mapping[str, str] | None = None,
) -> Stage:
    """policies: by their names, the one before training first. judges: by their names, of any kind; steps: the policies
    are asked for solutions in steps, which a process model needs. kinds: of judges, where their checkpoints do
    not show it. helpers: checkpoints that describe (`extractor`) and
    audit (`auditor`) for a process model. Makes `summary.json` and TAG.jsonl of each policy."""
    for tag in policies:
        check_file_name(tag, reserved=(QUESTIONS, "images"))
    trusted, known_kinds = settings.trust_remote_code, {label: kind for label, kind in (kinds or {}).items() if kind}
    shared = {each: getattr(settings, each) for each in Settings.__dataclass_fields__}
    return Stage(
        name=name,
        run=answer_and_judge,
        needs={
            QUESTIONS: questions,
            "images": images,
            **{tag: checks.checkpoint(policy, name, trusted) for tag, policy in policies.items()},
            **{
                f"{JUDGE}{label}": checks.judge(judge, name, trusted, steps, known_kinds.get(label, ""))
                for label, judge in judges.items()
            },
            **{f"{HELPER}{label}": checks.checkpoint(path, name, trusted) for label, path in (helpers or {}).items()},
        },
        makes=(Artifact(SUMMARY),),
        on=settings.on,
        validate=checks.serves_on_one_node,
        config=Asked(**shared, instruction=instruction, steps=steps, kinds=known_kinds),
        prompts=(KINDS[settings.contract].prompt, *((POLICY, DESCRIBE, AUDIT, STEP) if steps else ())),
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """Every answer twice, and what each judge writes about it."""
    rows = need(QUESTIONS).rows
    judges, helpers = (sum(label.startswith(which) for label in stage.needs) for which in (JUDGE, HELPER))
    policies = len(stage.needs) - judges - helpers - 2
    each = 2 * stage.config.max_tokens * TOKEN + judges * (2 * stage.config.critique_tokens * TOKEN + ROW) + ROW
    return Space(rows * policies * each, {SUMMARY: Amount(0, rows)})


def answer_and_judge(run: StageRun) -> None:
    from proxygrm.evaluate.policy.run import PolicyEvaluation, evaluate_policies

    settings: Asked = run.config

    def named(prefix: str) -> dict[str, Path]:
        return {label.removeprefix(prefix): path for label, path in run.inputs.items() if label.startswith(prefix)}

    others = (QUESTIONS, "images", *(label for label in run.inputs if label.startswith((JUDGE, HELPER))))
    evaluate_policies(
        PolicyEvaluation(
            questions=run.inputs[QUESTIONS],
            policies={name: path for name, path in run.inputs.items() if name not in others},
            judges=named(JUDGE),
            helpers=named(HELPER),
            out=run.out,
            settings=settings,
            instruction=settings.instruction,
            steps=settings.steps,
            kinds=settings.kinds,
            critique_tokens=settings.critique_tokens,
        ),
        run.progress,
    )
