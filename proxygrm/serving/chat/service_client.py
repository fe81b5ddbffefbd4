"""Posts JSON to the servers of one service of a job: one after the other, and to the next when one does not answer."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from proxygrm.serving.chat.answer import response_detail
from proxygrm.serving.chat.client import pause_s
from proxygrm.serving.chat.connections import ChatConnections
from proxygrm.serving.chat.failures import ChatFailed, FailureKind, kind_of_status

FINAL = frozenset({FailureKind.PROMPT, FailureKind.METHOD, FailureKind.ACCESS})
"""Another attempt with the same body changes nothing."""


class ServiceClient:
    """Create it in the event loop that uses it. urls: base URLs. timeout_s: of one attempt."""

    def __init__(self, urls: Sequence[str], api_key: str = "", *, timeout_s: float = 300.0, attempts: int = 4) -> None:
        self.urls, self.timeout_s, self.attempts = [url.rstrip("/") for url in urls], timeout_s, attempts
        self._turn = itertools.count()
        self._connections = ChatConnections(self.urls, api_key)

    async def close(self) -> None:
        await self._connections.close()

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON of the response. Raises ChatFailed when no attempt brought one."""
        data, turn, attempt = json.dumps(body).encode(), next(self._turn), 0
        while True:
            try:
                return await self._post_once(self.urls[(turn + attempt) % len(self.urls)] + path, data)
            except ChatFailed as failure:
                attempt += 1
                if failure.kind in FINAL or attempt >= self.attempts:
                    raise
            await asyncio.sleep(pause_s(attempt - 1))

    async def _post_once(self, url: str, data: bytes) -> Any:
        try:
            async with asyncio.timeout(self.timeout_s):
                status, content = await self._connections.post(url, data)
        except TimeoutError as error:
            raise ChatFailed(FailureKind.TIMEOUT, f"no complete answer in {self.timeout_s:g} s") from error
        if status != 200:
            raise ChatFailed(kind_of_status(status), response_detail(content), status)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise ChatFailed(FailureKind.MALFORMED, content[:200].decode(errors="replace")) from error
