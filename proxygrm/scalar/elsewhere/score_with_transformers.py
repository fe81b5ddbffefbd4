"""Scores of a scalar reward model with transformers alone; nothing of this suite is imported, so copy the file.

python score_with_transformers.py MODEL IMAGE QUESTION RESPONSE...     one line per response; IMAGE "" for none
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import safe_open
from torch.nn.functional import linear, silu
from transformers import AutoModelForImageTextToText, AutoProcessor

ACTIVATIONS = {"none": lambda state: state, "tanh": torch.tanh, "silu": silu}


def main(folder: str, image: str, question: str, *responses: str) -> None:
    head = json.loads(Path(folder, "config.json").read_text())["reward_head"]
    weights: dict[str, torch.Tensor] = {}
    for file in Path(folder).glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            names = [name for name in tensors.keys() if name.startswith("score.")]  # noqa: SIM118
            weights |= {name: tensors.get_tensor(name).float() for name in names}
    processor = AutoProcessor.from_pretrained(folder)
    # The language head, which the checkpoint does not have, is not used.
    backbone = AutoModelForImageTextToText.from_pretrained(folder).model.eval()
    images = [Image.open(image).convert("RGB")] if image else []
    for response in responses:
        content: list[Any] = [{"type": "image"} for _ in images] + [{"type": "text", "text": question.strip()}]
        answer = {"role": "assistant", "content": [{"type": "text", "text": response.strip()}]}
        text = processor.apply_chat_template([{"role": "user", "content": content}, answer], tokenize=False)
        inputs = processor(text=[text], images=images or None, return_tensors="pt")
        with torch.inference_mode():
            state = backbone(**inputs).last_hidden_state[:, -1].float()  # of the token that ends the answer
            for number in range(head["layers"] - 1):
                weight, bias = (weights[f"score.dense.{number}.{part}"] for part in ("weight", "bias"))
                state = ACTIVATIONS[head["activation"]](linear(state, weight, bias))
            score = linear(state, weights["score.out_proj.weight"], weights["score.out_proj.bias"]).item()
        if head["length_normalisation"]:
            score /= math.log(len(processor.tokenizer(response.strip())["input_ids"]) + 1)
        print(score)


if __name__ == "__main__":
    main(*sys.argv[1:])
