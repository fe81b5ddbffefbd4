"""The run as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.engine.stage import Artifact, OnNodes, Output, Stage, StageRun


@dataclass(frozen=True)
class Settings(OnNodes):
    pass


def stage(name: str, *, needs: dict[str, Output], settings: Settings) -> Stage:
    return Stage(name=name, run=write_page, needs=needs, makes=(Artifact("report.html"),), on=settings.on)


def write_page(run: StageRun) -> None:
    from proxygrm.report.page import write_report

    write_report(run.run_dir, run.out / "report.html")
