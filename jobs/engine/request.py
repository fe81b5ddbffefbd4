"""What a person asked for (profile, experiment, overrides) and the chain that follows from it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from jobs.engine import overrides, secrecy
from jobs.engine.plan import with_nodes
from jobs.engine.recipe import Recipe
from jobs.engine.run_folder.ledger import Ledger, read_json, record_files, record_folder, unreadable
from jobs.engine.stage import Stage, fingerprints, from_folder
from jobs.engine.sweep import Cell
from proxygrm.core.errors import UserError
from slurm import profile as profiles
from slurm.profile import Profile


@dataclass(frozen=True)
class Request:
    """Kept in a run.json, so that `status`, `logs`, `cancel` and `report` need only the run folder."""

    profile: str = "local"
    """Of a file: its absolute path, so that it is found from every folder."""
    experiment: str = ""
    nodes: int = 0
    assignments: tuple[str, ...] = ()
    scheduler: tuple[tuple[str, str], ...] = ()
    """Values that replace the profile's [scheduler] ones, from --partition, --account and so on."""
    ablation_name: str = ""
    ablation: tuple[Cell, ...] = ()
    throttle: int = 0
    """Cells of the ablation that train at a time."""
    folder: str = ""
    """Where it was asked for, and where its relative paths (`--set pairs=data/pairs`) begin; "" where nobody knows."""


@dataclass(frozen=True)
class Resolved:
    request: Request
    experiment: Any
    """The preset's record of settings, with what was set."""
    profile: Profile
    stages: list[Stage]


def resolve(request: Request, recipe: Recipe, profile: Profile | None = None) -> Resolved:
    """profile: as it was when the run was submitted; without it, as its file is now."""
    if profile is None:
        profile = profiles.load(request.profile)
        profile = profiles.with_scheduler(profile, dict(request.scheduler))
    name = request.experiment or profile.experiment
    if name not in recipe.presets:
        near = difflib.get_close_matches(name, recipe.presets, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(recipe.presets)}"
        raise UserError(f"no experiment {name!r}; {hint}")
    experiment = overrides.apply(recipe.presets[name](), request.assignments)
    secrecy.refuse(experiment, "the experiment")
    secrecy.refuse(profile, f"profile {profile.name}")
    cells = request.ablation
    stages = recipe.ablation_chain(experiment, cells, request.throttle) if cells else recipe.chain(experiment)
    if request.nodes:
        stages = [with_nodes(s, request.nodes) if s.name.split("/")[-1] in recipe.multi_node else s for s in stages]
    if request.folder and Path(request.folder) != Path.cwd():
        stages = from_folder(stages, request.folder)
    return Resolved(request, experiment, profile, stages)


def save(resolved: Resolved, ledger: Ledger) -> int:
    """Returns how many lines of the code's uncommitted changes were left out since they look like a secret."""
    asked = resolved.request
    return ledger.record_run(
        asdict(asked), resolved.experiment, resolved.profile, fingerprints(resolved.stages), asked.ablation_name
    )


def of_run(folder: Path, recipe: Recipe) -> Resolved:
    """Everything a run folder was asked for, as one: the chain, then what its ablations add to it. The profile is that
    of the submission: who edits or removes its file can still look at the run, and end it.

    Of a stage that several of them have, the way it was asked for last counts. request: the last one.
    """
    asked = [
        (record["written"], resolve(request, recipe, _profile_then(record)))
        for record in _records(folder)
        if (request := _request(record))
    ]
    if not asked:
        raise UserError(f"{folder} is not a run folder (no run.json); name one with --run, or `proxygrm submit` first")
    stages = {stage.name: stage for _, one in asked for stage in one.stages}  # in this order
    for _, last in sorted(asked, key=itemgetter(0)):
        stages |= {stage.name: stage for stage in last.stages}
    return replace(last, stages=list(stages.values()))


def asked_before(folder: Path, ablation: str = "") -> Request | None:
    """What a run folder was last asked for: the chain (or, with its name, an ablation); None of a new folder.

    The chain of a folder that holds ablations alone is that of the ablation asked for last.
    """
    records = {path.parent: record for path in record_files(folder) if (record := _record(path))}
    own = records.get(record_folder(folder, ablation)) or records.get(record_folder(folder))
    found = own or max(records.values(), key=itemgetter("written"), default=None)
    return replace(_request(found), ablation_name="", ablation=(), throttle=0) if found else None


def ablation_of(folder: Path, name: str = "") -> Request:
    """What an ablation of a run folder was asked for: that one, or the one asked for last."""
    asked = [
        one for record in sorted(_records(folder), key=itemgetter("written")) if (one := _request(record)).ablation
    ]
    found = [one for one in asked if name in ("", one.ablation_name)]
    if not found:
        have = f"; it has {', '.join(one.ablation_name for one in asked)}" if asked else ""
        what = f"ablation {name!r}" if name else "ablation"
        raise UserError(f"{folder} has no {what}{have}; `proxygrm ablate SPEC` starts one")
    return found[-1]


def _records(folder: Path) -> list[dict[str, Any]]:
    return [record for path in record_files(folder) if (record := _record(path))]


def _record(path: Path) -> dict[str, Any] | None:
    """The content of a run.json. Raises UserError where it is not one."""
    record = read_json(path)
    if record is None:
        return None
    try:
        _request(record), float(record["written"])
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(path, error) from error
    return dict(record)


def _profile_then(record: Mapping[str, Any]) -> Profile | None:
    """None where another version of the code wrote it in another form."""
    try:
        return profiles.strict(Profile, record["profile"], "run.json")
    except (UserError, KeyError, TypeError, AttributeError):
        return None


def _request(record: Mapping[str, Any]) -> Request:
    row = record["request"]
    return Request(
        profile=row["profile"],
        experiment=row["experiment"],
        nodes=row["nodes"],
        assignments=tuple(row["assignments"]),
        scheduler=tuple((key, value) for key, value in row["scheduler"]),
        ablation_name=row.get("ablation_name", ""),
        ablation=tuple(Cell.of(cell) for cell in row["ablation"]),
        throttle=row.get("throttle", 0),
        folder=row.get("folder", ""),
    )
