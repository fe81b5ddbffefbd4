"""GRPO with verl on N nodes, and the frozen proxy's vLLM replicas on nodes (or GPUs) of their own.

Every node runs `train`; together they are one Ray cluster. Node 0 then drives: proxy replicas healthy first,
then the trainer; the first death of anything ends the job with the name of its node.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from proxygrm.proxy.settings import ProxySettings

from jobs.stage import StageRun, plain
from proxygrm.rl.config import RlSettings


@dataclass(frozen=True)
class Settings:
    grpo: RlSettings
    proxy: ProxySettings
    proxy_nodes: int


def train_grpo(run: StageRun) -> None:
    train(run, run.config, run.out)


def train(run: StageRun, settings: Settings, out: Path) -> None:
    """One RL run into `out`: `policy/` (HF checkpoint), `metrics.jsonl`, `checkpoints/`, logs."""
    raise NotImplementedError(plain(settings))
