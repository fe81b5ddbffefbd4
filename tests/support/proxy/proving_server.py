"""A small HTTP server in place of vLLM's: it too shares its held port, and proves the key."""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from proxygrm.serving.access.proof import NONCE_HEADER, PATH, PROOF_HEADER, proof


class Proving(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != PATH:
            return self.reply(self.answer())
        nonce, ends = self.headers[NONCE_HEADER], (self.connection.getsockname(), self.client_address)
        self.reply(b"", **{PROOF_HEADER: proof(os.environ["VLLM_API_KEY"], nonce, *ends)})

    def answer(self) -> bytes:
        """The body for any other path."""
        return b""

    def reply(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Sharing(ThreadingHTTPServer):
    allow_reuse_port = True
