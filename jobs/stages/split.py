"""Split: pairs and the teacher's critiques into the training sets that a recipe names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from data_tools.split.training_set import Short, TrainingSet
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun
from jobs.stages import checks
from proxygrm.core.bounds import check_bounds


@dataclass(frozen=True)
class Settings(OnNodes):
    """A recipe derives its own from this: `sets` for the kind of each set, and a field of its name with its rows."""

    seed: int = 0
    short: Short = "refuse"
    """Too few pairs for a set: `refuse`, or `take` what there is (smaller, in the same proportions)."""
    sets: Mapping[str, TrainingSet] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        check_bounds("split", self, from_zero=tuple(self.sets))

    @property
    def sized(self) -> dict[str, TrainingSet]:
        """The sets with their rows."""
        return {name: replace(each, rows=getattr(self, name)) for name, each in self.sets.items()}


def stage(name: str, *, pairs: Given, critiques: Output, settings: Settings) -> Stage:
    """Makes `SET.jsonl` of each set for ms-swift, `SET.parquet` of each for verl."""
    return Stage(
        name=name,
        run=write_sets,
        needs={"pairs": pairs, "critiques": critiques},
        makes=tuple(Artifact(f"{each}{kind.suffix}") for each, kind in settings.sized.items() if kind.rows),
        on=settings.on,
        validate=checks.on_one_node,
        config=settings,
        prompts=("grm", "proxy"),
    )


def write_sets(run: StageRun) -> None:
    from data_tools.split.run import split

    settings: Settings = run.config
    shards = sorted(run.inputs["critiques"].glob("shard-*.jsonl"))
    split(run.inputs["pairs"], shards, run.out, settings.sized, settings.seed, settings.short, run.stage.name)
