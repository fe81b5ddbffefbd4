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

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from proxygrm.core.labels import Label, as_label
from proxygrm.critique.contract import parse
from proxygrm.serving.access.callers import NOBODY, Callers
from proxygrm.serving.access.guard import App, RequireKey
from proxygrm.serving.front.health import Health
from proxygrm.serving.front.images import BadImage, Images, read_images
from proxygrm.serving.front.metrics import exposition
from proxygrm.serving.front.requests import LimitBody, error_response, faults_of, unless_disconnected
from proxygrm.serving.pool.client import ProxyClient


def _closed_rubric(text: str) -> str:
    rubric = parse(text).shown
    if rubric is None:
        raise ValueError("there is no closed <rubric>...</rubric> to judge by")
    return rubric


Text = Annotated[str, Field(min_length=1)]
Rubric = Annotated[str, AfterValidator(_closed_rubric)]
LabelField = Annotated[Label, BeforeValidator(as_label)]


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


def front(client: ProxyClient, key: str, images: Path | None = None, callers: Callers = NOBODY) -> App:
    """The application. images: folder from which requests may name images by path; None: data URLs only. callers:
    those that need no key."""
    folder = images.resolve() if images else None
    health = Health(client)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(title="proxygrm proxy", lifespan=lifespan, openapi_url=None)

    @app.post("/get_reward_mllm")
    async def get_reward(body: UpstreamRequest, request: Request) -> Any:
        texts = (body.question, body.chosen, body.rejected, body.rubric)
        images = await read_images(body.image, folder)
        judgement = await unless_disconnected(request, client.judge(*texts, images, body.answer))
        if judgement.agrees is None:
            return error_response(
                503, str(judgement.cause), f"the proxy gave no verdict after {judgement.latency_s:.1f} s"
            )
        return {"reward": 1.0 if judgement.agrees else -1.0}

    @app.post("/score")
    async def score(body: ScoreRequest, request: Request) -> Scored:
        texts = (body.question, body.response_1, body.response_2, body.rubric)
        images = await read_images(body.images, folder)
        judgement = await unless_disconnected(request, client.judge(*texts, images, body.label))
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

    @app.exception_handler(400)  # nested without end, say: FastAPI answers in a form of its own
    async def unreadable_body(_: Request, error: Exception) -> JSONResponse:
        return error_response(422, "bad_request", "the body cannot be read as JSON")

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(422, "bad_request", faults_of(error))

    @app.exception_handler(BadImage)
    async def bad_image(_: Request, error: BadImage) -> JSONResponse:
        return error_response(422, "bad_request", f"image: {error}")

    return RequireKey(LimitBody(app), key, callers, proves=False)  # the key may have been chosen by a person
