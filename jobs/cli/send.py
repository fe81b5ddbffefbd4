"""`proxygrm plan` and `proxygrm submit`: what is shown, what is refused, and in which order things are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from jobs.cli.common import console
from jobs.cli.common.say import echo, secho
from jobs.cli.follow import follow
from jobs.engine import plan as planning
from jobs.engine import request as requests
from jobs.engine import state
from jobs.engine import submit as submission
from jobs.engine.plan import Planned
from jobs.engine.request import Resolved
from jobs.engine.run_folder import snapshot
from jobs.engine.run_folder.ledger import Ledger, missing_givens, record_folder
from jobs.engine.stage import Stage, closure, fingerprints
from proxygrm.core.errors import UserError
from slurm import limits, reach
from slurm.environment import path_problem


def plan(asked: dict[str, Any], stages: Iterable[str], script: bool, redo: Iterable[str]) -> None:
    resolved, ledger = console.of_request(asked)
    answers, sending = _scheduler_answers(resolved), _sending(asked)
    console.say_ignored()
    planned = _plan(resolved, ledger, stages, redo, ask=answers)
    show_plan(planned, resolved, ledger)
    if script:
        ids = {p.stage.name: p.job_id for p in planned if p.job_id}
        for lines in planning.in_batches(planned):
            console.out.rule(escape(lines[0].stage.batch or lines[0].stage.name), style="dim")
            echo(submission.rendered(lines, resolved.profile, ledger.folder, ids, sending))
        records = record_folder(ledger.folder, resolved.request.ablation_name)
        written = planning.files(planned, ledger.folder, records, snapshot.planned(ledger.folder))
        if written:
            console.out.rule("files a submit would write", style="dim")
        for path, what in written:
            echo(f"{path}  ", nl=False)
            secho(what, dim=True)
    refuse(planned, resolved, ledger.folder, answers)
    if answers:
        submission.check_after(sending.after)


def submit(asked: dict[str, Any], stages: Iterable[str], redo: Iterable[str], watch: bool) -> Path:
    """Returns the run folder."""
    resolved, ledger = console.of_request(asked)
    send(resolved, ledger, stages, redo, _sending(asked))
    if watch:
        follow(resolved, ledger)
    return ledger.folder


def send(
    resolved: Resolved,
    ledger: Ledger,
    stages: Iterable[str] = (),
    redo: Iterable[str] = (),
    sending: planning.Sending = submission.AT_ONCE,
) -> None:
    """Plan, check and submit under the run folder's lock. Where the records prove every stage done, nothing is started
    or written."""
    if problem := path_problem(ledger.folder):
        raise UserError(problem)
    ledger.refuse_foreign()
    stages, redo = list(stages), list(redo)
    if not redo and _all_done(resolved, ledger, stages):
        show_plan(_plan(resolved, ledger, stages, redo, ask=False), resolved, ledger)
        console.out.print(
            f"nothing to do: every stage is done; {console.in_full('`proxygrm submit`')} with --redo STAGE runs one "
            "again, --run NAME begins another run",
            soft_wrap=True,
        )
        return
    if reach.private_cluster_is_down(resolved.profile):  # nothing is started for what cannot be sent
        refuse(_plan(resolved, ledger, stages, redo, ask=False), resolved, ledger.folder, ask=False)
    with ledger.lock("submit"), reach.scheduler_at_hand(resolved.profile):
        console.say_ignored()
        console.settle(ledger)
        planned = _plan(resolved, ledger, stages, redo, ask=True, wait=True)
        show_plan(planned, resolved, ledger)
        if all(line.action != "run" for line in planned):
            waiting = [line.stage.name for line in planned if line.action == "wait"]
            console.out.print(f"nothing to send: {', '.join(waiting)} are in the queue, the rest is done")
            return
        refuse(planned, resolved, ledger.folder, ask=True)
        submission.check_after(sending.after)
        if left_out := requests.save(resolved, ledger):
            lines = f"{left_out} line{'s' * (left_out > 1)} that look{'s' * (left_out == 1)} like a secret"
            console.out.print(f"[yellow]code.diff leaves out {lines}[/]")
        submission.submit(
            planned,
            resolved.profile,
            ledger,
            frozenset(redo),
            _say_submitted(),
            sending,
        )
    if sending.hold and (held := [line.stage.name for line in planned if line.action == "run" and not line.after]):
        rows = ledger.submissions()
        jobs = ",".join(dict.fromkeys(rows[name]["job_id"].split("_")[0] for name in held))
        console.out.print(f"held; they start after:  scontrol release {jobs}")


def _chosen(resolved: Resolved, stages: Iterable[str]) -> list[Stage]:
    wanted = list(stages) or [stage.name for stage in resolved.stages]
    if wanted == ["chain"]:
        wanted = [stage.name for stage in resolved.stages]
    return closure(resolved.stages, wanted)


def _all_done(resolved: Resolved, ledger: Ledger, stages: Iterable[str]) -> bool:
    known = fingerprints(resolved.stages)
    return all(ledger.unfinished(stage, known[stage.name]) is None for stage in _chosen(resolved, stages))


def _plan(
    resolved: Resolved, ledger: Ledger, stages: Iterable[str], redo: Iterable[str], ask: bool, wait: bool = False
) -> list[Planned]:
    """ask: the scheduler too. wait: for jobs of these stages that are ending, so that none still writes when the next
    one begins."""
    chosen = _chosen(resolved, stages)
    closure(resolved.stages, list(redo))
    if wait and (left := state.until_none_is_ending(chosen, ledger)):
        console.out.print(
            f"[yellow]SLURM still ends job {', '.join(left)} (squeue: CG); going on without it[/]", soft_wrap=True
        )
    return planning.plan(chosen, state.facts(chosen, ledger, ask_scheduler=ask), frozenset(redo))


def _sending(asked: dict[str, Any]) -> planning.Sending:
    return planning.Sending(asked.get("hold", False), tuple(asked.get("after", ())))


def _scheduler_answers(resolved: Resolved) -> bool:
    """A plan can be read without a scheduler; then nothing is known of queued jobs, and it says so."""
    why = reach.private_cluster_is_down(resolved.profile)
    if not why:
        try:
            reach.connect(resolved.profile, start=False)
            reach.require_slurm()
        except UserError as error:
            why = str(error)
    if why:
        console.out.print(f"[yellow]planning without a scheduler:[/] {escape(why)}", soft_wrap=True)
    return not why


def refuse(planned: list[Planned], resolved: Resolved, folder: Path, ask: bool) -> None:
    """Say everything a submit would fail on, before anything is sent. folder: of the run. ask: the scheduler too, which
    can be reached."""
    due = [p.stage for p in planned if p.action == "run"]
    alike = {(stage.batch or stage.name, stage.on): stage for stage in due}.values()  # cells ask for the same
    refused: dict[str, str] = {}  # of many cells with one problem, the first
    for stage in due:
        if text := planning.within_limits(stage, resolved.profile):
            refused.setdefault(text.replace(stage.name, stage.batch), text)
    problems = list(refused.values())
    if ask:
        problems += limits.problems(alike, resolved.profile)
        batches = planning.in_batches(planned)
        problems += limits.arrays_too_large([line.stage for line in lines] for lines in batches)
    missing = missing_givens(due)
    problems += missing
    if problem := path_problem(folder):
        problems.insert(0, problem)
    if not problems:
        return
    for problem in problems[1:]:
        console.out.print(f"[red]not possible:[/] {escape(problem)}", soft_wrap=True)
    more = f" ({len(problems) - 1} more above)" if len(problems) > 1 else ""
    demo = missing and resolved.experiment.name in {"demo", "quick"}
    hint = "; `proxygrm demo --prepare-only` makes the demo's data and model" if demo else ""
    raise UserError(f"{problems[0]}{more}{hint}")


def show_plan(planned: list[Planned], resolved: Resolved, ledger: Ledger) -> None:
    profile = resolved.profile
    table = Table(title=f"{ledger.folder.name}: {resolved.experiment.name} on {profile.name}", title_justify="left")
    for column in ("stage", "action"):
        table.add_column(column, no_wrap=True)
    for column in ("because", "resources"):
        table.add_column(column, overflow="fold")
    table.add_column("GPU-h", justify="right")
    colours = {"run": "cyan", "skip": "green", "wait": "yellow"}
    for lines in _alike(planned):
        line, stage = lines[0], lines[0].stage
        on, number = stage.on, len(lines) if stage.batch else stage.array
        gpus = f" x {on.gpus_per_node} GPU" if on.gpus_per_node else ""
        array = f"{number} x " if number > 1 else ""
        table.add_row(
            stage.batch or stage.name,
            f"[{colours[line.action]}]{line.action}[/]",
            escape(_because(lines)),
            f"{array}{on.nodes} node{'s' * (on.nodes > 1)}{gpus}, {on.cpus_per_node} CPU, {on.memory_gb} GB, "
            f"{on.walltime_min} min",
            f"{planning.gpu_hours(one.stage for one in lines):.1f}" if gpus and line.action == "run" else "",
        )
    console.out.print(table)
    due = [one.stage for one in planned if one.action == "run"]
    once, often = planning.gpu_hours(due), planning.gpu_hours(due, requeues=True)
    console.out.print(
        f"at most {once:.1f} GPU-hours if every job uses its whole time limit once; {often:.1f} if each also runs out "
        "of time as often as it may be requeued for that",
        soft_wrap=True,
    )


def _alike(planned: list[Planned]) -> list[list[Planned]]:
    """Lines of the table: a stage each, or the stages of a batch with which the same is done."""
    groups: dict[tuple[str, str], list[Planned]] = {}
    for line in planned:
        groups.setdefault((line.stage.batch or line.stage.name, line.action), []).append(line)
    return list(groups.values())


def _because(lines: list[Planned]) -> str:
    """Why, and after which stages where the reason does not name them already."""
    batch_of = {parent.name: parent.batch for line in lines for parent in line.stage.upstream()}
    after = dict.fromkeys(batch_of[name] or name for line in lines for name in line.after)
    because = lines[0].because if len(lines) == 1 else f"{len(lines)} cells, {lines[0].because}"
    more = [name for name in after if name not in because]
    return f"{because}; after {', '.join(more)}" if more else because


def _say_submitted() -> Callable[[Planned, str], None]:
    """A line for each stage, and one for all cells of a batch."""
    said: set[str] = set()

    def say(line: Planned, job: str) -> None:
        array = job.split("_")[0] if line.stage.batch else job
        if array not in said:
            said.add(array)
            console.out.print(f"submitted [cyan]{line.stage.batch or line.stage.name}[/] as job {array}")

    return say
