"""Labelled steps: solutions whose steps are labelled become rows that are scored, to see what the scores are worth."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.engine.space.amounts import Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds

MADE = "labelled.jsonl"


@dataclass(frozen=True)
class Settings(OnNodes):
    questions: int = 1000
    """The first so many; 0: all."""

    def __post_init__(self) -> None:
        check_bounds("labelled steps", self, from_zero=("questions",))


def stage(name: str, *, solutions: Given | Output, judgements: Given | Output, settings: Settings) -> Stage:
    """solutions: a solutions folder; judgements: what the teacher says of them, and so which steps lean on the image.
    Makes `labelled.jsonl`, whose image paths are relative to the solutions."""
    return Stage(
        name=name,
        run=write,
        needs={"solutions": solutions, "judgements": judgements},
        makes=(Artifact(MADE), Artifact("report.json")),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """The texts of solutions and judgements, without the images."""
    judgements = need("judgements")
    return Space(2 * judgements.size, {MADE: Amount(2 * judgements.size, judgements.rows)})


def write(run: StageRun) -> None:
    from proxygrm.core.files.whole_file import write_json
    from proxygrm.evaluate.process.labelled import write_labelled

    counts = write_labelled(run.inputs["solutions"], run.inputs["judgements"], run.out / MADE, run.config.questions)
    write_json(run.out / "report.json", dict(counts))
