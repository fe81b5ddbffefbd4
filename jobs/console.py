"""What the commands print: plans, live status, logs. Everything that decides stands elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from jobs import limits, state
from jobs import plan as planning
from jobs import request as requests
from jobs import submit as submission
from jobs.ledger import Ledger, missing_givens, record_files, record_folder
from jobs.plan import Planned
from jobs.request import Request, Resolved
from jobs.stage import closure
from proxygrm.errors import UserError
from slurm.profile import Profile

out = Console(highlight=False)
REFRESH_S, REFRESH_SHARED_S = 2.0, 15.0
"""Between two looks at the queue: of the private cluster, and of one that serves other people too."""
COLOURS = {
    "done": "green",
    "running": "cyan",
    "pending": "yellow",
    "waiting": "yellow",
    "requeued": "yellow",
    "not submitted": "dim",
    "unknown": "magenta",
}


def _resolved(asked: dict[str, Any]) -> tuple[Resolved, Ledger]:
    scheduler = ("partition", "account", "qos", "reservation")
    request = Request(
        profile=asked["profile"],
        experiment=asked["experiment"],
        nodes=asked["nodes"] or 0,
        assignments=tuple(asked["assignments"]),
        scheduler=tuple((key, asked[key]) for key in scheduler if asked[key]),
        ablation_name=asked.get("ablation_name", ""),
        ablation=asked.get("ablation", ()),
        throttle=asked.get("throttle", 0),
    )
    name = "-".join(filter(None, [Path(request.profile).stem, request.ablation_name]))
    folder = asked["run"] or Path("runs") / name
    return requests.resolve(request), Ledger(folder)


def run_folder(run: Path | None) -> Path:
    """Without a name, the run that was asked for last."""
    if run:
        return run.absolute()
    folders = Path("runs").absolute().glob("*")
    written = [(path.stat().st_mtime, folder) for folder in folders for path in record_files(folder)]
    if not written:
        raise UserError("no run under ./runs; name a run folder with --run, or start with `make demo`")
    return max(written)[1]


def of_run(run: Path | None) -> tuple[Resolved, Ledger]:
    """Everything that was asked for in a run folder."""
    folder = run_folder(run)
    resolved = requests.of_run(folder)
    connect(resolved.profile, start=False)
    return resolved, Ledger(folder)


def connect(profile: Profile, start: bool) -> None:
    """Point SLURM's commands at the private cluster when the profile is the one that uses it."""
    if not profile.private_cluster:
        return
    from slurm.local import cluster
    from slurm.local.folder import default_folder

    folder = default_folder()
    if start:
        cluster.up(folder)
    os.environ.update(cluster.env(folder))


def _plan(resolved: Resolved, ledger: Ledger, stages: Iterable[str], redo: Iterable[str], ask: bool) -> list[Planned]:
    wanted = list(stages) or [stage.name for stage in resolved.stages]
    if wanted == ["chain"]:
        wanted = [stage.name for stage in resolved.stages]
    chosen = closure(resolved.stages, wanted)
    closure(resolved.stages, list(redo))
    return planning.plan(chosen, state.facts(chosen, ledger, ask_scheduler=ask), frozenset(redo))


def plan(asked: dict[str, Any], stages: Iterable[str], script: bool, redo: Iterable[str]) -> None:
    resolved, ledger = _resolved(asked)
    answers, sending = _scheduler_answers(resolved), _sending(asked)
    planned = _plan(resolved, ledger, stages, redo, ask=answers)
    show_plan(planned, resolved, ledger)
    if script:
        ids = {p.stage.name: p.job_id for p in planned if p.job_id}
        for lines in planning.in_batches(planned):
            out.rule(escape(lines[0].stage.batch or lines[0].stage.name), style="dim")
            click.echo(submission.rendered(lines, resolved.profile, ledger.folder, ids, sending))
        written = planning.files(planned, ledger.folder, record_folder(ledger.folder, resolved.request.ablation_name))
        if written:
            out.rule("files a submit would write", style="dim")
        for path, what in written:
            click.echo(f"{path}  {click.style(what, dim=True)}")
    refuse(planned, resolved, answers)
    if answers:
        submission.check_after(sending.after)


def _sending(asked: dict[str, Any]) -> planning.Sending:
    return planning.Sending(asked.get("hold", False), tuple(asked.get("after", ())))


def _scheduler_answers(resolved: Resolved) -> bool:
    """A plan can be read without a scheduler; then nothing is known of queued jobs, and it says so."""
    try:
        connect(resolved.profile, start=False)
        submission.require_slurm()
    except UserError as error:
        out.print(f"[yellow]planning without a scheduler:[/] {escape(str(error))}")
        return False
    return True


def refuse(planned: list[Planned], resolved: Resolved, ask: bool) -> None:
    """Say everything a submit would fail on, before anything is sent. ask: the scheduler too, which can be reached."""
    due = [p.stage for p in planned if p.action == "run"]
    alike = {(stage.batch or stage.name, stage.on): stage for stage in due}.values()  # cells ask for the same
    problems = [text for stage in alike if (text := planning.within_limits(stage, resolved.profile))]
    if ask:
        problems += limits.problems(alike, resolved.profile)
        problems += limits.arrays_too_large(planning.in_batches(planned))
    problems += missing_givens(due)
    if not problems:
        return
    for problem in problems[1:]:
        out.print(f"[red]not possible:[/] {escape(problem)}", soft_wrap=True)
    more = f" ({len(problems) - 1} more above)" if len(problems) > 1 else ""
    demo = resolved.experiment.name in {"demo", "quick"}
    hint = "; `proxygrm demo --prepare-only` makes the demo's data and model" if demo else ""
    raise UserError(f"{problems[0]}{more}{hint}")


def show_plan(planned: list[Planned], resolved: Resolved, ledger: Ledger) -> None:
    profile = resolved.profile
    table = Table(title=f"{ledger.folder.name}: {resolved.experiment.name} on {profile.name}", title_justify="left")
    for column in ("stage", "action", "because", "after", "resources"):
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
            escape(line.because) if len(lines) == 1 else f"{len(lines)} cells, {lines[0].because}",
            ", ".join(line.after) if len(lines) == 1 else _after(lines),
            f"{array}{on.nodes} node{'s' * (on.nodes > 1)}{gpus}, {on.cpus_per_node} CPU, {on.memory_gb} GB, "
            f"{on.walltime_min} min",
            f"{planning.gpu_hours(one.stage for one in lines):.1f}" if gpus and line.action == "run" else "",
        )
    out.print(table)
    due = [one.stage for one in planned if one.action == "run"]
    once, often = planning.gpu_hours(due), planning.gpu_hours(due, requeues=True)
    out.print(
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


def _after(lines: list[Planned]) -> str:
    batch_of = {parent.name: parent.batch for line in lines for parent in line.stage.upstream()}
    return ", ".join(dict.fromkeys(batch_of[name] or name for line in lines for name in line.after))


def submit(asked: dict[str, Any], stages: Iterable[str], redo: Iterable[str], watch: bool) -> Path:
    """Returns the run folder."""
    resolved, ledger = _resolved(asked)
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
    """Plan, check and submit under the run folder's lock."""
    with ledger.lock("submit"):
        connect(resolved.profile, start=True)
        submission.require_slurm()
        planned = _plan(resolved, ledger, stages, redo, ask=True)
        show_plan(planned, resolved, ledger)
        refuse(planned, resolved, ask=True)
        submission.check_after(sending.after)
        requests.save(resolved, ledger)
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
        out.print(f"held; they start after:  scontrol release {jobs}")


def _say_submitted() -> Callable[[Planned, str], None]:
    """A line for each stage, and one for all cells of a batch."""
    said: set[str] = set()

    def say(line: Planned, job: str) -> None:
        array = job.split("_")[0] if line.stage.batch else job
        if array not in said:
            said.add(array)
            out.print(f"submitted [cyan]{line.stage.batch or line.stage.name}[/] as job {array}")

    return say


def run_stage(asked: dict[str, Any], name: str) -> None:
    """One stage in the present allocation, without submitit: what the sbatch templates call on every node."""
    from jobs import by_hand, last_save
    from jobs.worker import StageJob

    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(f"run-stage {name} runs inside a job; the files of slurm/templates start one with sbatch")
    resolved, ledger = _resolved(asked)
    stage = closure(resolved.stages, [name])[-1]
    fingerprint = stage.fingerprint()
    rank = int(os.environ.get("SLURM_PROCID", "0"))
    if rank == 0:
        refuse([Planned(stage, "run", "asked for", fingerprint)], resolved, ask=False)
        requests.save(resolved, ledger)
    for key, value in resolved.profile.environment.variables.items():
        os.environ.setdefault(key, value)
    # An array of one-job stages (sft.sbatch) numbers the stages, not elements of one.
    cell = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")) if stage.array > 1 else 0
    if cell >= stage.array:
        out.print(f"{name} has {stage.array} shards, 0 to {stage.array - 1}: nothing to do for element {cell}")
        return
    by_hand.enter(stage, ledger, fingerprint, rank)
    last_save.on_signal(name, resolved.profile.scheduler.signal_before_end_s)
    StageJob(stage, ledger.folder, resolved.profile, cell, fingerprint)()


def status_table(states: list[state.StageState], ledger: Ledger) -> Table:
    table = Table(title=f"{ledger.folder.name}  {time.strftime('%H:%M:%S')}", title_justify="left")
    for column in ("stage", "state", "job", "progress", "detail"):
        table.add_column(column, overflow="fold")
    for row in states:
        colour = COLOURS.get(row.word, "red")
        share = f"{row.done}/{row.total}" if row.total and row.word != "done" else ""
        took = ", ".join(filter(None, [share, f"{row.seconds:.0f} s" if row.seconds else ""]))
        table.add_row(row.stage, f"[{colour}]{row.word}[/]", row.job_id, took, escape(row.detail))
    return table


def follow(resolved: Resolved, ledger: Ledger) -> list[state.StageState]:
    """Show progress until nothing of the run is queued or running; plain lines where there is no terminal."""
    said: dict[str, str] = {}
    with Live(console=out, auto_refresh=False, transient=False) as live:
        while True:
            states = state.status(resolved.stages, ledger)
            if out.is_terminal:
                live.update(status_table(states, ledger), refresh=True)
            else:
                for row in states:
                    line = f"{row.word} {row.detail}".strip()
                    line += f" {row.done}/{row.total}" if row.word == "running" and row.total else ""
                    if said.get(row.stage) != line:
                        said[row.stage] = line
                        click.echo(f"{time.strftime('%H:%M:%S')} {row.stage}: {line}")
            if not any(row.live for row in states):
                return states
            time.sleep(REFRESH_S if resolved.profile.private_cluster else REFRESH_SHARED_S)


def ended_well(states: list[state.StageState]) -> None:
    """Raise with the first failure when a followed run did not finish."""
    for row in states:
        if row.word in state.BAD | {"unknown"}:
            hint = "" if "proxygrm why" in row.detail else f"; `proxygrm why {row.stage}` says more"
            raise UserError(f"{row.stage} {row.word}: {row.detail}{hint}")
    unfinished = [row.stage for row in states if row.word != "done"]
    if unfinished:
        raise UserError(f"not finished: {', '.join(unfinished)}; `proxygrm status` says where each stands")


def report(run: Path | None, output: Path | None) -> None:
    from proxygrm.report import write_report

    run = run_folder(run)
    if not run.is_dir():
        raise UserError(f"no run folder {run}; runs stand under runs/, `make demo` makes one")
    page = output or run / "report.html"
    write_report(run, page)
    out.print(f"wrote {page}")


def evaluate(model: Path, pairs: Path, folder: Path, proxy: Path | None, **settings: Any) -> None:
    from rich.progress import Progress

    from proxygrm.checkpoints import is_hf_checkpoint
    from proxygrm.evaluate import EvaluateSettings, evaluate_models
    from proxygrm.report.console import result_table

    for checkpoint in (model, proxy):
        if checkpoint:
            is_hf_checkpoint(checkpoint)
    with Progress(console=out, disable=not out.is_terminal) as bar:
        task = bar.add_task("judging")

        def show(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total, description=note)

        evaluate_models({model.name: model}, proxy, pairs, folder, EvaluateSettings(**settings), show)
    out.print(result_table(folder / "summary.json"))
