"""Best of N: how often the candidate that step scores choose is right, with the gate and without."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.engine.space.amounts import Needs, Space
from jobs.engine.stage import Artifact, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds
from proxygrm.core.settings import require_known
from proxygrm.process.aggregate import AGGREGATORS
from proxygrm.process.gate import UNREADABLE_AUDIT

SUMMARY, CURVES = "summary.json", "curves.json"
SPACE = 10_000_000
"""Bytes of the figures, at the most."""


@dataclass(frozen=True)
class Settings(OnNodes):
    aggregators: tuple[str, ...] = tuple(AGGREGATORS)
    """Those of the summary; the curves have all."""
    unreadable_audit: str = ""
    """Gate again: `keep`, `zero` or `drop` the visual steps without a reliability; empty: as they were scored."""

    def __post_init__(self) -> None:
        check_bounds("best of n", self, choices={"unreadable_audit": ("", *UNREADABLE_AUDIT)})
        for name in self.aggregators:
            require_known(name, [*AGGREGATORS], "best of n: aggregators", "aggregate")


def stage(name: str, *, scored: Output, settings: Settings) -> Stage:
    """Makes `summary.json`, {aggregator: figures with all candidates, gated and as judged}, and `curves.json`, {scores:
    what `process best-of-n --json` prints}."""
    return Stage(
        name=name,
        run=choose,
        needs={"scored": scored},
        makes=(Artifact(SUMMARY), Artifact(CURVES)),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    return Space(SPACE + (need("scored").size if stage.config.unreadable_audit else 0))


def choose(run: StageRun) -> None:
    from proxygrm.core.files.whole_file import write_json
    from proxygrm.evaluate.best_of_n.curves import best_of_n
    from proxygrm.evaluate.best_of_n.gate import gate_again, gate_effect
    from proxygrm.evaluate.best_of_n.solutions import read_solutions

    settings: Settings = run.config
    scored = run.inputs["scored"]
    if settings.unreadable_audit:
        scored = gate_again(scored, run.out / "gated.jsonl", settings.unreadable_audit)
    curves = {scores: best_of_n(read_solutions(scored, scores).questions) for scores in ("final", "raw")}
    write_json(run.out / CURVES, curves)
    write_json(run.out / SUMMARY, gate_effect(scored, settings.aggregators))
