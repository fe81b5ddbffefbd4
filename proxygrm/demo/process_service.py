"""The stand-in for the models of process reward: policy, extractor, auditor, step judge and teacher. It is not a model.

It serves the OpenAI chat API and takes the instructions of `critique.prompts.process`. Of the demo's drawn images it
reads shape, colour, number and place from the pixels by rule; any other image it describes by its size. A claim or a
step is wrong when it names a fact of a kind that the description gives otherwise ("two" against "three"); a step is
also wrong when it writes a sum "a + b = c" that does not hold. Solutions are drawn from the request's `seed`: some
misread the image, and of questions in steps (`sums`) some have a wrong sum. Other requests get HTTP 422.

    python -m proxygrm.demo.process_service --port 8011
"""

from __future__ import annotations

import base64
import io
import json
import random
import re
from pathlib import Path
from typing import Any

import click
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from proxygrm.core.errors import UserError
from proxygrm.critique.prompts.process import (
    AUDIT,
    CONTRADICT,
    DESCRIBE,
    JUDGEMENTS,
    POLICY,
    SOLVE,
    STEP,
    STEP_LENIENT,
    STEP_NO_VISION,
    VISION,
    VISION_SHORT,
    read_prompt,
)
from proxygrm.demo.image_reader import NotADemoImage, read_image
from proxygrm.demo.listen import bind, serve
from proxygrm.demo.scenes import COUNTS, KINDS, read_question
from proxygrm.demo.sums import (
    contradicts,
    describe_number,
    described_number,
    drawn_error,
    read_sum_question,
    solution,
)

MODEL = "rule-process"
_OPTION = re.compile(r"(?:^|\s)\(?([A-F])[).:]")
_SUM = re.compile(r"(\d+) \+ (\d+) = (\d+)")
_STEP = re.compile(r"^Step \d+:(?: |$)(.*?)(?=\nStep \d+:(?: |$)|\Z)", re.DOTALL | re.MULTILINE)
"""Also one without a text."""
_MISREAD = 0.3
"""Share of the drawn solutions that state a wrong fact."""
_WRONG_SUM = 0.25
"""Share of the drawn solutions of questions in steps whose sum is wrong."""


def reply(text: str, images: list[bytes], seed: int = 0) -> str | None:
    """The answer to a filled instruction; None for any other text. Pure."""
    if slots := read_prompt(DESCRIBE, text):
        return json.dumps({"image_description": describe(images, slots["question"])})
    for name in (VISION, VISION_SHORT):
        if slots := read_prompt(name, text):
            caption = describe(images, slots["question"])
            return json.dumps({"caption": caption, "key_facts": facts_of(caption), "uncertain": []})
    if slots := read_prompt(AUDIT, text):
        return json.dumps(audit(slots["description"], slots["checklist"].splitlines()))
    for name in (STEP, STEP_LENIENT, STEP_NO_VISION):
        if slots := read_prompt(name, text):
            return "1" if holds(slots.get("description", ""), _STEP.findall(slots["steps"])[-1]) else "-1"
    if slots := read_prompt(JUDGEMENTS, text):
        return json.dumps(judgements(slots["description"], _STEP.findall(slots["steps"])))
    if slots := read_prompt(CONTRADICT, text):
        description = slots["description"]
        return json.dumps({"image_description": contradicted(description, random.Random(f"{seed} {description}"))})
    for name in (POLICY, SOLVE):
        if slots := read_prompt(name, text):
            chance = random.Random(f"{seed} {slots['question']}")
            return json.dumps(solve(slots["question"], images, chance, slots.get("description", "")))
    return None


def describe(images: list[bytes], question: str = "") -> str:
    """For one who has to answer the question: its facts are there."""
    return " ".join(_describe(image, question) for image in images) or "There is no image."


def facts_of(description: str) -> list[str]:
    """What it says of each kind, as short statements."""
    words = re.findall(r"[a-z]+", description.lower())
    return [f"the {kind.noun} is {word}" for kind in KINDS.values() for word in words if word in kind.facts]


def _describe(image: bytes, question: str) -> str:
    from PIL import Image

    try:
        seen = read_image(image)
    except NotADemoImage:
        with Image.open(io.BytesIO(image)) as opened:
            return f"An image of {opened.width} by {opened.height} pixels."
    if seen.fog:
        return f"Something {seen.colours[0]} in fog."
    if read_sum_question(question):
        return describe_number(seen)
    return f"The image shows {seen.count} {seen.colours[0]} {seen.shape}, at the {seen.position}."


def audit(description: str, claims: list[str]) -> dict[str, Any]:
    errors = [
        {"faulty_statement": claim, "correction_or_reason": description, "severity": "High"}
        for claim in claims
        if not agrees(description, claim)
    ]
    return {"errors_and_hallucinations": errors, "omissions": [], "p_score": max(0.0, 1.0 - 0.5 * len(errors))}


def holds(description: str, step: str) -> bool:
    return agrees(description, step) and all(int(a) + int(b) == int(c) for a, b, c in _SUM.findall(step))


def judgements(description: str, steps: list[str]) -> list[dict[str, Any]]:
    """Of all steps of a solution, each by itself."""
    return [
        {
            "step": number,
            "score": 1 if holds(description, step) else -1,
            "category": _fault(description, step),
            "visualdependency": _claim(step),
        }
        for number, step in enumerate(steps, 1)
    ]


def _fault(description: str, step: str) -> str | None:
    if agrees(description, step):
        return None if holds(description, step) else "calculation"
    words = set(re.findall("[a-z]+", step.lower()))
    kinds = {name for name, kind in KINDS.items() if words & set(kind.facts)}
    return "visual_structure" if "position" in kinds else "visual_object" if kinds - {"count"} else "visual_value"


def _claim(step: str) -> str | None:
    """What a step says that the image shows: a fact, or a number that it does not calculate."""
    words, facts = set(re.findall("[a-z]+|[0-9]+", step.lower())), {f for kind in KINDS.values() for f in kind.facts}
    states = words & facts or any(word.isdigit() for word in words)
    return step[0].lower() + step[1:].rstrip(".") if states and not _SUM.search(step) else None


def contradicted(description: str, chance: random.Random) -> str:
    """The description with one fact changed: a number, or else a fact of the demo's kinds; as it is without either."""
    if number := re.search(r"\d+", description):
        near = [int(number[0]) + 1, max(1, int(number[0]) - 1)]
        other = str(chance.choice([value for value in near if value != int(number[0])]))
        return description[: number.start()] + other + description[number.end() :]
    for kind in KINDS.values():
        if fact := re.search(rf"\b(?:{'|'.join(kind.facts)})\b", description):
            other = chance.choice([value for value in kind.facts if value != fact[0]])
            return description[: fact.start()] + other + description[fact.end() :]
    return description


def agrees(description: str, claim: str) -> bool:
    """Of no kind does the claim name facts, and the description others."""
    seen, said = (set(re.findall(r"[a-z]+", text.lower())) for text in (description, claim))
    facts = [set(kind.facts) for kind in KINDS.values()]
    if contradicts(description, claim):
        return False
    return all(not (said & kind) or not (seen & kind) or said & kind <= seen & kind for kind in facts)


def solve(question: str, images: list[bytes], chance: random.Random, description: str = "") -> dict[str, Any]:
    """A solution in two steps. To a question of the demo it states the fact, misread at times, or what the description
    says; to any other it picks an option, or a number."""
    if more := read_sum_question(question):
        return _solve_sum(more, images, chance, described_number(description))
    kind = read_question(question)
    if kind is None:
        options = sorted(set(_OPTION.findall(question)))
        answer = chance.choice(options) if options else str(chance.randrange(10))
        steps = [("The image is described in the question.", "an image"), (f"So the answer is {answer}.", None)]
    else:
        facts = KINDS[kind].facts
        said = [word for word in re.findall("[a-z]+", description.lower()) if word in facts]
        try:
            answer = said[0] if said else read_image(images[0]).fact(kind) or facts[0]
        except (NotADemoImage, IndexError):
            answer = facts[0]
        if not said and chance.random() < _MISREAD:
            answer = chance.choice([fact for fact in facts if fact != answer])
        noun = KINDS[kind].noun
        steps = [(f"The {noun} is {answer}.", f"the {noun} is {answer}"), ("The question asks for it.", None)]
    process = [{"steptext": text, "visualdependency": fact} for text, fact in steps]
    return {"reasoningprocess": process, "finalanswer": answer}


def _solve_sum(more: int, images: list[bytes], chance: random.Random, described: int | None) -> dict[str, Any]:
    try:
        number = COUNTS.index(read_image(images[0]).count) + 1 if described is None else described
    except (NotADemoImage, IndexError, ValueError):
        number = 1
    drawn = solution(number, more, drawn_error(chance, _MISREAD if described is None else 0, _WRONG_SUM), chance)
    process = [{"steptext": text, "visualdependency": fact} for text, fact in drawn.steps]
    return {"reasoningprocess": process, "finalanswer": str(drawn.answer)}


def build_app() -> FastAPI:
    async def chat(request: Request) -> Response:
        try:
            body = await request.json()
            content = body["messages"][-1]["content"]
            text = "".join(part["text"] for part in content if part["type"] == "text")
            urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
            images = [base64.b64decode(url.split(";base64,", 1)[1]) for url in urls]
        except (ValueError, KeyError, IndexError, TypeError):
            return _refused("the body is not a chat request with text and images", 400)
        answer = reply(text, images, int(body.get("seed") or 0))
        if answer is None:
            return _refused("the message is not an instruction of process reward", 422)
        message = {"role": "assistant", "content": answer}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"completion_tokens": len(answer.split())}
        return JSONResponse({"object": "chat.completion", "model": MODEL, "choices": choices, "usage": usage})

    async def models() -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    app = FastAPI()
    app.post("/v1/chat/completions")(chat)
    app.get("/v1/models")(models)
    return app


def _refused(message: str, status: int) -> Response:
    return JSONResponse({"error": {"message": message, "type": "refused"}}, status)


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--address", default="127.0.0.1", show_default=True)
@click.option("--port", default=8011, show_default=True, help="0 for a free one.")
@click.option("--port-file", type=click.Path(path_type=Path), help="Write the port here once it is bound.")
def main(address: str, port: int, port_file: Path | None) -> None:
    try:
        serve(build_app(), bind(address, port), port_file)
    except UserError as error:
        raise click.UsageError(str(error)) from error


if __name__ == "__main__":
    main()
