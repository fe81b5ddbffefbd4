"""`proxygrm doctor`: check a site before anything is submitted."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from jobs.cli.common import console
from jobs.cli.common.say import echo
from proxygrm.core.errors import UserError
from slurm import profile as profiles
from slurm import reach

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option(
    "--profile", default="local", show_default=True, help="Cluster: local, a100, h100, or the path of a .toml."
)
@click.option("--partition", default=None, help="Instead of the profile's.")
@click.option("--account", default=None)
@click.option("--qos", default=None)
@click.option("--reservation", default=None)
@click.option("--run", "runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="Folder for runs.")  # fmt: skip
@click.option("--job/--no-job", default=True, help="Check a compute node too, with an srun of seconds.")
@click.option("--wait", "wait_s", type=click.IntRange(1), default=60, show_default=True,
              help="Seconds to wait for that job to start.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of the table.")
def doctor(profile: str, runs: Path, job: bool, wait_s: int, as_json: bool, **scheduler: str | None) -> None:
    """Check that this cluster and the profile fit together. Exit code 1 when something must be fixed.

    \b
    proxygrm doctor --profile my-site.toml
    proxygrm doctor --profile h100 --partition debug --wait 600
    proxygrm doctor --profile h100 --no-job --json
    """
    from slurm.health.doctor.finding import Finding
    from slurm.health.doctor.run import examine

    options = {key: value for key, value in scheduler.items() if value}
    site = profiles.with_scheduler(profiles.load(profile), options)
    try:
        if down := reach.private_cluster_is_down(site):
            raise UserError(down, code="cluster.down")
        reach.connect(site, start=False)
        findings = list(examine(site, runs.absolute(), job=job, wait_s=wait_s))
    except UserError as error:  # for example: the private cluster is not running
        remedy = "`make cluster-up`" if site.private_cluster else "log in to the cluster's login node"
        findings = [Finding("SLURM", "fail", str(error), remedy)]
    if as_json:
        echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        show(findings, site.name)
    sys.exit(any(finding.level == "fail" for finding in findings))


def show(findings: list, name: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{name}: checks", title_justify="left")
    for column in ("", "check", "result", "what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        level = f"[{COLOURS[finding.level]}]{finding.level}[/]"
        table.add_row(level, finding.check, escape(finding.detail), escape(finding.remedy))
    console.out.print(table)
    counts = {level: sum(line.level == level for line in findings) for level in COLOURS}
    console.out.print(f"{counts['ok']} ok, {counts['warn']} to look at, {counts['fail']} to fix")
