"""The space that the stages of a plan will take, against what is free where the run folder is.

Each stage says for itself what it writes (`Stage.disk`), in upper bounds that follow from its settings and from what it
gets. Text counts as long as it may become, so the forecast is too high rather than too low.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from jobs.engine.downloads import size_of
from jobs.engine.plan import Planned
from jobs.engine.run_folder.stage_folder import marked
from jobs.engine.space.amounts import Amount, Needs, Space, Unknown, measured
from jobs.engine.stage import Given, Stage
from proxygrm.core.files.user_code import one_line

Measure = Callable[[Path], Amount]
RECORDS = 2_000_000
"""Bytes of a job's records, logs and curves; more than a short training writes."""


@dataclass(frozen=True)
class Expected:
    """What one stage will add to the run folder."""

    stage: str
    size: int | None
    """Bytes; None where nobody can say."""
    why: str = ""
    """Why nobody can."""


@dataclass(frozen=True)
class Forecast:
    stages: tuple[Expected, ...]
    """Those that will run, in the plan's order."""
    free: int
    """Bytes that this user may still write where the run folder is. A quota of a user or a group counts only where the
    file system says so (`proxygrm doctor` looks for others)."""

    @property
    def size(self) -> int:
        return sum(one.size or 0 for one in self.stages)

    @property
    def unknown(self) -> list[Expected]:
        return [one for one in self.stages if one.size is None]

    @property
    def fits(self) -> bool:
        return self.size <= self.free


def forecast(planned: Iterable[Planned], run: Path) -> Forecast:
    planned, rows = list(planned), []
    if not any(line.action in ("run", "wait") for line in planned):
        return Forecast((), free(run))
    measure, spaces = cache(measured), dict[str, Space | Unknown]()  # several stages need the same start checkpoint
    for line in planned:
        stage = line.stage
        space = spaces[stage.name] = _space(line, run, spaces, measure)
        if line.action not in ("run", "wait"):
            continue
        if isinstance(space, Unknown):
            rows.append(Expected(stage.name, None, str(space)))
        else:
            folder = run / stage.name
            there = size_of(folder) if marked(folder) == line.fingerprint else 0  # to be resumed
            rows.append(Expected(stage.name, max(0, space.size + RECORDS * stage.array - there)))
    return Forecast(tuple(rows), free(run))


def _space(line: Planned, run: Path, spaces: Mapping[str, Space | Unknown], measure: Measure) -> Space | Unknown:
    """What the stage takes; of one that is done what is there, with the rows that only the stage itself can tell."""
    stage = line.stage
    try:
        space = stage.disk(stage, _needs(stage, spaces, measure)) if stage.disk else Unknown("it does not say")
    except Unknown as reason:
        space = reason
    except Exception as error:  # that of a user's own recipe may raise anything; a forecast stops no plan
        space = Unknown(f"its disk fails: {one_line(error)}")
    if not isinstance(space, Space | Unknown):
        space = Unknown(f"its disk returns {type(space).__name__}, not a Space")
    if line.action not in ("skip", "reuse"):
        return space
    folder = (line.elsewhere.run if line.elsewhere else run) / stage.name
    stated = {} if isinstance(space, Unknown) else space.makes
    try:
        sizes = {artifact.path: measured(folder / artifact.path) for artifact in stage.makes}
    except Unknown as reason:
        return reason
    makes = {path: replace(one, rows=one.rows or stated.get(path, Amount(0)).rows) for path, one in sizes.items()}
    return Space(0, makes)


def _needs(stage: Stage, spaces: Mapping[str, Space | Unknown], measure: Measure) -> Needs:
    def amount(label: str) -> Amount:
        need = stage.needs[label]
        if isinstance(need, Given):
            path = need.resolve()
            if not path.exists():
                raise Unknown(f"{need.path} is not here")
            return measure(path)
        above = spaces[need.stage.name]
        if isinstance(above, Unknown):
            raise Unknown(f"of {need.stage.name} it is not known")
        if need.path not in above.makes:
            raise Unknown(f"{need.stage.name} does not say it of {need.path}")
        return above.makes[need.path]

    return amount


def free(folder: Path) -> int:
    """Bytes that this user may write in the folder, or where it will be made. Raises OSError."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
