"""What a person asked for (profile, experiment, overrides) and the chain that follows from it."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jobs import overrides, secrecy
from jobs.ablation import Cell
from jobs.chain import ablation_chain, chain
from jobs.experiments import EXPERIMENTS, Experiment
from jobs.ledger import Ledger, read_json
from jobs.plan import with_nodes
from jobs.stage import Stage, fingerprints
from proxygrm.errors import UserError
from slurm import profile as profiles
from slurm.profile import Profile

MULTI_NODE = ("grm_rl",)
"""Stages that `--nodes` speaks of."""


@dataclass(frozen=True)
class Request:
    """Kept in run.json, so that `status`, `logs`, `cancel` and `report` need only the run folder."""

    profile: str = "local"
    experiment: str = ""
    nodes: int = 0
    assignments: tuple[str, ...] = ()
    scheduler: tuple[tuple[str, str], ...] = ()
    """Values that replace the profile's [scheduler] ones, from --partition, --account and so on."""
    ablation: tuple[Cell, ...] = ()
    throttle: int = 0
    """Cells of the ablation that train at a time."""


@dataclass(frozen=True)
class Resolved:
    request: Request
    experiment: Experiment
    profile: Profile
    stages: list[Stage]


def resolve(request: Request) -> Resolved:
    profile = profiles.load(request.profile)
    if request.scheduler:
        profile = replace(profile, scheduler=replace(profile.scheduler, **dict[str, Any](request.scheduler)))
    name = request.experiment or profile.experiment
    if name not in EXPERIMENTS:
        near = difflib.get_close_matches(name, EXPERIMENTS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(EXPERIMENTS)}"
        raise UserError(f"no experiment {name!r}; {hint}")
    experiment = overrides.apply(EXPERIMENTS[name](), request.assignments)
    secrecy.refuse(experiment, "the experiment")
    secrecy.refuse(profile, f"profile {profile.name}")
    cells = request.ablation
    stages = ablation_chain(experiment, cells, request.throttle) if cells else chain(experiment)
    if request.nodes:
        stages = [with_nodes(s, request.nodes) if s.name.split("/")[-1] in MULTI_NODE else s for s in stages]
    return Resolved(request, experiment, profile, stages)


def save(resolved: Resolved, ledger: Ledger) -> None:
    known = fingerprints(resolved.stages)
    ledger.record_run(asdict(resolved.request), resolved.experiment, resolved.profile, known)


def of_run(folder: Path) -> Resolved:
    """The request a run folder was made with."""
    saved: dict[str, Any] | None = read_json(folder / "run.json")
    if saved is None:
        raise UserError(f"{folder} is not a run folder (no run.json); name one with --run, or `proxygrm submit` first")
    row = saved["request"]
    return resolve(
        Request(
            profile=row["profile"],
            experiment=row["experiment"],
            nodes=row["nodes"],
            assignments=tuple(row["assignments"]),
            scheduler=tuple((key, value) for key, value in row["scheduler"]),
            ablation=tuple(Cell.of(cell) for cell in row["ablation"]),
            throttle=row.get("throttle", 0),
        )
    )
