"""StableReinforce's advantages beside verl's own REINFORCE++, on one core.

    python benchmarks/stable_reinforce.py --rollouts 256 --tokens 8192

Both get the same rewards (one at each response's last token, and a KL term at every token with --kl) and the same mask,
and run interleaved; the best round counts, in seconds. The results are compared where ours drops nothing: they differ
by the deviation, which is the population's in ours and the sample's in verl's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
import torch
from verl.trainer.ppo.core_algos import compute_reinforce_plus_plus_outcome_advantage

from proxygrm.rl.stable_reinforce import advantages

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--kl", action="store_true", help="a reward at every token")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rewards, mask = step(options.rollouts, options.tokens, options.kl)
    print(f"{options.rollouts} x {options.tokens} tokens, {mask.mean():.0%} of them of responses\n")
    print("| discount | verl's REINFORCE++, s | StableReinforce, s | ratio | largest difference |")
    print("|---|---|---|---|---|")
    for gamma in (1.0, 0.99):
        theirs, ours = best_of(
            partial(compute_reinforce_plus_plus_outcome_advantage, rewards, mask, config=SimpleNamespace(gamma=gamma)),
            partial(advantages, rewards, mask, gamma=gamma),
        )
        (their_s, (expected, _)), (our_s, (found, _)) = theirs, ours
        kept = (found != 0) & (mask != 0)
        difference = (found[kept] - expected[kept]).abs().max().item() if kept.any() else 0.0
        print(f"| {gamma} | {their_s:.3f} | {our_s:.3f} | {our_s / their_s:.2f} | {difference:.1e} |")


def step(rollouts: int, tokens: int, kl: bool) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(max(1, tokens // 4), tokens + 1, (rollouts,), generator=draw)
    mask = (torch.arange(tokens) < lengths[:, None]).float()
    rewards = torch.zeros(rollouts, tokens)
    if kl:
        rewards -= 1e-3 * torch.rand(rollouts, tokens, generator=draw) * mask
    right = torch.rand(rollouts, generator=draw) < 0.7
    rewards[torch.arange(rollouts), lengths - 1] += torch.where(right, 2.0, 0.5)
    return rewards, mask


def best_of(*works: Callable[[], Any]) -> list[tuple[float, Any]]:
    """The shortest time of each, and its result."""
    times = [float("inf")] * len(works)
    results: list[Any] = [None] * len(works)
    for _ in range(ROUNDS):
        for number, work in enumerate(works):
            start = time.perf_counter()
            results[number] = work()
            times[number] = min(times[number], time.perf_counter() - start)
    return list(zip(times, results, strict=True))


if __name__ == "__main__":
    main()
