"""What one set of a split holds. A recipe names its sets; nothing here knows their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from proxygrm.critique.contracts import KINDS, PROXY_GRM, R1

Pool = Literal["right", "wrong", "hard", "all"]
"""right  the teacher judged it right, at the last of its tries
wrong  at none of them
hard   wrong, or right at the second try or later
all    whatever the teacher said, or nobody was asked"""

Format = Literal["swift-grm", "swift-proxy", "swift-r1", "swift-rm", "verl", "verl-proxy", "verl-r1"]
"""swift-grm    .jsonl    pair -> the teacher's critique
swift-proxy  .jsonl    pair + the teacher's rubric -> thought, verdict
swift-r1     .jsonl    pair -> the teacher's judgement by R1-Reward's contract
swift-rm     .jsonl    question -> the better and the worse response; the critique is not used
verl         .parquet  pair with its label; the critique is not used
verl-proxy   .parquet  pair + the teacher's rubric, with its label
verl-r1      .parquet  as verl, with the instruction of R1-Reward's contract"""

Short = Literal["refuse", "take"]
"""With too few pairs for a set: fail, or make all sets of its pool smaller, in proportion."""


@dataclass(frozen=True)
class TrainingSet:
    pool: Pool
    """Which pairs it takes. Those of `right` are shown as the teacher saw them when it was right."""
    format: Format
    rows: int = 0
    """0: the set is not written."""
    beside: str = ""
    """Another set, of another pool, whose pairs it may have too. All others share no image with it."""

    @property
    def suffix(self) -> str:
        return ".jsonl" if self.format.startswith("swift") else ".parquet"

    @property
    def contract(self) -> str:
        """Of the teacher's critiques."""
        return R1 if self.format.endswith("-r1") else PROXY_GRM

    @property
    def prompts(self) -> tuple[str, ...]:
        """Names of the instructions in its rows."""
        if self.format == "swift-rm":
            return ()
        return ("proxy",) if self.format.endswith("-proxy") else (KINDS[self.contract].prompt,)

    @property
    def taught(self) -> bool:
        """Whether rows are written from the teacher's critiques."""
        return self.format in ("swift-grm", "swift-proxy", "swift-r1", "verl-proxy")

    @property
    def rubrics(self) -> bool:
        """Whether rows for verl have the teacher's rubric."""
        return self.format == "verl-proxy"
