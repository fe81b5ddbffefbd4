"""What a person asked for (profile, recipe, settings) and the chain that follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

from jobs.engine import sweep
from jobs.engine.recipe import Recipe, own_file, with_file
from jobs.engine.run_folder import secrecy
from jobs.engine.run_folder.ledger import RUN_FORMAT, Ledger
from jobs.engine.run_folder.records import read_json, record_files, record_folder, unreadable
from jobs.engine.stage import Identity, Stage, from_folder, identities
from jobs.engine.sweep import Cell
from proxygrm.core import settings
from proxygrm.core.errors import UserError
from proxygrm.core.files.owner import why_untrusted
from proxygrm.core.files.whole_file import write_text
from slurm import profile as profiles
from slurm.profile import Profile

Find = Callable[[str], tuple[Recipe, str]]
"""NAME[:PRESET] -> the recipe and the preset's name, "" where none is given."""
KEPT_RECIPE = "recipe.py"
"""In the run folder: the user's own recipe as it was at the last submission."""


@dataclass(frozen=True)
class Request:
    """Kept in a run.json, so that `status`, `logs`, `cancel` and `report` need only the run folder."""

    profile: str = "local"
    """Of a file: its absolute path, so that it is found from every folder."""
    recipe: str = ""
    """NAME[:PRESET] or FILE.py[:PRESET], of a file its absolute path; "" for the profile's."""
    nodes: int = 0
    assignments: tuple[str, ...] = ()
    scheduler: tuple[tuple[str, str], ...] = ()
    """Values that replace the profile's [scheduler] ones, from --partition, --account and so on."""
    ablation_name: str = ""
    ablation: tuple[Cell, ...] = ()
    throttle: int = 0
    """Cells of the ablation that train at a time."""
    sweep: str = ""
    """Which of the recipe's `sweeps` the ablation is of; "": its `sweep`."""
    reuse: tuple[str, ...] = ()
    """Other run folders, by absolute paths, whose finished stages count here."""
    folder: str = ""
    """Where it was asked for, and where its relative paths (`--set pairs=data/pairs`) begin; "" where nobody knows."""


@dataclass(frozen=True)
class Resolved:
    request: Request
    recipe: Recipe
    preset: str
    settings: Any
    """The preset's, with what was set."""
    profile: Profile
    stages: list[Stage]

    @cached_property
    def identities(self) -> dict[str, Identity]:
        """Of every stage by name; computed once, then carried by the plan."""
        return identities(self.stages)


def resolve(request: Request, find: Find, profile: Profile | None = None) -> Resolved:
    """profile: as it was when the run was submitted; without it, as its file is now."""
    if profile is None:
        profile = profiles.load(request.profile)
        profile = profiles.with_scheduler(profile, dict(request.scheduler))
    recipe, preset = find(request.recipe or profile.recipe)
    preset = preset or (profile.preset if profile.preset in recipe.presets else next(iter(recipe.presets)))
    nodes = [f"{stage}.on.nodes={request.nodes}" for stage in recipe.nodes if request.nodes]
    values = settings.with_assignments(recipe.settings(preset), [*request.assignments, *nodes])
    secrecy.refuse(values, "the settings")
    secrecy.refuse(profile, f"profile {profile.name}")
    if request.ablation:
        stages = sweep.stages(recipe, values, request.ablation, request.throttle, request.sweep)
    else:
        stages = recipe.stages(values)
    for cell in request.ablation:
        secrecy.refuse(dict(text.split("=", 1) for text in cell.settings), f"cell {cell.name}")
    for stage in stages:  # what the recipe itself adds to the settings
        secrecy.refuse(stage.config, f"stage {stage.name}")
    if request.folder and Path(request.folder) != Path.cwd():
        stages = from_folder(stages, request.folder)
    return Resolved(request, recipe, preset, values, profile, stages)


def save(resolved: Resolved, ledger: Ledger) -> int:
    """Returns how many lines of the code's uncommitted changes were left out since they look like a secret."""
    request = resolved.request
    if own_file(request.recipe):  # so that the run can be looked at when the file is gone
        text = Path(resolved.recipe.file).read_text(encoding="utf-8")
        write_text(record_folder(ledger.folder) / KEPT_RECIPE, text, mode=0o644)  # whatever the umask: it is run
    return ledger.record_run(
        asdict(request),
        resolved.settings,
        resolved.profile,
        {name: identity.fingerprint for name, identity in resolved.identities.items()},
        request.ablation_name,
        resolved.recipe.report,
    )


def of_run(folder: Path, find: Find) -> Resolved:
    """Everything a run folder was asked for, as one: the chain, then what its ablations add to it. The profile is that
    of the submission: who edits or removes its file can still look at the run, and end it.

    Of a stage that several of them have, the way it was asked for last counts. request: the last one.
    """

    def find_kept(recipe: str) -> tuple[Recipe, str]:
        return find(_kept(recipe, folder))

    resolved = [
        (record["written"], resolve(request, find_kept, _profile_then(record)))
        for record in _records(folder)
        if (request := _request(record))
    ]
    if not resolved:
        raise UserError(
            f"{folder} is not a run folder (no run.json); name one with --run, or `proxygrm submit` first",
            code="run.not-a-run",
            path=str(folder),
        )
    stages = {stage.name: stage for _, one in resolved for stage in one.stages}  # in this order
    for _, last in sorted(resolved, key=itemgetter(0)):
        stages |= {stage.name: stage for stage in last.stages}
    return replace(last, stages=list(stages.values()))


def _kept(recipe: str, folder: Path) -> str:
    """The run folder's copy of a recipe file that is gone. Its code runs here, so nobody else may have written it."""
    file, copy = own_file(recipe), folder / KEPT_RECIPE
    if file is None or file.is_file() or not copy.is_file():
        return recipe
    if reason := why_untrusted(copy):
        raise _foreign_recipe(reason, copy)
    return with_file(recipe, copy)


def _foreign_recipe(reason: str, path: Path) -> UserError:
    return UserError(
        f"{reason}, and the code of its recipe file would run as you; look at that run as the user who submitted it",
        code="run.foreign-recipe",
        path=str(path),
    )


def asked_before(folder: Path, ablation: str = "") -> Request | None:
    """What a run folder was last asked for: the chain (or, with its name, an ablation); None of a new folder.

    The chain of a folder that holds ablations alone is that of the ablation asked for last.
    """
    records = {path.parent: record for path in record_files(folder) if (record := _record(path))}
    own = records.get(record_folder(folder, ablation)) or records.get(record_folder(folder))
    last = own or max(records.values(), key=itemgetter("written"), default=None)
    return replace(_request(last), ablation_name="", ablation=(), throttle=0, sweep="") if last else None


def ablation_of(folder: Path, name: str = "") -> Request:
    """What an ablation of a run folder was asked for: that one, or the one asked for last."""
    requests = [
        one for record in sorted(_records(folder), key=itemgetter("written")) if (one := _request(record)).ablation
    ]
    matches = [one for one in requests if name in ("", one.ablation_name)]
    if not matches:
        known = [one.ablation_name for one in requests]
        have = f"; it has {', '.join(known)}" if known else ""
        what = f"ablation {name!r}" if name else "ablation"
        raise UserError(
            f"{folder} has no {what}{have}; `proxygrm ablate SPEC` starts one",
            code="run.no-ablation",
            path=str(folder),
            name=name,
            known=known,
        )
    return matches[-1]


def _records(folder: Path) -> list[dict[str, Any]]:
    return [record for path in record_files(folder) if (record := _record(path))]


def _record(path: Path) -> dict[str, Any] | None:
    """The content of a run.json. Raises UserError where it is not one."""
    record = read_json(path)
    if record is None:
        return None
    if isinstance(record, dict) and "packages" in record and record.get("format") != RUN_FORMAT:
        raise _other_version(path, record)
    try:
        request, _ = _request(record), float(record["written"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(path, error) from error
    if own_file(request.recipe) and (reason := why_untrusted(path)):
        raise _foreign_recipe(reason, path)
    return dict(record)


def _other_version(path: Path, record: Mapping[str, Any]) -> UserError:
    version = (record.get("packages") or {}).get("proxygrm-suite") or "an unknown version"
    revision = str(record.get("git") or "unknown")[:12]
    return UserError(
        f"{path.parent} was made by proxygrm {version} (revision {revision}), whose settings have other names; look at "
        "it with that version, or start another run with --run NAME",
        code="run.other-version",
        path=str(path.parent),
        version=version,
        revision=revision,
    )


def _profile_then(record: Mapping[str, Any]) -> Profile | None:
    """None where another version of the code wrote it in another form."""
    try:
        return profiles.from_record(record["profile"], "run.json")
    except (UserError, KeyError, TypeError, AttributeError):
        return None


def _request(record: Mapping[str, Any]) -> Request:
    row = record["request"]
    return Request(
        profile=row["profile"],
        recipe=row["recipe"],
        nodes=row["nodes"],
        assignments=tuple(row["assignments"]),
        scheduler=tuple((key, value) for key, value in row["scheduler"]),
        ablation_name=row.get("ablation_name", ""),
        ablation=tuple(Cell.of(cell) for cell in row["ablation"]),
        throttle=row.get("throttle", 0),
        sweep=row.get("sweep", ""),
        reuse=tuple(row.get("reuse", ())),
        folder=row.get("folder", ""),
    )
