"""What a judge is: it turns ordered pairs into raw answers, one row each, as they arrive."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.identity import checkpoint_identity
from proxygrm.core.checkpoints.limits import context_length
from proxygrm.core.checkpoints.scalar import refuse_scalar
from proxygrm.critique.prompts import grm_prompt, prompt_hash, r1_prompt
from proxygrm.evaluate.judges.engine import Answer, Request, Requests, open_engine
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.settings import CONTEXT, EvaluateSettings

Progress = Callable[[int, int, str], None]


class Judge(Protocol):
    """`made_by` is what its answers depend on besides the pair; `name` is for messages."""

    name: str
    made_by: Row

    def judge(self, requests: Sequence[OrderedPair], take: Callable[[Row], None], works: bool) -> None:
        """Call `take` with one row per request, in any order: {key, text, tokens, truncated, problem, ...}.

        UserError when too many requests fail, or when the judge accepts none of them and is not known to work
        (`works`); rows taken before are kept.
        """


class Calls(Protocol):
    """A model that answers requests: a checkpoint in this process, or an endpoint."""

    name: str

    def made_by(self, prompt: str, max_tokens: int) -> Row:
        """What answers depend on besides the request. prompt: the name of an instruction."""

    def answer(self, requests: Requests, total: int, max_images: int, take: Callable[[Row], None], works: bool) -> None:
        """Call `take` with one row per request, as `Judge.judge` does. total: about how many requests there will be.
        max_images: of one request."""


class CheckpointCalls:
    """A checkpoint in this process, by vLLM."""

    def __init__(self, model: Path, settings: EvaluateSettings) -> None:
        self.model, self.settings, self.name = model, settings, str(model)
        refuse_code(model, settings.trust_remote_code)
        refuse_scalar(model, "a judge that writes")

    def made_by(self, prompt: str, max_tokens: int) -> Row:
        return made_by(self.model, prompt, self.settings, max_tokens)

    def answer(self, requests: Requests, total: int, max_images: int, take: Callable[[Row], None], works: bool) -> None:
        hashes: dict[str, str] = {}

        def noted() -> Iterator[Request | None]:
            for request in requests:
                if request is not None:
                    hashes[request.key] = text_hash(request.text)
                yield request

        with open_engine(self.model, self.settings, max_images) as engine:
            for answer in engine.answers(noted(), self.settings.max_tokens, works):
                take(answer_row(answer) | {"prompt_hash": hashes.pop(answer.key)})


class CheckpointJudge:
    """A generative reward model in this process, by vLLM. `made_by` describes requests for critiques; whoever passes
    another `prompt` amends it."""

    def __init__(
        self, model: Path, settings: EvaluateSettings, prompt: Callable[[OrderedPair], str] | None = None
    ) -> None:
        self.model, self.settings, self.name = Path(model), settings, str(model)
        self.calls = CheckpointCalls(self.model, settings)
        self.prompt = prompt or judge_prompt
        self.made_by = self.calls.made_by("grm", settings.max_tokens)

    def judge(self, requests: Sequence[OrderedPair], take: Callable[[Row], None], works: bool) -> None:
        max_images = max(len(request.pair.images) for request in requests)
        own = (Request(r.key, self.prompt(r), r.pair.images) for r in requests)
        self.calls.answer(own, len(requests), max_images, take, works)


def judge_prompt(request: OrderedPair) -> str:
    """The instruction for a critique, without image tags: the images precede it."""
    return grm_prompt(request.pair.question, *request.responses, images=0)


def judgement_prompt(request: OrderedPair) -> str:
    """The same for a judgement by R1-Reward's contract."""
    return r1_prompt(request.pair.question, *request.responses, images=0)


def judgement_or_tie_prompt(request: OrderedPair) -> str:
    """The same where the answer may be a tie."""
    return r1_prompt(request.pair.question, *request.responses, images=0, ties=True)


def text_hash(text: str) -> str:
    """16 hex digits of the SHA-256 of a text, for example a complete prompt."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def answer_row(answer: Answer) -> Row:
    row: Row = {
        "key": answer.key,
        "text": answer.text,
        "tokens": answer.tokens,
        "truncated": answer.truncated,
        "problem": answer.problem,
        "seed": answer.seed,
        "seconds": answer.seconds,
    }
    return row if answer.logprobs is None else row | {"logprobs": answer.logprobs}


def made_by(model: Path, prompt: str, settings: EvaluateSettings, max_tokens: int) -> Row:
    """What an answer depends on besides the pair itself."""
    return {
        "model": checkpoint_identity(model),
        "prompt": prompt_hash(prompt),
        "max_tokens": max_tokens,
        "max_model_len": context_length(model, settings.max_model_len, CONTEXT),
        **settings.sampling(),
        "max_pixels": settings.max_pixels,
        "missing_images": settings.missing_images,
    }
