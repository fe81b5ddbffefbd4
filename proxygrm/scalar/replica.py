"""One replica that scores: a scalar reward model behind HTTP, as `vllm serve` is one that writes.

    python -m proxygrm.scalar.replica MODEL --host ADDRESS --port PORT ...

    POST /v1/score   {messages: [{role, content: [image parts, {type: text, text: question}]}], responses: [...]}
                     -> {"scores": [...]}, one for each response
    GET  /health     200 once the model is loaded

Image parts are those of vLLM's chat API: a data URL, a `file:` URL below --images, or the `uuid` of an image that was
sent before. Requests that wait together are scored together. The key is $VLLM_API_KEY, as for vLLM, and the server
proves that it holds it (`serving.access`). No score: 413, too long for the model; 422, an image that cannot be read;
400, an unknown uuid; 503, the model failed. It is supervised by `serving.replicas`.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from argparse import ArgumentParser
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.limits import context_length
from proxygrm.core.errors import UserError
from proxygrm.core.images.fields import NoImage, of_text
from proxygrm.core.images.paths import MissingImage, OutsideRoot, resolve
from proxygrm.core.images.settle import UnreadableImage, pixels
from proxygrm.scalar.conversation import Item
from proxygrm.scalar.layout import layout_of
from proxygrm.serving.replicas.command import Program, ReplicaSpec
from proxygrm.serving.settings import CONTEXT, ProxySettings

PATH = "/v1/score"
REMEMBERED_BYTES = 1 << 30
"""Of decoded images."""
CACHE_MISS = "Cache miss for an image that was named by its uuid alone"
"""The pool's sender knows the first two words, which are vLLM's."""


def command(spec: ReplicaSpec, port: int) -> list[str]:
    settings = spec.settings
    words = [sys.executable, "-m", "proxygrm.scalar.replica", spec.model, "--host", spec.address, "--port", str(port)]
    words += ["--device", spec.device, "--max-model-len", str(settings.max_model_len)]
    words += ["--max-num-seqs", str(settings.max_num_seqs), "--max-pixels", str(settings.max_pixels)]
    return [*words, "--images", spec.images] if spec.images else words


def fitted(settings: ProxySettings, model: Path, device: str) -> ProxySettings:
    """One GPU for each replica. UserError for a model whose scores this suite cannot compute."""
    refuse_code(model)  # transformers' own classes only
    layout_of(model)
    return replace(
        settings, tensor_parallel_size=1, max_model_len=context_length(model, settings.max_model_len, CONTEXT)
    )


SCORER = Program(command, fitted)


class Refused(Exception):
    """The request cannot be scored. status: of HTTP."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Images:
    """Decoded images, the most recently used kept by their uuid. folder: whose files may be named; None: no files."""

    def __init__(self, folder: Path | None, max_bytes: int = REMEMBERED_BYTES) -> None:
        self._folder, self._max_bytes, self._bytes = folder, max_bytes, 0
        self._kept: OrderedDict[str, Any] = OrderedDict()

    async def read(self, part: dict[str, Any]) -> Any:
        """The PIL image of a message part. Raises Refused."""
        uuid, url = str(part.get("uuid") or ""), (part.get("image_url") or {}).get("url")
        if uuid in self._kept:
            self._kept.move_to_end(uuid)
            return self._kept[uuid]
        if not isinstance(url, str):
            raise Refused(400, CACHE_MISS)
        image = await asyncio.to_thread(self._decode, url)
        if uuid and uuid not in self._kept:
            self._kept[uuid] = image
            self._bytes += _size(image)
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return image

    def _decode(self, url: str) -> Any:
        try:
            named = of_text(url)
            if isinstance(named, str):
                if self._folder is None:
                    raise Refused(422, "this replica reads no files")
                named = resolve(named, self._folder).read_bytes()
            if not isinstance(named, bytes):
                raise Refused(422, named.why)
            return pixels(named)
        except (NoImage, UnreadableImage, OutsideRoot, MissingImage, OSError) as error:
            raise Refused(422, f"{type(error).__name__}: {error}") from error


def _size(image: Any) -> int:
    return image.width * image.height * 3


class Batches:
    """Scores what waits together. scorer: a `Scorer`; it is used by one thread at a time."""

    def __init__(self, scorer: Any) -> None:
        self._scorer, self._numbers = scorer, count()
        self._waiting: list[tuple[Item, asyncio.Future[tuple[float, ...]]]] = []
        self._running: asyncio.Task[None] | None = None

    async def scores(self, question: str, responses: Sequence[str], images: Sequence[Any]) -> tuple[float, ...]:
        """Raises Refused."""
        future: asyncio.Future[tuple[float, ...]] = asyncio.get_running_loop().create_future()
        self._waiting.append((Item(str(next(self._numbers)), question, tuple(responses), tuple(images)), future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                limit = self._scorer.max_items
                batch, self._waiting = self._waiting[:limit], self._waiting[limit:]
                batch = [
                    (item, future) for item, future in batch if not future.done()
                ]  # not those of callers that left
                outcomes = await asyncio.to_thread(self._outcomes, [item for item, _ in batch])
                for item, future in batch:
                    outcome = outcomes[item.key]
                    if future.done():
                        continue
                    if isinstance(outcome, Refused):
                        future.set_exception(outcome)
                    else:
                        future.set_result(outcome)
        finally:
            self._running = None

    def _outcomes(self, items: Sequence[Item]) -> dict[str, tuple[float, ...] | Refused]:
        """Of each item by its key. An item that fails does not take the others of its batch with it."""
        try:
            scores = list(self._scorer.scores(items))
        except Exception as error:
            if len(items) > 1:
                return {item.key: self._outcomes([item])[item.key] for item in items}
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            print(f"not scored: {reason}", flush=True)
            return {items[0].key: Refused(503, reason)}
        return {score.key: Refused(413, score.problem) if score.problem else score.scores for score in scores}


def application(scorer: Any, images: Path | None = None, key: str = "") -> Any:
    """The ASGI application. key: "" takes $VLLM_API_KEY."""
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import JSONResponse

    from proxygrm.serving.access.guard import RequireKey

    batches, known = Batches(scorer), Images(images)

    async def score(request: Request) -> Response:
        try:
            body = await request.json()
            content, responses = body["messages"][0]["content"], body["responses"]
            decoded = [await known.read(part) for part in content if part["type"] == "image_url"]
            (question,) = (part["text"] for part in content if part["type"] == "text")
            return JSONResponse({"scores": list(await batches.scores(question, responses, decoded))})
        except Refused as refusal:
            return JSONResponse({"error": str(refusal)}, refusal.status)
        except (ValueError, LookupError, TypeError) as error:
            return JSONResponse({"error": f"not a request to score: {type(error).__name__}: {error}"}, 422)

    async def health(_: Request) -> Response:
        return Response()

    app: Any = FastAPI(openapi_url=None)
    app.add_route(PATH, score, methods=["POST"])
    app.add_route("/health", health)
    return RequireKey(app, key)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--max-model-len", type=int, required=True)
    parser.add_argument("--max-num-seqs", type=int, required=True)
    parser.add_argument("--max-pixels", type=int, default=0)
    parser.add_argument("--images", type=Path)
    asked = parser.parse_args(arguments)

    import uvicorn

    from proxygrm.scalar.scorer import Scorer
    from proxygrm.serving.access.connections import LimitedProtocol, allow_many_files

    try:
        scorer = Scorer(asked.model, asked.device, asked.max_model_len, asked.max_num_seqs, asked.max_pixels)
    except UserError as error:
        sys.exit(f"UserError: {error}")
    allow_many_files()
    config = uvicorn.Config(
        application(scorer, asked.images and asked.images.resolve()),
        http=LimitedProtocol,
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=30,
    )
    with socket.socket(socket.AF_INET6 if ":" in asked.host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the supervisor holds the port
        listening.bind((asked.host, asked.port))
        listening.listen(2048)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
