"""What one set of a split holds. A recipe names its sets; nothing here knows their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from data_tools.rows.critique_index import Pool

Format = Literal["swift-grm", "swift-proxy", "swift-rm", "verl", "verl-proxy"]
"""swift-grm    .jsonl    pair -> the teacher's critique
swift-proxy  .jsonl    pair + the teacher's rubric -> thought, verdict
swift-rm     .jsonl    question -> the better and the worse response; the critique is not used
verl         .parquet  pair with its label; the critique is not used
verl-proxy   .parquet  pair + the teacher's rubric, with its label"""

Short = Literal["refuse", "take"]
"""With too few pairs for a set: fail, or make all sets of its pool smaller, in proportion."""


@dataclass(frozen=True)
class TrainingSet:
    pool: Pool
    """Pairs that the teacher judged right, or wrong."""
    format: Format
    rows: int = 0
    """0: the set is not written."""

    @property
    def suffix(self) -> str:
        return ".jsonl" if self.format.startswith("swift") else ".parquet"

    @property
    def rubrics(self) -> bool:
        """Whether rows for verl have the teacher's rubric."""
        return self.format == "verl-proxy"
