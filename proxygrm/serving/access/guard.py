"""Requires the job's key on every path of a server.

vLLM 0.24 checks its key under /v1, /v2 and /inference only. It also answers `/invocations`, which generates,
`/tokenize`, `/generative_scoring` and `/scale_elastic_ep`, which resizes the server, and other users of a cluster
can connect to a node's ports. The server in turn proves to its callers that it holds the key, see `proof`.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from proxygrm.serving.access.callers import NOBODY, Callers
from proxygrm.serving.access.proof import NONCE_HEADER, PATH, PROOF_HEADER, is_nonce, proof

OPEN = frozenset({"/health"})
"""Paths that need no key: the supervisor and a site's monitoring ask only whether the server is alive."""

_NONCE = NONCE_HEADER.lower().encode()
CONNECTION = "proxygrm.connection"
"""Among a request's ASGI extensions: its `connections.LimitedProtocol`, where that is the server's protocol."""

Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Mapping[str, Any], Any, Send], Awaitable[None]]


class RequireKey:
    """ASGI middleware: 401 for requests without `Authorization: Bearer KEY`, except on OPEN paths.

    key: "" takes $VLLM_API_KEY, since vLLM creates the middleware by its name, without arguments. callers: those that
    need no key. proves: answer `GET /proof`; not for a key that a person has chosen, because a proof lets an attacker
    try keys offline. open_paths: for everybody.
    """

    def __init__(
        self,
        app: App,
        key: str = "",
        callers: Callers = NOBODY,
        proves: bool = True,
        open_paths: frozenset[str] = OPEN,
    ) -> None:
        key = key or os.environ.get("VLLM_API_KEY", "")
        if not key:
            raise RuntimeError("the proxy's server was started without VLLM_API_KEY")
        self._app, self._header, self._callers = app, f"Bearer {key}".encode(), callers
        self._key, self._proves, self._open = key, proves, open_paths

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in self._open:
            return await self._app(scope, receive, send)
        authorization = _header(scope, b"authorization")
        connection = scope.get("extensions", {}).get(CONNECTION)
        peer = connection.peer if connection else (scope.get("client") or (None,))[0]
        if hmac.compare_digest(authorization, self._header) or self._callers.include(peer):
            if connection:
                connection.authorize()
            return await self._app(scope, receive, send)
        if scope["type"] == "http" and scope["path"] == PATH and self._proves and not authorization:
            return await self._prove(scope, connection, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        body = json.dumps({"error": f"this server requires its key from callers at {peer or 'no address'}"})
        await send({"type": "http.response.body", "body": body.encode()})

    async def _prove(self, scope: Mapping[str, Any], connection: Any, send: Send) -> None:
        nonce = _header(scope, _NONCE)
        server, client = scope.get("server"), connection.client if connection else scope.get("client")
        headers = [(b"content-length", b"0")]
        if valid := is_nonce(nonce) and server and client:
            answer = proof(self._key, nonce.decode(), (server[0], server[1]), (client[0], client[1]))
            headers.append((PROOF_HEADER.lower().encode(), answer.encode()))
        await send({"type": "http.response.start", "status": 200 if valid else 400, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _header(scope: Mapping[str, Any], name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key == name), b"")
