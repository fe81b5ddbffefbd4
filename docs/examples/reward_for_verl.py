"""A policy's reward from a served reward model (docs/serving.md), for verl: copy it beside your script and set

    reward.custom_reward_function.path=reward_for_verl.py  reward.custom_reward_function.name=compute_score

It needs aiohttp alone. REWARD_URL is the address that `proxygrm serve-reward` printed, REWARD_KEY_FILE its key file,
REWARD_MODEL the model's name where several are served. verl calls it once for each rollout, many at a time.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import aiohttp

URL = os.environ.get("REWARD_URL", "http://127.0.0.1:8000")
KEY_FILE = os.environ.get("REWARD_KEY_FILE", "reward.key")
MODEL = os.environ.get("REWARD_MODEL")
ATTEMPTS, FIRST_PAUSE_S, TIMEOUT_S = 5, 1.0, 900.0
AT_A_TIME = 256
BLANK = -10.0
"""Of a rollout without text, which no model is asked about. Set it below the scores of your model."""
PASSING = ("timeout", "connection", "http_error", "breaker_open", "no_room")
"""Causes of a 503 that may be gone a moment later."""
_places: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}


async def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: dict[str, Any], **_: Any
) -> dict[str, float]:
    """The model's score of the rollout. extra_info: `question`, and `images` as paths in the folder of --images.

    Raises when the rollout could not be scored: that is not a reward of zero, and verl has no other word for it.
    """
    if not solution_str.strip():
        return {"score": BLANK, "blank": 1.0}
    asked = {"question": extra_info["question"], "images": list(extra_info.get("images") or [])}
    found = await post("/score", asked | {"responses": [solution_str]})
    return {"score": found["scores"][0], "blank": 0.0}


async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The answer of the service. Raises RuntimeError with the cause when there is none."""
    headers = {"Authorization": f"Bearer {Path(KEY_FILE).read_text().strip()}"}
    body = body if MODEL is None else body | {"model": MODEL}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    places = _places.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_A_TIME))
    async with places, aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
            try:
                async with session.post(URL + path, json=body) as response:
                    found = await response.json()
                    if response.status == 200:
                        return found
                    cause = found["error"]["cause"] if isinstance(found["error"], dict) else "key"
                    problem = f"HTTP {response.status}: {found['error']}"
                    if response.status != 503 or cause not in PASSING:
                        break
            except (aiohttp.ClientError, TimeoutError) as error:  # the service is restarted, say
                problem = f"{type(error).__name__}: {error}"
    raise RuntimeError(f"the reward model at {URL} gave no answer to {path}: {problem}")
