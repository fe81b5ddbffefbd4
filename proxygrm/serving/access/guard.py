"""Asks for the job's key at every door of a server.

vLLM 0.24 checks its key under /v1, /v2 and /inference only. It also answers `/invocations`, which generates,
`/tokenize`, `/generative_scoring` and `/scale_elastic_ep`, which resizes the server, and other users of a cluster
reach a node's ports. The server in turn proves to whoever asks that it holds the key, see `proof`.
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
"""Without a key: the supervisor and a site's monitoring ask only whether it lives."""

_NONCE = NONCE_HEADER.lower().encode()
CONNECTION = "proxygrm.connection"
"""Among a request's ASGI extensions: its `connections.LimitedProtocol`, where that is the server's protocol."""

Send = Callable[[dict[str, Any]], Awaitable[None]]
App = Callable[[Mapping[str, Any], Any, Send], Awaitable[None]]


class RequireKey:
    """ASGI middleware: 401 for whatever does not carry `Authorization: Bearer KEY`, OPEN paths aside.

    key: "" takes $VLLM_API_KEY, which is how vLLM, that starts it by name, hands it over. callers: who needs no key.
    proves: answer `GET /proof`; not for a key that somebody has thought up, because a proof lets one try keys at home.
    """

    def __init__(self, app: App, key: str = "", callers: Callers = NOBODY, proves: bool = True) -> None:
        key = key or os.environ.get("VLLM_API_KEY", "")
        if not key:
            raise RuntimeError("the proxy's server was started without VLLM_API_KEY")
        self._app, self._wanted, self._callers = app, f"Bearer {key}".encode(), callers
        self._key, self._proves = key, proves

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN:
            return await self._app(scope, receive, send)
        given = _header(scope, b"authorization")
        connection = scope.get("extensions", {}).get(CONNECTION)
        peer = connection.peer if connection else (scope.get("client") or (None,))[0]
        if hmac.compare_digest(given, self._wanted) or self._callers.include(peer):
            if connection:
                connection.vouch()
            return await self._app(scope, receive, send)
        if scope["type"] == "http" and scope["path"] == PATH and self._proves and not given:
            return await self._prove(scope, connection, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        said = json.dumps({"error": f"this server wants its key from callers at {peer or 'no address'}"})
        await send({"type": "http.response.body", "body": said.encode()})

    async def _prove(self, scope: Mapping[str, Any], connection: Any, send: Send) -> None:
        nonce = _header(scope, _NONCE)
        server, client = scope.get("server"), connection.client if connection else scope.get("client")
        headers = [(b"content-length", b"0")]
        if known := is_nonce(nonce) and server and client:
            said = proof(self._key, nonce.decode(), (server[0], server[1]), (client[0], client[1]))
            headers.append((PROOF_HEADER.lower().encode(), said.encode()))
        await send({"type": "http.response.start", "status": 200 if known else 400, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def _header(scope: Mapping[str, Any], wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")
