"""`proxygrm clean`: show what a run folder holds that nothing needs, ask, remove it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from jobs.cli.common import console
from jobs.cli.run.watch import RUN, no_queue
from jobs.engine.run_folder import reuse
from jobs.engine.run_folder.ledger import Ledger
from jobs.engine.space import clean as cleaning
from jobs.engine.space.clean import Removable
from proxygrm.core.bytes import readable
from proxygrm.core.errors import UserError
from slurm.profile import Profile


@click.command()
@RUN
@click.option("--yes", is_flag=True, help="Remove it without asking; for scripts, which name --run.")
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
def clean(run: Path | None, yes: bool, dry_run: bool) -> None:
    """Remove what no finished stage of a run needs, after showing it and asking.

    \b
    proxygrm clean --run runs/first --dry-run     what would go: path, size, reason
    proxygrm clean --run runs/first               the same, then it asks
    proxygrm clean --run runs/first --yes         in a script

    These go: work of earlier configurations (STAGE.FINGERPRINT), checkpoints that only served to resume finished
    stages, copies of the code that no finished stage ran, files that a killed writer left. Records, models, data,
    rollouts and logs stay, and `plan` says the same afterwards. Not while a job of the run is queued or running.
    """
    if yes and not dry_run and run is None:
        raise UserError("--yes removes without asking; name the run folder with --run", code="clean.no-run")
    resolved, ledger = console.of_run(run)
    ledger.refuse_foreign()
    with ledger.lock("clean"):
        _refuse_active(resolved.profile, ledger)
        items = cleaning.removable(resolved.stages, ledger)
        for stage, runs in reuse.users(ledger.folder.resolve()).items():
            console.out.print(escape(f"{stage} stays: used by {', '.join(runs)}"), soft_wrap=True)
        if not items:
            console.out.print("nothing to remove")
            return
        console.out.print(_table(items, ledger))
        if dry_run:
            return
        if not yes:
            if not sys.stdin.isatty():
                raise UserError("nobody can be asked here; --yes removes it without asking", code="clean.needs-yes")
            if not click.confirm(f"Remove {'these' if len(items) > 1 else 'this'}?"):
                return
            _refuse_active(resolved.profile, ledger)  # one may have been sent by hand meanwhile
        cleaning.remove(items)
    console.out.print(f"removed {readable(sum(one.size for one in items))}")


def _refuse_active(profile: Profile, ledger: Ledger) -> None:
    if not no_queue(profile):
        cleaning.refuse_active(ledger)


def _table(items: list[Removable], ledger: Ledger) -> Table:
    table = Table(title=f"{ledger.folder.name}: what nothing needs any more", title_justify="left")
    table.add_column("path", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("why it can go", overflow="fold")
    for one in items:
        table.add_row(escape(str(one.path.relative_to(ledger.folder.resolve()))), readable(one.size), escape(one.why))
    table.add_section()
    table.add_row("in all", readable(sum(one.size for one in items)), "")
    return table
