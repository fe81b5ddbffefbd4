"""Supervised fine-tuning with ms-swift: the proxy and the reward model, each from its own start checkpoint."""

from __future__ import annotations

from jobs.engine.stage import StageRun


def train(run: StageRun) -> None:
    from proxygrm.sft.train import train_sft

    train_sft(
        run.config,
        run.inputs["start"],
        run.inputs["data"],
        run.out,
        device=run.profile.node.device,
        gpus_per_node=run.stage.on.gpus_per_node,
        progress=run.progress,
    )
