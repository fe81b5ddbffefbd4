"""aiohttp's connections, each of them proven before a request, and with it the key, goes over it (see `proof`)."""

from __future__ import annotations

import asyncio
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import Any

import aiohttp

from proxygrm.serving.access.proof import NONCE_HEADER, PATH, PROOF_HEADER, is_proof, new_nonce

_MOST_HEAD_BYTES = 16 * 1024


class Unproven(aiohttp.ClientConnectionError):
    """Something answers at the server's address that does not hold the key."""


class ProvenConnector(aiohttp.TCPConnector):
    """Raises Unproven instead of giving out a connection to something that cannot prove the key."""

    def __init__(self, key: str, **options: Any) -> None:
        super().__init__(**options)
        if not hasattr(aiohttp.TCPConnector, "_create_connection"):  # else the key would go out unasked
            raise RuntimeError(f"aiohttp {aiohttp.__version__} opens its connections in another place")
        self._key = key

    async def _create_connection(self, *request: Any, **options: Any) -> Any:
        protocol = await super()._create_connection(*request, **options)
        transport = protocol.transport
        if transport is None:
            raise aiohttp.ServerDisconnectedError
        try:
            await _prove(transport, self._key)
        except BaseException:
            transport.abort()
            raise
        finally:
            transport.set_protocol(protocol)
        return protocol


async def _prove(transport: asyncio.Transport, key: str) -> None:
    """As long as it takes: a call has its own deadline, and a server that is busy is no stranger."""
    nonce = new_nonce()
    server, client = transport.get_extra_info("peername")[:2], transport.get_extra_info("sockname")[:2]
    answer = _Head()
    transport.set_protocol(answer)
    shown = f"[{server[0]}]" if ":" in server[0] else server[0]
    transport.write(f"GET {PATH} HTTP/1.1\r\nHost: {shown}:{server[1]}\r\n{NONCE_HEADER}: {nonce}\r\n\r\n".encode())
    head = await answer.head
    status, _, lines = head.partition(b"\r\n")
    try:
        headers = parse_headers(BytesIO(lines))
    except HTTPException as error:
        raise Unproven(str(error)) from error
    whole = headers.get("Content-Length") == "0" and "Transfer-Encoding" not in headers
    if not (status.startswith(b"HTTP/1.1 200 ") and whole):
        raise Unproven(f"{server[0]} port {server[1]} does not know of a proof")
    if not is_proof(headers.get(PROOF_HEADER, ""), key, nonce, server, client):
        raise Unproven(f"{server[0]} port {server[1]} does not hold the key")


class _Head(asyncio.Protocol):
    """Reads the head of one answer that has no body."""

    def __init__(self) -> None:
        self.head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._read = bytearray()

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self.head.done():
            return
        end = self._read.find(b"\r\n\r\n")
        if end == len(self._read) - 4:
            self.head.set_result(bytes(self._read))
        elif end >= 0 or len(self._read) > _MOST_HEAD_BYTES:
            self.head.set_exception(Unproven("more is said than a proof"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(error or aiohttp.ServerDisconnectedError())
