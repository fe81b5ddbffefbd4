"""How a release becomes a solutions folder."""

from __future__ import annotations

from dataclasses import dataclass

from data_tools.sources.visualprm import Reading
from proxygrm.core.bounds import check_bounds

APART, INCLUDE = OUTCOMES = ("apart", "include")


@dataclass(frozen=True)
class SolutionOptions(Reading):
    outcomes: str = APART
    """Rows with one label of the whole response: `apart`, in outcomes.jsonl, or `include` them as solutions whose steps
    are unknown."""
    questions: int = 0
    """Keep the solutions of so many questions, drawn by the seed; 0: of all."""
    paired_only: bool = False
    """Keep only solutions that are in a pair."""
    seed: int = 0
    """Which questions are drawn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bounds("solutions", self, from_zero=("questions", "seed"), choices={"outcomes": OUTCOMES})
