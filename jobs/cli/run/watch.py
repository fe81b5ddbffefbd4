"""Commands for a run that was submitted: status, why, logs, cost, cancel, report. Each needs only the run folder."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from jobs.cli.common.options import Renamed
from jobs.cli.common.say import echo, secho
from slurm import reach
from slurm.profile import Profile

RUN = click.option(
    "--run", type=click.Path(path_type=Path), default=None, help="Run folder.  [the one written to last under runs/]"
)
JSON = click.option("--json", "as_json", is_flag=True, help="For scripts: one JSON value on standard output.")


def _print_json(value: Any) -> None:
    echo(json.dumps(value, indent=2, ensure_ascii=False))


@click.command()
@RUN
@click.option("--watch", is_flag=True, help="Refresh until everything has ended.")
@JSON
def status(run: Path | None, watch: bool, as_json: bool) -> None:
    """The state of every stage of a run, from squeue, sacct and its own records; always queried anew.

    \b
    proxygrm status                       the run that was written to last
    proxygrm status --run runs/kl --watch a live table, until everything has ended
    proxygrm status --json                for scripts

    States: running, requeued, pending (with SLURM's reason), waiting (for which stage), failed, timed out, node failed,
    preempted, cancelled, unknown, not submitted, done.
    """
    from jobs.cli.common import console
    from jobs.cli.run.follow import follow, status_table
    from jobs.engine import state

    resolved, ledger = console.of_run(run, as_json)
    states = console.with_records(resolved.profile, lambda away: state.status(resolved.stages, ledger, away))
    if as_json:
        _print_json([one.to_json() for one in states])
    elif watch and any(one.live for one in states):
        follow(resolved, ledger)
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
    proxygrm why rl
    rl failed: a GPU ran out of memory
      rl/trainer.log:812  torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB ...
    do: lower what it holds: ...

    Where no known pattern fits it says so and shows the end of the log.
    """
    from jobs.cli.common import console
    from jobs.engine.watch.why import explain_run, explain_stage

    resolved, ledger = console.of_run(run, as_json)
    explain = partial(explain_stage, stage) if stage else explain_run
    explanation = console.with_records(resolved.profile, lambda away: explain(resolved.stages, ledger, away))
    explanation = replace(
        explanation, sentence=console.in_full(explanation.sentence), do=console.in_full(explanation.do)
    )
    if as_json:
        _print_json(explanation.to_json())
        return
    secho(explanation.sentence, bold=True)
    for line in (*explanation.lines, *explanation.log_end):
        secho(f"  {line.file}:{line.line}", dim=True, nl=False)
        echo(f"  {line.text}")
    if explanation.do:
        echo(f"do: {explanation.do}")


@click.command()
@click.argument("stage", required=False)
@RUN
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they are written.")
@click.option("-n", "--lines", type=click.IntRange(0), default=40, show_default=True, help="Lines from the end.")
@click.option("--node", default=None, metavar="N", help="Only this node of the job: its number from 0, or its name.")
@click.option("--attempt", type=click.IntRange(1), default=None, metavar="K", help="The K-th start.  [the last]")
@click.option("--raw", is_flag=True, help="Byte for byte: colours and all other control characters.")
def logs(
    stage: str | None, run: Path | None, follow: bool, lines: int, node: str | None, attempt: int | None, raw: bool
) -> None:
    """The newest log of STAGE (of the one that failed or runs, when none is named).

    \b
    proxygrm logs STAGE -f               every node of it, as it is written, until it has ended
    proxygrm logs STAGE --node 1 -n 200  its second node
    proxygrm logs STAGE --attempt 1      what it wrote before it was requeued

    Colours are left out, and other control characters are spelled out, so that no log controls your terminal.
    """
    from jobs.cli.common import console, say
    from jobs.cli.run.follow import follow_logs
    from jobs.engine.run_folder import reuse
    from jobs.engine.stage import closure
    from jobs.engine.watch import logs as stage_logs
    from proxygrm.core.errors import UserError
    from proxygrm.core.visible import uncoloured

    if follow and attempt:
        raise UserError("--follow shows the running attempt; leave out --attempt", code="option.conflict")
    resolved, ledger = console.of_run(run)
    name = stage or console.with_records(resolved.profile, lambda away: _most_telling(resolved.stages, ledger, away))
    members = [s for s in resolved.stages if s.batch == name] or closure(resolved.stages, [name])[-1:]
    segments = [s for member in members for s in stage_logs.select(stage_logs.segments(member, ledger), attempt, node)]
    if not segments:
        reused = next(filter(None, (reuse.note(ledger, member) for member in members)), "")
        hint = f"was {reused}; its logs are there" if reused else "has no log yet; `proxygrm status` shows its state"
        raise UserError(f"{name} {hint}", code="logs.none", stage=name)
    if follow:
        follow_logs(resolved, ledger, name, list(dict.fromkeys(segment.path for segment in segments)), lines, raw)
        return
    for segment in segments:
        if len(segments) > 1 or attempt:
            where = segment.path.relative_to(ledger.folder)
            secho(f"==> {where}, attempt {segment.attempt} <==", dim=True)
        if raw:
            say.raw(stage_logs.raw(segment, lines))
        else:
            echo(uncoloured("\n".join(segment.lines[-lines:] if lines else ())))


def _most_telling(stages: list[Any], ledger: Any, away: str) -> str:
    from jobs.engine import state

    states = state.status(stages, ledger, away)
    failed = [row.stage for row in states if row.word in state.BAD]
    running = [row.stage for row in states if row.word == "running"]
    unknown = [row.stage for row in states if row.word == "unknown"]
    logged = [name for name in ledger.submissions() if name in {row.stage for row in states}]
    return (failed + running + unknown + logged[-1:] + [stages[0].name])[0]


@click.command()
@RUN
@JSON
def cost(run: Path | None, as_json: bool) -> None:
    """GPU-hours and CPU-hours of a run: requested, used, and lost to attempts that did not end well.

    \b
    asked  requested: allocation x time limit, once for each job
    used   allocation x time it ran; requeues and earlier submissions count
    """
    from jobs.cli.common import console
    from jobs.engine.run_folder import reuse
    from jobs.engine.watch import cost as costs
    from proxygrm.core.errors import UserError

    resolved, ledger = console.of_run(run, as_json)
    stages = console.with_records(resolved.profile, lambda away: [] if away else costs.of_run(resolved.stages, ledger))
    source = "accounting"
    if not any(stage.jobs for stage in stages):
        stages, source = costs.of_records(resolved.stages, ledger), "records"
    if not stages:
        raise UserError(
            "no stage of this run has a DONE record, and accounting (sacct) knows none of its jobs", code="run.no-cost"
        )
    chain = costs.total(stages)
    if as_json:
        _print_json({"stages": [stage.to_json() for stage in stages], "chain": chain.to_json(), "source": source})
        return
    console.out.print(costs.table(stages, chain, f"{ledger.folder.name}: hours"))
    for stage in resolved.stages:
        if where := reuse.note(ledger, stage):
            console.out.print(f"not counted: {escape(f'{stage.name}, {where}')}", soft_wrap=True)
    if source == "records":
        console.out.print(
            "from the DONE records only: they do not count failed stages, nor attempts before the one that finished",
            soft_wrap=True,
        )


def no_queue(profile: Profile) -> str:
    """Why no job of a run can be in a queue, or "". Raises UserError where the private cluster's queue is elsewhere."""
    from proxygrm.core.errors import UserError
    from slurm.local import cluster
    from slurm.local.folder import default_folder

    away = reach.private_cluster_is_down(profile)
    if away and (host := cluster.host_with_queue(default_folder())):
        raise UserError(
            f"{away}; on {host} it ended with its queue: start it there, then do this again",
            code="cluster.on-another-host",
            host=host,
        )
    return away


@click.command()
@RUN
def cancel(run: Path | None) -> None:
    """Cancel every queued or running job of a run, and wait until SLURM has ended them. Finished stages stay.

    `proxygrm submit` resumes the run.
    """
    from jobs.cli.common import console
    from jobs.engine.watch.cancel import cancel_all

    resolved, ledger = console.of_run(run)
    if away := no_queue(resolved.profile):
        console.out.print(f"nothing to cancel: {away}, and no job outlives it", soft_wrap=True)
        return
    active = cancel_all(ledger)
    if not active:
        console.out.print("nothing to cancel: no job of this run is queued or running")
        return
    console.out.print(
        f"cancelled {len(active)} job{'s' * (len(active) > 1)}: {', '.join(active)}; finished stages stay"
    )


@click.command()
@RUN
@click.option(
    "--out",
    "--output",
    cls=Renamed,
    type=click.Path(path_type=Path),
    help="The page to write.  [where the chain writes it]",
)
def report(run: Path | None, out: Path | None) -> None:
    """Write one self-contained HTML page about a run, finished or not."""
    from jobs.cli.common import console
    from jobs.cli.common.quiet import quiet
    from proxygrm.core.files.owner import refuse_foreign
    from proxygrm.report.page import write_report

    resolved, ledger = console.of_run(run)
    folder, contents = ledger.folder, resolved.recipe.report
    page = out or folder / contents.page  # the file of the chain's own stage, if it has one
    refuse_foreign(page.absolute().parent, "write the page elsewhere with --out")
    with quiet("report"):
        write_report(folder, page, contents)
    console.out.print(f"wrote {page}")


COMMANDS = (status, why, logs, cost, cancel, report)
