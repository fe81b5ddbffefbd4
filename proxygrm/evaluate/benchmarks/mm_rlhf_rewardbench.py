"""MM-RLHF-RewardBench (mm_reward_bench.jsonl; 170 pairs of 46 ids; script: R1-Reward, MM-RLHF-Reward/get_acc.py)."""

from __future__ import annotations

from proxygrm.evaluate.benchmarks.base import Benchmark, Facts, Partition, Revision

CATEGORIES = ("mcq", "long", "short", "safety", "video")
_FOLDERS = tuple(f"{category}/" for category in CATEGORIES)


def category_of(path: str) -> str | None:
    """The first component of the relative path; None when it is not a category.

    Of an absolute path, the one component that is a category, if exactly one is.
    """
    parts = [part for part in path.replace("\\", "/").lower().split("/") if part not in ("", ".")][:-1]
    if parts and parts[0] in CATEGORIES and not path.startswith("/"):
        return parts[0]
    named = [part for part in parts if part in CATEGORIES]
    return named[0] if len(named) == 1 else None


def upstream_category_of(path: str) -> str:
    """Upstream's rule: the first of mcq, long, short, safety, video that occurs anywhere in the path."""
    lower = path.lower()
    return next((category for category in CATEGORIES if category in lower), "none")


def _official(facts: Facts) -> str | None:
    return facts.category if facts.category in CATEGORIES else category_of(facts.path)


BENCHMARK = Benchmark(
    name="mm-rlhf-rewardbench",
    title="MM-RLHF-RewardBench",
    partitions={
        "official": Partition(
            _official, "first component of the path", CATEGORIES, f"a path below {', '.join(CATEGORIES)}",
            sizes={"mcq": 42, "long": 37, "short": 34, "safety": 32, "video": 25},
        ),
        "upstream": Partition(
            lambda facts: upstream_category_of(facts.path) if facts.path else None,
            "any substring of the whole path", (*CATEGORIES, "none"), "an image or video path",
        ),
    },
    official="wrong",
    official_about="the script only checks whether the chosen response scores higher, so a tie is wrong",
    revisions=(Revision("release", 170, 46, {"mcq": 42, "long": 37, "short": 34, "safety": 32, "video": 25}),),
    evidence=lambda facts: facts.path.lower().removeprefix("./").startswith(_FOLDERS),
    acc_plus=True,
    videos=True,
)  # fmt: skip
