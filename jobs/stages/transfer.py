"""Rubric transfer: does a judge decide held-out pairs better with the rubrics of each training stage than without?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from jobs.engine.stage import Stage, StageRun
from jobs.stages import fits
from jobs.stages.evaluate import TAGS
from proxygrm.evaluate.settings import EvaluateSettings
from slurm.profile import Profile

PROXY = "proxy"
SEEN = "the proxy that gave RL its reward: seen in training, so this is no transfer claim"


@dataclass(frozen=True)
class Settings:
    """judge: what the table calls it; seen: it is the proxy itself, since no unseen judge was given."""

    asking: EvaluateSettings
    judge: str = PROXY
    seen: bool = True

    @classmethod
    def of(cls, judge: str, asking: EvaluateSettings) -> Settings:
        """judge: path or hub name of an unseen judge; empty takes the proxy."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(judge).name).strip("-._")
        return cls(asking, name or "judge", seen=False) if judge else cls(asking)


def measure(run: StageRun) -> None:
    """Own rubrics of the trained models against none, another pair's, and those of the model before training."""
    from proxygrm.evaluate.transfer.run import Transfer, transfer

    settings: Settings = run.config
    base, *trained = TAGS
    judged = run.inputs["judged"].parent
    transfer(
        Transfer(
            rubrics={tag: judged / f"{tag}.jsonl" for tag in trained},
            judges={settings.judge: run.inputs["judge"]},
            out=run.out,
            settings=settings.asking,
            base=judged / f"{base}.jsonl",
            notes={settings.judge: SEEN} if settings.seen else {},
        ),
        run.progress,
    )


def validate(stage: Stage, profile: Profile) -> None:
    fits.on_one_node(stage, profile)
    fits.serves_here(stage, profile, stage.config.asking.tensor_parallel)
