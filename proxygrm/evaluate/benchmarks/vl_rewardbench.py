"""VL-RewardBench (MMInstruction/VL-RewardBench; official script: vl-rewardbench/VL_RewardBench, cal.py)."""

from __future__ import annotations

from proxygrm.evaluate.benchmarks.base import Benchmark, Facts, Partition, Revision

CATEGORIES = ("general", "hallucination", "reasoning")
_PREFIXES = {
    "hallucination_pair": "hallucination",
    "rlaif-v": "hallucination",
    "rlhf-v": "hallucination",
    "mathverse": "reasoning",
    "mmmu": "reasoning",
}
_START = tuple(_PREFIXES)


def category_of(row_id: str) -> str:
    """The official category, by the prefix of the id in any case; ids with other prefixes are `general`."""
    lower = row_id.lower()
    if not lower.startswith(_START):
        return "general"
    return next(category for prefix, category in _PREFIXES.items() if lower.startswith(prefix))


def upstream_category_of(row_id: str) -> str:
    """The rule of R1-Reward's and Proxy-GRM's scripts: they look for `rlhf` and `rlaif`, but the ids have RLHF-V and
    RLAIF-V, so the 301 rows of these two sets count as `general`."""
    if "mmmu" in row_id or "mathverse" in row_id:
        return "reasoning"
    if "hallucination" in row_id or "rlhf" in row_id or "rlaif" in row_id:
        return "hallucination"
    return "general"


def _evidence(facts: Facts) -> bool:
    return facts.id.lower().startswith((*_START, "wildvision-battle"))


BENCHMARK = Benchmark(
    name="vl-rewardbench",
    title="VL-RewardBench",
    partitions={
        "official": Partition(
            lambda facts: category_of(facts.id), "by id prefix, in any case", CATEGORIES,
            sizes={"general": 183, "hallucination": 749, "reasoning": 318},
        ),
        "upstream": Partition(
            lambda facts: upstream_category_of(facts.id), "RLAIF-V and RLHF-V count as general (case bug)", CATEGORIES,
            sizes={"general": 484, "hallucination": 448, "reasoning": 318},
        ),
    },
    official="drop",
    official_about="unparsed and tied rows are not counted; with votes, nor is a row with any unparsed vote",
    revisions=(
        Revision("first release", 1250, 1225, {"general": 183, "hallucination": 749, "reasoning": 318}),
        Revision("later release", 1247),
    ),
    evidence=_evidence,
)  # fmt: skip
