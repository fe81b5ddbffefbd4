"""The HTTP API of served reward models, whatever their kind.

    POST /score     {question, images, responses: [...]} -> {scores: [...], how}
    POST /compare   {question, images, response_1, response_2, orders: "both" | "as-given"}
                    -> {verdict, critiques: [...]} with `scores` and `probability` of a scalar model
    POST /steps     {question, images, steps: [{steptext, visualdependency}]} -> {raw, final, reliability}
    GET  /models    names, kinds and limits
    GET  /health    200 when every model has a healthy replica, else 503; without a key
    GET  /metrics   Prometheus
    GET  /          a page for people; without a key

`model` names the model where several are served. `images`: a path in the folder given at the start, a data URL,
`sha256:HEX` of one that was uploaded before, or a list of these. What could not be judged is 503 with {"error":
{"cause", "detail"}}; what can never be judged 4xx of the same shape. There is no score or verdict in either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from proxygrm.process.checklist import Step, normal_dependency
from proxygrm.process.policy_json import MAX_STEPS
from proxygrm.reward_service.images import UnknownImage, UploadedImages
from proxygrm.reward_service.judges import Asked, CountedPool, NotJudged, Orders, Refused, RewardModel
from proxygrm.reward_service.page import PAGE, POLICY
from proxygrm.serving.access.callers import NOBODY, Callers
from proxygrm.serving.access.guard import OPEN, App, RequireKey, Send
from proxygrm.serving.front.health import Health
from proxygrm.serving.front.images import BadImage, Images
from proxygrm.serving.front.metrics import exposition
from proxygrm.serving.front.requests import LimitBody, error_response, faults_of, unless_disconnected
from proxygrm.serving.pool.routing import Cause

MAX_TEXT = 1_000_000
"""Characters of a question or a response."""
PATHS = ("/", "/score", "/compare", "/steps", "/models", "/health", "/metrics")
_CALLERS_FAULT = frozenset({Cause.REFUSED, Cause.IMAGE_MISSING})
"""Causes that another attempt with the same request does not change."""


def _with_words(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank")
    return text


AnyText = Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
Text = Annotated[AnyText, AfterValidator(_with_words)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    question: Text
    images: Images = None


class ScoreRequest(_Body):
    responses: list[Text]


class CompareRequest(_Body):
    response_1: Text
    response_2: Text
    orders: Orders = "both"


class StepOfSolution(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steptext: AnyText
    """A blank one is the model's to judge."""
    visualdependency: Annotated[str, Field(max_length=MAX_TEXT)] | None = None


class StepsRequest(_Body):
    steps: Annotated[list[StepOfSolution], Field(min_length=1, max_length=MAX_STEPS)]


def api(models: Mapping[str, RewardModel], key: str, images: Path | None = None, callers: Callers = NOBODY) -> App:
    """The application. models: by name, none of which is that of a helper. images: folder from which requests may name
    images by path; None: none. callers: those that need no key."""
    store = UploadedImages(images.resolve() if images else None)
    pools: dict[str, CountedPool] = dict(models)
    for model in models.values():
        pools |= model.helpers
    # A helper that was not started here has no /health of ours to ask.
    healths = {name: Health(pool) for name, pool in pools.items() if name in models or pool.endpoints.proven}
    responses: Counter[tuple[str, str]] = Counter()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for pool in pools.values():
            await pool.aclose()

    app = FastAPI(title="proxygrm reward models", lifespan=lifespan, openapi_url=None)

    @app.post("/score")
    async def score(body: ScoreRequest, request: Request) -> dict[str, Any]:
        model, count = _named(models, body.model), len(body.responses)
        if not model.fewest <= count <= model.most:
            raise Refused(
                422,
                "bad_request",
                f"{count} responses; a {model.kind} model scores {model.fewest} to {model.most} in one request",
            )
        asked = Asked(body.question, await store.read(body.images))
        scores = await unless_disconnected(request, model.score(asked, body.responses))
        return {"scores": list(scores.scores), "how": scores.how}

    @app.post("/compare")
    async def compare(body: CompareRequest, request: Request) -> dict[str, Any]:
        model = _named(models, body.model)
        asked = Asked(body.question, await store.read(body.images))
        comparison = await unless_disconnected(
            request, model.compare(asked, body.response_1, body.response_2, body.orders)
        )
        found: dict[str, Any] = {"verdict": comparison.verdict, "critiques": list(comparison.critiques)}
        if comparison.reason is not None:
            found["reason"] = comparison.reason
        if comparison.probability is not None:
            found["probability"] = comparison.probability
        if comparison.scores is not None:
            found["scores"] = list(comparison.scores)
        return found

    @app.post("/steps")
    async def judge_steps(body: StepsRequest, request: Request) -> dict[str, Any]:
        model = _named(models, body.model)
        asked = Asked(body.question, await store.read(body.images))
        steps = [Step(step.steptext, normal_dependency(step.visualdependency)) for step in body.steps]
        judged = await unless_disconnected(request, model.steps(asked, steps))
        return {"raw": list(judged.raw), "final": list(judged.final), "reliability": judged.reliability}

    @app.get("/models")
    async def get_models() -> dict[str, Any]:
        return {
            "models": [
                {
                    "name": name,
                    "kind": model.kind,
                    "replicas": len(model.endpoints.replicas),
                    "responses": {"min": model.fewest, "max": model.most},
                }
                for name, model in models.items()
            ]
        }

    @app.get("/health")
    async def get_health() -> JSONResponse:
        counts = {name: await health.counts() for name, health in healths.items()}
        alive = all(healthy for healthy, _ in counts.values())
        whole = all(healthy == replicas for healthy, replicas in counts.values())
        found = {name: {"replicas": replicas, "healthy": healthy} for name, (healthy, replicas) in counts.items()}
        state = "ok" if whole else "degraded" if alive else "down"
        return JSONResponse({"status": state, "models": found}, 200 if alive else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        tallies = {name: pool.tally for name, pool in pools.items()}
        content = exposition(tallies, "proxygrm_reward", [_responses_metric(responses)])
        return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})

    @app.exception_handler(400)  # nested without end, say: FastAPI answers in a form of its own
    async def unreadable_body(_: Request, error: Exception) -> JSONResponse:
        return error_response(422, "bad_request", "the body cannot be read as JSON")

    @app.exception_handler(404)
    async def unknown_path(_: Request, error: Exception) -> JSONResponse:
        return error_response(404, "unknown_path", f"there is no such path here; there are {', '.join(PATHS)}")

    @app.exception_handler(405)
    async def other_method(request: Request, error: HTTPException) -> JSONResponse:
        answer = error_response(405, "bad_method", f"{request.method} is not answered at this path")
        answer.headers.update(error.headers or {})  # Allow
        return answer

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(422, "bad_request", faults_of(error))

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return error_response(error.status, error.cause, error.detail)

    @app.exception_handler(BadImage)
    async def bad_image(_: Request, error: BadImage) -> JSONResponse:
        if isinstance(error, UnknownImage):
            return error_response(404, "unknown_image", str(error))
        return error_response(422, "bad_request", f"image: {error}")

    @app.exception_handler(NotJudged)
    async def not_judged(_: Request, error: NotJudged) -> JSONResponse:
        return error_response(422 if error.cause in _CALLERS_FAULT else 503, error.cause.value, error.detail)

    guarded = RequireKey(LimitBody(app), key, callers, proves=False, open_paths=OPEN | {"/"})
    return _Counted(guarded, responses)


def _named(models: Mapping[str, RewardModel], name: str | None) -> RewardModel:
    known = ", ".join(models)
    if name is None:
        if len(models) > 1:
            raise Refused(422, "bad_request", f"model: several are served, name one of {known}")
        return next(iter(models.values()))
    if name not in models:
        raise Refused(404, "unknown_model", f"there is no model {name[:64]!r} here; there is {known}")
    return models[name]


def _responses_metric(responses: Mapping[tuple[str, str], int]) -> Any:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily("proxygrm_reward_responses", "Responses to requests.", labels=["path", "status"])
    for labels, count in sorted(responses.items()):
        family.add_metric(labels, count)
    return family


class _Counted:
    """Counts the responses, refused ones included, by path and status."""

    def __init__(self, app: App, responses: Counter[tuple[str, str]]) -> None:
        self._app, self._responses = app, responses

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"] if scope["path"] in PATHS else "other"

        async def counted(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._responses[path, str(message["status"])] += 1
            await send(message)

        await self._app(scope, receive, counted)
