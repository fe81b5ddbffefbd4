"""Named by `--middleware` on the command line of a vLLM server, and imported there before it opens its HTTP server.

Beside the guard it gives the server the limits of `connections`: vLLM makes its HTTP server with uvicorn's default
protocol, and this is where uvicorn looks that one up.
"""

from __future__ import annotations

from uvicorn.config import HTTP_PROTOCOLS

from proxygrm.serving.access.guard import RequireKey

__all__ = ["RequireKey"]

HTTP_PROTOCOLS["auto"] = "proxygrm.serving.access.connections:LimitedProtocol"
