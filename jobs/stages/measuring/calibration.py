"""Calibration: are the visual steps of a solution with a low reliability really wrong? From scored rows; no model."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.engine.space.amounts import Needs, Space
from jobs.engine.stage import Artifact, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.settings import values_of
from proxygrm.evaluate.process.calibration import CalibrationSettings

SUMMARY, DRAWING = "summary.json", "reliability.svg"
SPACE = 1_000_000
"""Bytes of the figures, at the most."""


@dataclass(frozen=True)
class Settings(CalibrationSettings, OnNodes):
    pass


def stage(name: str, *, scored: Output, settings: Settings) -> Stage:
    """scored: rows of the scoring stage. Makes `summary.json`, {"reliability": figures}, and `reliability.svg`."""
    return Stage(
        name=name,
        run=calibrate,
        needs={"scored": scored},
        makes=(Artifact(SUMMARY), Artifact(DRAWING)),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    return Space(SPACE)


def calibrate(run: StageRun) -> None:
    from proxygrm.core.files.whole_file import write_json, write_text
    from proxygrm.evaluate.process.calibration import calibrated
    from proxygrm.report.tables.calibration import draw

    settings = CalibrationSettings(**values_of(run.config, CalibrationSettings))
    figures = calibrated(run.inputs["scored"], settings, refuse_none=False)  # a chain does not end on an unread audit
    write_text(run.out / DRAWING, draw(figures))
    write_json(run.out / SUMMARY, {"reliability": figures})
