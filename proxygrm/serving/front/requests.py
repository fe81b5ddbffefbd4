"""What the front ends do with every request: limits of its body, errors of one shape, a caller that leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from proxygrm.serving.access.guard import Send

MAX_BODY_BYTES = 128 * 1024**2
CALLER_LEFT = 499
"""Status of a response that has no reader."""
Result = TypeVar("Result")


def error_response(status: int, cause: str, detail: str) -> JSONResponse:
    return JSONResponse({"error": {"cause": cause, "detail": detail}}, status)


def faults_of(error: RequestValidationError) -> str:
    """On one line, without the values of the fields, which may be long, or not be text at all."""
    faults = [(".".join(str(part) for part in fault["loc"][1:]), fault["msg"]) for fault in error.errors()]
    return "; ".join(f"{name or 'the body, JSON with Content-Type: application/json'}: {text}" for name, text in faults)


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Its result; cancelled, and its places freed, when the caller disconnects. Raises HTTPException then."""
    task, disconnected = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((task, disconnected), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise HTTPException(CALLER_LEFT, "the caller has left")
    finally:
        task.cancel()
        disconnected.cancel()
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class LimitBody:
    """413 for bodies that are too large, 411 for those of unknown length, before any of it is read."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, scope: Mapping[str, Any], receive: Any, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["method"] == "POST":
            length = dict(scope["headers"]).get(b"content-length", b"")
            if not length.isdigit():
                response = error_response(411, "bad_request", "Content-Length is missing")
                return response(scope, receive, send)  # type: ignore[arg-type]
            if int(length) > MAX_BODY_BYTES:
                response = error_response(413, "bad_request", f"the body has more than {MAX_BODY_BYTES} bytes")
                return response(scope, receive, send)  # type: ignore[arg-type]
        return self._app(scope, receive, send)
