"""Asks for the job's key at every door of a server.

vLLM 0.24 checks its key under /v1, /v2 and /inference only. It also answers `/invocations`, which generates,
`/tokenize`, `/generative_scoring` and `/scale_elastic_ep`, which resizes the server, and other users of a cluster
reach a node's ports. Named by `--middleware` on the server's command line; loaded inside the server.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from proxygrm.proxy.callers import NOBODY, Callers

OPEN = frozenset({"/health"})
"""Without a key: the supervisor and a site's monitoring ask only whether it lives."""

Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Mapping[str, Any], Any, Send], Awaitable[None]]


class RequireKey:
    """ASGI middleware: 401 for whatever does not carry `Authorization: Bearer KEY`, OPEN paths aside.

    key: "" takes $VLLM_API_KEY, which is how vLLM, that starts it by name, hands it over. callers: who needs no key.
    """

    def __init__(self, app: App, key: str = "", callers: Callers = NOBODY) -> None:
        key = key or os.environ.get("VLLM_API_KEY", "")
        if not key:
            raise RuntimeError("the proxy's server was started without VLLM_API_KEY")
        self._app, self._wanted, self._callers = app, f"Bearer {key}".encode(), callers

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN:
            return await self._app(scope, receive, send)
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        peer = (scope.get("client") or (None,))[0]
        if hmac.compare_digest(given, self._wanted) or self._callers.include(peer):
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        said = json.dumps({"error": f"this server wants its key from callers at {peer or 'no address'}"})
        await send({"type": "http.response.body", "body": said.encode()})
