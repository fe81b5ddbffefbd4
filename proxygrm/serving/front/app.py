"""A front end for programs that are not ours: upstream's wire and a typed one over the same client.

    POST /get_reward_mllm   upstream's: {question, chosen, rejected, image, answer, rubric} -> {"reward": 1.0 | -1.0}
    POST /score             {question, response_1, response_2, rubric, images, label} -> `Scored`
    GET  /health            200 when a replica is well, else 503; without a key
    GET  /metrics           Prometheus

On upstream's wire "chosen" means *shown as Response 1*, "rejected" *shown as Response 2*, `answer` is the label (1 or
2), `rubric` a critique or its rubric: what is sent on is the closed rubric without its justification, and nothing else
of it. No verdict is 503 with {"error": {"cause", "detail"}}, never a reward of 0.0; a request that cannot be asked
(no closed rubric, a label that is none, a picture outside the folder) is 422 of the same shape, and pointless to
repeat. `/score` answers 200 with verdict null and the cause.

`image` and `images`: a path in the folder given at the start, a data URL, or a list of these; null for text alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from proxygrm.core.images.fields import NoPicture, of_text
from proxygrm.core.images.paths import OutsideRoot, inside
from proxygrm.core.images.settle import UnreadableImage, examine, image_of, settle
from proxygrm.core.labels import Label, as_label
from proxygrm.critique.contract import parse
from proxygrm.serving.access.callers import NOBODY, Callers
from proxygrm.serving.access.guard import App, RequireKey, Send
from proxygrm.serving.front.metrics import exposition
from proxygrm.serving.pool.client import ProxyClient, ProxyJudgement
from proxygrm.serving.pool.picture import Picture
from proxygrm.serving.pool.routing import Cause

MOST_BODY_BYTES = 128 * 1024**2
HEALTH_KEPT_S = 1.0
"""Anybody may ask for /health; the replicas are not asked more often than this."""
_T = TypeVar("_T")


def _closed_rubric(text: str) -> str:
    shown = parse(text).shown
    if shown is None:
        raise ValueError("there is no closed <rubric>...</rubric> to judge by")
    return shown


Text = Annotated[str, Field(min_length=1)]
Rubric = Annotated[str, AfterValidator(_closed_rubric)]
Answer = Annotated[Label, BeforeValidator(as_label)]
Pictures = str | list[str] | None


class UpstreamRequest(BaseModel):
    question: Text
    chosen: Text
    rejected: Text
    image: Pictures = None
    answer: Answer
    rubric: Rubric


class ScoreRequest(BaseModel):
    question: Text
    response_1: Text
    response_2: Text
    rubric: Rubric
    images: Pictures = None
    label: Answer | None = None


class Scored(BaseModel):
    """agrees: verdict == label, null without a verdict or label. soft: probability of verdict 1 against verdict 2, in
    the mode `verdict`. cause: why there is no verdict."""

    verdict: Literal[1, 2] | None
    agrees: bool | None
    soft: float | None
    cause: str | None
    latency_s: float
    retries: int
    hedged: bool
    text: str


class BadPicture(ValueError):
    """The picture as given cannot be taken."""


def front(client: ProxyClient, key: str, pictures: Path | None = None, callers: Callers = NOBODY) -> App:
    """The application. pictures: folder from which requests may name pictures by path; None: data URLs only. callers:
    who needs no key."""
    folder = pictures.resolve() if pictures else None
    health = _Health(client)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(title="proxygrm proxy", lifespan=life, openapi_url=None)

    @app.post("/get_reward_mllm")
    async def get_reward(asked: UpstreamRequest, request: Request) -> Any:
        shown = (asked.question, asked.chosen, asked.rejected, asked.rubric)
        found = await _unless_gone(request, client.judge(*shown, await _read(asked.image, folder), asked.answer))
        if found.agrees is None:
            return _error(503, str(found.cause), f"the proxy gave no verdict after {found.latency_s:.1f} s")
        return {"reward": 1.0 if found.agrees else -1.0}

    @app.post("/score")
    async def score(asked: ScoreRequest, request: Request) -> Scored:
        shown = (asked.question, asked.response_1, asked.response_2, asked.rubric)
        found = await _unless_gone(request, client.judge(*shown, await _read(asked.images, folder), asked.label))
        return Scored(
            verdict=found.verdict,
            agrees=found.agrees,
            soft=found.soft,
            cause=found.cause,
            latency_s=found.latency_s,
            retries=found.retries,
            hedged=found.hedged,
            text=found.text,
        )

    @app.get("/health")
    async def get_health() -> JSONResponse:
        well, of = await health.ask()
        state = "ok" if well == of else "degraded" if well else "down"
        return JSONResponse({"status": state, "replicas": of, "healthy": well}, 200 if well else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(exposition(client.tally), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        # Only what is wrong with a field: what was sent in it may be long, or not be text at all.
        faults = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
        return _error(422, "bad_request", "; ".join(faults))

    @app.exception_handler(BadPicture)
    async def bad_picture(_: Request, error: BadPicture) -> JSONResponse:
        return _error(422, "bad_request", f"image: {error}")

    return RequireKey(_Limit(app), key, callers, proves=False)  # the key may be one that its owner has thought up


def _error(status: int, cause: str, detail: str) -> JSONResponse:
    return JSONResponse({"error": {"cause": cause, "detail": detail}}, status)


async def _read(given: Pictures, folder: Path | None) -> list[Picture]:
    """Raises BadPicture. Whether a file is there is found out when it is sent (cause picture_missing)."""
    if not given:
        return []
    listed = [given] if isinstance(given, str) else given
    if not all(listed):
        raise BadPicture("one of the list is empty")
    return [await asyncio.to_thread(_one, item, folder) for item in listed]


def _one(text: str, folder: Path | None) -> Picture:
    try:
        named = of_text(text)
        if isinstance(named, bytes):
            return settle(named).data
    except (NoPicture, UnreadableImage) as error:
        raise BadPicture(str(error)) from None
    if not isinstance(named, str):
        raise BadPicture(named.why)
    if folder is None:
        raise BadPicture("this front end takes no paths (started without --pictures); send a data URL")
    try:
        path = inside(named, folder)
        if path == folder:
            raise OutsideRoot("the folder of pictures itself")
        info = path.stat() if path.is_file() else None
        if info is not None:
            _decoded(path, info.st_size, info.st_mtime_ns)
    except OutsideRoot:
        raise BadPicture("the path is outside the folder of pictures") from None
    except UnreadableImage as error:
        raise BadPicture(f"{path.name}: {error}") from None
    except (OSError, ValueError) as error:
        raise BadPicture(f"no path: {str(error)[:200]}") from None
    return path


@lru_cache(maxsize=50_000)
def _decoded(path: Path, size: int, changed: int) -> None:
    """Raises UnreadableImage for a file that breaks off, say; the rollouts of one prompt ask for the same one."""
    examine(image_of(path))


async def _unless_gone(request: Request, judging: Any) -> ProxyJudgement:
    """The judgement; cancelled, and its slot freed, when the caller hangs up."""
    task, gone = asyncio.ensure_future(judging), asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return ProxyJudgement(None, None, Cause.CONNECTION, 0.0)  # nobody reads this
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Health:
    def __init__(self, client: ProxyClient) -> None:
        self._client, self._at = client, -HEALTH_KEPT_S
        self._found = (0, len(client.endpoints.replicas))
        self._asking = asyncio.Lock()

    async def ask(self) -> tuple[int, int]:
        """(replicas that are well, replicas)"""
        async with self._asking:
            if time.monotonic() - self._at >= HEALTH_KEPT_S:
                alive = await self._client.alive()
                self._found, self._at = (sum(alive.values()), len(alive)), time.monotonic()
            return self._found


class _Limit:
    """413 for bodies that are too large, 411 for those of unknown length, before anything is read."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, scope: Mapping[str, Any], receive: Any, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["method"] == "POST":
            length = dict(scope["headers"]).get(b"content-length", b"")
            if not length.isdigit():
                refused = _error(411, "bad_request", "Content-Length is missing")
                return refused(scope, receive, send)  # type: ignore[arg-type]
            if int(length) > MOST_BODY_BYTES:
                refused = _error(413, "bad_request", f"the body has more than {MOST_BODY_BYTES} bytes")
                return refused(scope, receive, send)  # type: ignore[arg-type]
        return self._app(scope, receive, send)
