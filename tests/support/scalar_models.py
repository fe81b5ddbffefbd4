"""Tiny scalar reward models with random weights, and a second architecture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any


def tiny_start(folder: Path) -> Path:
    """A tiny Qwen2.5-VL with random weights, in a new folder."""
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    build_tiny_model(folder, demo_corpus(0, n=50))
    return folder


def make_scalar(start: Path, out: Path, layers: int = 2, activation: str = "silu", normalised: bool = False) -> Path:
    """`start` as ms-swift would have saved it after training: without its language head, with a reward head."""
    import torch
    from safetensors.torch import load_file, save_file

    from proxygrm.scalar.head import RewardHead

    shutil.copytree(start, out)
    weights = {name: value for name, value in load_file(out / "model.safetensors").items() if name != "lm_head.weight"}
    hidden = json.loads((out / "config.json").read_text())["text_config"]["hidden_size"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        head = RewardHead(hidden, layers, activation)
    weights |= {f"score.{name}": value.detach() for name, value in head.state_dict().items()}
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    recorded = {"layers": layers, "activation": activation, "length_normalisation": normalised}
    change_config(out, reward_head=recorded, architectures=["Qwen2_5_VLForSequenceClassification"])
    return out


def change_config(model: Path, **values: Any) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | values))


def build_tiny_qwen2_vl(start: Path, out: Path) -> Path:
    """Qwen2-VL with the language model's sizes, tokenizer and processor of a tiny Qwen2.5-VL."""
    import torch
    from transformers import AutoConfig, AutoProcessor, Qwen2VLConfig, Qwen2VLForConditionalGeneration

    other = AutoConfig.from_pretrained(start)
    text = other.text_config.to_dict() | {"model_type": "qwen2_vl_text"}
    vision = {"depth": 2, "embed_dim": 64, "hidden_size": text["hidden_size"], "num_heads": 2, "mlp_ratio": 2}
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ids = {name: getattr(other, name) for name in names}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    config.dtype = "float32"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2VLForConditionalGeneration(config).float()
    model.save_pretrained(out)
    AutoProcessor.from_pretrained(start).save_pretrained(out)
    processor = json.loads((out / "processor_config.json").read_text())
    (out / "processor_config.json").write_text(json.dumps(processor | {"processor_class": "Qwen2VLProcessor"}))
    return out
