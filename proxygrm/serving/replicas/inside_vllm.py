"""Imported by a vLLM server (`--middleware`) before it opens its HTTP server.

Besides the guard it sets the limits of `connections`: vLLM creates its HTTP server with uvicorn's default protocol,
which uvicorn looks up in this table.
"""

from __future__ import annotations

from uvicorn.config import HTTP_PROTOCOLS

from proxygrm.serving.access.guard import RequireKey

__all__ = ["RequireKey"]

HTTP_PROTOCOLS["auto"] = "proxygrm.serving.access.connections:LimitedProtocol"
