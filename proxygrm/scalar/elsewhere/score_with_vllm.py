"""Scores of an exported scalar reward model with vLLM, which embeds, and the head here, in numpy. Nothing of this suite
is imported, so copy the folder.

python score_with_vllm.py serve FOLDER [OPTIONS OF vllm serve]               the server
python score_with_vllm.py score FOLDER URL IMAGE QUESTION RESPONSE...        a line per response; IMAGE "" for none
"""

from __future__ import annotations

import base64
import json
import math
import mimetypes
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

POOLER = {"seq_pooling_type": "LAST", "use_activation": False}
"""The state of the last token, as it is: by default vLLM would scale it to length 1."""
ACTIVATIONS = {"none": lambda state: state, "tanh": np.tanh, "silu": lambda state: state / (1 + np.exp(-state))}


def serve(folder: str, *options: str) -> None:
    words = ["vllm", "serve", str(Path(folder, "vllm")), "--served-model-name", "reward-model", "--runner", "pooling"]
    words += ["--convert", "embed", "--pooler-config", json.dumps(POOLER), *options]
    os.execvp(words[0], words)  # noqa: S606


def score(folder: str, url: str, image: str, question: str, *responses: str) -> None:
    recorded = json.loads(Path(folder, "config.json").read_text())["reward_head"]
    head = np.load(Path(folder, "reward_head.npz"))
    for response in responses:
        answer = response.strip()
        content: list[dict[str, Any]] = [{"type": "text", "text": question.strip()}]
        if image:
            kind = mimetypes.guess_type(image)[0] or "image/png"
            data = f"data:{kind};base64,{base64.b64encode(Path(image).read_bytes()).decode()}"
            content = [{"type": "image_url", "image_url": {"url": data}}, *content]
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
        state = np.asarray(_post(f"{url}/v1/embeddings", messages)["data"][0]["embedding"], dtype=np.float32)
        for number in range(recorded["layers"] - 1):
            state = head[f"dense.{number}.weight"] @ state + head[f"dense.{number}.bias"]
            state = ACTIVATIONS[recorded["activation"]](state)
        value = float(head["out_proj.weight"][0] @ state + head["out_proj.bias"][0])
        if recorded["length_normalisation"]:
            value /= math.log(_post(f"{url}/tokenize", answer)["count"] + 1)
        print(value)


def _post(url: str, asked: Any) -> Any:
    """asked: the messages of a conversation, or a text."""
    body: dict[str, Any] = {"model": "reward-model"}
    if isinstance(asked, str):
        body |= {"prompt": asked, "add_special_tokens": False}
    else:
        body |= {"messages": asked, "add_generation_prompt": False}
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("VLLM_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as answer:  # noqa: S310
        return json.load(answer)


if __name__ == "__main__":
    (serve if sys.argv[1] == "serve" else score)(*sys.argv[2:])
