"""A front end for other programs: upstream's API and a typed one, over the same client.

    POST /get_reward_mllm   upstream's: {question, chosen, rejected, image, answer, rubric} -> {"reward": 1.0 | -1.0}
    POST /score             {question, response_1, response_2, rubric, images, label} -> `Scored`
    GET  /health            200 when a replica is healthy, else 503; without a key
    GET  /metrics           Prometheus

In upstream's API "chosen" means *shown as Response 1*, "rejected" *shown as Response 2*, `answer` is the label (1 or
2), `rubric` a critique or its rubric, of which the proxy is sent the closed rubric without its justification and
nothing else. No verdict is 503 with {"error": {"cause", "detail"}}, never a reward of 0.0; an invalid request (no
closed rubric, an invalid label, an image outside the folder) is 422 of the same shape, and pointless to repeat.
`/score` answers 200 with verdict null and the cause.

`image` and `images`: a path in the folder given at the start, a data URL, or a list of these; null for text alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from proxygrm.core.images.fields import NoImage, of_text
from proxygrm.core.images.paths import OutsideRoot, inside
from proxygrm.core.images.settle import UnreadableImage, examine, image_of, settle
from proxygrm.core.labels import Label, as_label
from proxygrm.critique.contract import parse
from proxygrm.serving.access.callers import NOBODY, Callers
from proxygrm.serving.access.guard import App, RequireKey, Send
from proxygrm.serving.front.metrics import exposition
from proxygrm.serving.pool.client import ProxyClient, ProxyJudgement
from proxygrm.serving.pool.image import ImageInput
from proxygrm.serving.pool.routing import Cause

MAX_BODY_BYTES = 128 * 1024**2
HEALTH_CACHE_S = 1.0
"""Every caller may request /health; the replicas are not asked more often than this."""


def _closed_rubric(text: str) -> str:
    rubric = parse(text).shown
    if rubric is None:
        raise ValueError("there is no closed <rubric>...</rubric> to judge by")
    return rubric


Text = Annotated[str, Field(min_length=1)]
Rubric = Annotated[str, AfterValidator(_closed_rubric)]
LabelField = Annotated[Label, BeforeValidator(as_label)]
Images = str | list[str] | None


class UpstreamRequest(BaseModel):
    question: Text
    chosen: Text
    rejected: Text
    image: Images = None
    answer: LabelField
    rubric: Rubric


class ScoreRequest(BaseModel):
    question: Text
    response_1: Text
    response_2: Text
    rubric: Rubric
    images: Images = None
    label: LabelField | None = None


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


class BadImage(ValueError):
    """The request's image cannot be used."""


def front(client: ProxyClient, key: str, images: Path | None = None, callers: Callers = NOBODY) -> App:
    """The application. images: folder from which requests may name images by path; None: data URLs only. callers:
    those that need no key."""
    folder = images.resolve() if images else None
    health = _Health(client)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(title="proxygrm proxy", lifespan=lifespan, openapi_url=None)

    @app.post("/get_reward_mllm")
    async def get_reward(body: UpstreamRequest, request: Request) -> Any:
        texts = (body.question, body.chosen, body.rejected, body.rubric)
        images = await _read_images(body.image, folder)
        judgement = await _unless_disconnected(request, client.judge(*texts, images, body.answer))
        if judgement.agrees is None:
            return _error(503, str(judgement.cause), f"the proxy gave no verdict after {judgement.latency_s:.1f} s")
        return {"reward": 1.0 if judgement.agrees else -1.0}

    @app.post("/score")
    async def score(body: ScoreRequest, request: Request) -> Scored:
        texts = (body.question, body.response_1, body.response_2, body.rubric)
        images = await _read_images(body.images, folder)
        judgement = await _unless_disconnected(request, client.judge(*texts, images, body.label))
        return Scored(
            verdict=judgement.verdict,
            agrees=judgement.agrees,
            soft=judgement.soft,
            cause=judgement.cause,
            latency_s=judgement.latency_s,
            retries=judgement.retries,
            hedged=judgement.hedged,
            text=judgement.text,
        )

    @app.get("/health")
    async def get_health() -> JSONResponse:
        healthy, replicas = await health.counts()
        state = "ok" if healthy == replicas else "degraded" if healthy else "down"
        return JSONResponse({"status": state, "replicas": replicas, "healthy": healthy}, 200 if healthy else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(exposition(client.tally), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        # Without the value of the field, which may be long, or not be text at all.
        faults = [f"{'.'.join(str(part) for part in fault['loc'][1:])}: {fault['msg']}" for fault in error.errors()]
        return _error(422, "bad_request", "; ".join(faults))

    @app.exception_handler(BadImage)
    async def bad_image(_: Request, error: BadImage) -> JSONResponse:
        return _error(422, "bad_request", f"image: {error}")

    return RequireKey(_LimitBody(app), key, callers, proves=False)  # the key may have been chosen by a person


def _error(status: int, cause: str, detail: str) -> JSONResponse:
    return JSONResponse({"error": {"cause": cause, "detail": detail}}, status)


async def _read_images(images: Images, folder: Path | None) -> list[ImageInput]:
    """Raises BadImage. A missing file is noticed when it is sent (cause image_missing)."""
    if not images:
        return []
    texts = [images] if isinstance(images, str) else images
    if not all(texts):
        raise BadImage("an entry of the list is empty")
    return [await asyncio.to_thread(_read_image, text, folder) for text in texts]


def _read_image(text: str, folder: Path | None) -> ImageInput:
    try:
        image = of_text(text)
        if isinstance(image, bytes):
            return settle(image).data
    except (NoImage, UnreadableImage) as error:
        raise BadImage(str(error)) from None
    if not isinstance(image, str):
        raise BadImage(image.why)
    if folder is None:
        raise BadImage("this front end takes no paths (started without --images); send a data URL")
    try:
        path = inside(image, folder)
        if path == folder:
            raise OutsideRoot("the folder of images itself")
        info = path.stat() if path.is_file() else None
        if info is not None:
            _check_decodes(path, info.st_size, info.st_mtime_ns)
    except OutsideRoot:
        raise BadImage("the path is outside the folder of images") from None
    except UnreadableImage as error:
        raise BadImage(f"{path.name}: {error}") from None
    except (OSError, ValueError) as error:
        raise BadImage(f"not a path: {str(error)[:200]}") from None
    return path


@lru_cache(maxsize=50_000)
def _check_decodes(path: Path, size: int, mtime_ns: int) -> None:
    """Raises UnreadableImage, for a truncated file say. Cached: the rollouts of one prompt send the same image."""
    examine(image_of(path))


async def _unless_disconnected(request: Request, judge: Coroutine[Any, Any, ProxyJudgement]) -> ProxyJudgement:
    """The judgement; cancelled, and its place freed, when the caller disconnects."""
    task, disconnected = asyncio.create_task(judge), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((task, disconnected), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return ProxyJudgement(None, None, Cause.CONNECTION, 0.0)  # has no reader
    finally:
        task.cancel()
        disconnected.cancel()
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Health:
    def __init__(self, client: ProxyClient) -> None:
        self._client, self._checked_at = client, -HEALTH_CACHE_S
        self._counts = (0, len(client.endpoints.replicas))
        self._lock = asyncio.Lock()

    async def counts(self) -> tuple[int, int]:
        """(healthy replicas, replicas)"""
        async with self._lock:
            if time.monotonic() - self._checked_at >= HEALTH_CACHE_S:
                healthy = await self._client.health()
                self._counts, self._checked_at = (sum(healthy.values()), len(healthy)), time.monotonic()
            return self._counts


class _LimitBody:
    """413 for bodies that are too large, 411 for those of unknown length, before any of it is read."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, scope: Mapping[str, Any], receive: Any, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and scope["method"] == "POST":
            length = dict(scope["headers"]).get(b"content-length", b"")
            if not length.isdigit():
                response = _error(411, "bad_request", "Content-Length is missing")
                return response(scope, receive, send)  # type: ignore[arg-type]
            if int(length) > MAX_BODY_BYTES:
                response = _error(413, "bad_request", f"the body has more than {MAX_BODY_BYTES} bytes")
                return response(scope, receive, send)  # type: ignore[arg-type]
        return self._app(scope, receive, send)
