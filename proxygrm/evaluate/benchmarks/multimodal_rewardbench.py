"""Multimodal RewardBench (facebookresearch/multimodal_rewardbench; official script: scripts/2_get_accuracy.py)."""

from __future__ import annotations

from proxygrm.evaluate.benchmarks.base import Benchmark, Facts, Partition, Revision

CATEGORIES = ("correctness", "preference", "knowledge", "reasoning", "safety", "vqa")
SPLITS = ("reasoning/math", "reasoning/coding", "safety/bias", "safety/toxicity")


def split_of(row_id: str, category: str) -> str:
    """The official group: safety and reasoning split in two by the prefix of the ID, the others unchanged."""
    category, start = category.strip().lower(), row_id.lower()
    if category == "safety":
        return "safety/bias" if start.startswith("pairs") else "safety/toxicity"
    if category == "reasoning":
        return "reasoning/math" if start.startswith("math") else "reasoning/coding"
    return category


def category_of(category: str) -> str | None:
    """One of the six, from a row's `Category` or from a pair's category ("safety/bias"); None for anything else."""
    base = category.strip().lower().partition("/")[0]
    return base if base in CATEGORIES else None


def _group(facts: Facts, row_id: str) -> str | None:
    base = category_of(facts.category)
    if base is None or "/" in facts.category:
        return base and facts.category.strip().lower()
    return split_of(row_id, base)


def _half(facts: Facts) -> str | None:
    group = _group(facts, facts.id)
    return group if group and "/" in group else None


BENCHMARK = Benchmark(
    name="multimodal-rewardbench",
    title="Multimodal RewardBench",
    partitions={
        "official": Partition(
            lambda facts: category_of(facts.category), "the six categories of the release", CATEGORIES, "a `Category`"
        ),
        "split": Partition(
            lambda facts: _group(facts, facts.id), "safety and reasoning in two halves, as the official script prints",
            ("correctness", "preference", "knowledge", *SPLITS, "vqa"), "a `Category`",
        ),
        "upstream": Partition(
            lambda facts: _group(facts, facts.lower_id),
            "the same, by the field `id` only, and the macro average includes 'all'",
            ("correctness", "preference", "knowledge", *SPLITS, "vqa"), "a `Category`", macro_with_all=True,
        ),
    },
    official="half",
    official_about="the script flips a coin for an unparsed row; its expectation, one half, is counted here",
    revisions=(
        Revision("with Hateful Memes", 5211, sizes={"safety/toxicity": 500}),
        Revision("without Hateful Memes", 4711, sizes={"safety/toxicity": 0}),
    ),
    evidence=lambda facts: category_of(facts.category) is not None,
    splits=_half,
)  # fmt: skip
