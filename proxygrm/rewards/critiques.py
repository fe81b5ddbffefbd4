"""What rewards of pairwise verdicts have in common: columns, and the figures of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from proxygrm.rewards.base import Rating, Reward, Row, mean

FORMAT_WEIGHT = 0.5


class RewardParts(NamedTuple):
    accuracy: float  # +1 right, -1 wrong or no verdict
    format: float  # 1 well formed, 0 malformed
    proxy: float | None  # +1 agrees with the label, -1 disagrees, None: no opinion
    score: float
    unscored: bool  # the proxy should have judged and gave no opinion: mask this rollout, ignore its score
    problem: str | None  # first thing wrong with the critique (`critique.Problem` value), or "unscored"


def accuracy_and_format(right: bool, well_formed: bool, problem: str | None) -> RewardParts:
    """The reward without anybody's opinion."""
    accuracy, format_ = (1.0 if right else -1.0), (1.0 if well_formed else 0.0)
    return RewardParts(accuracy, format_, None, accuracy + FORMAT_WEIGHT * format_, False, problem)


@dataclass(frozen=True)
class VerdictReward(Reward):
    """Columns: accuracy (+1|-1), format (1|0), proxy (+1|-1, 0 when there is no opinion)."""

    judges_pairs: ClassVar[bool] = True
    columns: ClassVar[tuple[str, ...]] = ("accuracy", "format", "proxy")
    text_column: ClassVar[str] = "critique"

    def metrics(self, rows: Sequence[Row]) -> dict[str, float]:
        """`reward/accuracy` and `reward/proxy_agreement` are shares of right verdicts (0..1), over the rollouts that
        have one; `reward/proxy_coverage` is the share of rollouts the proxy judged."""
        scored = [row for row in rows if not row["unscored"]]
        judged = [row for row in scored if row["proxy"]]
        metrics = {
            "reward/accuracy": mean([float(row["accuracy"] > 0) for row in scored]),
            "reward/format": mean([float(row["format"]) for row in scored]),
            "reward/proxy_coverage": len(judged) / len(rows) if rows else 0.0,
        }
        if judged:
            metrics["reward/proxy_agreement"] = mean([float(row["proxy"] > 0) for row in judged])
            if any(row.get("early") for row in judged):
                metrics["reward/judged_early"] = mean([float(row.get("early", 0.0)) for row in judged])
        return metrics


def rating(parts: RewardParts, why: str = "") -> Rating:
    """why: of a judge without an opinion, where that leaves the rollout unscored."""
    numbers = {"accuracy": parts.accuracy, "format": parts.format, "proxy": parts.proxy or 0.0}
    return Rating(parts.score, numbers, parts.unscored, why if parts.unscored else parts.problem or "")
