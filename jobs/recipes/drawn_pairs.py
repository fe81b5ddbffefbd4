"""The demo's inputs that most recipes share: drawn preference pairs, benchmarks in their released layouts, and a tiny
randomly initialised Qwen2.5-VL whose tokenizer knows their words."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jobs.engine.demo_inputs import DemoInputs
from proxygrm.core.pairs import SCHEMA_VERSION

TRAIN, HELD_OUT, IN_BENCHMARK, SEED = 5000, 160, 40, 0
KINDS = ("colour",)
FOG = 0.6
"""Share of the images in fog."""
MODEL = "tiny-qwen2.5-vl"


def draw(folder: Path, seed: int = SEED, fog: float = FOG, judgements: bool = False) -> None:
    """pairs/ and held_out/ (through the real reader), benchmarks/, and the model. judgements: its tokenizer knows the
    words of R1-Reward's contract instead of the critique's."""
    from data_tools.ingest.run import ingest
    from data_tools.sources.demo_benchmarks import write_demo_benchmarks
    from data_tools.sources.demo_pairs import write_demo_pairs
    from proxygrm.demo.corpus import demo_corpus, judgement_corpus
    from proxygrm.demo.model import build_tiny_model

    write_demo_benchmarks(folder / "benchmarks", IN_BENCHMARK, seed)
    write_demo_pairs(folder / "release", TRAIN, HELD_OUT, seed, KINDS, fog)
    for name, target in (("train", "pairs"), ("held_out", "held_out")):
        ingest("rlaif-v", folder / "release" / f"{name}.parquet", folder / target)
    corpus = judgement_corpus if judgements else demo_corpus
    build_tiny_model(folder / MODEL, corpus(seed, kinds=KINDS), seed=seed)


STAMP = {
    "train": TRAIN,
    "held_out": HELD_OUT,
    "benchmarks": IN_BENCHMARK,
    "seed": SEED,
    "fog": FOG,
    "recipe": 8,
    "pairs": SCHEMA_VERSION,
}

INPUTS = DemoInputs(name="demo-inputs", stamp=STAMP, draw=draw)

LITTLE_FOG = 0.2
"""Where a teacher may try again, so that what it misread of a clear image comes right."""

JUDGEMENTS = DemoInputs(
    name="demo-inputs-judgements",
    stamp={**STAMP, "fog": LITTLE_FOG, "words": "judgements"},
    draw=partial(draw, fog=LITTLE_FOG, judgements=True),
)
