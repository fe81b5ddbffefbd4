"""Who judges. A judge turns what is shown into raw answers, one row each, as they come; the rows go to a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from proxygrm.core.checkpoints.check import reading_checkpoint
from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.limits import context_length
from proxygrm.core.errors import UserError
from proxygrm.critique.prompts import grm_prompt, prompt_hash
from proxygrm.evaluate.judges.engine import Answer, Request, open_engine
from proxygrm.evaluate.rows.row_file import Row, RowFile
from proxygrm.evaluate.rows.shown import Shown
from proxygrm.evaluate.settings import CONTEXT, EvaluateSettings

Progress = Callable[[int, int, str], None]

_WEIGHT_SAMPLE_BYTES = 1 << 16


class Judge(Protocol):
    """`made_by` is what its answers depend on, besides the pair; `name` is for people."""

    name: str
    made_by: Row

    def judge(self, shown: Sequence[Shown], take: Callable[[Row], None], works: bool) -> None:
        """Hand `take` one row for each judgement, in any order: {key, text, tokens, truncated, problem, ...}.

        UserError when not enough can be made, or none, unless it is known that the judge `works`; what was taken
        before stays.
        """


class CheckpointJudge:
    """A generative reward model in this process, by vLLM. `prompt` is what it is asked; `made_by` speaks of critiques,
    who asks for something else amends it."""

    def __init__(self, model: Path, settings: EvaluateSettings, prompt: Callable[[Shown], str] | None = None) -> None:
        self.model, self.settings, self.name = Path(model), settings, str(model)
        refuse_code(self.model, settings.trust_remote_code)
        self.prompt = prompt or judge_prompt
        self.made_by = made_by(self.model, "grm", settings, settings.max_tokens)

    def judge(self, shown: Sequence[Shown], take: Callable[[Row], None], works: bool) -> None:
        prompts = {s.key: self.prompt(s) for s in shown}
        with open_engine(self.model, self.settings, most_images(shown)) as engine:
            requests = (Request(s.key, prompts[s.key], s.pair.images) for s in shown)
            for answer in engine.answers(requests, self.settings.max_tokens, works):
                take(answer_row(answer) | {"prompt_hash": text_hash(prompts[answer.key])})


def answered(
    judge: Judge,
    shown: Sequence[Shown],
    out_file: Path,
    progress: Progress = lambda done, total, note: None,
    known: Iterable[Row] = (),
) -> dict[str, Row]:
    """The raw answer to each of `shown`, by key. Those in `out_file` or `known` are not asked for again.

    UserError when the file was begun by another judge, prompt or setting, and what `Judge.judge` raises.
    """
    with RowFile(out_file, judge.made_by) as file:
        answers = {row["key"]: row for row in [*known, *file.rows]}
        missing = [s for s in shown if s.key not in answers]
        done = len(shown) - len(missing)

        def take(row: Row) -> None:
            nonlocal done
            file.append(row)
            answers[row["key"]] = row
            done += 1
            progress(done, len(shown), f"judging with {out_file.name.split('.')[0]}")

        if missing:
            progress(done, len(shown), f"loading {judge.name}")
            judge.judge(missing, take, works=any(row["problem"] is None for row in answers.values()))
    return {s.key: answers[s.key] for s in shown}


def judge_prompt(shown: Shown) -> str:
    """The instruction for a critique, without image tags: the pictures stand before it."""
    return grm_prompt(shown.pair.question, *shown.responses, images=0)


def text_hash(text: str) -> str:
    """16 hex digits of a whole prompt, question and responses included."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]


def answer_row(answer: Answer) -> Row:
    return {
        "key": answer.key,
        "text": answer.text,
        "tokens": answer.tokens,
        "truncated": answer.truncated,
        "problem": answer.problem,
        "seed": answer.seed,
        "seconds": answer.seconds,
    }


def made_by(model: Path, prompt: str, settings: EvaluateSettings, max_tokens: int) -> Row:
    """What an answer depends on, besides the pair itself."""
    return {
        "model": checkpoint_identity(model),
        "prompt": prompt_hash(prompt),
        "max_tokens": max_tokens,
        "max_model_len": context_length(model, settings.max_model_len, CONTEXT),
        "temperature": settings.temperature,
        "seed": settings.seed,
        "max_pixels": settings.max_pixels,
        "missing_images": settings.missing_images,
    }


def checkpoint_identity(model: Path) -> str:
    """16 hex digits over the small files, and over the size and last bytes of each weight file."""
    digest = hashlib.sha256()
    with reading_checkpoint(model):
        if not (model / "config.json").is_file():
            raise UserError(f"no checkpoint at {model}: it has no config.json")
        for path in [*sorted(model.glob("*.safetensors")), model / "config.json"]:
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode())
            with path.open("rb") as file:
                file.seek(max(0, size - _WEIGHT_SAMPLE_BYTES))
                digest.update(file.read())
    return digest.hexdigest()[:16]


def most_images(shown: Sequence[Shown]) -> int:
    return max(len(s.pair.images) for s in shown)
