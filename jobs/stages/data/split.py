"""Split: pairs, mostly by the teacher's critiques, into the training sets that a recipe names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from itertools import islice
from pathlib import Path

from data_tools.split.training_set import Format, Pool, Short, TrainingSet
from jobs.engine.space.amounts import Amount, Needs, Space
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds

PROMPT = 4_000
"""Bytes of a row's prompt, question and responses."""
LOOKED_AT = 500
"""Images whose size is read."""
KIND = "training set"


def rows_of(pool: Pool, kind: Format, rows: int, beside: str = "") -> int:
    """A field of a recipe's settings: the rows of a training set of its name. beside: as of `TrainingSet`."""
    return field(default=rows, metadata={KIND: TrainingSet(pool, kind, beside=beside)})


@dataclass(frozen=True)
class Settings(OnNodes):
    """A recipe derives its own from this, with a field for each set (`rows_of`)."""

    seed: int = 0
    short: Short = "refuse"
    """Too few pairs for a set: `refuse`, or `take` what there is (smaller, in the same proportions)."""
    sets: Mapping[str, TrainingSet] = field(default_factory=dict, init=False)
    """The kinds of the sets, part of what the stage makes."""

    def __post_init__(self) -> None:
        kinds = {each.name: each.metadata[KIND] for each in fields(self) if KIND in each.metadata}
        object.__setattr__(self, "sets", kinds)
        check_bounds("split", self, from_zero=tuple(kinds))

    @property
    def sized(self) -> dict[str, TrainingSet]:
        """The sets with their rows."""
        return {name: replace(each, rows=getattr(self, name)) for name, each in self.sets.items()}


def stage(name: str, *, pairs: Given, critiques: Output | None, settings: Settings) -> Stage:
    """critiques: None where all sets take all pairs. Makes `SET.jsonl` of each set for ms-swift, `SET.parquet` of each
    for verl."""
    return Stage(
        name=name,
        run=write_sets,
        needs={"pairs": pairs, **({"critiques": critiques} if critiques else {})},
        makes=tuple(Artifact(f"{each}{kind.suffix}") for each, kind in settings.sized.items() if kind.rows),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        prompts=tuple(dict.fromkeys(prompt for each in settings.sets.values() for prompt in each.prompts)),
        disk=disk,
    )


def disk(stage: Stage, need: Needs) -> Space:
    """verl's rows hold their images, ms-swift's the paths of theirs."""
    settings, pairs = stage.config, stage.needs["pairs"]
    critiques = need("critiques") if "critiques" in stage.needs else Amount(0, need("pairs").rows)
    image = _image(pairs.resolve() / "images") if isinstance(pairs, Given) else 0
    critique = critiques.size // max(1, critiques.rows)
    makes = {}
    for name, each in settings.sized.items():
        rows, embeds = min(each.rows, critiques.rows), each.format.startswith("verl")
        makes[f"{name}{each.suffix}"] = Amount(rows * (PROMPT + (image if embeds else critique)), rows)
    return Space(sum(amount.size for amount in makes.values()), makes)


def _image(folder: Path) -> int:
    """Bytes of a pair's image, from a look at some of them."""
    with suppress(OSError), os.scandir(folder) as entries:
        sizes = [entry.stat().st_size for entry in islice(entries, LOOKED_AT)]
        return sum(sizes) // max(1, len(sizes))
    return 0


def write_sets(run: StageRun) -> None:
    from data_tools.split.run import split

    settings: Settings = run.config
    shards = sorted(run.inputs["critiques"].glob("shard-*.jsonl")) if "critiques" in run.inputs else []
    split(run.inputs["pairs"], shards, run.out, settings.sized, settings.seed, settings.short, run.stage.name)
