"""A policy's reward from a served reward model (docs/serving.md), for TRL's GRPOTrainer:

    GRPOTrainer(model=..., reward_funcs=served_reward, train_dataset=..., args=GRPOConfig(num_generations=8))

Standard library alone. REWARD_URL, REWARD_KEY_FILE and REWARD_MODEL are as in reward_for_verl.py. The completions of
one prompt are scored in one request: a scalar model computes image and question once for them, and a generative one
compares each two in both orders, so that a score is the share of the group that it beats.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

URL = os.environ.get("REWARD_URL", "http://127.0.0.1:8000")
KEY_FILE = os.environ.get("REWARD_KEY_FILE", "reward.key")
MODEL = os.environ.get("REWARD_MODEL")
ATTEMPTS, FIRST_PAUSE_S, TIMEOUT_S = 5, 1.0, 900.0
AT_A_TIME = 16
BLANK = -10.0
"""Of a completion without text, which no model is asked about. Set it below the scores of your model."""
PASSING = ("timeout", "connection", "http_error", "breaker_open", "no_room")
"""Causes of a 503 that may be gone a moment later."""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def served_reward(
    prompts: Sequence[Any], completions: Sequence[Any], image_path: Sequence[Any] | None = None, **_: Any
) -> list[float]:
    """image_path: a column of the data set, with paths in the folder of --images.

    Raises when a completion could not be scored. TRL also takes None, but adds it up as 0 where there is no other
    reward function.
    """
    images = image_path or [None] * len(prompts)
    groups: dict[str, list[int]] = {}
    for at, (prompt, image) in enumerate(zip(prompts, images, strict=True)):
        groups.setdefault(json.dumps([text_of(prompt), image]), []).append(at)
    rewards = [BLANK] * len(prompts)

    def score(asked: str, members: list[int]) -> None:
        question, image = json.loads(asked)
        written = [at for at in members if text_of(completions[at]).strip()]
        if written:
            responses = [text_of(completions[at]) for at in written]
            found = post("/score", {"question": question, "images": image, "responses": responses})
            for at, reward in zip(written, found["scores"], strict=True):
                rewards[at] = reward

    with ThreadPoolExecutor(AT_A_TIME) as threads:
        list(threads.map(lambda group: score(*group), groups.items()))
    return rewards


def text_of(turns: Any) -> str:
    """Of a prompt or completion, plain or as messages: the last message's text."""
    content = turns if isinstance(turns, str) else turns[-1]["content"]
    parts = [{"text": content}] if isinstance(content, str) else content
    return "".join(part.get("text") or "" for part in parts)


def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer of the service. Raises RuntimeError with the cause when there is none."""
    headers = {"Authorization": f"Bearer {Path(KEY_FILE).read_text().strip()}", "Content-Type": "application/json"}
    data = json.dumps(body if MODEL is None else body | {"model": MODEL}).encode()
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
        try:
            request = urllib.request.Request(URL + path, data, headers)  # noqa: S310 (the service's own address)
            with DIRECT.open(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            problem = error.read(1000).decode(errors="replace")
            if error.code != 503 or not any(f'"{cause}"' in problem for cause in PASSING):
                break
        except OSError as error:  # the service is restarted, say
            problem = str(error)
    raise RuntimeError(f"the reward model at {URL} gave no answer to {path}: {problem}")
