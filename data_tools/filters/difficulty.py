"""How hard a pair is for the teacher: in how many of its k critiques the verdict is the label.

A pair may stand in several critique files, or several times in one: each is a sample. Samples without a verdict do
not count as wrong; they are counted apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from proxygrm.core.errors import UserError
from proxygrm.teacher.critiques import read_critiques


@dataclass(frozen=True)
class DifficultySettings:
    agreement: tuple[float, float] = (0.0, 1.0)
    """Least and most share of right verdicts, both allowed. All by default: SFT learns from the pairs that the
    teacher gets right and RL from those it gets wrong, so both are needed; (0.0, 0.99) leaves what RL can use."""
    without_samples: Literal["keep", "drop"] = "keep"
    """Pairs that no critique was written for: an unfinished distillation should not look like a harder data set."""

    def __post_init__(self) -> None:
        low, high = self.agreement
        if not 0 <= low <= high <= 1:
            raise UserError(f"agreement {low:g}:{high:g} must be LOW:HIGH with 0 <= LOW <= HIGH <= 1")
        if self.without_samples not in ("keep", "drop"):
            raise UserError(f"difficulty.without_samples is {self.without_samples!r}; it must be 'keep' or 'drop'")


@dataclass
class Samples:
    """The verdicts on one pair."""

    ones: int = 0
    twos: int = 0
    unusable: int = 0

    @property
    def usable(self) -> int:
        return self.ones + self.twos

    def right(self, label: int) -> int:
        return self.ones if label == 1 else self.twos


def critique_files(paths: Iterable[Path]) -> list[Path]:
    """The `*.jsonl` files of folders, and files themselves. Raises UserError where there is none."""
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path] if path.is_file() else []
        if not found:
            raise UserError(f"{path} holds no critiques (*.jsonl); give the folder that the distillation wrote")
        files += found
    return files


def read_samples(files: Sequence[Path]) -> dict[str, Samples]:
    """Verdicts by pair id, about 250 bytes a pair; the texts are not kept. Raises UserError."""
    samples: dict[str, Samples] = {}
    for file in files:
        for row in read_critiques(file):
            of_pair = samples.setdefault(row.id, Samples())
            if row.verdict == 1:
                of_pair.ones += 1
            elif row.verdict == 2:
                of_pair.twos += 1
            else:
                of_pair.unusable += 1
    return samples


class Difficulty:
    """Judges pairs by their samples and keeps count, for the report."""

    def __init__(self, samples: dict[str, Samples], settings: DifficultySettings) -> None:
        self._samples, self._settings = samples, settings
        self._counts: Counter[tuple[int, int]] = Counter()  # (right, usable samples) -> pairs
        self.without = self.unusable = 0

    def fault(self, pair_id: str, label: int) -> tuple[str, str] | None:
        """(reason, detail) when the pair is to leave: "too_hard", "too_easy" or "no_samples"."""
        found = self._samples.get(pair_id, Samples())
        self.unusable += found.unusable
        if not found.usable:
            self.without += 1
            return ("no_samples", "") if self._settings.without_samples == "drop" else None
        right = found.right(label)
        self._counts[right, found.usable] += 1
        low, high = self._settings.agreement
        detail = f"{right} of {found.usable} verdicts are right"
        if right < low * found.usable - 1e-9:
            return "too_hard", detail
        return ("too_easy", detail) if right > high * found.usable + 1e-9 else None

    def report(self) -> dict[str, object]:
        """Of the pairs that were judged: how many have which agreement, their mean, and what could not be judged."""
        judged = sum(self._counts.values())
        total = sum(count * right / usable for (right, usable), count in self._counts.items())
        return {
            "pairs_with_samples": judged,
            "pairs_without_samples": self.without,
            "samples_without_verdict": self.unusable,
            "mean_agreement": round(total / judged, 4) if judged else None,
            "agreement": {f"{right}/{usable}": count for (right, usable), count in sorted(self._counts.items())},
        }
