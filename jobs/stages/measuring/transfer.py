"""Rubric transfer: does a judge decide held-out pairs better with the rubrics of each training stage than without?"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from jobs.engine.space.amounts import TOKEN, Amount, Needs, Space
from jobs.engine.stage import Artifact, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.errors import UserError
from proxygrm.critique.contracts import PROXY_GRM
from proxygrm.evaluate.settings import EvaluateSettings

PROXY = "proxy"
MODELS, CONDITIONS, ROW = 2, 4, 400
"""Trained models that are judged, conditions (own, another's, the start model's rubric, none), bytes of a row's ids."""
SEEN = "the proxy that gave RL its reward: seen in training, so this is not a transfer claim"


@dataclass(frozen=True)
class Settings(OnNodes, EvaluateSettings):
    judge: str = ""
    """A checkpoint that takes no part in training, by path or hub name; empty takes the proxy, which the table says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.contract != PROXY_GRM:
            raise UserError(
                f"transfer: contract is {self.contract!r}, but only Proxy-GRM's critiques have rubrics",
                code="settings.contradiction",
                contract=self.contract,
            )

    @property
    def seen(self) -> bool:
        """Whether the judge is the proxy itself, since no unseen one was given."""
        return not self.judge

    @property
    def judge_name(self) -> str:
        """What the table calls the judge."""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(self.judge).name).strip("-._") or (PROXY if self.seen else "judge")


def stage(name: str, *, judge: str | Output, judged: Output, settings: Settings) -> Stage:
    """judged: the summary of a stage that judged several models, the first of them before training.

    Makes `transfer.json`.
    """
    return Stage(
        name=name,
        run=measure,
        needs={"judge": checks.checkpoint(judge, name, settings.trust_remote_code), "judged": judged},
        makes=(Artifact("transfer.json"),),
        on=settings.on,
        validate=checks.serves_on_one_node,
        config=settings,
        prompts=("proxy", "proxy_bare"),
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """The judge's answers under each condition, twice."""
    settings, judgements = stage.config, need("judged").rows
    size = 2 * MODELS * CONDITIONS * judgements * (settings.proxy_max_tokens * TOKEN + ROW)
    return Space(size, {"transfer.json": Amount(0, judgements)})


def measure(run: StageRun) -> None:
    """Own rubrics of the trained models against none, another pair's, and those of the model before training."""
    from proxygrm.evaluate.transfer.run import Transfer, measure_transfer

    settings: Settings = run.config
    base, *trained = json.loads(run.inputs["judged"].read_text(encoding="utf-8"))
    judged = run.inputs["judged"].parent
    measure_transfer(
        Transfer(
            rubrics={tag: judged / f"{tag}.jsonl" for tag in trained},
            judges={settings.judge_name: run.inputs["judge"]},
            out=run.out,
            settings=settings,
            base=judged / f"{base}.jsonl",
            notes={settings.judge_name: SEEN} if settings.seen else {},
        ),
        run.progress,
    )
