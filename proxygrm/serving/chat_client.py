"""Asking a teacher behind an OpenAI-compatible chat API, with retries that say in the end what went wrong."""

from __future__ import annotations

import asyncio
import base64
import random
import stat
from pathlib import Path
from typing import Any

import httpx

from proxygrm.core.errors import UserError
from proxygrm.core.files.user_text import read_user_text
from proxygrm.core.images.settle import UnreadableImage, settle
from proxygrm.serving.chat_answer import REFUSED_BY_SERVICE, ChatAnswer, NotAChat, error_words, read_chat

RETRIED = frozenset({408, 409, 425, 429})  # and every 5xx
FATAL = {401: "the key is refused", 402: "the account has no credit", 403: "the key is refused",
         404: "no such model or address"}  # fmt: skip
OF_THE_PROMPT = frozenset({400, 413, 414, 422, 431, 451})
"""Too long, an image the service does not take: asking again with the same prompt changes nothing."""
MAX_WAIT_S = 30.0


class RowFailed(Exception):
    """One pair got no critique; `reason` is short and countable. REFUSED_BY_SERVICE: this prompt never will."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def open_client(
    endpoint: str,
    concurrency: int,
    timeout_s: float,
    api_key_file: str | Path | None,
    api_key: str = "",
    who: str = "teacher",
) -> httpx.AsyncClient:
    """`endpoint` with or without `/v1`. Proxy variables of the environment are ignored (teachers live in-cluster).

    api_key: instead of a file; `who` names the endpoint's part in messages.
    """
    if not endpoint.startswith(("http://", "https://")):
        raise UserError(f"{who} endpoint {endpoint!r} is no URL; it starts with http:// or https://")
    base = endpoint.rstrip("/")
    base = base if base.endswith("/v1") else base + "/v1"
    key = read_key(Path(api_key_file)) if api_key_file else api_key
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    try:
        return httpx.AsyncClient(base_url=base, headers=headers, timeout=timeout_s, limits=limits, trust_env=False)
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: a key that cannot stand in a header
        raise UserError(f"{who} endpoint {endpoint!r} or its key cannot be used: {type(error).__name__}") from None


def read_key(path: Path) -> str:
    """An API key from a file that only its owner can read."""
    try:
        mode, key = path.stat().st_mode, read_user_text(path).strip()
    except OSError as error:
        raise UserError(f"API key file {path}: {error.strerror}; write the key there with mode 0600") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UserError(f"API key file {path} can be read by others; run: chmod 600 {path}")
    if not key:
        raise UserError(f"API key file {path} is empty")
    return key


def chat_body(model: str, prompt: str, images: list[Path], temperature: float, max_tokens: int) -> dict[str, Any]:
    """Request body: the pictures as data URLs, then the instruction (which carries no `<image>` tags)."""
    parts: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": _data_url(path)}} for path in images]
    parts.append({"type": "text", "text": prompt})
    return {
        "model": model,
        "messages": [{"role": "user", "content": parts}],
        "temperature": temperature,
        "max_tokens": max_tokens,
    }


async def check_model(client: httpx.AsyncClient, model: str, attempts: int = 5, who: str = "teacher") -> None:
    """Fail early and clearly: nobody answers, the key is refused, or the model is not served there."""
    last = ""
    for attempt in range(attempts):
        try:
            answer = await client.get("models")
        except httpx.RequestError as error:
            last = f"{type(error).__name__} {error}".strip()
        else:
            if answer.status_code in (401, 403):
                raise UserError(f"{client.base_url}: {FATAL[answer.status_code]}; check the API key")
            if answer.status_code < 500:
                served = _served(answer)
                if served and model not in served:
                    raise UserError(f"{client.base_url} does not serve {model!r}; it serves: {', '.join(served[:5])}")
                return
            last = f"HTTP {answer.status_code}"
        if attempt + 1 < attempts:
            await asyncio.sleep(_wait_s(attempt))
    raise UserError(f"no {who} answers at {client.base_url} ({last}); start it, or correct the endpoint")


async def complete(client: httpx.AsyncClient, body: dict[str, Any], attempts: int) -> ChatAnswer:
    """One answer, which may have no text but a cause. Retries time-outs, lost connections, 429, 5xx and what is no
    chat completion, with growing pauses; the client's time-out bounds each attempt as a whole, an answer that trickles
    in included.

    Raises RowFailed when this pair gets no answer, UserError when no pair will (wrong key, unknown model).
    """
    failure = RowFailed("no_attempt", "")
    for attempt in range(attempts):
        try:
            async with asyncio.timeout(client.timeout.read):
                answer = await client.post("chat/completions", json=body)
        except (httpx.TimeoutException, TimeoutError) as error:
            failure = RowFailed("timeout", str(error) or f"no whole answer in {client.timeout.read:g} s")
        except httpx.RequestError as error:
            failure = RowFailed("connection", str(error))
        else:
            status, words = answer.status_code, _words(answer)
            if status == 200:
                try:
                    return read_chat(answer.content)
                except NotAChat as error:
                    status, words = error.status, str(error)
            failure = _failure(client, status, words)
            if failure.reason == REFUSED_BY_SERVICE or (400 <= status < 500 and status not in RETRIED):
                raise failure
        if attempt + 1 < attempts:
            await asyncio.sleep(_wait_s(attempt))
    raise failure


def _failure(client: httpx.AsyncClient, status: int, words: str) -> RowFailed:
    """status: 0 for a body that is no chat completion. Raises UserError for what concerns every pair."""
    if status in FATAL:
        raise UserError(f"{client.base_url}: {FATAL[status]} ({words})")
    if status in OF_THE_PROMPT:
        return RowFailed(REFUSED_BY_SERVICE, f"HTTP {status}: {words}")
    return RowFailed(f"http_{status}" if status else "malformed_answer", words)


def _words(answer: httpx.Response) -> str:
    try:
        said = error_words(answer.json())
    except (ValueError, RecursionError):
        said = ""
    return said or " ".join(answer.text.split())[:300]


def _wait_s(attempt: int) -> float:
    return min(MAX_WAIT_S, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)


def _served(answer: httpx.Response) -> list[str]:
    try:
        return [str(entry["id"]) for entry in answer.json()["data"]] if answer.status_code == 200 else []
    except (ValueError, KeyError, TypeError):
        return []  # not every service lists its models; the first request will tell


def _data_url(path: Path) -> str:
    """Of the image as every consumer sees it, under its true type. Raises OSError."""
    try:
        settled = settle(path.read_bytes(), decode=False)
    except UnreadableImage as error:
        raise OSError(f"{path}: {error}") from error
    return f"data:{settled.media_type};base64,{base64.b64encode(settled.data).decode()}"
