"""The card of a scalar reward model: what it is, what it was trained on and how, its scores, how to load it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.evaluate.benchmarks import BENCHMARKS
from proxygrm.report.numbers import between, per_cent
from proxygrm.report.papers import size_texts

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TRAINED_WITH = (
    "learning_rate", "num_train_epochs", "max_steps", "lr_scheduler_type", "warmup_ratio", "weight_decay", "adam_beta2",
    "per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "max_pixels", "tuner_type", "lora_rank",
    "freeze_vit", "freeze_aligner", "torch_dtype", "seed",
)  # fmt: skip
"""The settings that the card names, besides those of the head and the loss."""


@dataclass(frozen=True)
class Card:
    name: str
    """Of the model, among those that were scored together."""
    backbone: str
    """Start checkpoint: hub name or path."""
    training: Mapping[str, Any]
    """Settings (`SftSettings`) as plain values."""
    devices: int
    """That trained side by side."""
    rows: Mapping[str, Any]
    """The report of the training rows (`data_tools.split.preferences`)."""
    held_out: Mapping[str, Any]
    """Figures on held-out pairs."""
    benchmarks: Mapping[str, Mapping[str, Any]]
    """Figures of `eval score` by benchmark."""


def card_text(card: Card) -> str:
    return "\n".join([*_front_matter(card), *_about(card), *_scores(card), *_data(card), *_settings(card), *_LOADING])


def _shown(backbone: str) -> str:
    return backbone if _on_the_hub(backbone) else Path(backbone).name


def _on_the_hub(backbone: str) -> bool:
    return bool(_HUB_NAME.fullmatch(backbone)) and not Path(backbone).exists()


def _front_matter(card: Card) -> list[str]:
    base = [f"base_model: {card.backbone}"] if _on_the_hub(card.backbone) else []
    return ["---", "library_name: transformers", *base, "tags: [reward-model]", "---", ""]


def _about(card: Card) -> list[str]:
    head = card.training["reward_model"]
    options = ("center_rewards_coefficient", "length_normalisation", "margin")
    extra = [f"{name} {head[name]}" for name in options if head[name]]
    return [
        f"# Scalar reward model of {_shown(card.backbone)}",
        "",
        "One number for a response to a question with images: higher is better. Differences between responses to one",
        "question count; the scale is arbitrary. As in BaseReward (arXiv 2509.16127), a small head on the backbone's",
        f"last token, {head['layers']} linear layers ({head['activation']} between them), was trained on pairs by the",
        f"Bradley-Terry loss{' with ' + ', '.join(extra) if extra else ' alone'}.",
        "The licences of the backbone and of the data apply.",
        "",
    ]


def _scores(card: Card) -> list[str]:
    figures = card.held_out
    lines = [_row("held-out pairs", f"{figures.get('pairs', 0):,} pairs", figures.get("accuracy"),
                  figures.get("accuracy_low"), figures.get("accuracy_high"))]  # fmt: skip
    for name, scored in card.benchmarks.items():
        bench = BENCHMARKS[name]
        low, high = scored.get(f"{bench.headline}_interval") or (None, None)
        lines.append(
            _row(f"{bench.title}, {bench.headline}", size_texts([scored])[0], scored.get(bench.headline), low, high)
        )
    return ["## Scores", "", "| on | size | per cent right | 95 % interval |", "|---|---|---|---|", *lines, ""]


def _row(name: str, size: str, share: Any, low: Any, high: Any) -> str:
    return f"| {name} | {size} | {per_cent(share)} | {between(low, high)} |"


def _data(card: Card) -> list[str]:
    sets, sources = card.rows["sets"], card.rows["train"]
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in card.rows["dropped"].items())
    return [
        "## Data",
        "",
        f"{sets['train']:,} pairs to train on, {sets['validation']:,} held off; left out: {dropped or 'none'}.",
        "",
        "| source | training pairs |",
        "|---|---|",
        *(f"| {source} | {count:,} |" for source, count in sources.items()),
        "",
    ]


def _settings(card: Card) -> list[str]:
    settings = card.training
    batch = settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"] * card.devices
    names = [name for name in TRAINED_WITH if settings["tuner_type"] == "lora" or name != "lora_rank"]
    return [
        "## Settings",
        "",
        f"ms-swift, `rlhf_type rm`; {batch:,} pairs per step on {card.devices:,} devices.",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {name} | {settings[name]} |" for name in names if settings[name] is not None),
        *(f"| reward_model.{name} | {value} |" for name, value in settings["reward_model"].items()),
        "",
    ]


_LOADING = """\
## Loading

The files are those of the backbone under their released names; the head's weights are `score.*`, and `reward_head` in
`config.json` says how it is built. The score is that of the token that ends the assistant's turn.

    python score_with_transformers.py . image.png "What is shown?" "A cat." "A dog."    # transformers alone

    python score_with_vllm.py serve . --port 8000       # vLLM as an embedder: what the head takes
    python score_with_vllm.py score . http://127.0.0.1:8000 image.png "What is shown?" "A cat." "A dog."
""".splitlines()
