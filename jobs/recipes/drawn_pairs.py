"""The demo's inputs that most recipes share: drawn preference pairs, benchmarks in their released layouts, and a tiny
randomly initialised Qwen2.5-VL whose tokenizer knows their words."""

from __future__ import annotations

from pathlib import Path

from jobs.engine.demo_inputs import DemoInputs
from proxygrm.core.pairs import SCHEMA_VERSION

TRAIN, HELD_OUT, IN_BENCHMARK, SEED = 5000, 160, 40, 0
KINDS = ("colour",)
FOG = 0.6
"""Share of the images in fog."""
MODEL = "tiny-qwen2.5-vl"


def draw(folder: Path, seed: int = SEED) -> None:
    """pairs/ and held_out/ (through the real reader), benchmarks/, and the model."""
    from data_tools.ingest.run import ingest
    from data_tools.sources.demo_benchmarks import write_demo_benchmarks
    from data_tools.sources.demo_pairs import write_demo_pairs
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    write_demo_benchmarks(folder / "benchmarks", IN_BENCHMARK, seed)
    write_demo_pairs(folder / "release", TRAIN, HELD_OUT, seed, KINDS, FOG)
    for name, target in (("train", "pairs"), ("held_out", "held_out")):
        ingest("rlaif-v", folder / "release" / f"{name}.parquet", folder / target)
    build_tiny_model(folder / MODEL, demo_corpus(seed, kinds=KINDS), seed=seed)


INPUTS = DemoInputs(
    name="demo-inputs",
    stamp={
        "train": TRAIN,
        "held_out": HELD_OUT,
        "benchmarks": IN_BENCHMARK,
        "seed": SEED,
        "fog": FOG,
        "recipe": 8,
        "pairs": SCHEMA_VERSION,
    },
    draw=draw,
)
