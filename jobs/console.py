"""What the commands share: where they print, what was asked for, and the cluster behind it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs import request as requests
from jobs.ledger import Ledger, record_files
from jobs.request import Request, Resolved
from proxygrm.errors import UserError
from slurm.profile import Profile

out = Console(highlight=False)


def of_request(asked: dict[str, Any]) -> tuple[Resolved, Ledger]:
    """asked: the options of a command, by name."""
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
