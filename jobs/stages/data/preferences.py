"""Preferences: pairs become rows to train scalar reward models on; some are held off, to validate on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from data_tools.split.preferences import ALL_ROWS, REPORT, TRAIN, VALIDATION, VALIDATION_ROWS, write_preferences
from jobs.engine.space.amounts import Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds

ROW = 4_000
"""Bytes of a row: question, responses and paths."""


@dataclass(frozen=True)
class Settings(OnNodes):
    validation: int = 1000
    """Pairs held off from training, at the most: for the evaluation loss, and for the weights of an ensemble; 0: none.
    BaseReward's authors drew 1,000."""
    seed: int = 0
    """Which pairs are held off."""
    shards: int = 8
    """Parts of the work; the result does not depend on it."""

    def __post_init__(self) -> None:
        check_bounds("preferences", self, from_one=("shards",), from_zero=("validation", "seed"))


def stage(name: str, *, pairs: Given | Output, settings: Settings) -> Stage:
    """Makes `train.jsonl` and `report.json`; with pairs held off also `validation.jsonl`, and `validation`, a pairs
    folder of them."""
    makes = [Artifact(TRAIN), Artifact(REPORT)]
    if settings.validation:
        makes += [Artifact(VALIDATION_ROWS), Artifact(VALIDATION, check=checks.pairs_folder)]
    return Stage(
        name=name,
        run=write,
        needs={"pairs": pairs},
        makes=tuple(makes),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        leftovers=(ALL_ROWS,),
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """The rows twice: all together, and on their side."""
    pairs, held_off = need("pairs"), stage.config.validation
    rows = pairs.rows
    image = pairs.size // max(1, rows)
    makes = {
        TRAIN: Amount(rows * ROW, rows),
        VALIDATION_ROWS: Amount(held_off * ROW, held_off),
        VALIDATION: Amount(held_off * (ROW + image), held_off),
    }
    return Space((2 * rows + held_off) * ROW + held_off * image, makes)


def write(run: StageRun) -> None:
    settings: Settings = run.config
    write_preferences(
        run.inputs["pairs"],
        run.out,
        settings.validation,
        settings.seed,
        settings.shards,
        len(os.sched_getaffinity(0)),
        lambda done, total: run.progress(done, total, "shards"),
    )
