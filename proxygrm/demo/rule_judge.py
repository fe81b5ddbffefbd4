"""The stand-in teacher for the laptop demo. It is not a model.

It serves the OpenAI chat API, takes the same instruction and image as a real teacher, reads shapes and colours from the
pixels by rule, and writes a critique, or a judgement by R1-Reward's contract, from a few fixed sentences. On a known
share of pairs it misreads the image on purpose, more often in fog, so that all of the critique is consistently wrong:
these are the demo's "hard" pairs. (In fog it also makes real errors.) Whether a pair is misread is decided by a hash of
image, question, responses (in either order) and the request's seed, so a repeated request gets the same answer, and one
with another seed perhaps another. It judges the demo's drawn pairs only; other requests get HTTP 422 and are counted in
`/health`.

    python -m proxygrm.demo.rule_judge --port 0 --port-file judge.port --error-rate 0.2 --fog-error-rate 0.5
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from proxygrm.core.errors import UserError
from proxygrm.critique.prompts import read_grm_prompt, read_r1_prompt
from proxygrm.demo.image_reader import NotADemoImage, read_image
from proxygrm.demo.listen import bind
from proxygrm.demo.listen import serve as serve_app
from proxygrm.demo.scenes import read_fact, read_question
from proxygrm.demo.writer import STYLES, NotADemoPair, write_critique, write_judgement

MODEL = "rule-judge"


class Refused(ValueError):
    """A request that this judge cannot answer; the message goes to the client with status 422."""


@dataclass(frozen=True)
class Judgement:
    critique: str
    misread: bool


def judge(
    image: bytes, prompt: str, error_rate: float, fog_error_rate: float = 0.0, seed: int | None = None
) -> Judgement:
    """The critique of one pair. Pure. Raises Refused for anything but a drawn demo pair."""
    critique, judgement = read_grm_prompt(prompt), read_r1_prompt(prompt)
    parts = critique or judgement
    if parts is None:
        raise Refused(
            "the message is not the critique instruction (prompts/grm.txt), nor that for a judgement (r1.txt)"
        )
    question, responses = parts.question, (parts.response_1, parts.response_2)
    try:
        kind = read_question(question)
        if kind is None:
            raise Refused(f"not a question of the demo: {question[:80]!r}")
        stated = {claim for response in responses if (claim := read_fact(kind, response))}
        view = read_image(image)
        fact = view.likeliest(kind, stated)
        key = "\0".join((question, *sorted(responses), *([] if seed is None else [str(seed)]))).encode()
        digest = hashlib.sha256(hashlib.sha256(image).digest() + key).digest()
        misread = int.from_bytes(digest[:8]) / 2**64 < (fog_error_rate if view.fog else error_rate)
        if misread and len(stated - {fact}) == 1:
            (fact,) = stated - {fact}
        text = write_critique(*parts, fact, digest[8] % STYLES) if critique else write_judgement(*parts, fact)
        return Judgement(text, misread)
    except (NotADemoImage, NotADemoPair) as error:
        raise Refused(str(error)) from error


def read_messages(body: dict[str, Any]) -> tuple[bytes, str]:
    """Image bytes and text of the last user message. Raises Refused."""
    try:
        content = [message for message in body["messages"] if message["role"] == "user"][-1]["content"]
        text = "".join(part["text"] for part in content if part["type"] == "text")
        urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    except (KeyError, IndexError, TypeError) as error:
        raise Refused("no user message with text and image_url parts") from error
    if len(urls) != 1 or not urls[0].startswith("data:image/") or ";base64," not in urls[0]:
        raise Refused("exactly one image_url with a base64 data URL is needed")
    try:
        return base64.b64decode(urls[0].split(";base64,", 1)[1], validate=True), text
    except binascii.Error as error:
        raise Refused(f"the image's base64 is broken: {error}") from error


def build_app(error_rate: float = 0.2, fog_error_rate: float = 0.5):
    """The FastAPI application; its counts are at `/health`."""
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    app, counts = FastAPI(), Counter(answered=0, misread=0, refused=0)

    def refuse(message: str, status: int = 422) -> JSONResponse:
        counts["refused"] += 1
        return JSONResponse({"error": {"message": message, "type": "not_a_demo_pair", "code": status}}, status)

    async def chat(request: Request) -> JSONResponse:
        try:
            body = await request.json()
        except ValueError as error:
            return refuse(f"the body is not JSON: {error}", 400)
        try:
            judgement = judge(*read_messages(body), error_rate, fog_error_rate, body.get("seed"))
        except Refused as error:
            return refuse(str(error))
        counts.update(answered=1, misread=int(judgement.misread))
        words = len(judgement.critique.split())
        message = {"role": "assistant", "content": judgement.critique}
        return JSONResponse(
            {
                "id": f"chatcmpl-{counts['answered']}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": MODEL,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 0, "completion_tokens": words, "total_tokens": words},
            }
        )

    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "proxygrm"}]}

    async def health() -> dict[str, Any]:
        return {"status": "ok", "error_rate": error_rate, "fog_error_rate": fog_error_rate, **counts}

    # The types of the handlers are strings here (postponed annotations), and FastAPI cannot see local names.
    chat.__annotations__ = {"request": Request}
    models.__annotations__ = health.__annotations__ = {}
    app.post("/v1/chat/completions")(chat)
    app.get("/v1/models")(models)
    app.get("/health")(health)
    return app


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8009, show_default=True, help="0 for a free one.")
@click.option("--error-rate", default=0.2, show_default=True, help="Share of clear images to misread, 0 to 1.")
@click.option("--fog-error-rate", default=0.5, show_default=True, help="The same for images in fog.")
@click.option("--port-file", type=click.Path(path_type=Path), help="Write the port here once it is bound.")
def main(host: str, port: int, error_rate: float, fog_error_rate: float, port_file: Path | None) -> None:
    try:
        serve(host, port, error_rate, fog_error_rate, port_file)
    except UserError as error:
        raise click.UsageError(str(error)) from error


def serve(host: str, port: int, error_rate: float, fog_error_rate: float, port_file: Path | None = None) -> None:
    """Serve until a signal. The port is bound before it is announced, so a client can connect at once."""
    for name, rate in (("--error-rate", error_rate), ("--fog-error-rate", fog_error_rate)):
        if not 0 <= rate <= 1:
            raise UserError(
                f"{name} is {rate}; it must be between 0 and 1", code="option.bad-value", name=name, value=rate
            )
    bound = bind(host, port)
    click.echo(
        f"rule judge (not a model) at http://{host}:{bound.getsockname()[1]}, misreads {error_rate:.0%} of clear "
        f"images and {fog_error_rate:.0%} of those in fog"
    )
    serve_app(build_app(error_rate, fog_error_rate), bound, port_file)


if __name__ == "__main__":
    main()
