"""Questions: a JSONL of them becomes what a policy is trained, validated and measured on."""

from __future__ import annotations

from dataclasses import dataclass

from data_tools.export.question_rows import COLD_START, HELD_OUT, IMAGES, REPORT, TRAIN, VALIDATION, Amounts
from jobs.engine.space.amounts import Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, OnNodes, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds
from proxygrm.critique.prompts.process import POLICY

ROW = 4_000
"""Bytes of a row without its images."""


@dataclass(frozen=True)
class Settings(OnNodes):
    instruction: str = ""
    """Follows each question in the prompts: how the answer is to be written. Where solutions in steps are asked for,
    the instruction for these stands in its place."""
    held_out: int = 512
    """Questions that the policy is measured on, before training and after."""
    validation: int = 256
    """Questions asked during RL."""
    cold_start: int = 0
    """Questions with an answer that the policy is fine-tuned on before RL; 0: it is not."""
    seed: int = 0
    """Which questions go where."""
    max_bad: float = 0.01
    """Largest share of rows that cannot be used; they are left out, counted and listed by their cause."""

    def __post_init__(self) -> None:
        check_bounds(
            "questions", self, from_one=("held_out", "validation"), from_zero=("cold_start", "seed"),
            shares=("max_bad",),
        )  # fmt: skip


@dataclass(frozen=True)
class Asked(Settings):
    """What the stage is made of: its settings, and what the policy is asked for."""

    steps: bool = False


def stage(name: str, *, questions: str, images: str, settings: Settings, steps: bool = False) -> Stage:
    """images: folder of the paths in the rows; "" for that of the file. steps: the prompts ask for a solution in steps.
    Makes `train.parquet` and `validation.parquet` for verl, `held_out.jsonl`, `images` and `report.json`, and with a
    cold start `cold_start.jsonl` for ms-swift."""
    made = [f"{TRAIN}.parquet", f"{VALIDATION}.parquet", f"{HELD_OUT}.jsonl", IMAGES, REPORT]
    if settings.cold_start:
        made.append(f"{COLD_START}.jsonl")
    return Stage(
        name=name,
        run=write,
        needs={"questions": checks.json_lines(questions)} | ({"images": Given(images)} if images else {}),
        makes=tuple(map(Artifact, made)),
        on=settings.on,
        validate=checks.on_one_node,
        config=Asked(**{each: getattr(settings, each) for each in Settings.__dataclass_fields__}, steps=steps),
        prompts=(POLICY,) if steps else (),
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """The images twice: as files, and in verl's rows."""
    rows, images = need("questions").rows, need("images").size if "images" in stage.needs else 0
    makes = {f"{TRAIN}.parquet": Amount(images + rows * ROW, rows), f"{HELD_OUT}.jsonl": Amount(rows * ROW, rows)}
    return Space(2 * images + 2 * rows * ROW, makes)


def write(run: StageRun) -> None:
    from data_tools.export.question_rows import write_question_rows

    settings: Asked = run.config
    amounts = Amounts(settings.held_out, settings.validation, settings.cold_start)
    report = write_question_rows(
        run.inputs["questions"],
        run.out,
        amounts,
        images_root=run.inputs.get("images"),
        instruction=settings.instruction,
        steps=settings.steps,
        seed=settings.seed,
        max_bad=settings.max_bad,
    )
    left_out = sum(report["bad"].values())
    note = f"questions; {left_out} left out: {report['bad']}" if left_out else "questions"
    run.progress(report["used"], report["rows"], note)
