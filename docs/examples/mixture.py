"""A recipe of your own: one mixture of preference data, and an ablation of its sources.

proxygrm plan   --recipe docs/examples/mixture.py --set mix.root=data
proxygrm submit --recipe docs/examples/mixture.py --set mix.root=data --run runs/mixture --watch
proxygrm ablate docs/examples/mixture_sources.toml --recipe docs/examples/mixture.py --run runs/mixture

Each cell of the ablation has its own mixture. A recipe that trains on it takes `mix / "pairs"`, and names its training
and its evaluation in `per_cell` too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobs.engine.recipe import PerCell, Recipe, Sweep
from jobs.engine.stage import Stage
from jobs.stages.data import mix


@dataclass(frozen=True)
class Config:
    mix: mix.Settings = field(default_factory=mix.Settings)


def chain(c: Config) -> list[Stage]:
    return [mix.stage("mix", settings=c.mix)]


RECIPE = Recipe(
    name="mixture",
    chain=chain,
    presets={"base-reward": Config, "r1-reward": lambda: Config(mix.Settings(spec="r1-reward"))},
    sweep=Sweep(per_cell={"mix": PerCell("ablation_mix")}),
)
