"""A recipe of your own: count the words of a text file, then rank them. Two stages, two SLURM jobs.

proxygrm plan   --recipe docs/examples/two_stages.py --set text=README.md
proxygrm submit --recipe docs/examples/two_stages.py --set text=README.md --run runs/words --watch
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from jobs.engine.recipe import Recipe
from jobs.engine.stage import Artifact, Given, OnNodes, Output, Stage, StageRun


@dataclass(frozen=True)
class Count(OnNodes):
    lower: bool = True
    """Whether "Rubric" and "rubric" are one word."""


@dataclass(frozen=True)
class Rank(OnNodes):
    most: int = 10
    """Words to keep."""


@dataclass(frozen=True)
class Config:
    text: str = "README.md"
    count: Count = field(default_factory=Count)
    rank: Rank = field(default_factory=Rank)


def chain(c: Config) -> list[Stage]:
    """A text in, its most frequent words out."""
    counts = Stage(
        name="count",
        run=count_words,
        needs={"text": Given(c.text)},
        makes=(Artifact("counts.json"),),
        config=c.count,
        on=c.count.on,
    )
    return [counts, rank("rank", counts=counts / "counts.json", settings=c.rank)]


def rank(name: str, *, counts: Output, settings: Rank) -> Stage:
    """A factory: a stage that several recipes, or one recipe several times, can use."""
    return Stage(
        name=name,
        run=rank_words,
        needs={"counts": counts},
        makes=(Artifact("words.json"),),
        config=settings,
        on=settings.on,
    )


def count_words(run: StageRun) -> None:
    text = run.inputs["text"].read_text()
    words = (text.lower() if run.config.lower else text).split()
    (run.out / "counts.json").write_text(json.dumps(Counter(words)))


def rank_words(run: StageRun) -> None:
    counts = Counter(json.loads(run.inputs["counts"].read_text()))
    (run.out / "words.json").write_text(json.dumps(counts.most_common(run.config.most)))


RECIPE = Recipe(name="words", chain=chain, presets={"default": Config})
