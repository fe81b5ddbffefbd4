"""How hard a pair is for the teacher: the share of its critiques whose verdict is the label.

A pair may be in several critique files, or several times in one: each critique is a sample. Samples without a verdict
are not wrong; they are counted separately.
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
    """Lowest and highest share of right verdicts that is kept. All by default: SFT learns from the pairs that the
    teacher judges right and RL from those it judges wrong, so both are needed; (0.0, 0.99) keeps what RL can use."""
    without_samples: Literal["keep", "drop"] = "keep"
    """Pairs without a critique: an unfinished distillation should not look like a harder data set."""

    def __post_init__(self) -> None:
        low, high = self.agreement
        if not 0 <= low <= high <= 1:
            raise UserError(
                f"agreement {low:g}:{high:g} must be LOW:HIGH with 0 <= LOW <= HIGH <= 1",
                code="settings.out-of-range", name="difficulty.agreement", value=[low, high],
            )  # fmt: skip
        if self.without_samples not in ("keep", "drop"):
            raise UserError(
                f"difficulty.without_samples is {self.without_samples!r}; it must be 'keep' or 'drop'",
                code="settings.bad-value", name="difficulty.without_samples", value=self.without_samples,
            )  # fmt: skip


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
    """The paths that are files, and the `*.jsonl` files of folders. Raises UserError for a path without any."""
    files: list[Path] = []
    for path in map(Path, paths):
        matches = sorted(path.glob("*.jsonl")) if path.is_dir() else [path] if path.is_file() else []
        if not matches:
            raise UserError(
                f"{path} has no critiques (*.jsonl); give the folder that the distillation wrote",
                code="critique.none", files=[str(path)],
            )  # fmt: skip
        files += matches
    return files


def read_samples(files: Sequence[Path]) -> dict[str, Samples]:
    """Verdicts by pair id, about 250 bytes per pair, without the texts. Raises UserError."""
    samples: dict[str, Samples] = {}
    for file in files:
        for row in read_critiques(file):
            pair_samples = samples.setdefault(row.id, Samples())
            if row.choice == 1:
                pair_samples.ones += 1
            elif row.choice == 2:
                pair_samples.twos += 1
            else:
                pair_samples.unusable += 1
    return samples


class Difficulty:
    """Filters pairs by their samples, and counts for the report."""

    def __init__(self, samples: dict[str, Samples], settings: DifficultySettings) -> None:
        self._samples, self._settings = samples, settings
        self._counts: Counter[tuple[int, int]] = Counter()  # (right, usable samples) -> pairs
        self.without_samples = self.unusable = 0

    def fault(self, pair_id: str, label: int) -> tuple[str, str] | None:
        """(reason, detail) if the pair is dropped: "too_hard", "too_easy" or "no_samples"; None if it is kept."""
        samples = self._samples.get(pair_id, Samples())
        self.unusable += samples.unusable
        if not samples.usable:
            self.without_samples += 1
            return ("no_samples", "") if self._settings.without_samples == "drop" else None
        right = samples.right(label)
        self._counts[right, samples.usable] += 1
        low, high = self._settings.agreement
        detail = f"{right} of {samples.usable} verdicts are right"
        if right < low * samples.usable - 1e-9:
            return "too_hard", detail
        return ("too_easy", detail) if right > high * samples.usable + 1e-9 else None

    def report(self) -> dict[str, object]:
        """The distribution and mean of the agreement, and how many pairs and samples have none."""
        judged = sum(self._counts.values())
        total = sum(count * right / usable for (right, usable), count in self._counts.items())
        return {
            "pairs_with_samples": judged,
            "pairs_without_samples": self.without_samples,
            "samples_without_verdict": self.unusable,
            "mean_agreement": round(total / judged, 4) if judged else None,
            "agreement": {f"{right}/{usable}": count for (right, usable), count in sorted(self._counts.items())},
        }
