"""`proxygrm cluster`: bring the private SLURM of slurm/local up and down, and show it."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import click

from jobs.cli.common.say import echo


@click.group()
def cluster() -> None:
    """A private, real SLURM on this machine: four virtual nodes in one folder."""


FOLDER = click.option(
    "--dir", "folder", type=click.Path(path_type=Path), default=None, help="Its folder; default: .local/cluster."
)


def _local(folder: Path | None) -> tuple[Any, Path]:
    """The package that runs it, and its folder."""
    from slurm import local
    from slurm.local.folder import default_folder

    return local, folder or default_folder()


@cluster.command("up")
@FOLDER
def up(folder: Path | None) -> None:
    """Start it, or restart what has died. Does nothing when it is up."""
    from jobs.cli.common.console import out

    local, where = _local(folder)
    started = time.time()
    local.up(where, temporary=False)
    out.print(f"private SLURM is up in {where} ({time.time() - started:.1f} s)")
    option = f" --dir {shlex.quote(str(where.absolute()))}" if folder else ""
    out.print(f'point SLURM\'s commands at it with:  eval "$(proxygrm cluster env{option})"', soft_wrap=True)
    if folder:
        out.print(
            f"and proxygrm's own with:  export PROXYGRM_CLUSTER_DIR={shlex.quote(str(where.absolute()))}",
            soft_wrap=True,
        )


@cluster.command("down")
@FOLDER
def down(folder: Path | None) -> None:
    """Cancel its jobs and stop its daemons."""
    from jobs.cli.common.console import out

    local, where = _local(folder)
    started = time.time()
    local.down(where)
    out.print(f"private SLURM is down ({time.time() - started:.1f} s)")


@cluster.command("status")
@FOLDER
def status(folder: Path | None) -> None:
    """Show its daemons and nodes."""
    from rich.table import Table

    from jobs.cli.common.console import out

    local, where = _local(folder)
    cluster_status = local.status(where)
    table = Table("daemon", "pid", "MB")
    for daemon in cluster_status.daemons:
        table.add_row(daemon.name, str(daemon.pid or "down"), f"{daemon.memory_mb:.0f}")
    nodes = Table("node", "state", "partitions")
    for node in cluster_status.nodes:
        nodes.add_row(node.name, node.state, ", ".join(node.partitions))
    out.print(table)
    out.print(nodes)


@cluster.command("env")
@FOLDER
def env(folder: Path | None) -> None:
    """Print exports that point SLURM's own commands at it:  eval "$(proxygrm cluster env)"; squeue"""
    local, where = _local(folder)
    echo(local.exports(where))
