"""The project's instructions, kept as text files so that a change of wording is a readable diff.

`grm.txt` asks for a critique (distillation, GRM training, evaluation); `proxy.txt` asks the proxy for a
verdict from a rubric. The rubric comes last, so the n rollouts of one prompt share everything before it
(prefix cache). `proxy_verdict.txt` is the prefix of the proxy's answer when only its verdict is wanted;
`proxy_bare.txt` is the proxy's instruction without a rubric, the baseline of rubric transfer. `r1.txt` asks for a
judgement by R1-Reward's contract, `consistency.txt` whether its reasoning and its answer agree. `critique.txt` asks for
a critique of one response, which a scalar reward model then reads. A critic that judges is asked by `r1.txt`, by
`r1_ties.txt` where it may call two responses equal, and by `pointwise.txt` for the score of one. `process_*.txt` are
those of process reward (`prompts.process`).
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

NAMES = (
    "grm", "proxy", "proxy_verdict", "proxy_bare", "r1", "r1_ties", "pointwise", "consistency", "critique",
    "process_describe", "process_audit", "process_step", "process_policy", "process_judgements", "process_contradict",
    "process_vision", "process_vision_short", "process_step_lenient", "process_step_no_vision", "process_solve",
)  # fmt: skip
IMAGE_TAG = "<image>"

SLOT = re.compile(
    r"\{(question|response_1|response_2|response|rubric|reasoning|decision|description|checklist|steps|number)\}"
)
# What ms-swift and verl count as media (and ms-swift's templates replace), and the control tokens of chat templates.
# Inside the text of a pair they would add an image that does not exist, or end the turn.
_ACTIVE = re.compile(r"<(image|img|video|audio|bbox|ref-object|cot-process|start-image)>|<\|([A-Za-z0-9_]{1,40})\|>")
# The tags of the critique contract: a response must not look like a rubric or a verdict to its judge.
_CONTRACT = re.compile(r"<(/?(?:rubric|justify|eval|answer|think))>", re.IGNORECASE)


class Compared(NamedTuple):
    question: str
    response_1: str
    response_2: str


@cache
def template(name: str) -> str:
    """Text of one instruction with its `{slots}`, without the newline at the end of the file."""
    if name not in NAMES:
        raise ValueError(f"unknown prompt {name!r}; known: {', '.join(NAMES)}")
    return files(__name__).joinpath(f"{name}.txt").read_text(encoding="utf-8").rstrip("\n")


def prompt_hash(name: str) -> str:
    """16 hex digits of the instruction's SHA-256, part of a fingerprint: new wording means new work."""
    return hashlib.sha256(template(name).encode()).hexdigest()[:16]


def inert(text: str, contract: bool = True) -> str:
    """The text with active marks defused: `<image>` -> `[image]`, `<|x|>` -> `[x]`, `</answer>` -> `[/answer]`.

    Pairs on disk keep their original text; every prompt is filled through this function. contract: defuse the tags of
    the critique contract too (off for a rubric, which has such tags itself).
    """
    text = _ACTIVE.sub(lambda m: f"[{m.group(1) or m.group(2)}]", text)
    return _CONTRACT.sub(lambda m: f"[{m.group(1)}]", text) if contract else text


def fill(name: str, values: dict[str, str], images: int = 0) -> str:
    """An instruction with its slots filled, `images` tags first. For the functions that know its slots."""
    # One pass over the template: braces and slot names inside the values stay what they are.
    body = SLOT.sub(lambda m: inert(values[m.group(1)], contract=m.group(1) != "rubric").strip(), template(name))
    return IMAGE_TAG * images + body


def grm_prompt(question: str, response_1: str, response_2: str, images: int = 1) -> str:
    """Instruction for a critique, `images` tags first.

    There is no newline after the tags: with `images=0` the text is what follows the images in a chat message made of
    parts (image parts, then this text), so training and serving see the same tokens.
    """
    return fill("grm", {"question": question, "response_1": response_1, "response_2": response_2}, images)


def proxy_prompt(question: str, response_1: str, response_2: str, rubric: str | None, images: int = 1) -> str:
    """Instruction for the proxy; `rubric` is the closed `<rubric>` of `rubric_for_proxy`, or None: the proxy decides
    without one, all else being equal."""
    values = {"question": question, "response_1": response_1, "response_2": response_2}
    if rubric is None:
        return fill("proxy_bare", values, images)
    return fill("proxy", values | {"rubric": rubric}, images)


def r1_prompt(question: str, response_1: str, response_2: str, images: int = 1, ties: bool = False) -> str:
    """Instruction for a judgement (`critique.think_answer`), `images` tags first; see `grm_prompt`.

    ties: the answer may be `tie`.
    """
    values = {"question": question, "response_1": response_1, "response_2": response_2}
    return fill("r1_ties" if ties else "r1", values, images)


def pointwise_prompt(question: str, response: str, images: int = 1) -> str:
    """Instruction for the score of one response (`critique.think_answer`), `images` tags first; see `grm_prompt`."""
    return fill("pointwise", {"question": question, "response": response}, images)


def critique_prompt(question: str, response: str, images: int = 1) -> str:
    """Instruction for a critique of one response, `images` tags first; see `grm_prompt`."""
    return fill("critique", {"question": question, "response": response}, images)


def consistency_prompt(reasoning: str, decision: str) -> str:
    """Question to a consistency judge about a judgement's excerpt and answer phrase. Text only."""
    return fill("consistency", {"reasoning": reasoning, "decision": decision}, images=0)


def read_consistency_prompt(text: str) -> tuple[str, str] | None:
    """(end of the reasoning, decision) of a filled consistency question; None for any other text."""
    head, between, tail = SLOT.sub("\0", template("consistency")).split("\0")
    if not text.startswith(head) or not text.endswith(tail):
        return None
    reasoning, separator, decision = text[len(head) : len(text) - len(tail)].rpartition(between)
    return (reasoning, decision) if separator else None


def read_grm_prompt(text: str) -> Compared | None:
    """Question and responses of a filled GRM instruction; None for any other text.

    A response that itself contains "Response 2:" after an empty line is cut there: the first occurrence counts.
    """
    return _read_compared("grm", text)


def read_r1_prompt(text: str) -> Compared | None:
    """The same of a filled instruction for a judgement."""
    return _read_compared("r1", text)


def _read_compared(name: str, text: str) -> Compared | None:
    head, between_1, between_2, tail = SLOT.sub("\0", template(name)).split("\0")
    body = text.lstrip()
    while body.startswith(IMAGE_TAG):
        body = body[len(IMAGE_TAG) :].lstrip()
    if not body.startswith(head) or not body.endswith(tail):
        return None
    rest = body[len(head) : len(body) - len(tail)]
    question, separator_1, rest = rest.partition(between_1)
    response_1, separator_2, response_2 = rest.partition(between_2)
    return Compared(question, response_1, response_2.rstrip()) if separator_1 and separator_2 else None
