"""Commands for a run that was submitted: status, why, logs, cost, cancel, report. Each needs the run folder alone."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import click

RUN = click.option(
    "--run", type=click.Path(path_type=Path), default=None, help="Run folder.  [the one written to last under runs/]"
)
JSON = click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON value on standard output.")


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


@click.command()
@RUN
@click.option("--watch", is_flag=True, help="Refresh until everything has ended.")
@JSON
def status(run: Path | None, watch: bool, as_json: bool) -> None:
    """Where every stage of a run stands, from squeue, sacct and its own records; always asked anew.

    \b
    proxygrm status                       the run that was written to last
    proxygrm status --run runs/kl --watch a live table, until everything has ended
    proxygrm status --json                for scripts

    States: running, requeued, pending (with SLURM's reason), waiting (for which stage), failed, timed out, node failed,
    preempted, cancelled, unknown, not submitted, done.
    """
    from jobs import console, state
    from jobs.follow import follow, status_table

    resolved, ledger = console.of_run(run)
    if watch and not as_json:
        follow(resolved, ledger)
        return
    states = state.status(resolved.stages, ledger)
    if as_json:
        _print_json([one.to_json() for one in states])
    else:
        console.out.print(status_table(states, ledger))


@click.command()
@click.argument("stage", required=False)
@RUN
@JSON
def why(stage: str | None, run: Path | None, as_json: bool) -> None:
    """Why STAGE failed or waits: one sentence, the lines of the log that show it, and what to do.

    Without STAGE, what holds the chain up: its first stage that failed, else what its first queued one waits for.

    \b
    proxygrm why grm_rl
    grm_rl failed: a GPU ran out of memory
      grm_rl/trainer.log:812  torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB ...
    do: lower what it holds: ...

    Where no known pattern fits it says so and shows the end of the log.
    """
    from jobs import console
    from jobs.why import explain_run, explain_stage

    resolved, ledger = console.of_run(run)
    found = explain_stage(stage, resolved.stages, ledger) if stage else explain_run(resolved.stages, ledger)
    if as_json:
        _print_json(found.to_json())
        return
    click.secho(found.sentence, bold=True)
    for shown in (found.lines, found.log_end):
        for line in shown:
            click.echo(f"  {click.style(f'{line.file}:{line.line}', dim=True)}  {line.text}")
    if found.do:
        click.echo(f"do: {found.do}")


@click.command()
@click.argument("stage", required=False)
@RUN
@click.option("-f", "--follow", is_flag=True, help="Go on printing as the log grows.")
@click.option("-n", "--lines", type=click.IntRange(0), default=40, show_default=True, help="Lines from the end.")
@click.option("--node", default=None, metavar="N", help="Only this node of the job: its number from 0, or its name.")
@click.option("--attempt", type=click.IntRange(1), default=None, metavar="K", help="The K-th start.  [the last]")
def logs(stage: str | None, run: Path | None, follow: bool, lines: int, node: str | None, attempt: int | None) -> None:
    """The newest log of STAGE (of the one that failed or runs, when none is named).

    \b
    proxygrm logs grm_rl -f               every node of it, as it grows
    proxygrm logs grm_rl --node 1 -n 200  its second node
    proxygrm logs grm_rl --attempt 1      what it wrote before it was requeued
    """
    from jobs import console
    from jobs import logs as logging
    from jobs.stage import closure
    from proxygrm.errors import UserError

    if follow and attempt:
        raise UserError("--follow shows the attempt that runs; leave --attempt away")
    resolved, ledger = console.of_run(run)
    name = stage or _most_telling(resolved.stages, ledger)
    chosen = [s for s in resolved.stages if s.batch == name] or closure(resolved.stages, [name])[-1:]
    shown = [s for one in chosen for s in logging.chosen(logging.segments(one, ledger), attempt, node)]
    if not shown:
        raise UserError(f"{name} has no log yet; `proxygrm status` says where it stands")
    if follow:
        subprocess.run(["tail", "-n", str(lines), "-F", *dict.fromkeys(str(one.path) for one in shown)])
        return
    for one in shown:
        if len(shown) > 1 or attempt:
            where = one.path.relative_to(ledger.folder)
            click.secho(f"==> {where}, attempt {one.attempt} <==", dim=True)
        click.echo("\n".join(one.lines[-lines:] if lines else ()))


def _most_telling(stages: list[Any], ledger: Any) -> str:
    from jobs import state

    states = state.status(stages, ledger)
    bad = [one.stage for one in states if one.word in state.BAD]
    running = [one.stage for one in states if one.word == "running"]
    return (bad + running + [stages[0].name])[0]


@click.command()
@RUN
@JSON
def cost(run: Path | None, as_json: bool) -> None:
    """GPU-hours and CPU-hours of a run: asked for, used, and lost to attempts that did not end well.

    \b
    asked  allocation x time limit, once for each job
    used   allocation x time it ran; requeues and earlier submissions count
    """
    from rich.table import Table

    from jobs import console
    from jobs import cost as costs
    from proxygrm.errors import UserError

    resolved, ledger = console.of_run(run)
    found = costs.of_run(resolved.stages, ledger)
    if not any(one.jobs for one in found):
        raise UserError("accounting knows no job of this run (sacct); a site without slurmdbd keeps no hours")
    chain = costs.total(found)
    if as_json:
        _print_json({"stages": [one.to_json() for one in found], "chain": chain.to_json()})
        return
    table = Table(title=f"{ledger.folder.name}: hours", title_justify="left")
    table.add_column("stage", no_wrap=True)
    heads = ("jobs", "attempts", "GPU asked", "GPU used", "GPU lost", "CPU asked", "CPU used", "CPU lost")
    for head in heads:
        table.add_column(head, justify="right")
    for one in [*found, chain]:
        gpu = (one.asked_gpu_h, one.used_gpu_h, one.lost_gpu_h)
        cpu = (one.asked_cpu_h, one.used_cpu_h, one.lost_cpu_h)
        table.add_row(one.stage, str(one.jobs), str(one.attempts), *(f"{hours:.2f}" for hours in (*gpu, *cpu)))
        if one is found[-1]:
            table.add_section()
    console.out.print(table)


CANCEL_WAIT_S = 60.0


@click.command()
@RUN
def cancel(run: Path | None) -> None:
    """Cancel every queued or running job of a run, and wait until SLURM has ended them. Finished stages stay.

    `proxygrm submit` goes on from there.
    """
    from jobs import console, scheduler
    from jobs.ledger import all_jobs
    from proxygrm.errors import UserError

    _, ledger = console.of_run(run)
    # Of a job array all elements belong to this run: the array is cancelled as one.
    rows = ledger.submissions().values()
    jobs = list(dict.fromkeys(job.split("_")[0] for row in rows for job in all_jobs(row)))
    since = min((row["first"] for row in rows), default=0.0)
    active = _active(jobs, since)
    if not active:
        console.out.print("nothing to cancel: no job of this run is queued or running")
        return
    scheduler.cancel(active)
    deadline = time.monotonic() + CANCEL_WAIT_S
    while left := _active(active, since):
        if time.monotonic() > deadline:
            raise UserError(
                f"cancelled, but after {CANCEL_WAIT_S:.0f} s SLURM still ends job {', '.join(left)} (squeue: CG); "
                "its nodes may hang, tell your site if it stays"
            )
        time.sleep(0.5)
    console.out.print(
        f"cancelled {len(active)} job{'s' * (len(active) > 1)}: {', '.join(active)}; finished stages stay"
    )


def _active(jobs: list[str], since: float) -> list[str]:
    from jobs import scheduler

    states = scheduler.query(jobs, since)
    return [job for job, rows in states.items() if any(row.state in scheduler.ACTIVE for row in rows)]


@click.command()
@RUN
@click.option("--output", type=click.Path(path_type=Path), default=None, help="Where.  [RUN/report.html]")
def report(run: Path | None, output: Path | None) -> None:
    """Write one self-contained HTML page about a run, finished or not."""
    from jobs import console
    from jobs.ledger import record_files
    from proxygrm.errors import UserError
    from proxygrm.report import write_report

    folder = console.run_folder(run)
    if not record_files(folder):
        raise UserError(f"{folder} is not a run folder (no run.json); runs stand under runs/, `make demo` makes one")
    page = output or folder / "report.html"
    write_report(folder, page)
    console.out.print(f"wrote {page}")


COMMANDS = (status, why, logs, cost, cancel, report)
