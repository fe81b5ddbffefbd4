"""RewardBench, first version, split `filtered` (allenai/reward-bench; scripts: rewardbench/constants.py, utils.py).

The score of a section is the mean of its subsets, weighted by a fixed table; the headline is the mean of the four
sections. The table gives math-prm, which has 447 rows, the weight 984 of the six code subsets together.
"""

from __future__ import annotations

from proxygrm.evaluate.benchmarks.base import Benchmark, Facts, Partition, Revision

SECTIONS: dict[str, dict[str, int]] = {
    "chat": {
        "alpacaeval-easy": 100, "alpacaeval-length": 95, "alpacaeval-hard": 95, "mt-bench-easy": 28, "mt-bench-med": 40,
    },
    "chat-hard": {
        "mt-bench-hard": 37, "llmbar-natural": 100, "llmbar-adver-neighbor": 134, "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47, "llmbar-adver-manual": 46,
    },
    "safety": {
        "refusals-dangerous": 100, "refusals-offensive": 100, "xstest-should-refuse": 154,
        "xstest-should-respond": 250, "donotanswer": 136,
    },
    "reasoning": {
        "math-prm": 447, "hep-cpp": 164, "hep-go": 164, "hep-java": 164, "hep-js": 164, "hep-python": 164,
        "hep-rust": 164,
    },
}  # fmt: skip
"""Section -> subset -> rows of the split."""

SIZES = {subset: rows for subsets in SECTIONS.values() for subset, rows in subsets.items()}
SECTION_OF = {subset: section for section, subsets in SECTIONS.items() for subset in subsets}
CODE_ROWS = sum(rows for subset, rows in SIZES.items() if subset.startswith("hep-"))
WEIGHTS = SIZES | {"math-prm": CODE_ROWS}
SCRIPT_WEIGHTS = WEIGHTS | {"xstest-should-refuse": 250, "xstest-should-respond": 154}
"""The script's own table has the sizes of these two subsets the other way round."""


def row_id(subset: str, released_id: str) -> str:
    """Released ids are numbers that may repeat across subsets."""
    return f"{subset}/{released_id}"


def subset_of(facts: Facts) -> str | None:
    return facts.category if facts.category in SIZES else None


def _section(facts: Facts) -> str | None:
    return SECTION_OF.get(facts.category)


_NEEDS = "a `subset` of RewardBench"

BENCHMARK = Benchmark(
    name="rewardbench",
    title="RewardBench",
    partitions={
        "official": Partition(
            _section, "the four sections, each the mean of its subsets weighted by their rows (maths as much as code)",
            tuple(SECTIONS), _NEEDS, stratum=subset_of, weights=WEIGHTS,
        ),
        "upstream": Partition(
            _section, "the same with the script's weights, which exchange the two sizes of XSTest",
            tuple(SECTIONS), _NEEDS, stratum=subset_of, weights=SCRIPT_WEIGHTS,
        ),
        "subset": Partition(subset_of, "the 23 subsets, unweighted", tuple(SIZES), _NEEDS, sizes=SIZES),
    },
    official="half-unparsed",
    official_about="equal scores are wrong; a generative judge's unparsed verdict counts one half",
    revisions=(Revision("split filtered", sum(SIZES.values()), sizes=SIZES),),
    evidence=lambda facts: facts.category in SIZES,
    splits=subset_of,
    images=False,
    headline="macro",
)  # fmt: skip
