"""Solutions: VisualPRM400K as released becomes solutions with a label per step, and pairs of them (docs/process.md)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from data_tools.solutions.release import Annotation, annotations_of
from data_tools.solutions.settings import SolutionOptions
from jobs.engine.space.amounts import Amount, Needs, Space, Unknown
from jobs.engine.stage import Artifact, Given, OnNodes, Stage, StageRun
from jobs.stages import checks
from jobs.stages.data.shards import carry_out
from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.core.settings import values_of
from proxygrm.process.solutions import check_solutions

MADE = "solutions"
LOOKED_AT = 200
"""Rows whose size is read."""


@dataclass(frozen=True)
class Settings(OnNodes, SolutionOptions):
    subsets: str = ""
    """Names of subsets, separated by commas; "" for all."""
    max_bad: float = 0.01
    """Share of unusable rows above which it fails."""
    shards: int = 8
    """Parts of the work, and of what a killed job repeats; the result does not depend on it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("solutions", self, from_one=("shards",), shares=("max_bad",))

    @property
    def options(self) -> SolutionOptions:
        return SolutionOptions(**values_of(self, SolutionOptions))

    @property
    def names(self) -> list[str]:
        return [name.strip() for name in self.subsets.split(",") if name.strip()]


def stage(name: str, *, release: str, settings: Settings) -> Stage:
    """Makes `solutions`, a solutions folder (`proxygrm.process.solutions`)."""
    return Stage(
        name=name,
        run=write,
        needs={"release": Given(release, check=Release(tuple(settings.names)))},
        makes=(Artifact(MADE, check=check_solutions),),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        disk=disk,
    )


def given(path: str) -> Given:
    """A solutions folder that exists already, in place of what the stage makes."""
    return Given(path, check=check_solutions, made_by="proxygrm data solutions RELEASE --out {path}")


def disk(stage: Stage, need: Needs) -> Space:
    """The images and the texts once, the texts also in the parts."""
    release = need("release")
    given = stage.needs["release"]
    assert isinstance(given, Given)
    try:
        rows = sum(map(_rows, annotations_of(given.resolve(), stage.config.names)))
    except UserError as error:  # the check refuses it
        raise Unknown(str(error)) from error
    return Space(2 * release.size, {MADE: Amount(release.size, rows)})


def _rows(annotation: Annotation) -> int:
    """As meta.json says, or by the size of its first rows."""
    if annotation.length is not None:
        return annotation.length
    with annotation.path.open("rb") as file:
        first = [len(line) for line in islice(file, LOOKED_AT)]
    return annotation.path.stat().st_size * len(first) // max(1, sum(first))


@dataclass(frozen=True)
class Release:
    """Checks that a release is unpacked and has the subsets; it reads no rows."""

    subsets: tuple[str, ...]

    def __call__(self, path: Path) -> None:
        annotations_of(path, self.subsets)


def write(run: StageRun) -> None:
    from data_tools.solutions.run import solutions_step

    settings: Settings = run.config
    release: Path = run.inputs["release"]
    step = solutions_step(release, run.out / MADE, settings.options, subsets=settings.names, max_bad=settings.max_bad)
    carry_out(step, run)
