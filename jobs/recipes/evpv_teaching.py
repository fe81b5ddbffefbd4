"""The teacher of EVPV-PRM: what it is asked for, the training sets that its answers become, and labelled steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.engine.stage import Output, Stage
from jobs.stages.data import labelled_steps as labelled
from jobs.stages.data import process_sets as training
from jobs.stages.data import solutions, step_teacher
from proxygrm.evaluate.process.teach.asks import Asks

if TYPE_CHECKING:
    from jobs.recipes.evpv_prm import Config


def taught_sets(c: Config, rows: Output) -> tuple[list[Stage], Stage]:
    """The stages of the teacher that the settings have a use for, and the training sets."""
    audits, stages, given = c.training_sets.auditor != "none", list[Stage](), dict[str, Output]()

    def ask(label: str, name: str, asks: Asks, settings: step_teacher.Settings, *needs: str) -> None:
        needed = {need: given[need] for need in needs}
        stages.append(step_teacher.stage(name, asks=asks, solutions=rows, settings=settings, **needed))
        given[label] = stages[-1] / "answers"

    ask("descriptions", "described_images", "describe", c.described_images)
    if audits or c.training_sets.labels == "teacher":
        ask("judgements", "teacher_verdicts", "judge", c.teacher_verdicts, "descriptions")
    if audits or c.preference == "dpo":
        ask("contradictions", "contradicted_images", "contradict", c.contradicted_images, "descriptions")
    if audits:
        ask("audits", "audited_claims", "audit", c.audited_claims, *given)
    sets = training.stage(
        "training_sets", solutions=rows, settings=c.training_sets, descriptions=given["descriptions"],
        judgements=given.get("judgements"), contradictions=given.get("contradictions"), audits=given.get("audits"),
    )  # fmt: skip
    return stages, sets


def labelled_steps(c: Config) -> tuple[list[Stage], Output, Output]:
    """Solutions that nothing was trained on, as rows to score with the label of each step; what a step leans on is what
    the teacher says. The stages, the rows, and the folder of their images."""
    solved = solutions.stage("labelled_solutions", release=c.labelled_release, settings=c.labelled_solutions)
    rows = solved / "solutions"
    described = step_teacher.stage("labelled_images", asks="describe", solutions=rows, settings=c.described_images)
    judged = step_teacher.stage(
        "labelled_verdicts", asks="judge", solutions=rows, settings=c.teacher_verdicts,
        descriptions=described / "answers",
    )  # fmt: skip
    made = labelled.stage("labelled_steps", solutions=rows, judgements=judged / "answers", settings=c.labelled_steps)
    return [solved, described, judged, made], made / labelled.MADE, rows
