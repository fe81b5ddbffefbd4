"""A plan on the terminal: its table, its batch scripts, the files a submit would write."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from jobs.cli.common import console
from jobs.cli.common.say import echo, secho
from jobs.engine import plan as planning
from jobs.engine.plan import Planned, Sending
from jobs.engine.request import Resolved
from jobs.engine.run_folder import snapshot
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.run_folder.records import record_folder
from jobs.engine.space.forecast import Forecast, forecast
from jobs.engine.submit import rendered
from proxygrm.core.bytes import readable


def print_scripts(planned: list[Planned], resolved: Resolved, ledger: Ledger, sending: Sending) -> None:
    job_ids = {line.stage.name: line.job_id for line in planned if line.job_id}
    for lines in planning.in_batches(planned):
        console.out.rule(escape(lines[0].stage.batch or lines[0].stage.name), style="dim")
        echo(rendered(lines, resolved.profile, ledger.folder, job_ids, sending))
    records = record_folder(ledger.folder, resolved.request.ablation_name)
    written = planning.files(planned, ledger.folder, records, snapshot.planned(ledger.folder))
    if written:
        console.out.rule("files a submit would write", style="dim")
    for path, description in written:
        echo(f"{path}  ", nl=False)
        secho(description, dim=True)


def show_plan(planned: list[Planned], resolved: Resolved, ledger: Ledger) -> None:
    profile = resolved.profile
    title = f"{ledger.folder.name}: {resolved.recipe.name}:{resolved.preset} on {profile.name}"
    table = Table(title=title, title_justify="left")
    for column in ("stage", "action"):
        table.add_column(column, no_wrap=True)
    for column in ("because", "resources"):
        table.add_column(column, overflow="fold")
    table.add_column("GPU-h", justify="right")
    table.add_column("disk", justify="right", no_wrap=True)
    space = forecast(planned, ledger.folder)
    colours = {"run": "cyan", "skip": "green", "wait": "yellow", "reuse": "green"}
    for lines in _alike(planned):
        line, stage = lines[0], lines[0].stage
        on, number = stage.on, len(lines) if stage.batch else stage.array
        gpus = f" x {on.gpus_per_node} GPU" if on.gpus_per_node else ""
        array = f"{number} x " if number > 1 else ""
        table.add_row(
            stage.batch or stage.name,
            f"[{colours[line.action]}]{line.action}[/]",
            escape(_because(lines)),
            f"{array}{on.nodes} node{'s' * (on.nodes > 1)}{gpus}, {on.cpus_per_task} CPU, {on.mem_gb} GB, "
            f"{on.timeout_min} min",
            f"{planning.gpu_hours(line.stage for line in lines):.1f}" if gpus and line.action == "run" else "",
            _disk(space, lines),
        )
    console.out.print(table)
    due = [line.stage for line in planned if line.action == "run"]
    once, often = planning.gpu_hours(due), planning.gpu_hours(due, requeues=True)
    console.out.print(
        f"at most {once:.1f} GPU-hours if every job uses its full time limit once; {often:.1f} if each also runs out "
        "of time as often as it may be requeued for that",
        soft_wrap=True,
    )
    _say_space(space, ledger)


def _disk(space: Forecast, lines: list[Planned]) -> str:
    names = {line.stage.name for line in lines}
    rows = [one for one in space.stages if one.stage in names]
    if not rows or any(one.size is None for one in rows):
        return "?" if rows else ""
    return readable(sum(one.size or 0 for one in rows))


def _say_space(space: Forecast, ledger: Ledger) -> None:
    if not space.stages:
        return
    known = len(space.stages) > len(space.unknown)
    taken = f"at most about {readable(space.size)}" if known else "an unknown amount"
    text = f"{taken} on the disk, {readable(space.free)} free"
    if space.unknown:
        first = space.unknown[0]
        text += f"; not known of {len(space.unknown)} of {len(space.stages)} stages ({first.stage}: {first.why})"
    if space.fits:
        console.out.print(escape(text), soft_wrap=True)
    else:
        console.warn(f"{text}: the run does not fit at {ledger.folder}; keep fewer checkpoints, or use another --run")


def _alike(planned: list[Planned]) -> list[list[Planned]]:
    """Lines of the table: one per stage, or per action for the stages of a batch."""
    groups: dict[tuple[str, str], list[Planned]] = {}
    for line in planned:
        groups.setdefault((line.stage.batch or line.stage.name, line.action), []).append(line)
    return list(groups.values())


def _because(lines: list[Planned]) -> str:
    """The reason, and the stages it waits for unless the reason names them already."""
    batch_of = {parent.name: parent.batch for line in lines for parent in line.stage.upstream()}
    after = dict.fromkeys(batch_of[name] or name for line in lines for name in line.after)
    because = lines[0].because if len(lines) == 1 else f"{len(lines)} cells, {lines[0].because}"
    more = [name for name in after if name not in because]
    return f"{because}; after {', '.join(more)}" if more else because
