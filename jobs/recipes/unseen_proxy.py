"""A proxy that takes no part in anybody's training: distill -> split -> SFT, on pairs of its own.

Whoever compares reward models that different proxies have trained needs a judge that none of them has met:
`--set evaluate.judge=RUN/proxy_sft/model`. `make replicate` does so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobs.engine.demo_inputs import DemoInputs
from jobs.engine.recipe import Recipe
from jobs.engine.stage import Stage
from jobs.recipes import drawn_pairs, proxy_grm
from jobs.stages import checks
from jobs.stages.data import distill, split
from jobs.stages.training import merge, sft
from proxygrm.report.contents import Report


def chain(c: Config) -> list[Stage]:
    """Preference pairs in, a judge that decides by a rubric out."""
    pairs = checks.pairs(c.pairs)
    critiques = distill.stage("distill", pairs=pairs, settings=c.distill)
    sets = split.stage("split", pairs=pairs, critiques=critiques / "critiques", settings=c.split)
    proxy_sft = sft.stage(
        "proxy_sft", start=c.proxy, settings=c.proxy_sft,
        data=sets / "proxy_sft.jsonl", validation=sets / "proxy_sft_val.jsonl",
    )  # fmt: skip
    trained, _ = merge.trained(proxy_sft, start=c.proxy)
    return [critiques, sets, *trained]


@dataclass(frozen=True)
class Sets(split.Settings):
    """As many rows as the proxy of Proxy-GRM has."""

    proxy_sft: int = split.rows_of("right", "swift-proxy", 5_000)
    proxy_sft_val: int = split.rows_of("right", "swift-proxy", 256)


@dataclass(frozen=True)
class Config:
    pairs: str
    """Pairs folder; give it pairs that the trainings to be judged do not have."""
    proxy: str
    """Start checkpoint."""
    distill: distill.Settings
    split: Sets
    proxy_sft: sft.Settings


def like(other: proxy_grm.Config) -> Config:
    """The settings of a Proxy-GRM preset, with another seed."""
    sets = Sets(proxy_sft=other.split.proxy_sft, proxy_sft_val=other.split.proxy_sft_val, on=other.split.on)
    proxy_sft = replace(other.proxy_sft, seed=other.proxy_sft.seed + 1)
    return Config(other.pairs, other.proxy, other.distill, sets, proxy_sft)


def paper() -> Config:
    return replace(like(proxy_grm.paper()), pairs="data/other_pairs")


def demo() -> Config:
    drawn = INPUTS.folder
    return replace(like(proxy_grm.demo()), pairs=str(drawn / "pairs"), proxy=str(drawn / drawn_pairs.MODEL))


def quick() -> Config:
    return replace(demo(), proxy_sft=replace(demo().proxy_sft, max_steps=100))


INPUTS = DemoInputs(
    name="demo-inputs-unseen",
    stamp={**drawn_pairs.INPUTS.stamp, "seed": drawn_pairs.SEED + 1},
    draw=lambda folder: drawn_pairs.draw(folder, drawn_pairs.SEED + 1),
)

RECIPE = Recipe(
    name="unseen-proxy",
    chain=chain,
    presets={"paper": paper, "demo": demo, "quick": quick},
    report=Report(
        title="Unseen proxy",
        stages={"distill": "teacher's critiques", "split": "training sets", "proxy_sft": "proxy, SFT"},
        counts="split/report.json",
    ),
    demo_inputs=INPUTS,
)
