"""What a pair's scores cost: the suite's scorer against one transformers forward per response at batch 1, which is what
published scripts for scalar reward models do.

    python benchmarks/scalar_scoring.py [--pairs 64] [--words 30] [--hidden 128 --layers 3] [--size 56]

Both score the same pairs with the same random weights, in float32 on the CPU, each in a process of its own. Printed:
CPU seconds (user and system) per pair without the start, peak memory, the share of tokens that the shared beginning
saves, and the largest difference of scores. `--hidden 1536 --layers 24` has about 0.5 billion parameters.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import cpu_seconds, peak_mb

COLOURS, SHAPES = ("red", "blue", "green", "yellow"), ("circle", "square", "triangle")
WORDS = (*COLOURS, *SHAPES, "left", "right", "above", "below", "of", "the", "a", "is", "large", "small")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--words", type=int, default=30, help="of a response")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--size", type=int, default=56, help="side of the images in pixels")
    parser.add_argument("--part", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        figures = {"ours": ours, "peer": peer}[options.part](options.folder)
        (options.folder / f"{options.part}.json").write_text(json.dumps(figures))
        return
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    parameters = build(folder / "model", options.hidden, options.layers)
    draw(folder, options.pairs, options.words, options.size)
    figures: dict[str, Any] = {}
    for part in ("peer", "ours"):
        command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
        figures[part] = json.loads((folder / f"{part}.json").read_text())
    one, two = figures["peer"], figures["ours"]
    largest = max(
        abs(a - b) for key, pair in one["scores"].items() for a, b in zip(pair, two["scores"][key], strict=True)
    )
    print(
        f"{options.pairs} pairs, {parameters / 1e6:,.1f} million parameters, responses of about {options.words} words"
    )
    print("| | CPU s per pair | peak memory, MB | tokens |")
    print("|---|---:|---:|---:|")
    for title, each in (("one forward per response", one), ("the suite's scorer", two)):
        print(f"| {title} | {each['cpu_s'] / options.pairs:.4f} | {each['peak_mb']:,.0f} | {each['tokens']:,} |")
    saved = 1 - two["tokens"] / one["tokens"]
    factor = one["cpu_s"] / two["cpu_s"]
    print(f"factor {factor:.2f}; {saved:.0%} of the tokens saved; scores differ by at most {largest:.1e}")


def build(out: Path, hidden: int, layers: int) -> int:
    """A tiny Qwen2.5-VL with a reward head of random weights. Returns its number of parameters."""
    import torch
    from safetensors.torch import load_file, save_file

    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model
    from proxygrm.scalar.head import RewardHead

    build_tiny_model(out, [*demo_corpus(0, n=50), " ".join(WORDS)], hidden=hidden, layers=layers)
    weights = load_file(out / "model.safetensors")
    weights.pop("lm_head.weight")
    torch.manual_seed(0)
    weights |= {f"score.{name}": value.detach() for name, value in RewardHead(hidden).state_dict().items()}
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    config = json.loads((out / "config.json").read_text())
    config["reward_head"] = {"layers": 2, "activation": "silu", "length_normalisation": False}
    (out / "config.json").write_text(json.dumps(config))
    return sum(value.numel() for value in weights.values())


def draw(folder: Path, pairs: int, words: int, size: int) -> None:
    from PIL import Image

    chance = random.Random(0)
    rows = []
    for number in range(pairs):
        Image.new("RGB", (size, size), tuple(chance.randrange(256) for _ in range(3))).save(folder / f"{number}.png")
        responses = [
            " ".join(chance.choices(WORDS, k=chance.randint(words // 2, words + words // 2))) for _ in range(2)
        ]
        rows.append({"key": str(number), "question": "Which shape is it and where?", "responses": responses})
    (folder / "rows.json").write_text(json.dumps(rows))


def read(folder: Path) -> list[Any]:
    from PIL import Image

    from proxygrm.scalar.conversation import Item

    rows = json.loads((folder / "rows.json").read_text())
    images = [Image.open(folder / f"{row['key']}.png").convert("RGB") for row in rows]
    return [Item(r["key"], r["question"], tuple(r["responses"]), (i,)) for r, i in zip(rows, images, strict=True)]


def ours(folder: Path) -> dict[str, Any]:
    from proxygrm.scalar.scorer import Scorer

    items, scorer = read(folder), Scorer(folder / "model")
    list(scorer.scores(items[:2]))  # warm
    before = cpu_seconds()
    scores = list(scorer.scores(items))
    return figures(before, {score.key: score.scores for score in scores}, sum(score.tokens for score in scores))


def peer(folder: Path) -> dict[str, Any]:
    import torch

    from proxygrm.scalar.checkpoint import load_parts

    parts, items = load_parts(folder / "model", "cpu"), read(folder)
    scores: dict[str, list[float]] = {}
    tokens = 0

    def score(item: Any, response: str) -> float:
        nonlocal tokens
        user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": item.question}]}
        answer = {"role": "assistant", "content": [{"type": "text", "text": response}]}
        text = parts.processor.apply_chat_template([user, answer], tokenize=False)
        inputs = parts.processor(text=[text], images=list(item.images), return_tensors="pt")
        tokens += inputs["input_ids"].numel()
        with torch.inference_mode():
            states = parts.backbone(**inputs, use_cache=False).last_hidden_state
            return float(parts.head(states[:, -1]).item())

    score(items[0], items[0].responses[0])  # warm
    tokens, before = 0, cpu_seconds()
    for item in items:
        scores[item.key] = [score(item, response) for response in item.responses]
    return figures(before, scores, tokens)


def figures(before: float, scores: Any, tokens: int) -> dict[str, Any]:
    return {"cpu_s": cpu_seconds() - before, "peak_mb": peak_mb(), "scores": scores, "tokens": tokens}


if __name__ == "__main__":
    main()
