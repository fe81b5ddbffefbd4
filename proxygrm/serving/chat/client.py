"""A chat client of one OpenAI-compatible service, with retries: the teacher's and the endpoint judges'."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from proxygrm.core.errors import UserError
from proxygrm.serving.access.key_file import can_be_sent, read_key
from proxygrm.serving.chat.answer import ChatAnswer, NotAChat, read_chat, response_detail
from proxygrm.serving.chat.connections import ChatConnections
from proxygrm.serving.chat.failures import ChatFailed, FailureKind, kind_of_status

MAX_PAUSE_S = 30.0
_ACCESS = {
    401: ("chat.key-refused", "the key is refused"),
    402: ("chat.no-credit", "the account has no credit"),
    403: ("chat.key-refused", "the key is refused"),
    404: ("chat.not-found", "no such model or address"),
}
_FINAL = frozenset({FailureKind.PROMPT, FailureKind.METHOD})
"""Another attempt with the same prompt changes nothing."""


class ChatClient:
    """One service; create it in the event loop that uses it, and close it (`async with`).

    endpoint: with or without `/v1`. concurrency: connections at a time. timeout_s: of one attempt, from sending to the
    last byte. api_key: instead of a file. role: of the service, in messages. Proxy variables of the environment are
    ignored, since teachers are usually inside the cluster.
    """

    def __init__(
        self,
        endpoint: str,
        concurrency: int,
        timeout_s: float,
        api_key_file: str | Path | None = None,
        api_key: str = "",
        role: str = "teacher",
    ) -> None:
        self.base_url, self.timeout_s, self.role = _base_url(endpoint, role), timeout_s, role
        key = read_key(Path(api_key_file)) if api_key_file else api_key
        if not can_be_sent(key):
            raise UserError(
                f"the key for the {role} endpoint {endpoint!r} cannot be sent: it is not one line of ASCII",
                code="key.unusable",
                endpoint=endpoint,
            )
        key = "" if urlsplit(self.base_url).username else key  # user:password@ is itself an authorization
        self._connections = ChatConnections([self.base_url], key, limit=concurrency)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()

    async def check_model(self, model: str, attempts: int = 5) -> None:
        """UserError, early: nothing answers, the key is refused, or the model is not served there."""
        reason = ""
        for attempt in range(attempts):
            try:
                async with asyncio.timeout(self.timeout_s):
                    status, body = await self._connections.get(f"{self.base_url}/models")
            except (ChatFailed, TimeoutError) as error:
                reason = error.detail if isinstance(error, ChatFailed) else f"no answer in {self.timeout_s:g} s"
            else:
                if status in (401, 403):
                    raise UserError(
                        f"{self.base_url}: the key is refused; check the API key",
                        code="chat.key-refused",
                        url=self.base_url,
                        status=status,
                    )
                if status < 500:
                    self._check_served(model, _model_names(body) if status == 200 else [])
                    return
                reason = f"HTTP {status}"
            if attempt + 1 < attempts:
                await asyncio.sleep(pause_s(attempt))
        raise UserError(
            f"no {self.role} answers at {self.base_url} ({reason}); start it, or correct the endpoint",
            code="chat.no-answer",
            url=self.base_url,
            reason=reason,
        )

    async def complete(self, body: bytes, attempts: int) -> ChatAnswer:
        """One answer, which may have no text but a cause. Retries time-outs, lost connections, 429, 5xx and what is not
        a chat completion, with growing pauses.

        Raises ChatFailed when this prompt gets no answer, UserError when no prompt will (wrong key, unknown model).
        """
        attempt = 0
        while True:
            try:
                return await self._complete_once(body)
            except ChatFailed as failure:
                if failure.kind is FailureKind.ACCESS:
                    code, reason = _ACCESS[failure.status]
                    raise UserError(
                        f"{self.base_url}: {reason} ({failure.detail})",
                        code=code,
                        url=self.base_url,
                        status=failure.status,
                    ) from failure
                attempt += 1
                if failure.kind in _FINAL or attempt >= attempts:
                    raise
            await asyncio.sleep(pause_s(attempt - 1))

    async def _complete_once(self, body: bytes) -> ChatAnswer:
        """The time-out bounds the attempt as a whole, also an answer that trickles in."""
        try:
            async with asyncio.timeout(self.timeout_s):
                status, response = await self._connections.post(f"{self.base_url}/chat/completions", body)
        except TimeoutError as error:
            raise ChatFailed(FailureKind.TIMEOUT, f"no complete answer in {self.timeout_s:g} s") from error
        if status != 200:
            raise ChatFailed(kind_of_status(status), response_detail(response), status)
        try:
            return read_chat(response)
        except NotAChat as error:  # a gateway may write the status that it means into the body
            kind = kind_of_status(error.status) if error.status else FailureKind.MALFORMED
            raise ChatFailed(kind, str(error), error.status) from error

    def _check_served(self, model: str, served: list[str]) -> None:
        """served: [] where the service does not list its models; then the first request tells."""
        if served and model not in served:
            raise UserError(
                f"{self.base_url} does not serve {model!r}; it serves: {', '.join(served[:5])}",
                code="chat.model-not-served",
                url=self.base_url,
                model=model,
                served=served,
            )


def pause_s(attempt: int) -> float:
    """Before the attempt that follows this one (from 0)."""
    return min(MAX_PAUSE_S, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)


def _base_url(endpoint: str, role: str) -> str:
    if not endpoint.startswith(("http://", "https://")):
        raise UserError(
            f"{role} endpoint {endpoint!r} is not a URL; it starts with http:// or https://",
            code="chat.endpoint-not-a-url",
            endpoint=endpoint,
        )
    base = endpoint.rstrip("/")
    try:
        if not urlsplit(base).hostname or urlsplit(base).port == 0 or any(c.isspace() for c in base):
            raise ValueError("no host, or a port that does not exist")
    except ValueError as error:
        raise UserError(
            f"{role} endpoint {endpoint!r} cannot be used: {error}", code="chat.endpoint-not-a-url", endpoint=endpoint
        ) from None
    return base if base.endswith("/v1") else base + "/v1"


def _model_names(body: bytes) -> list[str]:
    try:
        return [str(entry["id"]) for entry in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
