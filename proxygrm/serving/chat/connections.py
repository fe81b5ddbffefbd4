"""HTTP connections to chat servers: sends requests, reads responses, and classifies failures of transport."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from functools import cache, partial
from types import TracebackType
from typing import Any, Self

import aiohttp
import certifi

from proxygrm.serving.access.proven_connector import ProvenConnector, Unproven
from proxygrm.serving.chat.failures import ChatFailed, FailureKind

KEEP_ALIVE_S = 3.0
"""vLLM drops idle connections after 5 s; dropping them first saves a failed attempt."""
MAX_ANSWER_BYTES = 16 * 1024**2
"""More than any max_tokens can be; an answer that does not end is malformed."""
CHUNK_BYTES = 256 * 1024


class ChatConnections:
    """The kept connections of one event loop, shared by all requests of a client.

    urls: the servers that will be called. limit: connections at a time, 0 for any number. connect_timeout_s: None
    leaves it to the caller's own deadline. proven: the servers prove that they hold the key before they are sent
    anything. Requests have no time-out here: callers have their own deadlines.
    """

    def __init__(
        self,
        urls: Iterable[str],
        api_key: str = "",
        *,
        limit: int = 0,
        connect_timeout_s: float | None = None,
        proven: bool = False,
    ) -> None:
        connector = partial(ProvenConnector, api_key) if proven else aiohttp.TCPConnector
        tls = _tls() if any(url.startswith("https:") for url in urls) else True
        headers = {"Content-Type": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        reuse = aiohttp.TraceConfig()
        reuse.on_connection_reuseconn.append(_note_reuse)
        self._kept, self._fresh = (
            aiohttp.ClientSession(
                connector=connector(limit=limit, ssl=tls, **options),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
                headers=headers,
                trust_env=False,  # a site's HTTP proxy has no business between two nodes of one job
                trace_configs=[reuse],
            )
            for options in ({"keepalive_timeout": KEEP_ALIVE_S}, {"force_close": True})
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._kept.close()
        await self._fresh.close()

    async def post(
        self, url: str, body: bytes, *, fresh: bool = False, on_sent: Callable[[], None] = lambda: None
    ) -> tuple[int, bytes]:
        """Status and body of the response. fresh: on a new connection. on_sent: called once the server has the request.

        Raises ChatFailed when there is no response. Cancelled, it closes the connection, and the server drops the
        request.
        """
        return await self._send("POST", url, body, fresh, on_sent)

    async def get(self, url: str) -> tuple[int, bytes]:
        return await self._send("GET", url, None, False, lambda: None)

    async def _send(
        self, method: str, url: str, body: bytes | None, fresh: bool, on_sent: Callable[[], None]
    ) -> tuple[int, bytes]:
        """A server may cut a kept connection in the very moment in which it is used again; that is not a failure of the
        server, and such a request is sent once more."""
        if not fresh:
            try:
                return await self._send_once(self._kept, method, url, body, on_sent)
            except _ReusedConnectionCut:
                pass
        return await self._send_once(self._fresh, method, url, body, on_sent)

    async def _send_once(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        body: bytes | None,
        on_sent: Callable[[], None],
    ) -> tuple[int, bytes]:
        data: Any = body
        options: dict[str, Any] = {}
        if body is not None:
            options["headers"] = {"Content-Length": str(len(body))}
            if len(body) > CHUNK_BYTES:
                data = _in_chunks(body, on_sent)
        reused: list[bool] = []
        try:
            async with session.request(
                method, url, data=data, allow_redirects=False, trace_request_ctx=reused, **options
            ) as response:
                on_sent()
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        raise ChatFailed(FailureKind.MALFORMED, f"more than {MAX_ANSWER_BYTES} bytes")
                return response.status, bytes(content)
        except Unproven as error:
            raise ChatFailed(FailureKind.UNPROVEN, str(error)) from error
        except aiohttp.ServerTimeoutError as error:  # also a TimeoutError: the connection was not accepted in time
            raise ChatFailed(FailureKind.CONNECTION, str(error)) from error
        except (aiohttp.http_exceptions.HttpProcessingError, aiohttp.ClientResponseError) as error:
            raise ChatFailed(FailureKind.MALFORMED, _detail(error)) from error  # not even HTTP
        except (aiohttp.ClientError, OSError) as error:
            if reused and not isinstance(error, aiohttp.ClientPayloadError):  # cut before the response had started
                raise _ReusedConnectionCut from error
            raise ChatFailed(FailureKind.CONNECTION, _detail(error)) from error


class _ReusedConnectionCut(Exception):
    """A kept connection ended before there was a response."""


async def _note_reuse(session: Any, context: Any, params: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.append(True)


async def _in_chunks(body: bytes, on_sent: Callable[[], None]) -> AsyncIterator[memoryview]:
    """A large body in pieces, so that other requests proceed meanwhile; `on_sent` is called after the last one."""
    view = memoryview(body)
    for start in range(0, len(body), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]
    on_sent()


def _detail(error: BaseException) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:300]}".strip()


@cache
def _tls() -> ssl.SSLContext:
    """The system's certificate authorities (a site's own among them) and Mozilla's, which a machine without the
    `ca-certificates` package lacks."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
