"""The run as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.engine.space.amounts import Needs, Space
from jobs.engine.stage import Artifact, OnNodes, Stage, StageRun

PAGE = 5_000_000
"""Bytes of a page, at the most: it shows a selection."""


@dataclass(frozen=True)
class Settings(OnNodes):
    pass


def stage(name: str, *, shows: Sequence[Stage], settings: Settings) -> Stage:
    """Makes `report.html`, when these are done; what the page shows is said by the recipe (`Recipe.report`)."""
    needs = {stage.name: stage / made.path for stage in shows for made in stage.makes}
    return Stage(name=name, run=write_page, needs=needs, makes=(Artifact("report.html"),), on=settings.on, disk=disk)


def disk(stage: Stage, need: Needs) -> Space:
    return Space(PAGE)


def write_page(run: StageRun) -> None:
    from proxygrm.report.page import write_report

    write_report(run.run_dir, run.out / "report.html")
