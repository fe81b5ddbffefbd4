"""aiohttp's connections, each proven (see `proof`) before a request, and with it the key, is sent over it."""

from __future__ import annotations

import asyncio
from http.client import HTTPException, parse_headers
from io import BytesIO
from typing import Any

import aiohttp

from proxygrm.serving.access.proof import NONCE_HEADER, PATH, PROOF_HEADER, is_proof, new_nonce

_MAX_HEAD_BYTES = 16 * 1024


class Unproven(aiohttp.ClientConnectionError):
    """Something answers at the server's address that does not hold the key."""


class ProvenConnector(aiohttp.TCPConnector):
    """Raises Unproven instead of returning a connection to something that cannot prove the key."""

    def __init__(self, key: str, **options: Any) -> None:
        super().__init__(**options)
        if not hasattr(aiohttp.TCPConnector, "_create_connection"):  # the key would be sent without a proof
            raise RuntimeError(f"aiohttp {aiohttp.__version__} opens its connections elsewhere")
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
    """Without a time-out: a call has its own deadline, and a busy server is still ours."""
    nonce = new_nonce()
    server, client = transport.get_extra_info("peername")[:2], transport.get_extra_info("sockname")[:2]
    response = _ResponseHead()
    transport.set_protocol(response)
    host = f"[{server[0]}]" if ":" in server[0] else server[0]
    transport.write(f"GET {PATH} HTTP/1.1\r\nHost: {host}:{server[1]}\r\n{NONCE_HEADER}: {nonce}\r\n\r\n".encode())
    head = await response.head
    status, _, lines = head.partition(b"\r\n")
    try:
        headers = parse_headers(BytesIO(lines))
    except HTTPException as error:
        raise Unproven(str(error)) from error
    is_empty = headers.get("Content-Length") == "0" and "Transfer-Encoding" not in headers
    if not (status.startswith(b"HTTP/1.1 200 ") and is_empty):
        raise Unproven(f"{server[0]} port {server[1]} does not support the proof")
    if not is_proof(headers.get(PROOF_HEADER, ""), key, nonce, server, client):
        raise Unproven(f"{server[0]} port {server[1]} does not hold the key")


class _ResponseHead(asyncio.Protocol):
    """Reads the head of one response that has no body."""

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
        elif end >= 0 or len(self._read) > _MAX_HEAD_BYTES:
            self.head.set_exception(Unproven("it sends more than a proof"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.head.done():
            self.head.set_exception(error or aiohttp.ServerDisconnectedError())
