"""Deadlines and caps of a server's connections; uvicorn has none for a request that is half sent.

A connection is a *stranger's* until the application has vouched for it, which `guard` does once a request on it has
shown the key or comes from an address that needs none. Strangers are few, and for a short time only:

- after STRANGER_S a stranger's connection is closed, whatever it is in the middle of;
- of one peer at most STRANGERS_PER_PEER stay longer than a second, and of all together at most half of the files that
  the process may have open. The oldest go first, so that whoever sends its request at once gets through.

What is vouched for is closed only when it stops in the middle of a request: less than SLOWEST bytes within a window of
time. Time in which the server itself did not read counts for nothing.
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
STRANGER_S = 15.0
STRANGERS_PER_PEER = 64
WINDOW_S = 60.0
SLOWEST = 64 * 1024
"""Bytes of a request within a window."""
MOST_HEAD_BYTES = 64 * 1024
MOST_FILES = 65_536


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with limits, and without websockets."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.ws_protocol_class = None  # nothing of ours speaks it, and it would leave the limits
        self.vouched = False
        self.opened_at = self.window_at = self.loop.time()
        self.in_request = self._in_head = False
        self.received = 0

    def vouch(self) -> None:
        """The peer may be here: called by the application."""
        if not self.vouched:
            self.vouched = True
            _watch_of(self.loop).vouched(self)

    @property
    def peer(self) -> str:
        """By the socket, not by what a header says."""
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
        if self._in_head and self.received > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item, typeddict-item]
        self.in_request = self._in_head = True
        self.received, self.window_at = 0, self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # not those behind a body, of which there could be any number
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.in_request = False
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Anybody could fill the log with it."""


class _Watch:
    """The connections of one event loop, strangers by peer with the oldest first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._strangers: defaultdict[str, dict[LimitedProtocol, None]] = defaultdict(dict)
        self._number = 0
        self._known: set[LimitedProtocol] = set()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = (MOST_FILES if files == resource.RLIM_INFINITY else files) // 2
        self._due: float | None = None

    def opened(self, connection: LimitedProtocol) -> None:
        self._strangers[connection.peer][connection] = None
        self._number += 1
        if self._number > self._most:
            crowd = max(self._strangers.values(), key=len)
            self._drop(next(iter(crowd)))
        if self._due is None:
            self._sweep_later()

    def vouched(self, connection: LimitedProtocol) -> None:
        if self._forget(connection):
            self._known.add(connection)

    def closed(self, connection: LimitedProtocol) -> None:
        self._forget(connection)
        self._known.discard(connection)

    def _forget(self, connection: LimitedProtocol) -> bool:
        """Of a stranger; was it one?"""
        its = self._strangers.get(connection.peer, {})
        if connection not in its:
            return False
        del its[connection]
        self._number -= 1
        if not its:
            del self._strangers[connection.peer]
        return True

    def _drop(self, connection: LimitedProtocol) -> None:
        self.closed(connection)
        connection.transport.abort()  # not close(): that waits for a peer that does not read

    def _sweep(self) -> None:
        now = self._loop.time()
        # A loop that was held up has not read yet what peers have sent meanwhile: they are judged the next time.
        held_up = self._due is not None and now - self._due > SWEEP_S
        if held_up:
            for connection in self._known:
                connection.window_at, connection.received = now, 0
        else:
            for its in list(self._strangers.values()):
                settled = [connection for connection in its if now - connection.opened_at >= SWEEP_S]
                too_many = max(0, len(settled) - STRANGERS_PER_PEER)
                for rank, connection in enumerate(settled):
                    if rank < too_many or now - connection.opened_at >= STRANGER_S:
                        self._drop(connection)
            for connection in [known for known in self._known if known.in_request]:
                self._look_at(connection, now)
        self._due = None
        if self._strangers or self._known:
            self._sweep_later()

    def _sweep_later(self) -> None:
        self._due = self._loop.time() + SWEEP_S
        self._loop.call_later(SWEEP_S, self._sweep)

    def _look_at(self, connection: LimitedProtocol, now: float) -> None:
        if connection.flow.read_paused:
            connection.window_at, connection.received = now, 0
        elif now - connection.window_at >= WINDOW_S:
            if connection.received < SLOWEST:
                self._drop(connection)
            connection.window_at, connection.received = now, 0


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


def _watch_of(loop: asyncio.AbstractEventLoop) -> _Watch:
    found = _watches.get(loop)
    if found is None:
        found = _watches[loop] = _Watch(loop)
    return found


class Anybody:
    """ASGI middleware of a server without a key: vouches for whoever sends the head of a request."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Send) -> None:
        if connection := scope.get("extensions", {}).get(CONNECTION):
            connection.vouch()
        await self._app(scope, receive, send)


def allow_many_files() -> None:
    """As many open files as the system lets the process have, up to MOST_FILES: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
