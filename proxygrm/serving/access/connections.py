"""Deadlines and limits of a server's connections; uvicorn has none for a request that is half sent.

A connection is *unauthorized* until the application accepts it, which `guard` does once a request on it carries the key
or comes from an address that needs none. Unauthorized connections are few and short-lived:

- after UNAUTHORIZED_S they are closed, whatever they are in the middle of;
- of all peers together at most half of the files that the process may have open stay, and of one peer at most a
  SHARE_OF_PEER of these for longer than a second, within UNAUTHORIZED_PER_PEER: a trainer on a busy machine opens
  hundreds before it sends its first request. The oldest are closed first, so that a caller that sends its request at
  once gets through.

An authorized connection is closed only when it stops in the middle of a request: less than MIN_WINDOW_BYTES within
WINDOW_S. Time in which the server itself did not read does not count.
"""

from __future__ import annotations

import asyncio
import resource
from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxygrm.serving.access.guard import CONNECTION, App, Send

SWEEP_S = 1.0
UNAUTHORIZED_S = 15.0
UNAUTHORIZED_PER_PEER = (64, 1024)
"""The fewest and the most that one peer may keep, however many files there are."""
SHARE_OF_PEER = 1 / 16
WINDOW_S = 60.0
MIN_WINDOW_BYTES = 64 * 1024
"""Of a request, within a window."""
MAX_HEAD_BYTES = 64 * 1024
MAX_FILES = 65_536


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with limits, and without websockets."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ws_protocol_class = None  # unused here, and it would escape the limits
        self.authorized = False
        self.opened_at = self.window_at = self.loop.time()
        self.in_request = self._in_head = False
        self.received = 0

    def authorize(self) -> None:
        """Called by the application: the peer may use the server."""
        if not self.authorized:
            self.authorized = True
            _watch_of(self.loop).authorized(self)

    @property
    def peer(self) -> str:
        """Address, by the socket and not by a header."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _watch_of(self.loop).opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        _watch_of(self.loop).closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.received += len(data)
        if self._in_head and self.received > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item, typeddict-item]
        self.in_request = self._in_head = True
        self.received, self.window_at = 0, self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # not trailers, of which there could be any number
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.in_request = False
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Not logged: any caller could fill the log with it."""


class _Watch:
    """The connections of one event loop; the unauthorized ones by peer, the oldest first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._unauthorized: defaultdict[str, dict[LimitedProtocol, None]] = defaultdict(dict)
        self._unauthorized_count = 0
        self._authorized: set[LimitedProtocol] = set()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._max_unauthorized = (MAX_FILES if files == resource.RLIM_INFINITY else files) // 2
        fewest, most = UNAUTHORIZED_PER_PEER
        self._max_of_peer = min(most, max(fewest, int(self._max_unauthorized * SHARE_OF_PEER)))
        self._sweep_at: float | None = None

    def opened(self, connection: LimitedProtocol) -> None:
        self._unauthorized[connection.peer][connection] = None
        self._unauthorized_count += 1
        if self._unauthorized_count > self._max_unauthorized:
            of_largest_peer = max(self._unauthorized.values(), key=len)
            self._drop(next(iter(of_largest_peer)))
        if self._sweep_at is None:
            self._sweep_later()

    def authorized(self, connection: LimitedProtocol) -> None:
        if self._remove_unauthorized(connection):
            self._authorized.add(connection)

    def closed(self, connection: LimitedProtocol) -> None:
        self._remove_unauthorized(connection)
        self._authorized.discard(connection)

    def _remove_unauthorized(self, connection: LimitedProtocol) -> bool:
        """Was it one of them?"""
        of_peer = self._unauthorized.get(connection.peer, {})
        if connection not in of_peer:
            return False
        del of_peer[connection]
        self._unauthorized_count -= 1
        if not of_peer:
            del self._unauthorized[connection.peer]
        return True

    def _drop(self, connection: LimitedProtocol) -> None:
        self.closed(connection)
        connection.transport.abort()  # close() would wait for a peer that does not read

    def _sweep(self) -> None:
        now = self._loop.time()
        # A loop that was blocked has not read yet what peers have sent meanwhile: they are checked the next time.
        was_blocked = self._sweep_at is not None and now - self._sweep_at > SWEEP_S
        if was_blocked:
            for connection in self._authorized:
                connection.window_at, connection.received = now, 0
        else:
            for of_peer in list(self._unauthorized.values()):
                lasting = [connection for connection in of_peer if now - connection.opened_at >= SWEEP_S]
                excess = max(0, len(lasting) - self._max_of_peer)
                for rank, connection in enumerate(lasting):
                    if rank < excess or now - connection.opened_at >= UNAUTHORIZED_S:
                        self._drop(connection)
            for connection in [connection for connection in self._authorized if connection.in_request]:
                self._check_rate(connection, now)
        self._sweep_at = None
        if self._unauthorized or self._authorized:
            self._sweep_later()

    def _sweep_later(self) -> None:
        self._sweep_at = self._loop.time() + SWEEP_S
        self._loop.call_later(SWEEP_S, self._sweep)

    def _check_rate(self, connection: LimitedProtocol, now: float) -> None:
        if connection.flow.read_paused:
            connection.window_at, connection.received = now, 0
        elif now - connection.window_at >= WINDOW_S:
            if connection.received < MIN_WINDOW_BYTES:
                self._drop(connection)
            connection.window_at, connection.received = now, 0


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


def _watch_of(loop: asyncio.AbstractEventLoop) -> _Watch:
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = _Watch(loop)
    return watch


class AuthorizeAll:
    """ASGI middleware of a server without a key: every peer that sends the head of a request is authorized."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Send) -> None:
        if connection := scope.get("extensions", {}).get(CONNECTION):
            connection.authorize()
        await self._app(scope, receive, send)


def allow_many_files() -> None:
    """As many open files as the system lets the process have, up to MAX_FILES: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
